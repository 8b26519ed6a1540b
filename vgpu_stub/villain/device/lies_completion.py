"""Lies of completions, of the results and replies in them, and of admin completions.

Sections 3 and 4 of docs/device.md.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from vgpu_stub.abi.generated import Opcode
from vgpu_stub.villain.device.lie import Answer, Case, Expect
from vgpu_stub.villain.device.places import Completions, Held, Reply, Several, results

_U64: Final = 0xFFFF_FFFF_FFFF_FFFF
_ONES: Final = 0xFFFF_FFFF
_TEXT: Final = "reply_registration", "reply_offset"

#: Makes the completions that are written for one, with chance.
Told = Callable[[random.Random, Answer], Sequence[Answer]]


def _shapes() -> list[tuple[str, str, Told, Expect, int]]:
    """What can be said in place of any completion: id, text, completions, expected, true ones."""
    survived, refused, stuck = Expect.SURVIVED, Expect.REFUSED, Expect.STUCK
    junk = tuple([_U64] * 6)
    return [
        ("lost", "no completion comes", lambda rng, a: (), stuck, 0),
        ("lost-later", "after some no completion comes", lambda rng, a: (), stuck, 7),
        ("sequence-zero", "the sequence number is 0",
         lambda rng, a: (replace(a, sequence=0),), stuck, 0),
        ("sequence-next", "the sequence number is one more",
         lambda rng, a: (replace(a, sequence=a.sequence + 1),), stuck, 0),
        ("sequence-ones", "the sequence number is 2^64 - 1",
         lambda rng, a: (replace(a, sequence=_U64),), stuck, 0),
        ("sequence-slot", "the sequence number is of the same slot, of another command",
         lambda rng, a: (replace(a, sequence=a.sequence + (rng.randrange(1, 99) << 10)),),
         stuck, 0),
        ("sequence-chance", "the sequence number is chance",
         lambda rng, a: (replace(a, sequence=rng.getrandbits(64)),), stuck, 0),
        ("twice", "each completion comes twice", lambda rng, a: (a, a), survived, 0),
        ("unknown-first", "one of an unknown command comes first",
         lambda rng, a: (replace(a, sequence=rng.getrandbits(64), results=junk), a), survived, 0),
        ("zero-first", "one of sequence number 0 comes first",
         lambda rng, a: (replace(a, sequence=0), a), survived, 0),
        ("flood", "two thousand of unknown commands come first",
         lambda rng, a: (*[replace(a, sequence=rng.getrandbits(64))] * 2000, a), stuck, 0),
        ("next-first", "that of the next command comes with it",
         lambda rng, a: (a, replace(a, sequence=a.sequence + (1 << 10))), Expect.UNSEEN, 0),
        ("status-unknown", "the status is no CUresult",
         lambda rng, a: (replace(a, status=12345),), refused, 0),
        ("status-negative", "the status is -1",
         lambda rng, a: (replace(a, status=-1),), refused, 0),
        ("status-smallest", "the status is -2^31",
         lambda rng, a: (replace(a, status=-(1 << 31)),), refused, 0),
        ("status-chance", "the status is chance",
         lambda rng, a: (replace(a, status=rng.getrandbits(32)),), refused, 0),
        ("status-not-ready", "every command is not ready",
         lambda rng, a: (replace(a, status=600),), refused, 0),
        ("flags-ones", "all flags are set", lambda rng, a: (replace(a, flags=_ONES),), survived, 0),
        ("results-ones", "all results are 2^64 - 1",
         lambda rng, a: (replace(a, results=junk),), refused, 0),
        ("results-zero", "all results are 0",
         lambda rng, a: (replace(a, results=(0,) * 6),), refused, 0),
        ("results-sign", "all results are 2^63",
         lambda rng, a: (replace(a, results=(1 << 63,) * 6),), refused, 0),
        ("results-chance", "all results are chance",
         lambda rng, a: (replace(a, results=tuple(rng.getrandbits(64) for _ in range(6))),),
         survived, 0),
        ("chance", "everything in it is chance but the sequence number",
         lambda rng, a: (_chance(rng, a),), survived, 0),
    ]  # fmt: skip


def _chance(rng: random.Random, answer: Answer) -> Answer:
    return Answer(
        answer.opcode,
        answer.sequence,
        rng.choice((0, rng.getrandbits(32))),
        rng.getrandbits(32),
        tuple(rng.getrandbits(rng.choice((8, 32, 64))) for _ in range(6)),
    )


def completion_lies() -> Iterator[Case]:
    """Completions of ordinary channels, and their results."""
    for name, what, told, expect, after in _shapes():
        yield Case(
            f"completion-{name}",
            "3",
            what,
            lambda rng, told=told, after=after: Completions(  # type: ignore[misc]
                False, lambda answer: told(rng, answer), after=after
            ),
            expect,
            seconds=3.0 if expect is Expect.STUCK else 20.0,
        )
    yield Case(
        "completion-late",
        "3",
        "each completion comes 20 ms late",
        lambda rng: Held(False, 0.02),
    )
    yield Case(
        "completion-stale",
        "3",
        "the last completion comes again, with new results, before the next",
        lambda rng: Held(False, stale=True),
    )
    yield from _result_lies()


def _result_lies() -> Iterator[Case]:
    survived, refused, unseen = Expect.SURVIVED, Expect.REFUSED, Expect.UNSEEN
    made: list[tuple[Opcode, str, str, Callable[[tuple[int, ...]], tuple[int, ...]], Expect]] = [
        (Opcode.MEMORY_ALLOCATE, "null", "memory at 0", lambda r: (0,), refused),
        (Opcode.MEMORY_ALLOCATE, "wraps", "memory up to 2^64", lambda r: (_U64 - 100,), refused),
        (Opcode.MEMORY_ALLOCATE, "same", "all memory at one place", lambda r: (0x7000_0000_0000,),
         refused),
        (Opcode.MEMORY_ALLOCATE, "kernel", "memory in the kernel's half",
         lambda r: (0xFFFF_8000_0000_0000 + (r[0] & 0xFFF_FFFF),), survived),
        (Opcode.MEMORY_GET_INFO, "more-free", "more is free than there is",
         lambda r: (r[1] + 1, r[1]), refused),
        (Opcode.MEMORY_GET_INFO, "ones", "2^64 - 1 bytes of all", lambda r: (_U64, _U64), refused),
        (Opcode.CONTEXT_CREATE, "zero", "context 0", lambda r: (0,), survived),
        (Opcode.CONTEXT_CREATE, "wide", "a context handle of more than 16 bits",
         lambda r: (r[0] | 1 << 16,), refused),
        (Opcode.MODULE_LOAD, "wide", "a module handle of more than 32 bits",
         lambda r: (r[0] | 1 << 32,), refused),
        (Opcode.MODULE_LOAD, "other", "a module that is not there", lambda r: (r[0] + 77,),
         refused),
        (Opcode.MODULE_GET_FUNCTION, "short", "a reply of 3 bytes", lambda r: (r[0], 3), refused),
        (Opcode.MODULE_GET_FUNCTION, "long", "a reply of 2^32 bytes", lambda r: (r[0], 1 << 32),
         refused),
        (Opcode.MODULE_GET_FUNCTION, "ones", "a reply of 2^64 - 1 bytes", lambda r: (r[0], _U64),
         refused),
        (Opcode.MODULE_GET_GLOBAL, "wraps", "a variable up to 2^64 and on",
         lambda r: (_U64 - 3, 64), refused),
        (Opcode.MODULE_GET_GLOBAL, "enormous", "a variable of 2^64 - 1 bytes",
         lambda r: (r[0], _U64), refused),
        (Opcode.MODULE_GET_GLOBAL, "empty", "a variable of no bytes", lambda r: (r[0], 0), refused),
        (Opcode.FUNCTION_OCCUPANCY, "negative", "-1 blocks", lambda r: (_U64,), refused),
        (Opcode.FUNCTION_OCCUPANCY, "largest", "2^31 - 1 blocks", lambda r: (0x7FFF_FFFF,),
         refused),
        (Opcode.FUNCTION_OCCUPANCY, "zero", "0 blocks", lambda r: (0,), survived),
        (Opcode.FUNCTION_AVAILABLE_SHARED, "ones", "2^64 - 1 bytes", lambda r: (_U64,), refused),
        (Opcode.FUNCTION_GET_ATTRIBUTE, "wide", "an attribute of 64 bits",
         lambda r: (1 << 40,), survived),
        (Opcode.MODULE_LINK, "ones", "an image of 2^64 - 1 bytes", lambda r: (_U64,), refused),
        (Opcode.MODULE_LINK, "large", "an image of 2^40 bytes", lambda r: (1 << 40,), refused),
        (Opcode.MODULE_LINK, "sign", "an image of 2^63 bytes", lambda r: (1 << 63,), refused),
        (Opcode.MODULE_LINK, "half-gigabyte", "an image of 512 MiB", lambda r: (1 << 29,), refused),
        (Opcode.MODULE_LINK, "nothing", "an image of no bytes", lambda r: (0,), refused),
        (Opcode.EVENT_ELAPSED_TIME, "nan", "no number of milliseconds", lambda r: (0x7FC00000,),
         unseen),
        (Opcode.CONTEXT_GET_LIMIT, "ones", "a limit of 2^64 - 1", lambda r: (_U64,), unseen),
        (Opcode.STREAM_CREATE, "wide", "a stream handle of 64 bits", lambda r: (r[0] | 1 << 63,),
         refused),
        (Opcode.EVENT_CREATE, "wide", "an event handle of 64 bits", lambda r: (r[0] | 1 << 63,),
         refused),
    ]  # fmt: skip
    for opcode, name, what, change, expect in made:
        yield Case(
            f"result-{opcode.name.lower().replace('_', '-')}-{name}",
            "3",
            f"{opcode.name} answers {what}",
            lambda rng, opcode=opcode, change=change: results(opcode, change),  # type: ignore[misc]
            expect,
        )


def _function(count: int, size: int, *places: tuple[int, int], sign: int = 1) -> bytes:
    """A reply of MODULE_GET_FUNCTION."""
    info = struct.pack("<8i2I", 1024, 0, 0, 0, 16, 60, 61, 48 << 10, count, size)
    if sign < 0:
        info = struct.pack("<8i2I", *[-(1 << 31)] * 8, count, size)
    return info + b"".join(struct.pack("<2I", *place) for place in places)


def reply_lies() -> Iterator[Case]:
    """Replies in the guest's memory: what a kernel looks like, texts, images."""
    right = (0, 8), (8, 8), (16, 8), (24, 4)
    for name, what, data, expect in (
        ("count-ones", "2^32 - 1 parameters", _function(_ONES, 28, *right), Expect.REFUSED),
        ("count-many", "4000 parameters", _function(4000, 28, *right), Expect.REFUSED),
        ("count-zero", "no parameters, in 28 bytes", _function(0, 28, *right), Expect.REFUSED),
        ("bytes-ones", "2^32 - 1 bytes of parameters", _function(4, _ONES, *right),
         Expect.REFUSED),
        ("bytes-many", "60000 bytes of parameters", _function(4, 60000, *right), Expect.REFUSED),
        ("bytes-few", "parameters of 28 bytes in 8", _function(4, 8, *right), Expect.REFUSED),
        ("offset-ones", "a parameter at 2^32 - 1",
         _function(4, 28, (_ONES, 8), *right[1:]), Expect.REFUSED),
        ("offset-far", "a parameter 1 MiB away",
         _function(4, 28, (1 << 20, 8), *right[1:]), Expect.REFUSED),
        ("offset-wraps", "a parameter that ends where it began",
         _function(4, 28, (_ONES - 3, 8), *right[1:]), Expect.REFUSED),
        ("size-ones", "a parameter of 2^32 - 1 bytes",
         _function(4, 28, (0, _ONES), *right[1:]), Expect.REFUSED),
        ("size-large", "a parameter of 4000 bytes", _function(4, 4096, (0, 4000), *right[1:]),
         Expect.REFUSED),
        ("size-wide", "a parameter as large as all of them",
         _function(4, 28, (0, 28), *right[1:]), Expect.REFUSED),
        ("count-one", "one parameter of 28 bytes", _function(1, 28, (0, 28)), Expect.REFUSED),
        ("attributes", "attributes of -2^31", _function(4, 28, *right, sign=-1), Expect.SURVIVED),
    ):  # fmt: skip
        yield Case(
            f"reply-function-{name}",
            "3",
            f"MODULE_GET_FUNCTION describes {what}",
            lambda rng, data=data: Several(  # type: ignore[misc]
                Reply(Opcode.MODULE_GET_FUNCTION, _TEXT, [(0, data)]),
                results(Opcode.MODULE_GET_FUNCTION, lambda r: (r[0], max(r[1], len(data)))),
            ),
            expect,
        )
    yield Case(
        "reply-function-chance",
        "3",
        "MODULE_GET_FUNCTION describes chance",
        lambda rng: Several(
            Reply(Opcode.MODULE_GET_FUNCTION, _TEXT, [(0, rng.randbytes(2000))]),
            results(Opcode.MODULE_GET_FUNCTION, lambda r: (r[0], 4000)),
        ),
    )
    yield Case(
        "reply-log-unterminated",
        "3",
        "the log of MODULE_LOAD has no end",
        lambda rng: Reply(
            Opcode.MODULE_LOAD, ("log_registration", "log_offset"), [(0, b"!" * (16 << 10))]
        ),
    )
    yield Case(
        "reply-image-chance",
        "3",
        "MODULE_LINK writes chance for an image",
        lambda rng: Reply(
            Opcode.MODULE_LINK, ("registration", "image_offset"), [(0, rng.randbytes(200))]
        ),
    )


def admin_lies() -> Iterator[Case]:
    """Completions of the admin channel."""
    survived, refused = Expect.SURVIVED, Expect.REFUSED
    for name, what, told, expect, after in _shapes():
        if name.startswith(("results", "flags")):
            continue  # admin completions have neither
        said = name.startswith("status") or expect is Expect.STUCK
        yield Case(
            f"admin-{name}",
            "4",
            what,
            lambda rng, told=told, after=after: Completions(  # type: ignore[misc]
                True, lambda answer: told(rng, answer), after=after
            ),
            refused if said and name not in {"flood", "lost-later"} else survived,
        )
    for number in (
        1,
        2,
        4,
        9,
        11,
        12,
        17,
        19,
        28,
        95,
        110,
        125,
        133,
        512,
        513,
        516,
        517,
        530,
        4094,
    ):
        yield Case(
            f"admin-errno-{number}",
            "4",
            f"every admin command fails with {number}",
            lambda rng, number=number: Completions(  # type: ignore[misc]
                True, lambda answer: (replace(answer, status=number),)
            ),
            refused,
        )
    for opcode in (
        Opcode.CHANNEL_CREATE,
        Opcode.CHANNEL_DESTROY,
        Opcode.MEMORY_REGISTER,
        Opcode.MEMORY_UNREGISTER,
        Opcode.DEVICE_STATUS,
    ):
        name = opcode.name.lower().replace("_", "-")
        for kind, what, answered in (
            ("lost", "is never answered", lambda answer: ()),
            ("twice", "is answered twice", lambda answer: (answer, answer)),
            ("noent", "fails with ENOENT", lambda answer: (replace(answer, status=2),)),
            ("success", "succeeds whatever happened", lambda answer: (replace(answer, status=0),)),
        ):
            yield Case(
                f"admin-{name}-{kind}",
                "4",
                f"{opcode.name} {what}",
                lambda rng, opcode=opcode, answered=answered: Completions(  # type: ignore[misc]
                    True, answered, [opcode]
                ),
                survived,
            )
    yield Case("admin-late", "4", "each answer comes 200 ms late", lambda rng: Held(True, 0.2))
    yield Case(
        "admin-stale",
        "4",
        "the last answer comes again before the next",
        lambda rng: Held(True, stale=True),
    )
