"""Which device memory something has written: what a program reads of the rest means nothing.

Kept by allocation and on the safe side: a kernel is taken to write every allocation that its
parameters, or data copied to the device, point into.
"""

from __future__ import annotations

import bisect
import struct

import numpy as np

from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.decode import DecodedCommand

_Op = abi.Opcode
_U64 = struct.Struct("<Q")
_WRITE_POINTER = frozenset((_Op.COPY_HOST_TO_DEVICE, _Op.COPY_INLINE, _Op.MEMSET, _Op.MEMSET_2D))
_WRITE_DESTINATION = frozenset((_Op.COPY_DEVICE_TO_DEVICE, _Op.COPY_2D))
_LAUNCHES = frozenset((_Op.LAUNCH_KERNEL, _Op.LAUNCH_COOPERATIVE))
_READ_POINTER = frozenset((_Op.COPY_DEVICE_TO_HOST,))


class InitialisedMemory:
    """The allocations of a channel by the pointers of the recorded run."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._sizes: dict[int, int] = {}
        self._unwritten: set[int] = set()

    def note_command(self, command: DecodedCommand) -> None:
        """A command is about to be played."""
        number = command.number
        opcode = command.opcode
        if opcode == _Op.MEMORY_FREE:
            self._remove(number("device_ptr"))
        elif not self._unwritten:
            return
        elif opcode in _WRITE_POINTER:
            self._write(number("device_ptr"))
        elif opcode in _WRITE_DESTINATION and not number("destination_registration"):
            self._write(number("destination"))
        elif opcode == _Op.BLAS:
            for name in ("b", "c", "workspace"):
                self._write(number(name))
        elif opcode in _LAUNCHES:
            self.note_data(command.tail)
        elif opcode == _Op.GRAPH_LAUNCH:
            self._unwritten.clear()

    def note_data(self, data: bytes) -> None:
        """Data that a kernel gets: it may write wherever words of it point."""
        if not self._unwritten or len(data) < _U64.size:
            return
        words = np.frombuffer(data, "<u8", len(data) // _U64.size)
        last = self._starts[-1]
        near = words[(words >= self._starts[0]) & (words < last + self._sizes[last])]
        for word in near:
            self._write(int(word))

    def note_results(self, command: DecodedCommand, results: tuple[int, ...]) -> None:
        """A command has succeeded, with these results in the recorded run."""
        if command.opcode == _Op.MEMORY_ALLOCATE:
            self._remove(results[0])
            bisect.insort(self._starts, results[0])
            self._sizes[results[0]] = command.number("size")
            self._unwritten.add(results[0])

    def never_written(self, command: DecodedCommand) -> bool:
        """Whether a copy to the guest reads an allocation that nothing has written."""
        if command.opcode in _READ_POINTER:
            pointer = command.number("device_ptr")
        elif command.opcode == _Op.COPY_2D and not command.number("source_registration"):
            pointer = command.number("source")
        else:
            return False
        return self._owner(pointer) in self._unwritten

    def _owner(self, pointer: int) -> int:
        """Start of the allocation that a pointer points into; 0 for none."""
        place = bisect.bisect_right(self._starts, pointer) - 1
        if place < 0:
            return 0
        start = self._starts[place]
        return start if pointer < start + self._sizes[start] else 0

    def _write(self, pointer: int) -> None:
        self._unwritten.discard(self._owner(pointer))

    def _remove(self, start: int) -> None:
        if self._sizes.pop(start, None) is not None:
            self._starts.remove(start)
            self._unwritten.discard(start)
