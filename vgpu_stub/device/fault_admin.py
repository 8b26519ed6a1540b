"""Faults of the admin channel: commands that are refused, never answered, or answered late."""

from __future__ import annotations

from collections.abc import Callable

from vgpu_stub.abi import generated as abi
from vgpu_stub.device.delays import Delays
from vgpu_stub.device.faults import DeviceFaults
from vgpu_stub.faults import Point

#: Answers a command with an errno, 0 for success; called with the device's lock held.
Complete = Callable[[int], None]


class InjectedAdminError(Exception):
    """A command is to be refused; `number` is the errno for its completion."""

    def __init__(self, number: int) -> None:
        super().__init__(f"injected errno {number}")
        self.number = number


def faulty_answer(
    faults: DeviceFaults, delays: Delays, opcode: int, command: bytes, complete: Complete
) -> Complete:
    """How a command is answered while there are faults of the admin channel.

    Raises:
        InjectedAdminError: The command is not to be carried out.
    """
    rule = faults.fires(Point.ADMIN, opcode=opcode, channel=_channel(opcode, command))
    if rule is None:
        return complete
    if rule.kind == "admin-error":
        raise InjectedAdminError(int(rule.parameters["errno"]))
    if rule.kind == "admin-lost":
        return lambda _number: None
    delay_ms = float(rule.parameters["delay_ms"])
    return lambda number: delays.later(delay_ms, lambda: complete(number))


def _channel(opcode: int, command: bytes) -> int | None:
    """The channel that a command is about."""
    layout = abi.COMMANDS.get(opcode)
    if layout is None or "channel" not in layout.field_names:
        return None
    values = layout.fields.unpack_from(command, abi.COMMAND_HEADER.size)
    return int(values[layout.field_names.index("channel")])
