"""A block of registers in which every bit is read-only, read-write or write-one-to-clear.

This is what the PCI specifications mean by the register attributes RO, RW and RW1C (PCIe 5.0, 7.4).
Bits are held as three byte arrays of the same length, so an access of any size and alignment is the
same few operations.
"""

from __future__ import annotations

from .errors import PciError


class RegisterFile:
    """Registers of a fixed total size; every byte starts as read-only zero."""

    def __init__(self, size: int) -> None:
        """Make `size` bytes of registers."""
        self._values = bytearray(size)
        self._reset_values = bytearray(size)
        self._writeable = bytearray(size)
        self._clearable = bytearray(size)

    def __len__(self) -> int:
        return len(self._values)

    def define(
        self, offset: int, size: int, value: int = 0, *, writeable: int = 0, clearable: int = 0
    ) -> None:
        """Declare one little-endian register.

        Args:
            offset: Where it begins, in bytes.
            size: Its width in bytes.
            value: What it holds after reset.
            writeable: Mask of its RW bits.
            clearable: Mask of its RW1C bits.

        Raises:
            PciError: It leaves the block, or a bit is both RW and RW1C.
        """
        self._check_range(offset, size)
        if writeable & clearable:
            raise PciError(f"register {offset:#x}: bits {writeable & clearable:#x} are RW and RW1C")
        span = slice(offset, offset + size)
        self._values[span] = self._reset_values[span] = value.to_bytes(size, "little")
        self._writeable[span] = writeable.to_bytes(size, "little")
        self._clearable[span] = clearable.to_bytes(size, "little")

    def get(self, offset: int, size: int) -> int:
        """Return a register's value, little-endian."""
        return int.from_bytes(self.read(offset, size), "little")

    def put(self, offset: int, size: int, value: int) -> None:
        """Set a register as the device does, whatever software may write to it."""
        self._check_range(offset, size)
        self._values[offset : offset + size] = value.to_bytes(size, "little")

    def read(self, offset: int, count: int) -> bytes:
        """Return `count` bytes from `offset` on."""
        self._check_range(offset, count)
        return bytes(self._values[offset : offset + count])

    def write(self, offset: int, data: bytes) -> None:
        """Write as software does: RO bits keep their value, RW1C bits are cleared by ones."""
        self._check_range(offset, len(data))
        for position, byte in enumerate(data, offset):
            writeable = self._writeable[position]
            kept = self._values[position] & ~writeable & ~(byte & self._clearable[position])
            self._values[position] = kept | (byte & writeable)

    def reset(self) -> None:
        """Return every register to the value it was defined with."""
        self._values[:] = self._reset_values

    def _check_range(self, offset: int, size: int) -> None:
        if offset < 0 or size < 0 or offset + size > len(self._values):
            raise PciError(f"{offset:#x}+{size:#x} leaves the {len(self._values):#x} bytes")
