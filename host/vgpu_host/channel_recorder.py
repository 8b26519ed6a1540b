"""What a worker tells a recording: every command of its channel with the data that it moves.

A hook of the drain. Data that a command reads is kept once for each channel and known by its digest
from then on; of data that goes to the guest only the digest is kept, to compare with.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic_ns
from typing import Final, NamedTuple

from vgpu_host.executors.base import CudaError
from vgpu_host.graphs import read_nodes
from vgpu_host.hooks import Command, Completion, Hook, Interrupt
from vgpu_host.registrations import Registrations
from vgpu_host.session import ChannelSession
from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.decode import (
    DecodedCommand,
    GuestRange,
    decode,
    memory_read,
    memory_written,
    reply_written,
)
from vgpu_stub.recording.records import (
    CONTENT_PIECE_BYTES,
    HEAD,
    NO_DIGEST,
    NOT_SEEN,
    Kind,
    Memory,
    content_digest,
    content_head,
    pack,
    pack_completion,
    pack_json,
    pack_memory,
)
from vgpu_stub.recording.spool import SpoolWriter

_Op = abi.Opcode
#: Commands that touch guest memory; the others pass without a second look.
_TOUCH_MEMORY: Final = frozenset(
    (
        _Op.COPY_HOST_TO_DEVICE,
        _Op.COPY_DEVICE_TO_HOST,
        _Op.COPY_2D,
        _Op.MODULE_LOAD,
        _Op.MODULE_LINK,
        _Op.MODULE_GET_FUNCTION,
        _Op.OUTPUT_READ,
        _Op.GRAPH_INSTANTIATE,
        _Op.GRAPH_UPDATE,
        _Op.GRAPH_LAUNCH,
        _Op.GRAPH_DESTROY,
    )
)
#: Copies to a guest that never waits for them; of more than so many the oldest stay unseen.
_MAX_UNSEEN: Final = 4096
_BUFFER_READABLE: Final = 0x100
_view = ctypes.pythonapi.PyMemoryView_FromMemory
_view.argtypes = (ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int)
_view.restype = ctypes.py_object
_BUILD_GRAPHS: Final = (_Op.GRAPH_INSTANTIATE, _Op.GRAPH_UPDATE)


class _Written(NamedTuple):
    """Guest memory that a command writes, once its stream has reached it."""

    context: int
    stream: int
    sequence: int
    place: int
    range: GuestRange


class _Wait(NamedTuple):
    """A command that completes when a context, or one stream of it, has come so far."""

    context: int
    stream: int | None
    place: int

    def covers(self, written: _Written) -> bool:
        return (
            written.context == self.context
            and self.stream in (None, written.stream)
            and written.place <= self.place
        )


class _GraphMemory(NamedTuple):
    reads: list[GuestRange]
    writes: list[GuestRange]


class ChannelRecorder(Hook):
    """Puts what happens on a channel into a spool."""

    def __init__(
        self,
        spool: SpoolWriter,
        session: ChannelSession,
        registrations: Registrations,
        *,
        synchronous: bool,
    ) -> None:
        """Prepare; the recorder is then installed in the channel's drain.

        Args:
            spool: Where records go.
            session: The channel's session.
            registrations: The channel's memory.
            synchronous: Whether the executor carries out each command before it returns, so that
                what it writes can be seen at once.
        """
        self._spool = spool
        self._session = session
        self._registrations = registrations
        self._synchronous = synchronous
        self._kept: set[bytes] = set()
        #: Commands so far.
        self._place = 0
        self._graphs: dict[int, _GraphMemory] = {}
        #: The command that is being carried out, if it touches memory, and what it writes at once.
        self._current: DecodedCommand | None = None
        self._writes: list[GuestRange] = []
        self._new_graph: _GraphMemory | None = None
        #: What was queued to be written and has not been seen yet.
        self._unseen: deque[_Written] = deque(maxlen=_MAX_UNSEEN)
        #: Waiting commands: what has been written once they complete.
        self._waits: dict[int, _Wait] = {}

    def begin(self) -> None:
        """Tell what the channel already has; a channel that was in use before is said to be."""
        used = self._session.active_handle or len(self._session.memory)
        if used:
            self._put_json(Kind.NOTE, late=True, text="the channel was in use before")
        for number, registration in self._registrations.items():
            self.registered(number, registration.size, registration.access)

    def close(self) -> None:
        """Nothing more is recorded."""
        self._spool.close()

    def registered(self, number: int, size: int, access: int) -> None:
        """Guest memory was given to the channel."""
        self._put_json(Kind.REGISTER, registration=number, size=size, access=access)

    def unregistered(self, number: int) -> None:
        """Guest memory was taken away."""
        self._put_json(Kind.UNREGISTER, registration=number)

    # -- vgpu_host.hooks.Hook ----------------------------------------------------------------------

    def execute(self, command: Command, proceed: Callable[[Command], None]) -> None:
        """Record the command with what it reads, carry it out, record what it wrote."""
        self._spool.put(HEAD.pack(len(command.data), Kind.COMMAND, monotonic_ns()), command.data)
        self._place += 1
        if command.opcode not in _TOUCH_MEMORY:
            if not self._synchronous:
                self._note_wait(command)
            proceed(command)
            self._spool.put(HEAD.pack(0, Kind.EXECUTED, monotonic_ns()))
            return
        decoded = decode(command.data)
        reads, writes = self._memory_of(decoded)
        for range_ in reads:
            self._record_input(decoded.sequence, range_)
        if not self._synchronous:
            for range_ in writes:
                stream = decoded.number("stream")
                self._unseen.append(
                    _Written(command.context, stream, command.sequence, self._place, range_)
                )
            writes = []
            self._note_wait(command)
        self._current, self._writes = decoded, writes
        copied = self._session.bytes_to_host
        proceed(command)
        self._spool.put(HEAD.pack(0, Kind.EXECUTED, monotonic_ns()))
        # Nobody was told how it went, and a command that failed has written nothing.
        if self._session.bytes_to_host != copied:
            self._record_outputs(command.sequence)
        self._current, self._writes, self._new_graph = None, [], None

    def complete(self, completion: Completion, proceed: Callable[[Completion], None]) -> None:
        """Record what was written until now, and the completion, before the guest sees either."""
        sequence, status, flags, results = (
            completion.sequence,
            completion.status,
            completion.flags,
            completion.results,
        )
        current = self._current
        if current and current.sequence == sequence and not status:
            self._replied(current, results)
        wait = self._waits.pop(sequence, None)
        if wait and not status:
            self._see(wait)
        self._spool.put(pack_completion(monotonic_ns(), sequence, status, flags, results))
        proceed(completion)

    def interrupt(self, proceed: Interrupt) -> None:
        """Record that the guest was interrupted."""
        self._spool.put(pack(Kind.INTERRUPT, monotonic_ns()))
        proceed()

    # -- what commands do --------------------------------------------------------------------------

    def _memory_of(self, command: DecodedCommand) -> tuple[list[GuestRange], list[GuestRange]]:
        """What a command reads and writes, that of a graph's nodes included."""
        if command.opcode == _Op.GRAPH_LAUNCH:
            graph = self._graphs.get(command.number("graph"))
            return (graph.reads, graph.writes) if graph else ([], [])
        if command.opcode == _Op.GRAPH_DESTROY:
            self._graphs.pop(command.number("graph"), None)
        elif command.opcode in _BUILD_GRAPHS:
            self._new_graph = self._graph_memory(command)
        return memory_read(command), memory_written(command)

    def _graph_memory(self, command: DecodedCommand) -> _GraphMemory | None:
        (description,) = memory_read(command)
        data = self._copy(description, abi.REGISTER_READ)
        if data is None:
            return None
        try:
            nodes = read_nodes(bytes(data), command.number("nodes"))
        except CudaError:
            return None  # the session refuses it in a moment
        commands = [decode(node.command) for node in nodes]
        return _GraphMemory(
            [each for node in commands for each in memory_read(node)],
            [each for node in commands for each in memory_written(node)],
        )

    def _replied(self, command: DecodedCommand, results: Sequence[int]) -> None:
        words = (*results, 0, 0, 0, 0, 0, 0)
        if self._new_graph:
            self._graphs[command.number("graph") or words[0]] = self._new_graph
        self._writes += reply_written(command, words)
        self._record_outputs(command.sequence)

    def _note_wait(self, command: Command) -> None:
        """Remember what a command waits for: its completion shows what was written until then."""
        if command.opcode == _Op.CONTEXT_SYNCHRONIZE:
            wait = _Wait(command.context, None, self._place)
        elif command.flags & abi.COMMAND_WAIT or command.opcode == _Op.STREAM_SYNCHRONIZE:
            stream = decode(command.data).number("stream")
            wait = _Wait(command.context, stream, self._place)
        else:
            return
        self._waits[command.sequence] = wait

    def _see(self, wait: _Wait) -> None:
        unseen = list(self._unseen)
        self._unseen.clear()
        for written in unseen:
            if wait.covers(written):
                self._record_output(written.sequence, written.range)
            else:
                self._unseen.append(written)

    # -- data --------------------------------------------------------------------------------------

    def _record_input(self, sequence: int, range_: GuestRange) -> None:
        data = self._copy(range_, abi.REGISTER_READ)
        if data is None or not range_.size:
            return  # the session refuses the command in a moment
        now = monotonic_ns()
        digest = content_digest(data)
        if digest not in self._kept:
            self._kept.add(digest)
            for offset in range(0, len(data), CONTENT_PIECE_BYTES):
                piece = data[offset : offset + CONTENT_PIECE_BYTES]
                head = content_head(now, digest, len(data), offset, len(piece))
                self._spool.put(head, piece)
        self._put_memory(Kind.INPUT, now, sequence, range_, digest)

    def _record_outputs(self, sequence: int) -> None:
        writes, self._writes = self._writes, []
        for range_ in writes:
            self._record_output(sequence, range_)

    def _record_output(self, sequence: int, range_: GuestRange) -> None:
        if not range_.size:
            return
        data = self._copy(range_, abi.REGISTER_WRITE)
        digest = NO_DIGEST if data is None else content_digest(data)
        self._put_memory(Kind.OUTPUT, monotonic_ns(), sequence, range_, digest)

    def _copy(self, range_: GuestRange, access: int) -> memoryview | None:
        """What is in guest memory now; None where the channel has no such memory."""
        number, offset, row_bytes, rows, pitch = range_
        address = self._registrations.resolve(number, offset, range_.span, access)
        if address is None or not range_.size:
            return None
        view: memoryview = _view(address, range_.span, _BUFFER_READABLE)
        if rows == 1 or pitch == row_bytes:
            return view
        lines = (view[row * pitch : row * pitch + row_bytes] for row in range(rows))
        return memoryview(b"".join(lines))

    def _put_memory(
        self, kind: Kind, now: int, sequence: int, range_: GuestRange, digest: bytes
    ) -> None:
        flags = NOT_SEEN if digest == NO_DIGEST else 0
        memory = Memory(sequence, flags, range_, digest)
        self._spool.put(pack_memory(kind, now, memory))

    def _put_json(self, kind: Kind, **values: object) -> None:
        self._spool.put(pack_json(kind, monotonic_ns(), **values))
