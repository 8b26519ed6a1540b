"""Lies of registers (docs/device.md, section 2)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.villain.device.lie import Case, Expect, Target
from vgpu_stub.villain.device.places import AllRegisters, Change, Registers, Unheard, always

_ONES: Final = 0xFFFF_FFFF
_NOT_READ: Final = {Target.LIBRARY: "the libraries do not read this register"}
_DRIVER_ONLY: Final = Target.DRIVER


def _register(
    name: str,
    what: str,
    register: int,
    change: Callable[[random.Random], Change],
    *,
    expect: Expect = Expect.REFUSED,
    after: int = 0,
    targets: Target = Target.BOTH,
    section: str = "2",
) -> Case:
    return Case(
        f"register-{name}",
        section,
        what,
        lambda rng: Registers({register: change(rng)}, after),
        expect,
        targets,
        {} if Target.LIBRARY in targets else _NOT_READ,
    )


def _fixed(value: int) -> Callable[[random.Random], Change]:
    return lambda rng: always(value)


def _chance(rng: random.Random) -> Change:
    return lambda true: rng.getrandbits(32)


def register_lies() -> Iterator[Case]:
    """All of them."""
    yield from _identity()
    yield from _status()
    yield from _layout()
    yield from _errors()
    yield from _all_at_once()
    yield from _writes()


def _identity() -> Iterator[Case]:
    for name, value in (
        ("zero", 0),
        ("ones", _ONES),
        ("swapped", 0x56475055),
        ("near", 0x55504757),
    ):
        what = f"MAGIC reads 0x{value:08x}"
        yield _register(f"magic-{name}", what, abi.REG_MAGIC, _fixed(value))
    yield _register(
        "magic-later",
        "MAGIC is right once, and never again",
        abi.REG_MAGIC,
        _fixed(0x1BADB002),
        after=1,
        targets=_DRIVER_ONLY,
    )
    major, minor = abi.ABI_MAJOR << 16, abi.ABI_MINOR
    for name, value in (
        ("major-zero", minor),
        ("major-next", major + 0x10000 | minor),
        ("major-ones", 0xFFFF_0000 | minor),
        ("minor-older", major | (minor - 1)),
        ("zero", 0),
        ("ones", _ONES),
    ):
        what = f"ABI_VERSION reads 0x{value:08x}"
        yield _register(f"abi-{name}", what, abi.REG_ABI_VERSION, _fixed(value))
    yield _register(
        "abi-minor-newest",
        "ABI_VERSION has minor 65535",
        abi.REG_ABI_VERSION,
        _fixed(major | 0xFFFF),
        expect=Expect.SURVIVED,
    )
    for name, register in (("low", abi.REG_FEATURES_LOW), ("high", abi.REG_FEATURES_HIGH)):
        yield _register(
            f"features-{name}-ones",
            f"all bits of FEATURES_{name.upper()} are set",
            register,
            _fixed(_ONES),
            expect=Expect.SURVIVED,
            targets=_DRIVER_ONLY,
        )


def _status() -> Iterator[Case]:
    for name, value, what in (
        ("never-ready", 0, "STATUS never gets READY or ENABLED"),
        ("never-enabled", abi.STATUS_READY, "STATUS never gets ENABLED"),
        ("refused", abi.STATUS_READY | abi.STATUS_ABI_REFUSED, "ABI_REFUSED without a reason"),
        ("ones", _ONES, "STATUS reads all ones"),
        ("always-enabled", abi.STATUS_READY | abi.STATUS_ENABLED, "STATUS survives every reset"),
    ):
        expect = Expect.SURVIVED if name == "always-enabled" else Expect.REFUSED
        yield _register(f"status-{name}", what, abi.REG_STATUS, _fixed(value), expect=expect)
    yield _register(
        "status-chance",
        "STATUS reads something else each time",
        abi.REG_STATUS,
        _chance,
        expect=Expect.SURVIVED,
    )
    yield _register(
        "status-error-for-ever",
        "STATUS.ERROR cannot be cleared",
        abi.REG_STATUS,
        lambda rng: lambda true: true | abi.STATUS_ERROR,
        expect=Expect.SURVIVED,
        targets=_DRIVER_ONLY,
    )
    yield _register(
        "status-lost",
        "STATUS reads all ones after a while",
        abi.REG_STATUS,
        _fixed(_ONES),
        after=6,
        expect=Expect.SURVIVED,
        targets=_DRIVER_ONLY,
    )


def _layout() -> Iterator[Case]:
    values: list[tuple[str, int, list[tuple[str, int]]]] = [
        (
            "channel-count",
            abi.REG_CHANNEL_COUNT,
            [("zero", 0), ("one", 1), ("128", 128), ("ones", _ONES), ("sign", 1 << 31)],
        ),
        (
            "channel-base",
            abi.REG_CHANNEL_BASE,
            [
                ("zero", 0),
                ("unaligned", 0x80001),
                ("end", abi.BAR2_BYTES),
                ("last-page", 0xFFFF_F000),
                ("ones", _ONES),
            ],
        ),
        (
            "channel-stride",
            abi.REG_CHANNEL_STRIDE,
            [
                ("zero", 0),
                ("page", 4096),
                ("unaligned", 0x80004),
                ("sign", 1 << 31),
                ("wraps", 0x8000_0000 // 127 * 2 & ~0xFFF),
                ("last-page", 0xFFFF_F000),
            ],
        ),
        (
            "sq-entries",
            abi.REG_SQ_ENTRIES,
            [("zero", 0), ("three", 3), ("double", 8192), ("sign", 1 << 31), ("ones", _ONES)],
        ),
        (
            "cq-entries",
            abi.REG_CQ_ENTRIES,
            [("zero", 0), ("three", 3), ("huge", 8192), ("sign", 1 << 31), ("ones", _ONES)],
        ),
    ]
    for name, register, told in values:
        for kind, value in told:
            # More channels than the driver has a place for are as good as those that it has.
            many = name == "channel-count" and value > 1
            yield _register(
                f"{name}-{kind}",
                f"{name.upper().replace('-', '_')} reads 0x{value:x}",
                register,
                _fixed(value),
                expect=Expect.SURVIVED if many else Expect.REFUSED,
                targets=_DRIVER_ONLY,
            )
    yield _register(
        "layout-later",
        "SQ_ENTRIES changes after it was read",
        abi.REG_SQ_ENTRIES,
        _fixed(1 << 31),
        after=1,
        expect=Expect.SURVIVED,
        targets=_DRIVER_ONLY,
    )


def _errors() -> Iterator[Case]:
    for kind, value in (
        ("admin-ring", abi.DEVICE_ERROR_ADMIN_RING),
        ("worker-lost", abi.DEVICE_ERROR_WORKER_LOST),
        ("unknown", 0xDEAD),
        ("sign", 1 << 31),
        ("ones", _ONES),
    ):
        yield _register(
            f"error-{kind}",
            f"ERROR reads 0x{value:x} for ever",
            abi.REG_ERROR,
            _fixed(value),
            expect=Expect.SURVIVED,
            targets=_DRIVER_ONLY,
        )
    yield _register(
        "error-channel-ones",
        "ERROR_CHANNEL names no channel",
        abi.REG_ERROR_CHANNEL,
        _fixed(_ONES),
        expect=Expect.SURVIVED,
        targets=_DRIVER_ONLY,
    )
    yield _register(
        "reset-count-fixed",
        "RESET_COUNT never counts: no reset is shown",
        abi.REG_RESET_COUNT,
        _fixed(7),
        targets=_DRIVER_ONLY,
    )
    yield _register(
        "reset-count-chance",
        "RESET_COUNT reads something else each time",
        abi.REG_RESET_COUNT,
        _chance,
        expect=Expect.SURVIVED,
        targets=_DRIVER_ONLY,
    )


def _all_at_once() -> Iterator[Case]:
    for kind, after in (("at-once", 0), ("probing", 4), ("starting", 12), ("later", 40)):
        yield Case(
            f"registers-ones-{kind}",
            "2",
            f"all registers read all ones after {after} reads",
            lambda rng, after=after: AllRegisters(always(_ONES), after),  # type: ignore[misc]
            Expect.SURVIVED if after > 4 else Expect.REFUSED,
            Target.BOTH if not after else Target.DRIVER,
            {Target.LIBRARY: "the libraries read three registers"} if after else {},
        )
    for kind, after in (("at-once", 0), ("later", 10)):
        yield Case(
            f"registers-chance-{kind}",
            "2",
            f"all registers read something else each time after {after} reads",
            lambda rng, after=after: AllRegisters(_chance(rng), after),  # type: ignore[misc]
            Expect.SURVIVED,
        )


def _writes() -> Iterator[Case]:
    doorbells = abi.REG_DOORBELL, abi.REG_DOORBELL + 4 * abi.CHANNEL_COUNT
    for kind, what, first, last, ignored in (
        ("reset", "CONTROL.RESET does nothing", abi.REG_CONTROL, abi.REG_CONTROL, 2),
        ("enable", "CONTROL.ENABLE does nothing", abi.REG_CONTROL, abi.REG_CONTROL, 1),
        ("doorbells", "no doorbell is heard", *doorbells, None),
        ("admin-doorbell", "the admin doorbell is not heard", doorbells[0], doorbells[0], None),
        ("error", "ERROR cannot be cleared", abi.REG_ERROR, abi.REG_ERROR, None),
    ):
        only_driver = kind in {"reset", "error"}
        yield Case(
            f"unheard-{kind}",
            "2",
            what,
            lambda rng, first=first, last=last, ignored=ignored: Unheard(  # type: ignore[misc]
                first, last, lambda value: ignored is None or value == ignored
            ),
            Expect.SURVIVED if kind in {"error", "doorbells"} else Expect.REFUSED,
            Target.DRIVER if only_driver else Target.BOTH,
            {Target.LIBRARY: "the libraries write no such register"} if only_driver else {},
        )
