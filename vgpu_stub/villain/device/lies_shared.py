"""Lies of the control page, of the status reply and of interrupts (sections 3, 4 and 5)."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from typing import Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.villain.device.lie import Case, Expect, Lie
from vgpu_stub.villain.device.places import (
    Change,
    Control,
    Flips,
    Interrupts,
    KeptControl,
    Status,
    Storm,
    always,
)

_U64: Final = 0xFFFF_FFFF_FFFF_FFFF
_ONES: Final = 0xFFFF_FFFF


def _plus(amount: int) -> Change:
    return lambda true: true + amount


def control_lies() -> Iterator[Case]:
    """Lies of the control page: of a channel, and of the admin channel."""
    survived, refused, stuck = Expect.SURVIVED, Expect.REFUSED, Expect.STUCK
    changes: list[tuple[str, str, str, Change, Expect]] = [
        ("sq-head-ahead", "sq_head", "sq_head passes sq_tail", _plus(5), stuck),
        ("sq-head-far", "sq_head", "sq_head is 2^63 ahead", _plus(1 << 63), stuck),
        ("sq-head-back", "sq_head", "sq_head goes back", _plus(-3), stuck),
        ("sq-head-ones", "sq_head", "sq_head is 2^64 - 1", always(_U64), stuck),
        ("cq-tail-over", "cq_tail", "cq_tail passes the ring", _plus(abi.CQ_ENTRIES + 1), refused),
        ("cq-tail-back", "cq_tail", "cq_tail goes back", _plus(-2), refused),
        ("cq-tail-far", "cq_tail", "cq_tail is 2^63 ahead", _plus(1 << 63), refused),
        ("cq-tail-ones", "cq_tail", "cq_tail is 2^64 - 1", always(_U64), refused),
        ("cq-tail-full", "cq_tail", "cq_tail fills the ring", _plus(abi.CQ_ENTRIES - 8), stuck),
        ("state-closed", "state", "state is CLOSED", always(abi.CHANNEL_CLOSED), refused),
        ("state-failed", "state", "state is FAILED", always(abi.CHANNEL_FAILED), refused),
        ("state-unknown", "state", "state is 3", always(3), refused),
        ("state-ones", "state", "state is 2^32 - 1", always(_ONES), refused),
        ("error-unknown", "error", "error is no CUresult", always(12345), survived),
        ("error-negative", "error", "error is negative", always(1 << 31), survived),
        ("generation", "generation", "generation changes", _plus(1), survived),
        ("sleeping-ones", "sq_sleeping", "sq_sleeping is 2^32 - 1", always(_ONES), survived),
        ("sleeping-never", "sq_sleeping", "sq_sleeping is 0 for ever", always(0), stuck),
        ("guest-sq-tail", "sq_tail", "the device writes sq_tail", _plus(1), stuck),
        ("guest-cq-head", "cq_head", "the device writes cq_head", _plus(-7), stuck),
        ("guest-cq-head-ones", "cq_head", "the device writes 2^64 - 1", always(_U64), stuck),
        ("guest-waiting", "cq_waiting", "the device writes cq_waiting", always(0), survived),
    ]
    for admin in (False, True):
        place = "admin" if admin else "channel"
        for name, word, what, change, expect in changes:
            for once in (True, False):
                make: Callable[[random.Random], Lie] = (
                    (
                        lambda rng, word=word, change=change, admin=admin: Control(  # type: ignore[misc]
                            admin, word, change, nth=2 if admin else rng.randrange(2, 12)
                        )
                    )
                    if once
                    else (
                        lambda rng, word=word, change=change, admin=admin: KeptControl(  # type: ignore[misc]
                            admin, word, change
                        )
                    )
                )
                # What is said once may be set right before anybody looks; and on the admin
                # channel nobody looks at `state` and `error`.
                seen = not once and not admin
                yield Case(
                    f"{place}-{name}{'' if once else '-kept'}",
                    "3",
                    what + ("" if once else ", all the time"),
                    make,
                    expect if expect is stuck or seen else survived,
                    seconds=3.0 if expect is stuck else 20.0,
                )
    for admin in (False, True):
        place = "admin" if admin else "channel"
        for name, what, offset, size in (
            ("control", "the host's half of the control page", abi.CONTROL_OFFSET + 128, 64),
            ("control-all", "both halves of the control page", abi.CONTROL_OFFSET, 256),
            ("completions", "the first completions", abi.CQ_OFFSET, 64 * 64),
        ):
            yield Case(
                f"{place}-flips-{name}",
                "3",
                f"{what} of the {place} channel change while they are read",
                lambda rng, offset=offset, size=size, admin=admin: Flips(  # type: ignore[misc]
                    rng, offset, size, admin=admin
                ),
                Expect.UNSEEN if name == "completions" else Expect.STUCK,
                seconds=4.0,
            )
    yield Case(
        "channel-flips-submissions",
        "3",
        "the device overwrites submissions",
        lambda rng: Flips(rng, abi.SQ_OFFSET, 64 * 64, admin=False),
        Expect.STUCK,
        seconds=4.0,
    )


def _put(offset: int, value: bytes) -> Callable[[random.Random], Lie]:
    return lambda rng: Status(
        lambda data: data.__setitem__(slice(offset, offset + len(value)), value)
    )


def status_lies() -> Iterator[Case]:
    """Lies of the reply of DEVICE_STATUS."""
    at = abi.DEVICE_STATUS_OFFSETS
    words, longs = struct.Struct("<I").pack, struct.Struct("<Q").pack
    refused, unseen = Expect.REFUSED, Expect.UNSEEN
    for name, what, offset, value, expect in (
        ("processes-one-too-many", "one process more than fits", at["process_count"],
         words(abi.STATUS_PROCESSES + 1), refused),
        ("processes-ones", "2^32 - 1 processes", at["process_count"], words(_ONES), refused),
        ("processes-most", "as many processes as fit", at["process_count"],
         words(abi.STATUS_PROCESSES), unseen),
        ("known-ones", "every value is known", at["known"], longs(_U64), unseen),
        ("known-none", "no value is known", at["known"], longs(0), unseen),
        ("used-over-total", "more memory is used than there is", at["memory_used"], longs(_U64),
         refused),
        ("free-over-total", "more memory is free than there is", at["memory_free"],
         longs(1 << 40), refused),
        ("bar1-over-total", "more of BAR1 is used than there is", at["bar1_used"], longs(_U64),
         refused),
        ("percent", "the device is busy to 4294967295 %", at["gpu_percent"], words(_ONES),
         refused),
        ("time-ones", "it is the end of time", at["time_us"], longs(_U64), unseen),
        ("version-unterminated", "a version without an end", at["driver_version"], b"9" * 32,
         unseen),
    ):  # fmt: skip
        yield Case(f"status-{name}", "4", what, _put(offset, value), expect)
    for name, fill in (("zeros", b"\0"), ("ones", b"\xff")):
        yield Case(
            f"status-{name}",
            "4",
            f"the reply is all {name}",
            lambda rng, fill=fill: Status(  # type: ignore[misc]
                lambda data: data.__setitem__(slice(None), fill * len(data))
            ),
            Expect.REFUSED if name == "ones" else unseen,
        )
    yield Case(
        "status-chance",
        "4",
        "the reply is chance",
        lambda rng: Status(lambda data: data.__setitem__(slice(None), rng.randbytes(len(data)))),
        Expect.SURVIVED,
    )


def interrupt_lies() -> Iterator[Case]:
    """Interrupts that do not come, come too often, or for somebody else."""
    for name, what, told in (
        ("none", "no interrupt ever comes", lambda vector: ()),
        ("doubled", "each comes twice", lambda vector: (vector, vector)),
        (
            "other",
            "each comes on the next vector",
            lambda vector: ((vector + 1) % abi.VECTOR_COUNT,),
        ),
        ("to-admin", "all come on vector 0", lambda vector: (0,)),
        ("burst", "each comes 500 times", lambda vector: (vector,) * 500),
        ("everywhere", "each comes on all vectors", lambda vector: tuple(range(abi.VECTOR_COUNT))),
    ):
        yield Case(
            f"interrupt-{name}",
            "5",
            what,
            lambda rng, told=told: Interrupts(told),  # type: ignore[misc]
            Expect.SURVIVED,
        )
    for name, what, vectors, pause_s in (
        ("storm-admin", "vector 0 comes all the time", [0], 0.0005),
        ("storm-channel", "vector 1 comes all the time", [1], 0.0005),
        ("storm-all", "vectors come all the time", list(range(abi.VECTOR_COUNT)), 0.0005),
    ):
        yield Case(
            f"interrupt-{name}",
            "5",
            what,
            lambda rng, vectors=vectors, pause_s=pause_s: Storm(  # type: ignore[misc]
                rng, vectors, pause_s
            ),
            Expect.SURVIVED,
        )
