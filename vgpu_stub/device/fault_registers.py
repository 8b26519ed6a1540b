"""Faults of registers and config space: reads of all ones, registers that are stuck or wrong."""

from __future__ import annotations

from typing import Final

from vgpu_stub.device.faults import DeviceFaults
from vgpu_stub.faults import Point, Rule
from vgpu_stub.faults.rule import REGISTERS

_ONES: Final = 0xFFFF_FFFF
_NAMES: Final = {offset: name for name, offset in REGISTERS.items()}
#: Kinds that are about one register.
_OF_ONE: Final = {"MAGIC": "magic-wrong", "ABI_VERSION": "version-wrong"}


def read_registers(faults: DeviceFaults, offset: int, data: bytes) -> bytes:
    """What the guest reads of BAR0 while there are faults of registers."""
    return b"".join(
        _read_register(faults, offset + part, data[part : part + 4])
        for part in range(0, len(data), 4)
    )


def read_config(faults: DeviceFaults, data: bytes) -> bytes:
    """What the guest reads of config space while there are faults of it."""
    return b"\xff" * len(data) if faults.fires(Point.CONFIG) else data


def _read_register(faults: DeviceFaults, offset: int, data: bytes) -> bytes:
    name = _NAMES.get(offset)
    kinds = ["register-ones", "register-stuck"]
    if name in _OF_ONE:
        kinds.append(_OF_ONE[name])
    rule = faults.fires(Point.REGISTER, *kinds, register=name)
    return _value(rule).to_bytes(4, "little")[: len(data)] if rule else data


def _value(rule: Rule) -> int:
    return int(rule.parameters.get("value", _ONES)) & _ONES
