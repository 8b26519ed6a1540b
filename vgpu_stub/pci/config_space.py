"""Configuration space of a type 0 function: header, BARs and the capability list.

PCI 3.0, 6.1 and 6.2, with the PCIe changes of 7.5.1. The space is 4096 bytes long; beyond the 256
of PCI there are no extended capabilities, and it reads as zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from .bars import Bar
from .capabilities import Capability
from .errors import PciError
from .registers import RegisterFile

CONFIG_SPACE_BYTES = 4096
_PCI_CONFIG_BYTES = 256
_FIRST_CAPABILITY = 0x40

_VENDOR_ID = 0x00
_DEVICE_ID = 0x02
_COMMAND = 0x04
_STATUS = 0x06
_REVISION_ID = 0x08
_CLASS_CODE = 0x09
_CACHE_LINE_SIZE = 0x0C
_SUBSYSTEM_VENDOR_ID = 0x2C
_SUBSYSTEM_ID = 0x2E
_CAPABILITIES_POINTER = 0x34
_INTERRUPT_LINE = 0x3C

_COMMAND_MEMORY = 1 << 1
_COMMAND_BUS_MASTER = 1 << 2
#: I/O and memory space, bus master, parity error response, SERR#, interrupt disable.
_COMMAND_WRITEABLE = 0x0547
_STATUS_CAPABILITIES_LIST = 1 << 4
#: Parity, signalled and received error bits.
_STATUS_CLEARABLE = 0xF900


@dataclass(frozen=True, slots=True)
class PciIdentity:
    """Who a function says it is (PCI 3.0, 6.2.1 and 6.2.4).

    Attributes:
        vendor_id: Vendor; the default is the one that QEMU's own devices use.
        device_id: Device of that vendor.
        class_code: Base class, sub-class and interface; the default is a 3D controller.
        revision_id: Revision of the device.
        subsystem_vendor_id: Vendor of the board; None for `vendor_id`.
        subsystem_id: Board; None for `device_id`.
    """

    vendor_id: int = 0x1234
    device_id: int = 0x5055
    class_code: int = 0x030200
    revision_id: int = 0x01
    subsystem_vendor_id: int | None = None
    subsystem_id: int | None = None

    def __post_init__(self) -> None:
        for name, value, bits in (
            ("vendor id", self.vendor_id, 16),
            ("device id", self.device_id, 16),
            ("class code", self.class_code, 24),
            ("revision id", self.revision_id, 8),
            ("subsystem vendor id", self.subsystem_vendor_id or 0, 16),
            ("subsystem id", self.subsystem_id or 0, 16),
        ):
            if not 0 <= value < 1 << bits:
                raise PciError(f"{name} {value:#x} does not fit {bits} bits")

    def define(self, registers: RegisterFile) -> None:
        """Lay the registers into config space."""
        subsystem_vendor = self.subsystem_vendor_id
        subsystem = self.subsystem_id
        registers.define(_VENDOR_ID, 2, self.vendor_id)
        registers.define(_DEVICE_ID, 2, self.device_id)
        registers.define(_REVISION_ID, 1, self.revision_id)
        registers.define(_CLASS_CODE, 3, self.class_code)
        registers.define(
            _SUBSYSTEM_VENDOR_ID,
            2,
            self.vendor_id if subsystem_vendor is None else subsystem_vendor,
        )
        registers.define(_SUBSYSTEM_ID, 2, self.device_id if subsystem is None else subsystem)


class ConfigSpace:
    """The config space of one function: reads and writes of software, and what they mean."""

    def __init__(
        self,
        identity: PciIdentity,
        bars: Sequence[Bar] = (),
        capabilities: Sequence[Capability] = (),
    ) -> None:
        """Lay out the space.

        Args:
            identity: Who the function says it is.
            bars: Its memory; no two may take the same register.
            capabilities: Its capability list, in order; the first is at 0x40.

        Raises:
            PciError: BARs collide, or the capabilities exceed the 256 bytes of PCI.
        """
        self.registers = RegisterFile(CONFIG_SPACE_BYTES)
        self.bars = tuple(bars)
        self._define_header(identity)
        self._define_bars()
        self._capabilities = tuple(self._place(capabilities))
        self._link_capabilities()

    def read(self, offset: int, count: int) -> bytes:
        """Return what software reads at `offset`.

        Raises:
            PciError: The range leaves the 4096 bytes.
        """
        return self.registers.read(offset, count)

    def write(self, offset: int, data: bytes) -> None:
        """Take a write of software; reserved and read-only bits keep their value.

        A reset that the write asks for is done by callback before this returns.

        Raises:
            PciError: The range leaves the 4096 bytes.
        """
        self.registers.write(offset, data)
        end = offset + len(data)
        for start, capability in self._capabilities:
            if offset < start + capability.size and start < end:
                capability.written(self.registers, offset - start, end - 1 - start)

    def reset(self) -> None:
        """Return every register to its value after power-on (PCIe 5.0, 6.6.2)."""
        self.registers.reset()
        for _, capability in self._capabilities:
            capability.reset()

    @property
    def memory_enabled(self) -> bool:
        """Whether software lets the function answer to its memory BARs."""
        return bool(self.registers.get(_COMMAND, 2) & _COMMAND_MEMORY)

    @property
    def bus_master_enabled(self) -> bool:
        """Whether software lets the function access memory and send MSI-X."""
        return bool(self.registers.get(_COMMAND, 2) & _COMMAND_BUS_MASTER)

    def offset_of(self, capability: Capability) -> int:
        """Return where a capability of this function begins, in bytes.

        Raises:
            PciError: It is none of this function's.
        """
        for offset, own in self._capabilities:
            if own is capability:
                return offset
        raise PciError(f"{capability!r} is no capability of this function")

    def _define_header(self, identity: PciIdentity) -> None:
        identity.define(self.registers)
        self.registers.define(_COMMAND, 2, writeable=_COMMAND_WRITEABLE)
        self.registers.define(_STATUS, 2, clearable=_STATUS_CLEARABLE)
        self.registers.define(_CACHE_LINE_SIZE, 1, writeable=0xFF)
        self.registers.define(_INTERRUPT_LINE, 1, writeable=0xFF)

    def _define_bars(self) -> None:
        for lower, upper in pairwise(sorted(self.bars, key=lambda bar: bar.index)):
            if upper.offset < lower.offset + lower.register_bytes:
                raise PciError(f"BAR{lower.index} and BAR{upper.index} take the same register")
        for bar in self.bars:
            bar.define(self.registers)

    def _place(self, capabilities: Sequence[Capability]) -> list[tuple[int, Capability]]:
        offset = _FIRST_CAPABILITY
        placed: list[tuple[int, Capability]] = []
        for capability in capabilities:
            if offset + capability.size > _PCI_CONFIG_BYTES:
                raise PciError(f"capabilities exceed the {_PCI_CONFIG_BYTES} bytes of config space")
            capability.define(self.registers, offset)
            placed.append((offset, capability))
            # Structures begin at multiples of four (PCI 3.0, 6.7).
            offset = (offset + capability.size + 3) & ~3
        return placed

    def _link_capabilities(self) -> None:
        if not self._capabilities:
            return
        self.registers.define(_STATUS, 2, _STATUS_CAPABILITIES_LIST, clearable=_STATUS_CLEARABLE)
        self.registers.define(_CAPABILITIES_POINTER, 1, self._capabilities[0][0])
        following = [offset for offset, _ in self._capabilities[1:]] + [0]
        for (offset, capability), next_offset in zip(self._capabilities, following, strict=True):
            self.registers.define(offset, 1, capability.capability_id)
            self.registers.define(offset + 1, 1, next_offset)
