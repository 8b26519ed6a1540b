"""CUDA calls on a timeline: which channel they belong to, and how far their clock is off.

A call knows which commands its thread put into the ring meanwhile; the recording has the same
commands with the host's times. Where the program ran in a virtual machine these pairs also tell how
far its clock is off: no command is taken before its call begins, and a call that has waited for an
answer does not return before the answer was written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.calltrace.call import TracedCall
from vgpu_stub.harness.replay.steps import is_late
from vgpu_stub.recording.reader import ChannelRecording
from vgpu_stub.recording.records import Kind, command_header, unpack_completion


@dataclass
class CallTrace:
    """Calls of the programs that a recording shows.

    Attributes:
        same_clock: Whether they were timed by the clock of the recording; not so in a virtual
            machine.
        calls: The calls.
    """

    same_clock: bool = True
    calls: list[TracedCall] = field(default_factory=list)


@dataclass(frozen=True)
class Offset:
    """What the host's clock shows when the program's shows 0, in ns, give or take `error_ns`."""

    offset_ns: int = 0
    error_ns: int = 0


SAME_CLOCK: Final = Offset()


class ChannelCalls:
    """A channel's commands by the numbers that calls know them by.

    The library numbers what it puts into the ring from 1; fillers, which end the ring, are not
    counted. Of a channel that was recorded late the numbers are not known.
    """

    def __init__(self, channel: ChannelRecording) -> None:
        self.pid = int(channel.info.get("pid", 0))
        self.calls: list[TracedCall] = []
        self._taken_ns: list[int] = []
        self._answered_ns: dict[int, int] = {}
        for record in () if is_late(channel) else channel.records:
            if record.kind == Kind.COMMAND:
                opcode, _, _, _, sequence = command_header(record)
                if sequence or opcode != abi.Opcode.NOP:
                    self._taken_ns.append(record.time_ns)
            elif record.kind == Kind.COMPLETION:
                self._answered_ns[unpack_completion(record).sequence] = record.time_ns

    def taken_ns(self, number: int) -> int | None:
        """When the host took the command of that number; None where that is not known."""
        return self._taken_ns[number - 1] if 0 < number <= len(self._taken_ns) else None

    def bounds(self) -> tuple[list[int], list[int]]:
        """What the clocks' offset is at least, and at most, by each call that tells."""
        least, most = [], []
        for call in self.calls:
            taken_ns = self.taken_ns(call.first_command)
            if taken_ns is not None:
                most.append(taken_ns - call.begin_ns)
            answered_ns = self._answered_ns.get(call.answered)
            if answered_ns is not None:
                least.append(answered_ns - call.end_ns)
        return least, most


def assign(
    trace: CallTrace, channels: dict[int, ChannelRecording]
) -> tuple[dict[int, ChannelCalls], list[TracedCall], Offset | None]:
    """Find out which channel each call belongs to.

    Returns:
        The channels' calls by the channels' numbers; calls of processes without a channel; and the
        offset of the clocks, None where nothing tells it.
    """
    found = {stream: ChannelCalls(channel) for stream, channel in channels.items()}
    owners: dict[int, list[ChannelCalls]] = {}
    for calls in found.values():
        owners.setdefault(calls.pid, []).append(calls)
    strangers: list[TracedCall] = []
    for call in trace.calls:
        own = owners.get(call.pid, [])
        # A process that became another program has a channel for each: which one is not known.
        (own[0].calls if len(own) == 1 else strangers).append(call)
    return found, strangers, SAME_CLOCK if trace.same_clock else _offset(found.values())


def _offset(channels: Iterable[ChannelCalls]) -> Offset | None:
    least: list[int] = []
    most: list[int] = []
    for calls in channels:
        lower, upper = calls.bounds()
        least += lower
        most += upper
    if not least or not most:
        return None
    low, high = max(least), min(most)
    return Offset((low + high) // 2, abs(high - low) // 2)


def lanes(calls: Sequence[TracedCall]) -> dict[int, int]:
    """A number for each thread that calls, in the order of their first calls, from 0."""
    ordered = sorted(calls, key=lambda call: call.begin_ns)
    return {tid: number for number, tid in enumerate(dict.fromkeys(call.tid for call in ordered))}
