"""Memory of the reference interpreter: byte ranges with exact bounds, and who touched them.

A program that reads bytes nobody wrote, or in which two threads touch one byte with no barrier
between, has no defined result: such an access raises `IndeterminateError`, so that the reducer does
not wander off to programs that mean nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .floats import IndeterminateError

#: Where the windows of generic addresses begin; device memory lies below.
SHARED_WINDOW = 1 << 44
LOCAL_WINDOW = 1 << 45
_SEVERAL = -1


class FaultError(Exception):
    """An access that a GPU would end the kernel for."""


@dataclass(slots=True)
class Region:
    """Consecutive bytes from an address on; without `written`, all of them have values."""

    base: int
    data: bytearray
    written: bytearray | None = None
    #: Of each byte: the epoch in which it was last touched, by whom, and how.
    touched: dict[int, tuple[int, int, str]] | None = field(default_factory=dict)

    def place(self, address: int, size: int) -> int:
        """Offset of an access.

        Raises:
            FaultError: it is outside, or not aligned to its size.
        """
        offset = address - self.base
        if not 0 <= offset <= len(self.data) - size:
            raise FaultError(f"illegal address {address:#x}")
        if address % size:
            raise FaultError(f"misaligned address {address:#x}")
        return offset

    def load(self, address: int, size: int) -> int:
        """An unsigned number from memory."""
        offset = self.place(address, size)
        if self.written is not None and not all(self.written[offset : offset + size]):
            raise IndeterminateError("reads memory that was never written")
        return int.from_bytes(self.data[offset : offset + size], "little")

    def store(self, address: int, size: int, value: int) -> None:
        """Write an unsigned number."""
        offset = self.place(address, size)
        if self.written is not None:
            self.written[offset : offset + size] = b"\1" * size
        self.data[offset : offset + size] = value.to_bytes(size, "little")

    def touch(self, address: int, size: int, epoch: int, thread: int, kind: str) -> None:
        """Say who accesses how: `kind` is "read", "write", or the name of an atomic operation."""
        if self.touched is None:
            return
        offset = address - self.base
        for byte in range(offset, offset + size):
            before = self.touched.get(byte)
            if before is None or before[0] != epoch:
                self.touched[byte] = (epoch, thread, kind)
            elif before[1] == thread:
                self.touched[byte] = (epoch, thread, kind if kind == before[2] else "write")
            elif kind != before[2] or kind == "write":
                raise IndeterminateError("a data race")
            else:
                self.touched[byte] = (epoch, _SEVERAL, kind)
