"""A recording as a timeline: a trace in the JSON format that Perfetto and Chrome's tracing open.

Each channel is a process of the trace. Its lanes: what the worker carried out, the same by CUDA
stream with an arrow from one to the other, and the time from each command to its answer. Errors,
interrupts and injected faults are instants, memory held and commands without an answer counters.
Where the calls of the programs were traced too, each thread has a lane of them, with arrows to the
commands that they became.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from vgpu_host.demangle import demangle
from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.decode import DecodedCommand, decode
from vgpu_stub.calltrace.call import TracedCall
from vgpu_stub.harness.timeline_calls import CallTrace, ChannelCalls, Offset, assign, lanes
from vgpu_stub.recording.reader import ChannelRecording, Recording
from vgpu_stub.recording.records import (
    Completion,
    Kind,
    Record,
    unpack_completion,
    unpack_json,
    unpack_message,
)
from vgpu_stub.vfio_user import Command as MessageCommand

Event = dict[str, Any]

_Op = abi.Opcode
_SERVER_PID: Final = 0
_WORKER_TID: Final = 1
#: Lanes of streams: of contexts in the order of their handles, streams within them.
_STREAM_TID: Final = 1000
_ADMIN_TID: Final = 1
_FAULT_TID: Final = 2
_CLIENT_TID: Final = 100
#: Lanes of the program's threads.
_THREAD_TID: Final = 100_000
#: Processes that have no channel of their own.
_STRANGER_PID: Final = 1_000_000
_LAUNCHES: Final = frozenset((_Op.LAUNCH_KERNEL, _Op.LAUNCH_COOPERATIVE))
#: Commands with a stream that only ask, wait or manage: they are no work of the stream.
_NO_WORK: Final = frozenset(
    (
        _Op.STREAM_DESTROY,
        _Op.STREAM_SYNCHRONIZE,
        _Op.STREAM_QUERY,
        _Op.STREAM_WAIT_EVENT,
        _Op.EVENT_RECORD,
        _Op.GRAPH_UPLOAD,
    )
)
_NOT_READY: Final = 600
_MESSAGE_COMMAND_OFFSET: Final = 2


def write_timeline(recording: Recording, path: Path, trace: CallTrace | None = None) -> int:
    """Write the trace of a recording; returns the number of its events.

    Args:
        recording: What the device did.
        path: Where to.
        trace: What the programs called meanwhile.

    Raises:
        OSError: The file cannot be written.
        RecordingError: A record makes no sense.
    """
    calls = _Calls(recording, trace) if trace else None
    count = 0
    with path.open("w") as file:
        file.write('{"displayTimeUnit":"ns","otherData":')
        clocks = calls.clocks if calls else {}
        json.dump({"format": "VGPU-STUB timeline", **recording.start, **clocks}, file)
        file.write(',"traceEvents":[\n')
        for event in _events(recording, calls):
            file.write(",\n" if count else "")
            json.dump(event, file, separators=(",", ":"))
            count += 1
        file.write("\n]}\n")
    return count


def timeline(recording: Recording, trace: CallTrace | None = None) -> Iterator[Event]:
    """The events of a trace, channel by channel; times are microseconds from the start."""
    return _events(recording, _Calls(recording, trace) if trace else None)


def _events(recording: Recording, calls: _Calls | None) -> Iterator[Event]:
    clock = _Clock(int(recording.start["monotonic_ns"]))
    yield from _server_events(recording, clock)
    for stream, channel in recording.channels.items():
        yield from _Channel(stream, channel, clock).events()
    if calls:
        yield from calls.events(clock)


class _Clock:
    """Monotonic nanoseconds as microseconds since the recording began."""

    def __init__(self, start_ns: int) -> None:
        self._start_ns = start_ns

    def __call__(self, time_ns: int) -> float:
        return (time_ns - self._start_ns) / 1000


def _named(kind: str, pid: int, tid: int, name: str) -> Event:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": {"name": name}}


def _server_events(recording: Recording, clock: _Clock) -> Iterator[Event]:
    """Messages by client, admin commands from arrival to answer, and faults."""
    yield _named("process_name", _SERVER_PID, 0, "device server")
    yield _named("thread_name", _SERVER_PID, _ADMIN_TID, "admin channel")
    yield _named("thread_name", _SERVER_PID, _FAULT_TID, "faults")
    clients: set[int] = set()
    for record in recording.server:
        at: Event = {"pid": _SERVER_PID, "ts": clock(record.time_ns)}
        if record.kind == Kind.MESSAGE:
            message = unpack_message(record)
            if message.client not in clients:
                clients.add(message.client)
                lane = _CLIENT_TID + message.client
                yield _named("thread_name", _SERVER_PID, lane, f"client {message.client}")
            yield {
                **at,
                "ph": "i",
                "s": "t",
                "cat": "vfio-user",
                "tid": _CLIENT_TID + message.client,
                "name": _message_name(message.message),
                "args": {"direction": "sent" if message.sent else "received"},
            }
        elif record.kind in (Kind.ADMIN, Kind.ADMIN_DONE):
            values = unpack_json(record)
            begins = record.kind == Kind.ADMIN
            name = decode(bytes.fromhex(values["command"])) if begins else None
            yield {
                **at,
                "ph": "b" if begins else "e",
                "cat": "admin",
                "tid": _ADMIN_TID,
                "id": f"{values['device']}-{values['sequence']}",
                "name": name.name if name else "",
                "args": {"command": str(name)} if name else {"errno": values["errno"]},
            }
        elif record.kind == Kind.FAULT:
            values = unpack_json(record)
            yield {
                **at,
                "ph": "i",
                "s": "g",
                "cat": "fault",
                "tid": _FAULT_TID,
                "name": values["text"],
                "args": {"device": values["device"]},
            }


def _message_name(message: bytes) -> str:
    place = _MESSAGE_COMMAND_OFFSET
    number = int.from_bytes(message[place : place + 2], "little")
    try:
        return MessageCommand(number).name
    except ValueError:
        return f"message {number}"


class _Channel:
    """The events of one channel."""

    def __init__(self, pid: int, channel: ChannelRecording, clock: _Clock) -> None:
        self._pid = pid
        self._channel = channel
        self._clock = clock
        self._functions: dict[int, str] = {}
        self._allocations: dict[int, int] = {}
        self._waiting: dict[int, DecodedCommand] = {}
        self._lanes: dict[tuple[int, int], int] = {}
        self._arrows = 0

    def events(self) -> Iterator[Event]:
        """Everything that happened, with the names of the lanes."""
        yield _named("process_name", self._pid, 0, self._channel.title)
        yield _named("thread_name", self._pid, _WORKER_TID, "worker")
        begun: tuple[Record, DecodedCommand] | None = None
        for record in self._channel.records:
            if record.kind == Kind.COMMAND:
                begun = record, decode(record.payload)
                yield from self._submitted(*begun)
            elif record.kind == Kind.EXECUTED and begun:
                yield from self._executed(begun[0].time_ns, record.time_ns, begun[1])
                begun = None
            elif record.kind == Kind.COMPLETION:
                yield from self._completed(record, unpack_completion(record))
            elif record.kind == Kind.INTERRUPT:
                yield self._instant(record, "interrupt", "interrupt", {})
        if begun:
            # The worker ended while it carried this out.
            yield from self._executed(begun[0].time_ns, self._channel.records[-1].time_ns, begun[1])

    def _at(self, time_ns: int, tid: int, **values: object) -> Event:
        return {"pid": self._pid, "tid": tid, "ts": self._clock(time_ns), **values}

    def _instant(self, record: Record, category: str, name: str, arguments: Event) -> Event:
        return self._at(
            record.time_ns, _WORKER_TID, ph="i", s="t", cat=category, name=name, args=arguments
        )

    def _submitted(self, record: Record, command: DecodedCommand) -> Iterator[Event]:
        if command.completes:
            self._waiting[command.sequence] = command
            yield self._wait(record.time_ns, "b", command)
            yield self._counter(record, "commands without an answer", len(self._waiting))
        if command.opcode == _Op.MEMORY_FREE:
            self._allocations.pop(command.number("device_ptr"), None)
            yield self._memory(record)

    def _executed(self, begin_ns: int, end_ns: int, command: DecodedCommand) -> Iterator[Event]:
        name = self._title(command)
        arguments = {"command": str(command), "sequence": command.sequence}
        slice_: Event = {"ph": "X", "dur": (end_ns - begin_ns) / 1000, "name": name}
        yield self._at(begin_ns, _WORKER_TID, cat="command", args=arguments, **slice_)
        if "stream" not in command.fields or command.opcode in _NO_WORK:
            return
        context, stream = command.context, command.number("stream")
        lane = self._lanes.get((context, stream))
        if lane is None:
            lane = self._lanes[context, stream] = _STREAM_TID + len(self._lanes)
            title = f"context {context}, " + (f"stream {stream}" if stream else "default stream")
            yield _named("thread_name", self._pid, lane, title)
        self._arrows += 1
        arrow = {"cat": "flow", "name": "executes", "id": f"{self._pid}-{self._arrows}"}
        yield self._at(begin_ns, _WORKER_TID, ph="s", **arrow)
        yield self._at(begin_ns, lane, cat="stream", args=arguments, **slice_)
        yield self._at(begin_ns, lane, ph="f", bp="e", **arrow)

    def _completed(self, record: Record, completion: Completion) -> Iterator[Event]:
        command = self._waiting.pop(completion.sequence, None)
        if command is None:
            return
        yield self._wait(record.time_ns, "e", command, status=completion.status)
        yield self._counter(record, "commands without an answer", len(self._waiting))
        if completion.status:
            if completion.status != _NOT_READY:
                name = f"CUresult {completion.status}"
                late = bool(completion.flags & abi.COMPLETION_ASYNC_ERROR)
                arguments = {"command": str(command), "asynchronous": late}
                yield self._instant(record, "error", name, arguments)
        elif command.opcode == _Op.MODULE_GET_FUNCTION:
            mangled = command.tail.decode(errors="backslashreplace")
            self._functions[completion.results[0]] = demangle(mangled)
        elif command.opcode == _Op.MEMORY_ALLOCATE:
            self._allocations[completion.results[0]] = command.number("size")
            yield self._memory(record)

    def _wait(self, time_ns: int, phase: str, command: DecodedCommand, **more: object) -> Event:
        number = f"{self._pid}-{command.sequence}"
        name = self._title(command)
        return self._at(
            time_ns, _WORKER_TID, ph=phase, cat="answer", name=name, id=number, args=more
        )

    def _counter(self, record: Record, name: str, value: int) -> Event:
        return self._at(record.time_ns, 0, ph="C", name=name, args={"value": value})

    def _memory(self, record: Record) -> Event:
        return self._counter(record, "device memory held", sum(self._allocations.values()))

    def _title(self, command: DecodedCommand) -> str:
        """A kernel by its name, everything else by its command's."""
        if command.opcode in _LAUNCHES:
            return self._functions.get(command.number("function"), command.name)
        if command.opcode == _Op.GRAPH_LAUNCH:
            return f"graph {command.number('graph')}"
        return command.name


class _Calls:
    """The events of what programs called: a lane for each thread, arrows to the commands."""

    def __init__(self, recording: Recording, trace: CallTrace) -> None:
        self._channels, self._strangers, self._offset = assign(trace, recording.channels)
        self._same_clock = trace.same_clock

    @property
    def clocks(self) -> Event:
        """How the programs' clock was aligned with the recording's."""
        if self._same_clock:
            return {"program_clock": "the same"}
        if self._offset is None:
            return {"program_clock": "not known; calls are left out"}
        offset = self._offset
        return {
            "program_clock": "of the guest",
            "guest_offset_ns": offset.offset_ns,
            "guest_offset_error_ns": offset.error_ns,
        }

    def events(self, clock: _Clock) -> Iterator[Event]:
        """Every call that has a time on the recording's clock."""
        if self._offset is None:
            return
        for stream, channel in self._channels.items():
            yield from self._threads(stream, channel.calls, channel, self._offset, clock)
        processes: dict[int, list[TracedCall]] = {}
        for call in self._strangers:
            processes.setdefault(call.pid, []).append(call)
        for number, (pid, calls) in enumerate(processes.items()):
            yield _named("process_name", _STRANGER_PID + number, 0, f"calls of pid {pid}")
            yield from self._threads(_STRANGER_PID + number, calls, None, self._offset, clock)

    def _threads(
        self,
        pid: int,
        calls: list[TracedCall],
        channel: ChannelCalls | None,
        offset: Offset,
        clock: _Clock,
    ) -> Iterator[Event]:
        tids = {tid: _THREAD_TID + number for tid, number in lanes(calls).items()}
        for tid, lane in tids.items():
            yield _named("thread_name", pid, lane, f"thread {tid}")
        for number, call in enumerate(calls):
            at = {
                "pid": pid,
                "tid": tids[call.tid],
                "ts": clock(call.begin_ns + offset.offset_ns),
            }
            details = {**call.arguments, "result": call.error or "it never returned"}
            if call.kernel:
                details["kernel"] = call.kernel
            yield {
                **at,
                "ph": "X",
                "dur": call.duration_ns / 1000,
                "cat": "failed call" if call.failed else "call",
                "name": call.function,
                "args": details,
            }
            for command in sorted({call.first_command, call.last_command}):
                taken_ns = channel.taken_ns(command) if channel else None
                if taken_ns is None:
                    continue
                name = {"cat": "call flow", "name": "becomes", "id": f"{pid}-{number}-{command}"}
                yield {**at, "ph": "s", **name}
                worker = {"pid": pid, "tid": _WORKER_TID, "ts": clock(taken_ns)}
                yield {**worker, "ph": "f", "bp": "e", **name}


@contextmanager
def traced(
    trace: Path | None, record: Path | None, calls: CallTrace | None = None
) -> Iterator[Path | None]:
    """Where a device server shall record to, so that a trace is there when the context ends.

    Enter it before the server and leave it after: the recording is then whole. Without `record` it
    is a temporary file beside the trace. What is in `calls` when the context ends is in the trace.
    """
    if trace is None:
        yield record
        return
    path = record or trace.with_name(f".{trace.name}.vgpurec")
    try:
        yield path
        with Recording(path) as recording:
            write_timeline(recording, trace, calls)
    finally:
        if record is None:
            path.unlink(missing_ok=True)
