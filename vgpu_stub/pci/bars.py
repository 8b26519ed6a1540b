"""Base address registers: how a device says which memory it wants, and software where it lies.

PCI 3.0, 6.2.5.1. Sizing works as in hardware: the low address bits are read-only zeros, so software
that writes ones reads back the size. (QEMU answers guests itself and only takes the type bits from
here.)
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .errors import PciError
from .registers import RegisterFile

#: Offset of BAR0 in config space, and the number of BARs in a type 0 header.
BAR0_OFFSET = 0x10
BAR_COUNT = 6

#: Smallest memory BAR that the address bits can describe, in bytes.
_MIN_BAR_BYTES = 16


class BarKind(Enum):
    """Type bits of a memory BAR; the value is the low nibble of the register."""

    #: 32-bit address, reads may have side effects.
    MEMORY_32 = 0x0
    #: 64-bit address; takes the next register as its upper half.
    MEMORY_64 = 0x4
    #: 64-bit address, prefetchable: write-combining is allowed.
    MEMORY_64_PREFETCHABLE = 0xC


@dataclass(frozen=True, slots=True)
class Bar:
    """A memory BAR.

    Attributes:
        index: Number of its (first) register, 0 to 5.
        size: Bytes of memory, a power of two of at least 16.
        kind: Type bits.
    """

    index: int
    size: int
    kind: BarKind = BarKind.MEMORY_32

    def __post_init__(self) -> None:
        registers = 2 if self.is_64_bit else 1
        if not 0 <= self.index <= BAR_COUNT - registers:
            raise PciError(f"BAR{self.index}: {registers} registers do not fit the six of a header")
        if self.size < _MIN_BAR_BYTES or self.size & (self.size - 1):
            raise PciError(f"BAR{self.index}: {self.size:#x} bytes is no power of two above 8")
        if self.size > 1 << (63 if self.is_64_bit else 31):
            raise PciError(f"BAR{self.index}: size {self.size:#x} exceeds its address bits")

    @property
    def is_64_bit(self) -> bool:
        """Whether the BAR takes two registers."""
        return self.kind is not BarKind.MEMORY_32

    @property
    def offset(self) -> int:
        """Offset of the register in config space, in bytes."""
        return BAR0_OFFSET + 4 * self.index

    @property
    def register_bytes(self) -> int:
        """Width of the register, in bytes."""
        return 8 if self.is_64_bit else 4

    def define(self, registers: RegisterFile) -> None:
        """Lay the register into config space."""
        width = self.register_bytes
        address_bits = (1 << 8 * width) - self.size
        registers.define(self.offset, width, self.kind.value, writeable=address_bits)

    def address(self, registers: RegisterFile) -> int:
        """Return the address that software has written, in bytes; 0 before it has."""
        return registers.get(self.offset, self.register_bytes) & ~0xF
