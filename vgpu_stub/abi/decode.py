"""Commands of the rings taken apart for people and tools: names, fields, guest memory they touch.

The one decoder behind recordings, traces and monitors. It trusts nothing: a command that is
unknown or too short is shown as what it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from vgpu_stub.abi import generated as abi

_HEADER: Final = abi.COMMAND_HEADER
_CUBLAS_SCALARS: Final = ("alpha", "beta")
_HEX_FIELDS: Final = frozenset(("device_ptr", "destination", "source", "a", "b", "c", "workspace"))
_NAMES: Final = frozenset((abi.Opcode.MODULE_GET_FUNCTION, abi.Opcode.MODULE_GET_GLOBAL))
_SHOWN_TAIL_BYTES: Final = 32
#: Fields that hold a handle, and handles of what.
_HANDLES: Final = {
    "module": "module",
    "function": "function",
    "stream": "stream",
    "event": "event",
    "graph": "graph",
}
_ELAPSED_HANDLES: Final = {"start": "event", "end": "event"}

Value = int | bytes


class GuestRange(NamedTuple):
    """Guest memory that a command reads or writes: `rows` rows of `row_bytes`, `pitch` apart."""

    registration: int
    offset: int
    row_bytes: int
    rows: int = 1
    pitch: int = 0

    @property
    def size(self) -> int:
        """Bytes that are touched."""
        return self.row_bytes * self.rows

    @property
    def span(self) -> int:
        """Bytes from the first to the last that is touched."""
        return (self.rows - 1) * self.pitch + self.row_bytes if self.size else 0


@dataclass(frozen=True)
class DecodedCommand:
    """A command by name.

    Attributes:
        opcode: Its number.
        name: Its ABI name, or the opcode in hex when there is no such command.
        flags: COMMAND_COMPLETE and so on.
        context: The header's context.
        sequence: The guest's number of it.
        fields: Values by name; empty when the command is unknown or too short.
        tail: The variable part, cut to what is there; empty when there is none.
        problem: Why it could not be taken apart, or "".
    """

    opcode: int
    name: str
    flags: int
    context: int
    sequence: int
    fields: dict[str, Value]
    tail: bytes
    problem: str = ""

    def number(self, name: str) -> int:
        """A field that is a number; 0 when there is none of that name."""
        value = self.fields.get(name, 0)
        return value if isinstance(value, int) else 0

    @property
    def completes(self) -> bool:
        """Whether the guest asked for a completion."""
        return bool(self.flags & abi.COMMAND_COMPLETE)

    def __str__(self) -> str:
        shown = [f"{name}={_shown(name, value)}" for name, value in _grouped(self.fields)]
        if self.tail:
            shown.append(self._shown_tail())
        if self.problem:
            shown.append(self.problem)
        return f"{self.name}({', '.join(shown)})"

    def _shown_tail(self) -> str:
        if self.opcode in _NAMES:
            return repr(self.tail.decode(errors="backslashreplace"))
        more = "..." if len(self.tail) > _SHOWN_TAIL_BYTES else ""
        return f"tail={self.tail[:_SHOWN_TAIL_BYTES].hex()}{more}"


def decode(command: bytes) -> DecodedCommand:
    """Take a command apart; one that makes no sense has no fields and says why in `problem`."""
    if len(command) < _HEADER.size:
        return DecodedCommand(0, "?", 0, 0, 0, {}, b"", f"{len(command)} bytes are no command")
    opcode, _, flags, context, sequence = _HEADER.unpack_from(command)
    layout = abi.COMMANDS.get(opcode)
    if layout is None:
        name = f"0x{opcode:x}"
        return DecodedCommand(opcode, name, flags, context, sequence, {}, b"", "no such command")
    end = _HEADER.size + layout.fields.size
    if end > len(command):
        problem = "shorter than its fields"
        return DecodedCommand(opcode, layout.name, flags, context, sequence, {}, b"", problem)
    values = layout.fields.unpack_from(command, _HEADER.size)
    fields = dict(zip(layout.field_names, values, strict=True))
    tail = command[end : end + values[-1]] if layout.has_tail else b""
    problem = "tail cut short" if layout.has_tail and len(tail) < values[-1] else ""
    return DecodedCommand(opcode, layout.name, flags, context, sequence, fields, tail, problem)


def result_text(opcode: int, results: Iterable[int]) -> str:
    """The result words of a completion by name, as "device_ptr=0x1000"."""
    layout = abi.COMMANDS.get(opcode)
    names = layout.results if layout else ()
    return ", ".join(
        f"{name}={_shown(name, value)}" for name, value in zip(names, results, strict=False)
    )


def handle_fields(command: DecodedCommand) -> dict[str, str]:
    """Names of the fields that hold handles, and handles of what."""
    known = _ELAPSED_HANDLES if command.opcode == abi.Opcode.EVENT_ELAPSED_TIME else _HANDLES
    return {name: kind for name, kind in known.items() if name in command.fields}


def pointer_fields(command: DecodedCommand) -> list[str]:
    """Names of the fields that hold device pointers."""
    fields = command.fields
    if command.opcode == abi.Opcode.BLAS:
        names = ["a", "b", "c", "workspace"]
        if command.number("blas_flags") & abi.BLAS_FLAG_DEVICE_SCALARS:
            names += _CUBLAS_SCALARS
        return names
    if command.opcode == abi.Opcode.COPY_2D:
        return [n for n in ("destination", "source") if not command.number(f"{n}_registration")]
    return [name for name in ("device_ptr", "destination", "source") if name in fields]


def memory_read(command: DecodedCommand) -> list[GuestRange]:
    """Guest memory that the command reads; of a graph's launch only what its own fields say."""
    number = command.number
    match command.opcode:
        case abi.Opcode.COPY_HOST_TO_DEVICE | abi.Opcode.MODULE_LOAD | abi.Opcode.MODULE_LINK:
            return [GuestRange(number("registration"), number("offset"), number("size"))]
        case abi.Opcode.GRAPH_INSTANTIATE | abi.Opcode.GRAPH_UPDATE:
            return [GuestRange(number("registration"), number("offset"), number("size"))]
        case abi.Opcode.COPY_2D if number("source_registration"):
            return [_rectangle(command, "source")]
        case _:
            return []


def memory_written(command: DecodedCommand) -> list[GuestRange]:
    """Guest memory that the command writes once its stream has reached it."""
    number = command.number
    match command.opcode:
        case abi.Opcode.COPY_DEVICE_TO_HOST:
            return [GuestRange(number("registration"), number("offset"), number("size"))]
        case abi.Opcode.COPY_2D if number("destination_registration"):
            return [_rectangle(command, "destination")]
        case _:
            return []


def reply_written(command: DecodedCommand, results: tuple[int, ...]) -> list[GuestRange]:
    """Guest memory that the command has written by the time of its completion, by its results."""
    number = command.number
    match command.opcode:
        case abi.Opcode.MODULE_GET_FUNCTION:
            size = min(results[1], number("reply_size"))
            return [GuestRange(number("reply_registration"), number("reply_offset"), size)]
        case abi.Opcode.OUTPUT_READ:
            size = min(results[0], number("reply_size"))
            return [GuestRange(number("reply_registration"), number("reply_offset"), size)]
        case abi.Opcode.MODULE_LINK if results[0] <= number("image_room"):
            return [GuestRange(number("registration"), number("image_offset"), results[0])]
        case _:
            return []


def _rectangle(command: DecodedCommand, side: str) -> GuestRange:
    return GuestRange(
        command.number(f"{side}_registration"),
        command.number(side),
        command.number("width"),
        command.number("height"),
        command.number(f"{side}_pitch"),
    )


def _grouped(fields: dict[str, Value]) -> Iterable[tuple[str, Value | tuple[Value, ...]]]:
    """Fields without padding; the members of an array (`grid_0`, `grid_1`, ...) as one."""
    groups: dict[str, tuple[Value, ...]] = {}
    for name, value in fields.items():
        stem, _, index = name.rpartition("_")
        if stem and index.isdigit():
            groups[stem] = (*groups.get(stem, ()), value)
        elif name not in ("reserved", "tail_bytes"):
            groups[name] = (value,)
    for name, values in groups.items():
        yield name, values if len(values) > 1 else values[0]


def _shown(name: str, value: Value | tuple[Value, ...]) -> str:
    if isinstance(value, bytes):
        text = value.rstrip(b"\0")
        return repr(text.decode(errors="backslashreplace")) if name == "name" else value.hex()
    if isinstance(value, tuple):
        return "(" + ", ".join(str(part) for part in value) + ")"
    return f"0x{value:x}" if name in _HEX_FIELDS else str(value)
