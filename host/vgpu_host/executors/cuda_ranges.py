"""Device memory of a channel on a physical GPU, as ranges that copies may touch."""

from __future__ import annotations

from bisect import bisect_right, insort
from typing import Final

from vgpu_host.executors.base import CudaError

_INVALID_VALUE: Final = 1


class Ranges:
    """Device memory that copies may touch: allocations and variables of modules."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._sizes: dict[int, int] = {}

    def add(self, start: int, size: int) -> None:
        """Let copies touch a range."""
        if start not in self._sizes:
            insort(self._starts, start)
        self._sizes[start] = size

    def remove(self, start: int) -> None:
        """Forget the range that starts here."""
        del self._sizes[start]
        self._starts.pop(bisect_right(self._starts, start) - 1)

    def check(self, start: int, size: int) -> None:
        """Refuse what is not within one range, by CudaError."""
        if not size:
            return  # nothing is touched: CUDA accepts any pointer
        place = bisect_right(self._starts, start) - 1
        if place >= 0:
            first = self._starts[place]
            if start + size <= first + self._sizes[first]:
                return
        raise CudaError(_INVALID_VALUE, f"0x{start:x}+{size} is not device memory of this channel")
