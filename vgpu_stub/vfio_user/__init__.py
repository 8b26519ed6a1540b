"""The vfio-user protocol in pure Python: serve a PCI device to QEMU, or drive one without it.

Start with `Server` and the `Device` protocol that it serves; `Client` is the other end of the
socket. The package uses the standard library only and imports nothing else of this project. The
specification is `docs/interop/vfio-user.rst` in QEMU's sources.
"""

from .client import Client, MappableRegion, PendingReply
from .constants import (
    Command,
    DeviceFlag,
    DmaFlag,
    FeatureFlag,
    IrqIndex,
    IrqInfoFlag,
    IrqSetFlag,
    RegionFlag,
    RegionIndex,
)
from .device import ConnectedClient, Device, Region
from .dma import DmaMap, DmaWindow
from .errors import (
    DisconnectedError,
    DmaFaultError,
    ProtocolError,
    RemoteError,
    ReplyTimeoutError,
    VfioUserError,
)
from .irqs import Irq, IrqTable
from .messages import RegionWrite, SparseArea
from .observer import Direction, Observer, Tap
from .server import Server, ServerStatistics

__all__ = [
    "Client",
    "Command",
    "ConnectedClient",
    "Device",
    "DeviceFlag",
    "Direction",
    "DisconnectedError",
    "DmaFaultError",
    "DmaFlag",
    "DmaMap",
    "DmaWindow",
    "FeatureFlag",
    "Irq",
    "IrqIndex",
    "IrqInfoFlag",
    "IrqSetFlag",
    "IrqTable",
    "MappableRegion",
    "Observer",
    "PendingReply",
    "ProtocolError",
    "Region",
    "RegionFlag",
    "RegionIndex",
    "RegionWrite",
    "RemoteError",
    "ReplyTimeoutError",
    "Server",
    "ServerStatistics",
    "SparseArea",
    "Tap",
    "VfioUserError",
]
