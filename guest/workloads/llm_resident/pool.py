"""A pool of device memory that keeps what is given back, so that steady work allocates nothing.

Sizes are rounded up to powers of two; a free buffer of the same class is used again. The pool never
holds more than its cap, a part of the memory that the device grants: what does not fit is refused
before the driver is asked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

SHARE: Final = 0.8
"""Part of the device's memory that the pool may hold."""

_SMALLEST: Final = 256


class PoolExhaustedError(Exception):
    """The pool's cap does not allow a buffer; nothing was allocated."""


@dataclass(frozen=True)
class Buffer:
    """Device memory of the pool.

    Attributes:
        address: Device address.
        size: Bytes that were asked for.
        room: Bytes that there are, a power of two.
    """

    address: int
    size: int
    room: int


class BufferPool:
    """Device memory by classes of size.

    Attributes:
        cap: Most bytes that it may hold.
        held: Bytes that it holds, in use or kept.
        used: Bytes in use.
        high_water: Most bytes that were in use.
        hits: Requests that a kept buffer served.
        misses: Requests for which memory was allocated.
    """

    def __init__(
        self, cap: int, allocate: Callable[[int], int], free: Callable[[int], None]
    ) -> None:
        """Prepare an empty pool; `allocate` and `free` are the driver's."""
        self.cap = cap
        self.held = 0
        self.used = 0
        self.high_water = 0
        self.hits = 0
        self.misses = 0
        self._allocate = allocate
        self._free = free
        self._kept: dict[int, list[int]] = defaultdict(list)

    def take(self, size: int) -> Buffer:
        """A buffer of at least so many bytes.

        Raises:
            PoolExhaustedError: The cap does not allow it, even without what is kept.
        """
        room = max(_SMALLEST, 1 << (size - 1).bit_length())
        if self._kept[room]:
            address = self._kept[room].pop()
            self.hits += 1
        else:
            if self.held + room > self.cap:
                self.trim()
            if self.held + room > self.cap:
                raise PoolExhaustedError(
                    f"{size} bytes take a buffer of {room}; {self.used} of {self.cap} are in use"
                )
            address = self._allocate(room)
            self.misses += 1
            self.held += room
        self.used += room
        self.high_water = max(self.high_water, self.used)
        return Buffer(address, size, room)

    def give_back(self, buffer: Buffer) -> None:
        """Keep a buffer for the next request of its class."""
        self.used -= buffer.room
        self._kept[buffer.room].append(buffer.address)

    def trim(self) -> None:
        """Free what is kept and not in use."""
        for room, addresses in self._kept.items():
            for address in addresses:
                self._free(address)
                self.held -= room
            addresses.clear()
