"""Capabilities of an endpoint: PCI Express with function-level reset, and power management.

A capability lays its registers into config space at the offset that it is given; what software
writes there afterwards reaches it through `written`. PCI 3.0, 6.7 describes the list that links
them.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

from .registers import RegisterFile


class CapabilityId(IntEnum):
    """Capability identities (PCI Code and ID Assignment Specification)."""

    POWER_MANAGEMENT = 0x01
    PCI_EXPRESS = 0x10
    MSIX = 0x11


class Capability(Protocol):
    """A structure in the capability list; its first two bytes are laid by the list."""

    @property
    def capability_id(self) -> CapabilityId:
        """Identity in the list."""

    @property
    def size(self) -> int:
        """Length in bytes, the two bytes of the list included."""

    def define(self, registers: RegisterFile, offset: int) -> None:
        """Lay the registers into config space; the structure begins at `offset`."""

    def written(self, registers: RegisterFile, first: int, last: int) -> None:
        """Act on a write of software to bytes `first` to `last` of the structure."""

    def reset(self) -> None:
        """Forget what is held outside the registers, which are reset already."""


class PowerManagementCapability:
    """PCI power management (PM 1.2, 3.2): states D0 and D3hot.

    With `no_soft_reset` clear, a return from D3hot to D0 resets the function, as sysfs does with
    the reset method "pm"; with it set, state is kept.
    """

    capability_id = CapabilityId.POWER_MANAGEMENT
    size = 8

    _PMC = 2
    _PMCSR = 4
    #: Version 3 of the structure; no D1, no D2, no PME.
    _PMC_VERSION = 0x3
    _POWER_STATE = 0x3
    _NO_SOFT_RESET = 1 << 3

    def __init__(
        self, *, no_soft_reset: bool = False, on_reset: Callable[[], None] | None = None
    ) -> None:
        """Describe the capability.

        Args:
            no_soft_reset: Whether the function keeps its state from D3hot to D0.
            on_reset: Called when the function must reset because it left D3hot.
        """
        self._no_soft_reset = no_soft_reset
        self._on_reset = on_reset
        self._offset = 0
        self._state = 0

    def define(self, registers: RegisterFile, offset: int) -> None:
        """Lay the registers into config space."""
        self._offset = offset
        registers.define(offset + self._PMC, 2, self._PMC_VERSION)
        status = self._NO_SOFT_RESET if self._no_soft_reset else 0
        registers.define(offset + self._PMCSR, 2, status, writeable=self._POWER_STATE)

    @property
    def power_state(self) -> int:
        """The state as software set it: 0 for D0, 3 for D3hot."""
        return self._state

    def written(self, registers: RegisterFile, first: int, last: int) -> None:
        """Follow a change of the power state."""
        if not first <= self._PMCSR <= last:
            return
        control = registers.get(self._offset + self._PMCSR, 2)
        requested = control & self._POWER_STATE
        if requested in (1, 2):
            # Unsupported states: the write completes and the state stays (PM 1.2, 3.2.4).
            kept = control & ~self._POWER_STATE | self._state
            registers.put(self._offset + self._PMCSR, 2, kept)
            return
        woke = self._state == 3 and requested == 0
        self._state = requested
        if woke and not self._no_soft_reset and self._on_reset is not None:
            self._on_reset()

    def reset(self) -> None:
        """Return to D0."""
        self._state = 0


class PciExpressCapability:
    """PCI Express capability of an endpoint that can reset itself (PCIe 5.0, 7.5.3).

    Software starts a function-level reset through it. Link registers describe a link of 8 GT/s and
    16 lanes that is up. QEMU makes an endpoint on its root bus a root complex integrated one and
    shows no link.
    """

    capability_id = CapabilityId.PCI_EXPRESS
    size = 0x3C

    _CAPABILITIES = 0x02
    _DEVICE_CAPABILITIES = 0x04
    _DEVICE_CONTROL = 0x08
    _DEVICE_STATUS = 0x0A
    _LINK_CAPABILITIES = 0x0C
    _LINK_CONTROL = 0x10
    _LINK_STATUS = 0x12
    _LINK_CAPABILITIES_2 = 0x2C
    _LINK_CONTROL_2 = 0x30

    _VERSION_2_ENDPOINT = 0x0002
    #: Role-based error reporting (bit 15), 256-byte payload (1), 8-bit tags (bit 5), FLR (bit 28).
    _DEVICE_CAPABILITIES_VALUE = 1 << 28 | 1 << 15 | 1 << 5 | 1
    _INITIATE_FLR = 1 << 15
    #: All of Device Control but auxiliary power, phantom functions and Initiate FLR.
    _DEVICE_CONTROL_WRITEABLE = 0x79FF
    #: Relaxed ordering, no snoop, 512-byte read requests (PCIe 5.0, 7.5.3.4, defaults).
    _DEVICE_CONTROL_DEFAULT = 1 << 4 | 1 << 11 | 2 << 12
    _DEVICE_STATUS_ERRORS = 0xF
    _SPEED_8_GT_S = 3
    _WIDTH_X16 = 16 << 4
    _LINK_CONTROL_WRITEABLE = 0x00C3
    #: Supported link speeds vector: 2.5, 5 and 8 GT/s.
    _LINK_SPEEDS = 0x7 << 1
    _LINK_CONTROL_2_WRITEABLE = 0x000F

    def __init__(self, on_function_level_reset: Callable[[], None]) -> None:
        """Describe the capability; the callback runs when software initiates a reset."""
        self._on_function_level_reset = on_function_level_reset
        self._offset = 0

    def define(self, registers: RegisterFile, offset: int) -> None:
        """Lay the registers into config space."""
        self._offset = offset
        link = self._WIDTH_X16 | self._SPEED_8_GT_S
        registers.define(offset + self._CAPABILITIES, 2, self._VERSION_2_ENDPOINT)
        registers.define(offset + self._DEVICE_CAPABILITIES, 4, self._DEVICE_CAPABILITIES_VALUE)
        registers.define(
            offset + self._DEVICE_CONTROL,
            2,
            self._DEVICE_CONTROL_DEFAULT,
            writeable=self._DEVICE_CONTROL_WRITEABLE | self._INITIATE_FLR,
        )
        registers.define(offset + self._DEVICE_STATUS, 2, clearable=self._DEVICE_STATUS_ERRORS)
        registers.define(offset + self._LINK_CAPABILITIES, 4, link)
        registers.define(offset + self._LINK_CONTROL, 2, writeable=self._LINK_CONTROL_WRITEABLE)
        registers.define(offset + self._LINK_STATUS, 2, link)
        registers.define(offset + self._LINK_CAPABILITIES_2, 4, self._LINK_SPEEDS)
        registers.define(
            offset + self._LINK_CONTROL_2,
            2,
            self._SPEED_8_GT_S,
            writeable=self._LINK_CONTROL_2_WRITEABLE,
        )

    def written(self, registers: RegisterFile, first: int, last: int) -> None:
        """Start a function-level reset when software asks for one (PCIe 5.0, 6.6.2)."""
        if not first <= self._DEVICE_CONTROL + 1 <= last:
            return
        control = registers.get(self._offset + self._DEVICE_CONTROL, 2)
        if control & self._INITIATE_FLR:
            # The bit always reads as 0.
            registers.put(self._offset + self._DEVICE_CONTROL, 2, control & ~self._INITIATE_FLR)
            self._on_function_level_reset()

    def reset(self) -> None:
        """Nothing is held outside the registers."""
