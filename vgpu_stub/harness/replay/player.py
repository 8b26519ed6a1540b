"""Plays recorded channels on a target and compares what comes back.

Commands go in the recorded order, and the player waits where the recorded run had an answer. A
command whose data would overwrite what an earlier one may still read, or whose output shall be
looked at, waits for the earlier ones; the answers do not depend on it.
"""

from __future__ import annotations

import heapq
import itertools
import mmap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from time import monotonic, monotonic_ns, sleep
from typing import Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.decode import DecodedCommand, GuestRange, result_text
from vgpu_stub.driver import Completion as Answer
from vgpu_stub.harness.replay.initialised import InitialisedMemory
from vgpu_stub.harness.replay.names import Names
from vgpu_stub.harness.replay.report import ChannelReport, DifferenceKind, ReplayReport, difference
from vgpu_stub.harness.replay.steps import (
    CommandStep,
    CompletionStep,
    EndStep,
    OutputStep,
    RegisterStep,
    Step,
    is_late,
    steps_of,
)
from vgpu_stub.harness.replay.targets import Target, TargetChannel, TargetError
from vgpu_stub.recording.errors import RecordingError
from vgpu_stub.recording.reader import ChannelRecording, Recording
from vgpu_stub.recording.records import NOT_SEEN, Completion, Memory, content_digest

_Op = abi.Opcode
_NOT_READY: Final = 600
#: Sequence numbers of the player's own commands, above all that guests use.
_OWN_SEQUENCES: Final = 1 << 62
_BUILD_GRAPHS: Final = (_Op.GRAPH_INSTANTIATE, _Op.GRAPH_UPDATE)
#: Commands whose answer is a measurement.
_MEASURED: Final = {
    _Op.EVENT_ELAPSED_TIME: "times are measured anew",
    _Op.STREAM_QUERY: "whether work is done yet depends on time",
    _Op.EVENT_QUERY: "whether work is done yet depends on time",
}
#: Words of results that name something: they are learnt, not compared.
_NAMES: Final = frozenset(
    ("context", "module", "function", "stream", "event", "graph", "device_ptr")
)


@dataclass(frozen=True)
class Outcome:
    """What one run answered at one step, by the step's number."""

    completions: dict[int, Completion]
    digests: dict[int, bytes]


class ChannelPlayer:
    """Plays one channel, step by step."""

    def __init__(
        self,
        recording: Recording,
        recorded: ChannelRecording,
        target: Target,
        expected: Outcome | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        """Prepare; the channel is opened at its first step.

        Args:
            recording: Where data comes from.
            recorded: The channel.
            target: Where to play it.
            expected: What another target answered, in place of what was recorded.
            timeout_s: How long to wait for each completion.
        """
        self.report = ChannelReport(recorded.title)
        self.outcome = Outcome({}, {})
        self._recording = recording
        self._recorded = recorded
        self._target = target
        self._expected = expected
        self._timeout_s = timeout_s
        self._names = Names()
        self._initialised = InitialisedMemory()
        self._channel: TargetChannel | None = None
        self._own_sequence = _OWN_SEQUENCES
        self._number = 0
        #: The last command that was submitted and may not have been carried out.
        self._unsettled: DecodedCommand | None = None
        #: A completion that told of an asynchronous error when the player itself asked.
        self._stolen: Answer | None = None
        self._outputs: list[tuple[int, OutputStep]] = []

    def _open(self) -> TargetChannel:
        if is_late(self._recorded):
            raise RecordingError(
                f"{self._recorded.title} was in use before the recording began: what it had then"
                " is unknown"
            )
        info = self._recorded.info
        return self._target.open_channel(info["device"], info["channel"], str(info["name"]))

    def play(self, step: Step) -> None:
        """Play the next step; the first opens the channel, and one that fails has ended.

        Raises:
            RecordingError: The recording began too late for this channel.
        """
        if not self._number:
            self._channel = self._open()
        self._number += 1
        channel = self._channel
        if channel is None:
            return
        started = monotonic()
        try:
            match step:
                case CommandStep():
                    self._play_command(channel, step)
                case CompletionStep():
                    self._play_completion(channel, step)
                case OutputStep():
                    self._outputs.append((self._number, step))
                case RegisterStep():
                    self._play_registration(channel, step)
                case EndStep():
                    self.finish()
        except TargetError as error:
            command = step.of if isinstance(step, CompletionStep | OutputStep) else None
            command = step if isinstance(step, CommandStep) else command
            self.report.add(
                difference(
                    DifferenceKind.COMPLETION, self.report.title, command, "an answer", str(error)
                )
            )
            self._close()
        self.report.seconds += monotonic() - started

    def finish(self) -> None:
        """There are no more steps."""
        if self._channel is None:
            return
        if self._outputs:
            self._check_outputs(self._channel)
        if self._names.words_changed:
            self.report.not_compared[
                "words of parameters, graphs and data that were taken for device pointers"
            ] += self._names.words_changed
        self._close()

    def _close(self) -> None:
        channel, self._channel = self._channel, None
        if channel:
            channel.close()

    # -- steps -------------------------------------------------------------------------------------

    def _play_command(self, channel: TargetChannel, step: CommandStep) -> None:
        if self._outputs:
            self._check_outputs(channel)
        command = step.command
        for memory in step.inputs:
            self._write_input(channel, command, memory)
        self._names.forget(command)
        self._initialised.note_command(command)
        channel.submit(self._names.rewrite(command, step.data))
        self._unsettled = command
        self.report.commands += 1

    def _write_input(self, channel: TargetChannel, command: DecodedCommand, memory: Memory) -> None:
        target = channel.memory(memory.range.registration)
        if target is None:
            return
        data = self._recording.content(memory.digest)
        self._initialised.note_data(data)
        if command.opcode in _BUILD_GRAPHS:
            data = self._names.rewrite_graph(data, command.number("nodes"))
        elif command.opcode in (_Op.COPY_HOST_TO_DEVICE, _Op.COPY_2D, _Op.GRAPH_LAUNCH):
            data = self._names.rewrite_words(data)
        if _gather(target, memory.range) == data:
            return
        self._settle(channel)
        _scatter(target, memory.range, data)

    def _play_registration(self, channel: TargetChannel, step: RegisterStep) -> None:
        if step.size:
            channel.register(step.registration, step.size, step.access)
            return
        self._settle(channel)
        self._check_outputs(channel)
        channel.unregister(step.registration)

    def _play_completion(self, channel: TargetChannel, step: CompletionStep) -> None:
        number = self._number
        recorded = step.completion
        if step.of is None:
            return
        if recorded.sequence >= _OWN_SEQUENCES:
            raise TargetError(f"the guest's sequence number {recorded.sequence} is the player's")
        answer = channel.wait(recorded.sequence, self._timeout_s)
        if self._stolen:
            stolen, self._stolen = self._stolen, None
            answer = replace(stolen, sequence=answer.sequence)
        if self._unsettled and self._unsettled.sequence == recorded.sequence:
            self._note_settled()
        actual = Completion(answer.sequence, answer.status, answer.flags, answer.result)
        self.outcome.completions[number] = actual
        expected = self._expected.completions.get(number) if self._expected else recorded
        if expected:
            self._compare_completion(step.of, expected, actual)
        if not recorded.status and not answer.status:
            self._names.learn(step.of.command, recorded.results, answer.result)
            self._initialised.note_results(step.of.command, recorded.results)
        self._check_outputs(channel)

    # -- comparisons -------------------------------------------------------------------------------

    def _compare_completion(
        self, step: CommandStep, expected: Completion, actual: Completion
    ) -> None:
        command = step.command
        self.report.completions += 1
        measured = _MEASURED.get(_Op(command.opcode)) if command.opcode in _MEASURED else None
        if measured and {expected.status, actual.status} <= {0, _NOT_READY}:
            self.report.not_compared[measured] += 1
            return
        if (expected.status, expected.flags) != (actual.status, actual.flags):
            self._differs(DifferenceKind.STATUS, step, _status_text(expected), _status_text(actual))
            return
        if expected.status:
            return
        names = abi.COMMANDS[command.opcode].results if command.opcode in abi.COMMANDS else ()
        told = [
            (name, then, now)
            for name, then, now in zip(names, expected.results, actual.results, strict=False)
            if name not in _NAMES
        ]
        if any(then != now for _, then, now in told):
            self._differs(
                DifferenceKind.RESULTS,
                step,
                result_text(command.opcode, expected.results),
                result_text(command.opcode, actual.results),
            )

    def _check_outputs(self, channel: TargetChannel) -> None:
        outputs, self._outputs = self._outputs, []
        if outputs:
            self._settle(channel)
        for number, step in outputs:
            memory = step.memory
            if memory.flags & NOT_SEEN:
                self.report.not_compared["data that the recorder could not see in time"] += 1
                continue
            target = channel.memory(memory.range.registration)
            digest = content_digest(_gather(target, memory.range)) if target else b""
            self.outcome.digests[number] = digest
            expected = memory.digest
            if self._expected:
                expected = self._expected.digests.get(number, digest)
            if step.of and self._initialised.never_written(step.of.command):
                self.report.not_compared["copies of device memory that nothing had written"] += 1
                continue
            self.report.data += 1
            if digest == expected:
                continue
            self._differs(
                DifferenceKind.DATA,
                step.of,
                f"{memory.range.size} bytes {expected.hex()}",
                digest.hex() or "no such registration",
            )

    def _differs(
        self, kind: DifferenceKind, step: CommandStep | None, expected: str, actual: str
    ) -> None:
        self.report.add(difference(kind, self.report.title, step, expected, actual))

    # -- order -------------------------------------------------------------------------------------

    def _settle(self, channel: TargetChannel) -> None:
        """Wait until everything that was submitted has been carried out."""
        if self._unsettled is None:
            return
        self._own_sequence += 1
        sequence = self._own_sequence
        opcode, context = _Op.NOP, 0
        if not self._target.synchronous and self._unsettled.context:
            opcode, context = _Op.CONTEXT_SYNCHRONIZE, self._unsettled.context
        own = abi.COMMAND_HEADER.pack(opcode, 1, abi.COMMAND_COMPLETE, context, sequence)
        own = own.ljust(abi.SLOT_BYTES, b"\0")
        command = replace(self._unsettled, opcode=opcode, fields={}, tail=b"", context=context)
        channel.submit(self._names.rewrite(command, own))
        answer = channel.wait(sequence, self._timeout_s)
        if answer.flags & abi.COMPLETION_ASYNC_ERROR:
            self._stolen = answer
        self._unsettled = None

    def _note_settled(self) -> None:
        if self._target.synchronous:
            self._unsettled = None


def _status_text(completion: Completion) -> str:
    late = " (asynchronous)" if completion.flags & abi.COMPLETION_ASYNC_ERROR else ""
    return f"CUresult {completion.status}{late}"


def _gather(memory: mmap.mmap, range_: GuestRange) -> bytes:
    """The bytes of a range of the guest's view."""
    _, offset, row_bytes, rows, pitch = range_
    starts = (offset + row * pitch for row in range(rows))
    return b"".join(memory[start : start + row_bytes] for start in starts)


def _scatter(memory: mmap.mmap, range_: GuestRange, data: bytes) -> None:
    """Put data into a range of the guest's view."""
    _, offset, row_bytes, rows, pitch = range_
    for row in range(rows):
        start = offset + row * pitch
        memory[start : start + row_bytes] = data[row * row_bytes : (row + 1) * row_bytes]


def play(
    recording: Recording,
    target: Target,
    expected: dict[int, Outcome] | None = None,
    *,
    against: str = "the recording",
    pace: bool = False,
    timeout_s: float = 60.0,
) -> tuple[ReplayReport, dict[int, Outcome]]:
    """Play a recording; returns what was found and what the target answered, by stream.

    Args:
        recording: What to play.
        target: On what.
        expected: What another target answered, to compare with instead of the recording.
        against: Its name.
        pace: Wait as long between commands as the recorded guest did.
        timeout_s: How long to wait for each completion.

    Raises:
        RecordingError: It cannot be played.
    """
    players = {
        stream: ChannelPlayer(recording, recorded, target, (expected or {}).get(stream), timeout_s)
        for stream, recorded in recording.channels.items()
    }
    report = ReplayReport(str(recording.path), target.name, against, recording.damage)
    report.channels = [player.report for player in players.values()]
    pacer = _Pacer() if pace else None
    for stream, step in _in_order(recording, target):
        player = players[stream]
        if pacer:
            pacer.wait_for(step.time_ns)
        player.play(step)
    for player in players.values():
        player.finish()
    return report, {stream: player.outcome for stream, player in players.items()}


def _in_order(recording: Recording, target: Target) -> Iterator[tuple[int, Step]]:
    """The steps of all channels with their streams: by time, or one channel after the other."""
    numbered = [
        zip(itertools.repeat(stream), steps_of(recorded))
        for stream, recorded in recording.channels.items()
    ]
    if target.concurrent:
        return heapq.merge(*numbered, key=lambda each: each[1].time_ns)
    return itertools.chain.from_iterable(numbered)


class _Pacer:
    """Keeps the recorded distances in time; what is late already does not wait."""

    def __init__(self) -> None:
        self._offset: int | None = None

    def wait_for(self, time_ns: int) -> None:
        now = monotonic_ns()
        if self._offset is None:
            self._offset = now - time_ns
        ahead = time_ns + self._offset - now
        if ahead > 0:
            sleep(ahead / 1e9)
