"""Device memory: one reserved range of the process, and what of it is allocated.

A device pointer is the host address. The range is mapped without reserving memory, so only touched
pages cost anything, and freed pages are given back. Behind the memory that programs can allocate
lies a scratch part for shared and local memory, so that generic pointers to those pass the same
check.
"""

from __future__ import annotations

import bisect
import mmap
import weakref
from typing import Final

from vgpu_host.memory_map import (
    MAP_ANONYMOUS,
    MAP_NORESERVE,
    MAP_PRIVATE,
    PROT_READ,
    PROT_WRITE,
    discard_memory,
    map_memory,
    unmap_memory,
)

from .errors import CudaResult, DeviceFault

PAGE = mmap.PAGESIZE
#: Room behind every space that a 32-bit access to its last byte may read.
SLACK = PAGE
#: Where device memory lies if nothing else lies there: the same program then gets the same device
#: pointers in every run, which is what makes a recording worth comparing with.
_WANTED_BASE: Final = 0x2000_0000_0000
_FLAGS: Final = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE


def round_up(number: int, alignment: int) -> int:
    """The next multiple of `alignment`, a power of two."""
    return (number + alignment - 1) & -alignment


class Arena:
    """First-fit allocator over one mapping of `size` bytes, followed by `scratch` bytes."""

    def __init__(self, size: int, scratch: int) -> None:
        self.size = round_up(size, PAGE)
        self.scratch_size = round_up(scratch, PAGE)
        mapped = self.size + self.scratch_size + SLACK
        self.base = map_memory(_WANTED_BASE, mapped, PROT_READ | PROT_WRITE, _FLAGS)
        self._unmap = weakref.finalize(self, unmap_memory, self.base, mapped)
        self._free: list[tuple[int, int]] = [(self.base, self.size)]
        self._starts: list[int] = []
        self._sizes: dict[int, int] = {}
        self.used = 0

    @property
    def scratch(self) -> int:
        """Address of the scratch part."""
        return self.base + self.size

    def allocate(self, size: int, alignment: int = 512) -> int:
        """Reserve `size` bytes at a multiple of `alignment` (a power of two).

        Raises:
            ValueError: size or alignment is not positive, or alignment is no power of two.
            MemoryError: no free range is large enough.
        """
        if size <= 0 or alignment <= 0 or alignment & (alignment - 1):
            raise ValueError(f"cannot allocate {size} bytes at alignment {alignment}")
        taken = self._taken(size)
        for index, (start, length) in enumerate(self._free):
            address = round_up(start, alignment)
            if address + taken > start + length:
                continue
            pieces = [(start, address - start)]
            pieces.append((address + taken, start + length - address - taken))
            self._free[index : index + 1] = [piece for piece in pieces if piece[1]]
            bisect.insort(self._starts, address)
            self._sizes[address] = size
            self.used += taken
            return address
        raise MemoryError(f"no {size} free bytes of device memory in one piece")

    def _taken(self, size: int) -> int:
        """Bytes of the range that an allocation takes away."""
        return round_up(size, 512)

    def release(self, address: int) -> None:
        """Free an allocation and return its pages to the system.

        Raises:
            KeyError: `address` is not the start of a live allocation.
        """
        self._give_back(address, self._forget(address))

    def _forget(self, address: int) -> int:
        """Take an allocation out of the books; returns the bytes that it took away."""
        taken = self._taken(self._sizes.pop(address))
        del self._starts[bisect.bisect_left(self._starts, address)]
        self.used -= taken
        return taken

    def _give_back(self, address: int, taken: int) -> None:
        index = bisect.bisect_left(self._free, (address, 0))
        self._free.insert(index, (address, taken))
        start, length = address, taken
        if index + 1 < len(self._free) and self._free[index + 1][0] == address + taken:
            length += self._free.pop(index + 1)[1]
        if index and sum(self._free[index - 1]) == address:
            start, before = self._free.pop(index - 1)
            length += before
            index -= 1
        self._free[index] = (start, length)
        self._discard(start, length, address, taken)

    def _discard(self, start: int, length: int, address: int, taken: int) -> None:
        """Give whole pages of the freed range back; pages shared with live neighbours stay."""
        first = max(round_up(start, PAGE), address & -PAGE)
        last = min((start + length) & -PAGE, round_up(address + taken, PAGE))
        if last > first:
            discard_memory(first, last - first)

    def owner(self, address: int) -> tuple[int, int] | None:
        """The live allocation (start, size) that contains an address, or None."""
        found = self.before(address)
        return found if found and address < sum(found) else None

    def before(self, address: int) -> tuple[int, int] | None:
        """The live allocation (start, size) that begins last of those up to an address, or None."""
        index = bisect.bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        start = self._starts[index]
        return start, self._sizes[start]

    def contains(self, address: int, size: int) -> bool:
        """Whether a range lies in device memory or scratch, allocated or not."""
        end = self.base + self.size + self.scratch_size
        return self.base <= address and size >= 0 and address + size <= end

    def check_range(self, address: int, size: int) -> None:
        """Check that a range lies within one live allocation.

        Raises:
            DeviceFault: `INVALID_VALUE`, naming the range and the allocation it leaves.
        """
        found = self.owner(address)
        if size < 0 or found is None or address + size > sum(found):
            where = f"allocation {found[0]:#x} of {found[1]} bytes" if found else "no allocation"
            raise DeviceFault(
                CudaResult.INVALID_VALUE,
                f"range of {size} bytes at {address:#x} lies in {where}",
            )

    def close(self) -> None:
        """Unmap the memory; every pointer becomes invalid."""
        self._unmap()
