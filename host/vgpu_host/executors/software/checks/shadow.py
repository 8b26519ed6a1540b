"""Shadow memory: for each byte of device memory whether it may be accessed and was ever written.

The shadow lies at a fixed distance from the memory, so that compiled code finds it by an addition.
Freed memory is kept from use for a while and red zones part allocations, so that a stray access
meets memory that is nobody's.
"""

from __future__ import annotations

import ctypes
import mmap
from collections import deque

from vgpu_host.executors.software.arena import PAGE, SLACK, Arena, round_up

from .structures import ADDRESSABLE, INITIALISED

_NORESERVE = 0x4000
#: Bytes behind each allocation that belong to nobody.
RED_ZONE = 512
#: Freed ranges that can be named in a report.
_REMEMBERED = 4096


def reserve(size: int) -> tuple[mmap.mmap, int]:
    """Zeroed memory that costs nothing until it is touched, and its address."""
    mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE)
    return mapping, ctypes.addressof((ctypes.c_char * 1).from_buffer(mapping))


class Shadow:
    """The shadow of an arena; ranges are given by device pointer and size in bytes."""

    def __init__(self, base: int, size: int) -> None:
        self._mapping, self._address = reserve(size + SLACK)
        #: What to add to a device pointer to find its shadow.
        self.distance = self._address - base

    def _set(self, pointer: int, size: int, value: int) -> None:
        ctypes.memset(pointer + self.distance, value, size)

    def allocated(self, pointer: int, size: int) -> None:
        """Memory may be accessed from now on; it contains nothing yet."""
        self._set(pointer, size, ADDRESSABLE)

    def freed(self, pointer: int, size: int) -> None:
        """Memory must not be accessed any more."""
        self._set(pointer, size, 0)
        start = pointer + self.distance - self._address
        first, last = round_up(start, PAGE), (start + size) & -PAGE
        if last > first:
            self._mapping.madvise(mmap.MADV_DONTNEED, first, last - first)

    def written(self, pointer: int, size: int) -> None:
        """Memory contains something."""
        self._set(pointer, size, ADDRESSABLE | INITIALISED)

    def copied(self, destination: int, source: int, size: int) -> None:
        """Memory contains what other memory contains, or does not."""
        ctypes.memmove(destination + self.distance, source + self.distance, size)


class CheckedArena(Arena):
    """An arena with red zones, which gives freed memory out again as late as it can."""

    def __init__(self, size: int, scratch: int) -> None:
        super().__init__(size, scratch)
        self.shadow = Shadow(self.base, self.size + self.scratch_size)
        self._held: deque[tuple[int, int]] = deque()
        self._held_bytes = 0
        self._history: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED)

    def _taken(self, size: int) -> int:
        return super()._taken(size + RED_ZONE)

    def allocate(self, size: int, alignment: int = 512) -> int:
        """As `Arena.allocate`; memory that was freed long ago comes first."""
        while True:
            try:
                address = super().allocate(size, alignment)
            except MemoryError:
                if not self._held:
                    raise
                self._let_go()
            else:
                self.shadow.allocated(address, size)
                return address

    def release(self, address: int) -> None:
        """As `Arena.release`; the memory is not given out again for a while."""
        size = self._sizes[address]
        taken = self._forget(address)
        self.shadow.freed(address, size)
        self._history.append((address, size))
        self._held.append((address, taken))
        self._held_bytes += taken
        while self._held_bytes > self.size // 16:
            self._let_go()

    def _let_go(self) -> None:
        address, taken = self._held.popleft()
        self._held_bytes -= taken
        self._give_back(address, taken)

    def describe(self, address: int, size: int) -> tuple[str, bool]:
        """Where an access of `size` bytes lies, in words, and whether that was freed."""
        before = self.before(address)
        if before and address < before[0] + self._taken(before[1]):
            return _relation(address, size, *before), False
        for start, length in reversed(self._history):
            if start <= address < start + length:
                inside = f"{address - start} bytes into"
                return f"{inside} {_allocation(start, length)}, which was freed", True
        if before and address - sum(before) < max(before[1], 1 << 20):
            return _relation(address, size, *before), False
        return "near no allocation", False


def _allocation(start: int, size: int) -> str:
    return f"the allocation of {size} bytes at {start:#x}"


def _relation(address: int, size: int, start: int, length: int) -> str:
    end = start + length
    if address >= end:
        return f"{address - end} bytes behind {_allocation(start, length)}"
    if address + size > end:
        beyond = address + size - end
        return f"the last {beyond} of {size} bytes lie behind {_allocation(start, length)}"
    return f"{address - start} bytes into {_allocation(start, length)}"


def shadow_arena(size: int, scratch: int, parameters: int) -> CheckedArena:
    """A checked arena whose scratch part begins with `parameters` bytes of kernel parameters."""
    arena = CheckedArena(size, scratch)
    arena.shadow.written(arena.scratch, round_up(parameters, 8))
    return arena
