"""Numbers of the vfio-user protocol, under the names that the specification gives them.

Values are those of the vfio-user specification (version 0.0, as QEMU 10.1 and later speak it) and
of `<linux/vfio.h>`, from which the protocol borrows its region, interrupt and feature flags.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

#: Protocol version that this package speaks. QEMU refuses a reply with any other minor version.
PROTOCOL_MAJOR = 0
PROTOCOL_MINOR = 0

#: Size of the header that opens every message, in bytes.
HEADER_BYTES = 16

#: What the specification tells a peer to assume when the other names no limit.
DEFAULT_MAX_DATA_XFER_BYTES = 1 << 20
DEFAULT_MAX_MSG_FDS = 1

#: Limits that this package announces for itself. QEMU refuses more than 16 descriptors a message.
MAX_DATA_XFER_BYTES = 1 << 20
MAX_MSG_FDS = 8
MAX_DMA_MAPS = 65535
PAGE_SIZES = 4096


class Command(IntEnum):
    """Message commands (specification, "Commands"); 14 is not assigned."""

    VERSION = 1
    DMA_MAP = 2
    DMA_UNMAP = 3
    DEVICE_GET_INFO = 4
    DEVICE_GET_REGION_INFO = 5
    DEVICE_GET_REGION_IO_FDS = 6
    DEVICE_GET_IRQ_INFO = 7
    DEVICE_SET_IRQS = 8
    REGION_READ = 9
    REGION_WRITE = 10
    DMA_READ = 11
    DMA_WRITE = 12
    DEVICE_RESET = 13
    REGION_WRITE_MULTI = 15
    DEVICE_FEATURE = 16
    MIG_DATA_READ = 17
    MIG_DATA_WRITE = 18


class HeaderFlag(IntFlag):
    """Flags of the message header; the low four bits are the message type."""

    TYPE_MASK = 0xF
    COMMAND = 0x0
    REPLY = 0x1
    NO_REPLY = 0x10
    ERROR = 0x20


class DeviceFlag(IntFlag):
    """Device attributes in a DEVICE_GET_INFO reply."""

    RESET = 1 << 0
    PCI = 1 << 1


class RegionFlag(IntFlag):
    """Region attributes in a DEVICE_GET_REGION_INFO reply."""

    READ = 1 << 0
    WRITE = 1 << 1
    MMAP = 1 << 2
    CAPS = 1 << 3


class RegionIndex(IntEnum):
    """Regions of a PCI device (`VFIO_PCI_*_REGION_INDEX`)."""

    BAR0 = 0
    BAR1 = 1
    BAR2 = 2
    BAR3 = 3
    BAR4 = 4
    BAR5 = 5
    ROM = 6
    CONFIG = 7
    VGA = 8


#: Regions that every PCI device answers for, used or not. QEMU exits when fewer are announced.
PCI_REGION_COUNT = 9

#: Identity of the sparse mmap capability in a region info reply.
REGION_CAP_SPARSE_MMAP = 1


class IrqIndex(IntEnum):
    """Interrupt types of a PCI device (`VFIO_PCI_*_IRQ_INDEX`)."""

    INTX = 0
    MSI = 1
    MSIX = 2
    ERR = 3
    REQ = 4


#: Interrupt types that every PCI device answers for, used or not.
PCI_IRQ_COUNT = 5


class IrqInfoFlag(IntFlag):
    """Interrupt attributes in a DEVICE_GET_IRQ_INFO reply."""

    EVENTFD = 1 << 0
    MASKABLE = 1 << 1
    AUTOMASKED = 1 << 2
    NORESIZE = 1 << 3


class IrqSetFlag(IntFlag):
    """What a DEVICE_SET_IRQS message carries (DATA) and does (ACTION); one of each."""

    DATA_NONE = 1 << 0
    DATA_BOOL = 1 << 1
    DATA_EVENTFD = 1 << 2
    ACTION_MASK = 1 << 3
    ACTION_UNMASK = 1 << 4
    ACTION_TRIGGER = 1 << 5


class DmaFlag(IntFlag):
    """What the device may do with a DMA window."""

    READ = 1 << 0
    WRITE = 1 << 1


class DmaUnmapFlag(IntFlag):
    """Modifiers of DMA_UNMAP (`VFIO_DMA_UNMAP_FLAG_*`)."""

    ALL = 1 << 1


class FeatureFlag(IntFlag):
    """Operation bits of DEVICE_FEATURE; the low sixteen bits of the word are the feature index."""

    INDEX_MASK = 0xFFFF
    GET = 1 << 16
    SET = 1 << 17
    PROBE = 1 << 18
