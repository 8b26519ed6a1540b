"""What the guest called things then, and what the device calls them now: handles and pointers.

A command is rewritten before it is played: handles by the fields that hold them, device pointers by
their fields and, in the parameters of kernels and in data, wherever eight aligned bytes have the
value of one. Where both runs gave the same names, as the software GPU does, nothing changes.
"""

from __future__ import annotations

import bisect
import struct
from typing import Final

import numpy as np

from vgpu_host.executors.base import CudaError
from vgpu_host.graphs import read_nodes
from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.decode import DecodedCommand, decode, handle_fields, pointer_fields

_U64: Final = struct.Struct("<Q")
_HEADER: Final = abi.COMMAND_HEADER
#: Results of commands that are handles, and handles of what.
_MADE: Final = {
    abi.Opcode.CONTEXT_CREATE: "context",
    abi.Opcode.MODULE_LOAD: "module",
    abi.Opcode.MODULE_GET_FUNCTION: "function",
    abi.Opcode.STREAM_CREATE: "stream",
    abi.Opcode.EVENT_CREATE: "event",
    abi.Opcode.GRAPH_INSTANTIATE: "graph",
}
_LAUNCHES: Final = frozenset((abi.Opcode.LAUNCH_KERNEL, abi.Opcode.LAUNCH_COOPERATIVE))


class PointerMap:
    """Allocations of the recorded run and where they lie now."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ranges: dict[int, tuple[int, int]] = {}
        self._moved: set[int] = set()

    def add(self, then: int, now: int, size: int) -> None:
        """An allocation; one that was at the same place before is forgotten."""
        self.remove(then)
        bisect.insort(self._starts, then)
        self._ranges[then] = (now, size)
        if now != then:
            self._moved.add(then)

    def remove(self, then: int) -> None:
        """An allocation is gone."""
        if self._ranges.pop(then, None):
            self._starts.remove(then)
            self._moved.discard(then)

    @property
    def anything_moved(self) -> bool:
        """Whether any allocation lies elsewhere now."""
        return bool(self._moved)

    def bounds(self) -> tuple[int, int]:
        """The lowest and the highest recorded pointer that can lie in an allocation."""
        last = self._starts[-1]
        return self._starts[0], last + self._ranges[last][1]

    def find(self, pointer: int) -> int | None:
        """Start of the recorded allocation that holds a pointer, its end included."""
        place = bisect.bisect_right(self._starts, pointer) - 1
        if place < 0:
            return None
        start = self._starts[place]
        return start if pointer <= start + self._ranges[start][1] else None

    def translate(self, pointer: int) -> int:
        """Where a recorded pointer points now; one into no allocation stays what it is."""
        start = self.find(pointer)
        return pointer if start is None else pointer - start + self._ranges[start][0]


class Names:
    """The names of one channel."""

    def __init__(self) -> None:
        self._handles: dict[tuple[str, int], int] = {}
        self.pointers = PointerMap()
        #: Aligned words of parameters, graphs and data that were taken for pointers and changed.
        self.words_changed = 0

    def learn(self, command: DecodedCommand, then: tuple[int, ...], now: tuple[int, ...]) -> None:
        """A command that makes something has succeeded in both runs."""
        kind = _MADE.get(abi.Opcode(command.opcode))
        if kind:
            self._handles[kind, then[0]] = now[0]
        elif command.opcode == abi.Opcode.MEMORY_ALLOCATE:
            self.pointers.add(then[0], now[0], command.number("size"))
        elif command.opcode == abi.Opcode.MODULE_GET_GLOBAL:
            self.pointers.add(then[0], now[0], then[1])

    def forget(self, command: DecodedCommand) -> None:
        """A command that takes memory back is about to be played."""
        if command.opcode == abi.Opcode.MEMORY_FREE:
            self.pointers.remove(command.number("device_ptr"))

    def rewrite(self, command: DecodedCommand, data: bytes) -> bytes:
        """The command with the names of now."""
        layout = abi.COMMANDS.get(command.opcode)
        if layout is None or command.problem:
            return data
        values = dict(command.fields)
        for name, kind in handle_fields(command).items():
            values[name] = self._handle(kind, command.number(name))
        for name in pointer_fields(command):
            values[name] = self._pointer_field(values[name])
        context = self._handle("context", command.context) if command.context else 0
        opcode, slots, flags, _, sequence = _HEADER.unpack_from(data)
        tail_start = _HEADER.size + layout.fields.size
        tail = data[tail_start:]
        if command.opcode in _LAUNCHES:
            length = len(command.tail)
            tail = self.rewrite_words(tail[:length]) + tail[length:]
        header = _HEADER.pack(opcode, slots, flags, context, sequence)
        return header + layout.fields.pack(*values.values()) + tail

    def _pointer_field(self, value: int | bytes) -> int | bytes:
        if isinstance(value, int):
            return self.pointers.translate(value)
        (pointer,) = _U64.unpack_from(value)
        return _U64.pack(self.pointers.translate(pointer)) + value[_U64.size :]

    def _handle(self, kind: str, then: int) -> int:
        if kind == "stream" and then < abi.STREAM_FIRST:
            return then
        return self._handles.get((kind, then), then)

    def rewrite_words(self, data: bytes) -> bytes:
        """Data with every aligned word that is a recorded device pointer made one of now."""
        if not self.pointers.anything_moved or len(data) < _U64.size:
            return data
        words = np.frombuffer(data, "<u8", len(data) // _U64.size)
        lowest, highest = self.pointers.bounds()
        places = np.flatnonzero((words >= lowest) & (words <= highest))
        changed = bytearray(data)
        for place in places:
            then = int(words[place])
            now = self.pointers.translate(then)
            if now != then:
                _U64.pack_into(changed, int(place) * _U64.size, now)
                self.words_changed += 1
        return bytes(changed)

    def rewrite_graph(self, data: bytes, nodes: int) -> bytes:
        """The description of a graph with the names of now; one that makes no sense stays."""
        try:
            described = read_nodes(data, nodes)
        except CudaError:
            return data
        changed = bytearray(data)
        offset = 0
        for node in described:
            start = _aligned(offset + abi.GRAPH_NODE.size + 4 * len(node.dependencies))
            end = start + len(node.command)
            changed[start:end] = self.rewrite(decode(node.command), node.command)
            offset = _aligned(end)
        return bytes(changed)


def _aligned(offset: int) -> int:
    return (offset + 7) & ~7
