"""Lies about what the device is: config space, regions, and the device information.

Sections 1 and 3 of docs/device.md.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from typing import Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.villain.device.lie import Case, Expect, Lie, Target
from vgpu_stub.villain.device.places import Config, Flips, Info, Shared

_BY_QEMU: Final = {
    Target.DRIVER: "QEMU reads config space itself, when the machine starts, and refuses nonsense"
}
_BY_KERNEL: Final = {Target.DRIVER: "QEMU maps the region before the guest runs"}
_CAPABILITIES: Final = 0x34
_FIRST: Final = 0x40  #: MSI-X, the first capability
_INT_MAX: Final = 0x7FFF_FFFF
_INT_MIN: Final = -0x8000_0000
_WARP_SIZE: Final = 10
_MAX_THREADS: Final = 1
_MULTIPROCESSORS: Final = 16


def config_lies() -> Iterator[Case]:
    """Lies of config space."""
    for name, what, told, expect in (
        ("capability-loop", "the capability list leads back to itself",
         {_FIRST: 0x01, _FIRST + 1: _FIRST}, Expect.REFUSED),
        ("capability-none", "there is no capability", {_CAPABILITIES: 0}, Expect.REFUSED),
        ("capability-header", "the list begins in the header", {_CAPABILITIES: 4}, Expect.SURVIVED),
        ("capability-end", "the list begins at the last byte", {_CAPABILITIES: 0xFF},
         Expect.REFUSED),
        ("capability-unaligned", "the list goes on at an odd place", {_FIRST: 1, _FIRST + 1: 0x4D},
         Expect.SURVIVED),
        ("msix-missing", "MSI-X is another capability", {_FIRST: 0x05}, Expect.REFUSED),
        ("msix-out-of-bar", "the MSI-X table is at 0xfffffff8 of BAR0",
         {_FIRST + 4: 0xF8, _FIRST + 5: 0xFF, _FIRST + 6: 0xFF, _FIRST + 7: 0xFF}, Expect.UNSEEN),
        ("msix-no-bar", "the MSI-X table is in BAR7", {_FIRST + 4: 0x07}, Expect.UNSEEN),
        ("msix-2048", "there are 2048 vectors", {_FIRST + 2: 0xFF, _FIRST + 3: 0x07},
         Expect.UNSEEN),
        ("ids-ones", "all ids read all ones",
         dict.fromkeys((0, 1, 2, 3, 0x2C, 0x2D, 0x2E, 0x2F), 0xFF), Expect.UNSEEN),
        ("all-ones", "config space reads all ones", dict.fromkeys(range(256), 0xFF),
         Expect.REFUSED),
    ):  # fmt: skip
        yield Case(
            f"config-{name}",
            "1",
            what,
            lambda rng, told=told: Config(told),  # type: ignore[misc]
            expect,
            Target.LIBRARY,
            _BY_QEMU,
        )


def region_lies() -> Iterator[Case]:
    """Lies about BAR2, which the client maps."""
    whole = abi.BAR2_BYTES
    for name, what, make in (
        ("half", "BAR2 is half as large", lambda: Shared(whole // 2)),
        ("empty", "BAR2 has no bytes", lambda: Shared(0)),
        ("enormous", "BAR2 has 2^62 bytes", lambda: Shared(1 << 62)),
        ("short-file", "the file behind BAR2 is one page long", lambda: Shared(whole, 4096)),
        ("shrinking-file", "the file behind BAR2 may shrink", lambda: Shared(whole, whole)),
        ("offset-end", "BAR2 begins behind its file", lambda: Shared(whole, None, whole)),
        ("offset-unaligned", "BAR2 begins in a page", lambda: Shared(whole, None, 5)),
        ("offset-enormous", "BAR2 begins at 2^63", lambda: Shared(whole, None, 1 << 63)),
        ("no-descriptor", "BAR2 cannot be mapped", lambda: Shared(whole, none=True)),
    ):
        yield Case(
            f"region-{name}",
            "3",
            what,
            lambda rng, make=make: make(),  # type: ignore[misc]
            Expect.REFUSED,
            Target.LIBRARY,
            _BY_KERNEL,
        )


def _member(name: str, value: bytes) -> Callable[[random.Random], Lie]:
    return lambda rng: Info.member(name, value)


def info_lies() -> Iterator[Case]:
    """Lies of `struct vgpu_device_info`."""
    refused, survived, unseen = Expect.REFUSED, Expect.SURVIVED, Expect.UNSEEN
    words = struct.Struct("<I").pack
    longs = struct.Struct("<Q").pack
    for name, what, member, value, expect in (
        ("magic", "magic is 0", "magic", words(0), refused),
        ("abi-major", "major 2", "abi_version", words(0x20000), refused),
        ("abi-zero", "version 0", "abi_version", words(0), refused),
        ("memory-none", "no device memory", "total_memory", longs(0), refused),
        ("memory-ones", "2^64 - 1 bytes of memory", "total_memory", longs(2**64 - 1), survived),
        ("driver-zero", "driver version 0", "driver_version", words(0), refused),
        ("driver-negative", "driver version -1", "driver_version", words(2**32 - 1), refused),
        ("compute-negative", "capability -1", "compute_major", words(2**32 - 1), refused),
        ("compute-huge", "capability 2^31 - 1", "compute_major", words(_INT_MAX), survived),
        ("attribute-count-zero", "0 attributes", "attribute_count", words(0), refused),
        ("attribute-count-ones", "2^32 - 1 attributes", "attribute_count", words(2**32 - 1),
         refused),
        ("name-unterminated", "a name without an end", "name", b"n" * 128, survived),
        ("name-unterminated-all", "nothing after the name ends it", "name",
         b"n" * (128 + 16 + 4 * abi.ATTRIBUTE_COUNT), refused),
        ("name-empty", "no name", "name", bytes(128), survived),
        ("name-format", "a name of conversions", "name", b"%s%n%s%n%p%999999999s\0", survived),
        ("name-control", "a name of control characters", "name", b"\x1b]0;\x07\n\r\xff\xfe\0",
         survived),
        ("executor-unterminated", "an executor without an end", "executor", b"software" * 2,
         survived),
        ("executor-unknown", "an executor that is none", "executor", b"abacus\0", survived),
        ("executor-cuda", "the software GPU says that it is a GPU", "executor", b"cuda\0",
         unseen),
    ):  # fmt: skip
        yield Case(f"info-{name}", "3", what, _member(member, value), expect)
    yield from _attribute_lies()
    yield Case(
        "info-chance",
        "3",
        "the device information is chance, but for magic and version",
        lambda rng: Info(
            lambda data: data.__setitem__(slice(8, None), rng.randbytes(len(data) - 8))
        ),
        survived,
    )
    yield Case(
        "info-flips",
        "3",
        "the device information changes while it is read",
        lambda rng: Flips(rng, 0, abi.DEVICE_INFO.size, admin=False, info=True),
        survived,
    )


def _attribute_lies() -> Iterator[Case]:
    for name, what, value in (
        ("zero", "every attribute is 0", lambda number, true: 0),
        ("negative", "every attribute is -1", lambda number, true: -1),
        ("largest", "every attribute is 2^31 - 1", lambda number, true: _INT_MAX),
        ("smallest", "every attribute is absent", lambda number, true: _INT_MIN),
        ("opposite", "every attribute has the other sign", lambda number, true: _opposite(true)),
    ):
        yield Case(
            f"info-attributes-{name}",
            "3",
            what,
            lambda rng, value=value: Info.attributes(value),  # type: ignore[misc]
            Expect.SURVIVED,
        )
    for attribute, number in (
        ("warp", _WARP_SIZE),
        ("threads", _MAX_THREADS),
        ("multiprocessors", _MULTIPROCESSORS),
    ):
        for kind, told in (("zero", 0), ("negative", -32), ("largest", _INT_MAX)):
            yield Case(
                f"info-{attribute}-{kind}",
                "3",
                f"device attribute {number} is {told}",
                lambda rng, number=number, told=told: Info.attributes(  # type: ignore[misc]
                    lambda other, true: told if other == number else true
                ),
                Expect.SURVIVED,
            )


def _opposite(value: int) -> int:
    return max(_INT_MIN, min(_INT_MAX, -value))
