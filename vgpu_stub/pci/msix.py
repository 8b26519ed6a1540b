"""MSI-X capability: the number of vectors, and the BARs that hold their table and pending bits.

PCI 3.0, 6.8.2. Table and pending bits are memory of a BAR, not of config space; behind vfio-user
the client keeps the table and turns vectors into eventfds.
"""

from __future__ import annotations

from .bars import BAR_COUNT
from .capabilities import CapabilityId
from .errors import PciError
from .registers import RegisterFile

_MAX_VECTORS = 2048
_TABLE_ENTRY_BYTES = 16


class MsixCapability:
    """The capability structure; software enables and masks all vectors through it."""

    capability_id = CapabilityId.MSIX
    size = 12

    _CONTROL = 2
    _TABLE = 4
    _PENDING = 8
    _ENABLE = 1 << 15
    _FUNCTION_MASK = 1 << 14

    def __init__(
        self, vectors: int, *, table_bar: int, table_offset: int, pba_bar: int, pba_offset: int
    ) -> None:
        """Describe the capability.

        Args:
            vectors: Number of vectors, 1 to 2048.
            table_bar: Index of the BAR that holds the table.
            table_offset: Where the table begins in it, in bytes; a multiple of 8.
            pba_bar: Index of the BAR that holds the pending bit array.
            pba_offset: Where that begins, in bytes; a multiple of 8.

        Raises:
            PciError: A value is out of range, or table and pending bits overlap.
        """
        if not 1 <= vectors <= _MAX_VECTORS:
            raise PciError(f"MSI-X has 1 to {_MAX_VECTORS} vectors, not {vectors}")
        for name, bar, offset in (("table", table_bar, table_offset), ("PBA", pba_bar, pba_offset)):
            if not 0 <= bar < BAR_COUNT:
                raise PciError(f"MSI-X {name}: there is no BAR{bar}")
            if offset % 8 or not 0 <= offset < 1 << 32:
                raise PciError(f"MSI-X {name}: offset {offset:#x} is no multiple of 8 in 32 bits")
        self.vectors = vectors
        self.table_bar = table_bar
        self.table_offset = table_offset
        self.pba_bar = pba_bar
        self.pba_offset = pba_offset
        if (
            table_bar == pba_bar
            and table_offset < pba_offset + self.pba_bytes
            and pba_offset < table_offset + self.table_bytes
        ):
            raise PciError("MSI-X: table and pending bit array overlap")
        self._offset = 0

    @property
    def table_bytes(self) -> int:
        """Length of the table in its BAR, in bytes."""
        return self.vectors * _TABLE_ENTRY_BYTES

    @property
    def pba_bytes(self) -> int:
        """Length of the pending bit array in bytes: one bit a vector, in 64-bit words."""
        return (self.vectors + 63) // 64 * 8

    def define(self, registers: RegisterFile, offset: int) -> None:
        """Lay the registers into config space."""
        self._offset = offset
        registers.define(
            offset + self._CONTROL,
            2,
            self.vectors - 1,
            writeable=self._ENABLE | self._FUNCTION_MASK,
        )
        registers.define(offset + self._TABLE, 4, self.table_offset | self.table_bar)
        registers.define(offset + self._PENDING, 4, self.pba_offset | self.pba_bar)

    def written(self, registers: RegisterFile, first: int, last: int) -> None:
        """Nothing happens on a write: the bits are read when they are needed."""

    def reset(self) -> None:
        """Nothing is held outside the registers."""

    def is_enabled(self, registers: RegisterFile) -> bool:
        """Return whether software has enabled MSI-X."""
        return bool(registers.get(self._offset + self._CONTROL, 2) & self._ENABLE)

    def is_masked(self, registers: RegisterFile) -> bool:
        """Return whether software has masked all vectors at once."""
        return bool(registers.get(self._offset + self._CONTROL, 2) & self._FUNCTION_MASK)
