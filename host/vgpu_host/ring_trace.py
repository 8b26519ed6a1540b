"""Reads back from a channel's rings what was submitted last, and what was completed.

Rings keep their entries until they are overwritten, so nothing has to be recorded for this. A
command starts at slot 0 of every lap of the submission ring, which is where reading it begins;
commands of the lap before are not shown, as it cannot be known where the first whole one starts.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from vgpu_host.control import Handler
from vgpu_stub.abi import generated as abi
from vgpu_stub.device.channels import Channel
from vgpu_stub.device.gpu import VirtualGpu
from vgpu_stub.device.rings import channel_offset

#: Commands and completions of a trace.
DEFAULT_LENGTH: Final = 32
_REMEMBERED_CHANNELS: Final = 8
_STATES: Final = {abi.CHANNEL_READY: "ready", abi.CHANNEL_FAILED: "failed"}


@dataclass(frozen=True)
class TracedCommand:
    """One command of a submission ring.

    Attributes:
        slot: Its first slot, counted up for ever.
        name: Of its opcode.
        sequence: Its sequence number.
        context: The context that it is for.
        fields: Its arguments by name.
        taken: Whether the host has taken it out of the ring.
    """

    slot: int
    name: str
    sequence: int
    context: int
    fields: dict[str, int | str]
    taken: bool

    def __str__(self) -> str:
        arguments = " ".join(f"{name}={_short(value)}" for name, value in self.fields.items())
        mark = " " if self.taken else ">"
        return f"{mark} {self.slot:6} #{self.sequence:<6} {self.name} {arguments}".rstrip()


@dataclass(frozen=True)
class TracedCompletion:
    """One entry of a completion ring; `consumed` by the guest or not."""

    sequence: int
    status: int
    flags: int
    results: tuple[int, ...]
    consumed: bool

    def __str__(self) -> str:
        results = " ".join(_short(value) for value in self.results if value)
        mark = " " if self.consumed else ">"
        return f"{mark} #{self.sequence:<6} status {self.status} {results}".rstrip()


@dataclass(frozen=True)
class ChannelTrace:
    """The last commands and completions of a channel, oldest first."""

    number: int
    process: str
    state: str
    error: int
    commands: tuple[TracedCommand, ...]
    completions: tuple[TracedCompletion, ...]

    def __str__(self) -> str:
        head = f"channel {self.number} ({self.process}): {self.state}"
        head += f", error {self.error}" if self.error else ""
        commands = [f"  {command}" for command in self.commands] or ["  none in this lap"]
        completions = [f"  {completion}" for completion in self.completions] or ["  none"]
        return "\n".join(
            [
                head,
                " commands (> not taken yet):",
                *commands,
                " completions (> not consumed yet):",
                *completions,
            ]
        )

    def to_json(self) -> dict[str, Any]:
        """The trace as plain data."""
        return {
            "channel": self.number,
            "process": self.process,
            "state": self.state,
            "error": self.error,
            "commands": [vars(command) for command in self.commands],
            "completions": [vars(completion) for completion in self.completions],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ChannelTrace:
        """The inverse of `to_json`."""
        return cls(
            data["channel"],
            data["process"],
            data["state"],
            data["error"],
            tuple(TracedCommand(**command) for command in data["commands"]),
            tuple(
                TracedCompletion(**{**done, "results": tuple(done["results"])})
                for done in data["completions"]
            ),
        )


class RingTraces:
    """Traces of the channels of some devices, of those too that have ended not long ago."""

    def __init__(self, devices: Callable[[], Sequence[VirtualGpu]]) -> None:
        """`devices` are those that are there now."""
        self._devices = devices
        self._lock = threading.Lock()
        self._ended: deque[tuple[int, str, bytes]] = deque(maxlen=_REMEMBERED_CHANNELS)

    def channel_ended(self, device: VirtualGpu, channel: Channel) -> None:
        """Keep the rings of a channel that ends."""
        kept = (channel.number, channel.name, _memory_of(device, channel))
        with self._lock:
            self._ended.append(kept)

    def traces(self, length: int = DEFAULT_LENGTH) -> list[ChannelTrace]:
        """The last commands and completions of each channel, those that have ended first."""
        with self._lock:
            found = list(self._ended)
        for device in self._devices():
            for channel in device.snapshot().channels:
                found.append((channel.number, channel.name, _memory_of(device, channel)))
        return [trace_memory(memory, number, name, length) for number, name, memory in found]

    def handlers(self) -> dict[str, Handler]:
        """Verbs of the control socket."""
        return {"rings.trace": self._answer}

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        length = int(request.get("length", DEFAULT_LENGTH))
        return {"channels": [trace.to_json() for trace in self.traces(length)]}


def _memory_of(device: VirtualGpu, channel: Channel) -> bytes:
    return device.read_shared(channel_offset(channel.number), abi.CHANNEL_STRIDE)


def trace_memory(
    memory: bytes, number: int, process: str, length: int = DEFAULT_LENGTH
) -> ChannelTrace:
    """Read the rings of a channel; whatever a guest has written there, this returns.

    Args:
        memory: A copy of the channel's part of BAR2.
        number: The channel.
        process: Who uses it, for the reader.
        length: At most so many commands, and completions.
    """
    raw = abi.CHANNEL_CONTROL.unpack_from(memory, abi.CONTROL_OFFSET)
    control = dict(zip(abi.CHANNEL_CONTROL_OFFSETS, raw, strict=True))
    return ChannelTrace(
        number,
        process,
        _STATES.get(control["state"], "closed"),
        control["error"],
        tuple(_commands(memory, control["sq_head"], control["sq_tail"], length)),
        tuple(_completions(memory, control["cq_head"], control["cq_tail"], length)),
    )


def _commands(memory: bytes, head: int, tail: int, length: int) -> deque[TracedCommand]:
    found: deque[TracedCommand] = deque(maxlen=length)
    slot = tail - tail % abi.SQ_ENTRIES
    start = slot
    while slot < tail:
        place = abi.SQ_OFFSET + (slot - start) * abi.SLOT_BYTES
        opcode, slots, _, context, sequence = abi.COMMAND_HEADER.unpack_from(memory, place)
        if not 0 < slots <= tail - slot:
            break
        layout = abi.COMMANDS.get(opcode)
        fields: dict[str, int | str] = {}
        if layout:
            begin = place + abi.COMMAND_HEADER.size
            values = layout.fields.unpack_from(memory, begin)
            fields = {
                name: _plain(value) for name, value in zip(layout.field_names, values, strict=True)
            }
        name = layout.name if layout else f"opcode 0x{opcode:x}"
        # A NOP without a number fills the ring's end.
        if sequence or opcode != abi.Opcode.NOP:
            found.append(TracedCommand(slot, name, sequence, context, fields, slot < head))
        slot += slots
    return found


def _completions(memory: bytes, head: int, tail: int, length: int) -> list[TracedCompletion]:
    found = []
    for index in range(max(0, tail - min(length, abi.CQ_ENTRIES)), tail):
        place = abi.CQ_OFFSET + index % abi.CQ_ENTRIES * abi.SLOT_BYTES
        sequence, status, flags, *results = abi.COMPLETION.unpack_from(memory, place)
        found.append(TracedCompletion(sequence, status, flags, tuple(results), index < head))
    return found


def _plain(value: int | bytes) -> int | str:
    if isinstance(value, bytes):
        return value.rstrip(b"\0").decode(errors="backslashreplace")
    return value


def _short(value: int | str) -> str:
    return value if isinstance(value, str) else (str(value) if value < 1024 else f"0x{value:x}")
