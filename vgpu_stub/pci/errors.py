"""The error of the pci package."""

from __future__ import annotations


class PciError(ValueError):
    """A device is declared in a way that PCI does not allow, or an access leaves config space."""
