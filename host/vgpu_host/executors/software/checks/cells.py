"""What the race checker knows of memory: for each word who accessed it last, and a clock.

Cells of device memory are a table of bounded size: words that lie its size apart share a cell, and
of those only the one that was accessed last is known. Shared memory has cells of its own. Records
of earlier launches are told by their clock, so that nothing need be cleared.
"""

from __future__ import annotations

import ctypes
import mmap
import struct

from vgpu_host.executors.software.arena import Arena

from .shadow import reserve
from .structures import (
    BLOCK_FENCES,
    CELL_BYTES,
    CELL_SIZE,
    CHECKS,
    CLOCK,
    CLOCK_SIZE,
    KEY_CLOCK,
    KEY_TAG,
)

#: Cells of device memory at most: 64 MiB of it at a time, in 1 GiB.
_MOST_CELLS = 1 << 24
_MOST_TAGS = 1 << (KEY_CLOCK - KEY_TAG)
#: A launch begins below this, which leaves it as many ticks as it has used up.
_LATEST_START = 1 << 31


class Cells:
    """Cells of an arena and of one window of shared memory, and the clock."""

    def __init__(self, arena: Arena, window: int) -> None:
        words = arena.size // CELL_BYTES
        count = min(1 << (words - 1).bit_length(), _MOST_CELLS)
        while count * _MOST_TAGS < words:
            count *= 2
        self._count = count
        self._window = window
        self._cells, self._cells_at = reserve(count * CELL_SIZE)
        # A pass over memory touches sixteen times as much here: in small pages that is most of the
        # time of a first launch.
        self._cells.madvise(mmap.MADV_HUGEPAGE)
        self._shared, self._shared_at = reserve(window // CELL_BYTES * CELL_SIZE)
        self._fences, self._fences_at = reserve(BLOCK_FENCES * 4)
        self._clock = (ctypes.c_char * CLOCK_SIZE)()

    def describe(self, checks: ctypes.Array[ctypes.c_char]) -> None:
        """Tell a kernel where everything is."""
        for name, value in (
            ("cells", self._cells_at),
            ("cell_mask", self._count - 1),
            ("cell_bits", self._count.bit_length() - 1),
            ("shared_cells", self._shared_at),
            ("window", self._window),
            ("block_fences", self._fences_at),
            ("clocks", ctypes.addressof(self._clock)),
        ):
            struct.pack_into("<Q", checks, CHECKS[name], value)

    def begin(self) -> None:
        """A launch begins: whatever was before is ordered before it."""
        (clock,) = struct.unpack_from("<I", self._clock, CLOCK["clock"])
        if clock >= _LATEST_START:
            clock = 0
            for mapping in (self._cells, self._shared, self._fences):
                mapping.madvise(mmap.MADV_DONTNEED)
        struct.pack_into("<I", self._clock, CLOCK["clock"], clock + 1)
        struct.pack_into("<I", self._clock, CLOCK["launch"], clock + 1)
