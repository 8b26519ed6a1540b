"""PCI configuration space of an emulated device: header, BARs, capabilities, MSI-X.

Declare a device with `PciIdentity`, `Bar`s and capabilities, and give them to `ConfigSpace`; it
answers reads and writes as the hardware would. The package knows nothing of vfio-user. "PCI" in
section references is the PCI Local Bus Specification 3.0, "PCIe" the PCI Express Base Specification
5.0, "PM" the PCI Bus Power Management Interface Specification 1.2.
"""

from .bars import Bar, BarKind
from .capabilities import Capability, PciExpressCapability, PowerManagementCapability
from .config_space import ConfigSpace, PciIdentity
from .errors import PciError
from .msix import MsixCapability
from .registers import RegisterFile

__all__ = [
    "Bar",
    "BarKind",
    "Capability",
    "ConfigSpace",
    "MsixCapability",
    "PciError",
    "PciExpressCapability",
    "PciIdentity",
    "PowerManagementCapability",
    "RegisterFile",
]
