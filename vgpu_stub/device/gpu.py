"""The device itself: what a vfio-user client sees as VGPU-STUB.

`VirtualGpu` ties config space, registers, shared memory, the admin channel and the channels
together. It does no work of its own: QEMU gives up on a device that answers late and cannot
reconnect to a new one, so everything that may fail or take time is a worker's (docs/device.md).
"""

from __future__ import annotations

import errno
import fcntl
import logging
import mmap
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.device.admin import AdminChannel
from vgpu_stub.device.channels import Channel, ChannelTable
from vgpu_stub.device.faults import DeviceFaults
from vgpu_stub.device.registers import RegisterFile
from vgpu_stub.device.status import DeviceStatusSource
from vgpu_stub.device.worker_link import Workers
from vgpu_stub.faults import Injector
from vgpu_stub.pci import (
    Bar,
    BarKind,
    ConfigSpace,
    MsixCapability,
    PciExpressCapability,
    PciIdentity,
    PowerManagementCapability,
)
from vgpu_stub.vfio_user import (
    ConnectedClient,
    DmaMap,
    DmaWindow,
    FeatureFlag,
    Irq,
    IrqIndex,
    Region,
    RegionIndex,
    VfioUserError,
)

_log = logging.getLogger(__name__)

_CONFIG_BYTES: Final = 4096
_EXECUTOR_FIELD: Final = slice(
    abi.DEVICE_INFO_OFFSETS["executor"], abi.DEVICE_INFO_OFFSETS["executor"] + 16
)


@dataclass(frozen=True)
class DeviceSnapshot:
    """The device at one moment, for monitors."""

    name: str
    connected: bool
    enabled: bool
    error: int
    reset_count: int
    register_accesses: int
    dma_windows: int
    channels: tuple[Channel, ...]


class VirtualGpu:
    """One VGPU-STUB; implements `vgpu_stub.vfio_user.Device`."""

    def __init__(
        self,
        workers: Workers,
        name: str = "gpu0",
        identity: tuple[int, int] = (abi.PCI_VENDOR_ID, abi.PCI_DEVICE_ID),
        on_disconnect: Callable[[VirtualGpu], None] | None = None,
        on_channel_end: Callable[[VirtualGpu, Channel], None] | None = None,
        status_source: DeviceStatusSource | None = None,
        faults: Injector | None = None,
        own_thread: bool = True,
    ) -> None:
        """Make a device in its power-on state.

        Args:
            workers: Where workers come from; asked for the device info at once.
            name: For logs and monitors.
            identity: PCI vendor and device id.
            on_disconnect: Called when the client has gone and everything of it is released.
            on_channel_end: Called when a channel ends, while its counters can still be read.
            status_source: Who measures the device for DEVICE_STATUS; None refuses the command.
            faults: What goes wrong on purpose; call `faults_changed` when its rules change.
            own_thread: Serve the admin channel from a thread; otherwise whoever drives the device
                calls `serve_admin` after each access.
        """
        self.name = name
        self.faults = DeviceFaults(faults or Injector(), name)
        self._on_disconnect = on_disconnect
        self._on_channel_end = on_channel_end
        self._lock = threading.RLock()
        self._client: ConnectedClient | None = None
        self.bar2_fd = os.memfd_create(f"vgpu-stub-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.bar2_fd, abi.BAR2_BYTES)
        _seal_size(self.bar2_fd)
        self._memory = mmap.mmap(self.bar2_fd, abi.BAR2_BYTES)
        self._info = workers.device_info()
        software = self._info[_EXECUTOR_FIELD].startswith(b"software\0")
        features = abi.FEATURE_EVENT_SUPPRESSION | abi.FEATURE_SCATTER_LIST
        features |= abi.FEATURE_SOFTWARE_GPU if software else 0
        self._registers = RegisterFile(self, features)
        self._config = _config_space(identity, self.reset)
        self._channels = ChannelTable(
            self.bar2_fd,
            self._memory,
            self._interrupt,
            self._vector_eventfd,
            self._registers.latch_error,
            self._channel_ended,
            self.faults,
        )
        self._admin = AdminChannel(
            self._memory,
            self._lock,
            self._channels,
            workers,
            self._dma,
            lambda: self._interrupt(0),
            self._registers.latch_error,
            status_source,
            self.faults,
            own_thread,
        )
        self._regions = (
            Region(RegionIndex.BAR0, abi.BAR0_BYTES),
            Region(RegionIndex.BAR2, abi.BAR2_BYTES, fd=self.bar2_fd),
            Region(RegionIndex.CONFIG, _CONFIG_BYTES),
        )
        self._irqs = (Irq(IrqIndex.MSIX, abi.VECTOR_COUNT), Irq(IrqIndex.ERR, 1))
        self._publish_info()

    def close(self) -> None:
        """End every worker and release the device's memory."""
        with self._lock:
            self._channels.reset()
            self._admin.disable()
        self._admin.close()
        self._channels.close()
        self._memory.close()
        os.close(self.bar2_fd)

    def serve_admin(self) -> None:
        """Do what the admin channel's thread would do now; only without `own_thread`."""
        self._admin.serve()

    def snapshot(self) -> DeviceSnapshot:
        """The state of the device now."""
        with self._lock:
            return DeviceSnapshot(
                self.name,
                self._client is not None,
                self._registers.enabled,
                self._registers.error,
                self._registers.reset_count,
                self._registers.accesses,
                len(self._client.dma) if self._client else 0,
                tuple(self._channels),
            )

    def faults_changed(self, done: Callable[[int], None]) -> int:
        """Give workers the rules; returns how many will answer, each by a call of `done`."""
        with self._lock:
            return self._channels.faults_changed(done)

    def read_shared(self, offset: int, size: int) -> bytes:
        """Copy a range of BAR2, for monitors."""
        return self._memory[offset : offset + size]

    # -- vgpu_stub.vfio_user.Device --------------------------------------------------------------

    @property
    def regions(self) -> Sequence[Region]:
        """BAR0, BAR2 and config space."""
        return self._regions

    @property
    def irqs(self) -> Sequence[Irq]:
        """MSI-X, and the error interrupt that QEMU asks for."""
        return self._irqs

    def client_connected(self, client: ConnectedClient) -> None:
        """A client negotiated its version."""
        with self._lock:
            self._client = client
        _log.info("%s: client connected", self.name)

    def client_disconnected(self, client: ConnectedClient) -> None:
        """The client is gone: nothing of it may go on running."""
        _log.info("%s: client gone", self.name)
        self.reset()
        with self._lock:
            self._client = None
        if self._on_disconnect:
            self._on_disconnect(self)

    def region_read(self, index: int, offset: int, count: int) -> bytes:
        """Read config space, a register, or shared memory by message."""
        if index == RegionIndex.BAR0:
            with self._lock:
                return self._registers.read(offset, count)
        if index == RegionIndex.CONFIG:
            with self._lock:
                return self._config.read(offset, count)
        return self._memory[offset : offset + count]

    def region_write(self, index: int, offset: int, data: bytes) -> None:
        """Write config space, a register, or shared memory by message."""
        if index == RegionIndex.BAR0:
            with self._lock:
                self._registers.write(offset, data)
        elif index == RegionIndex.CONFIG:
            with self._lock:
                self._config.write(offset, data)
        else:
            self._memory[offset : offset + len(data)] = data

    def dma_mapped(self, window: DmaWindow) -> None:
        """A new window needs nothing: registrations look windows up when they are made."""

    def dma_unmapped(self, window: DmaWindow) -> None:
        """Channels that use the window end before the client's request is answered."""
        with self._lock:
            self._channels.window_removed(window)

    def irqs_changed(self, index: int, vectors: range) -> None:
        """Workers signal their vectors themselves, so they get the new eventfds."""
        if index == IrqIndex.MSIX:
            with self._lock:
                self._channels.vectors_changed(vectors)

    def device_feature(self, feature: int, operations: FeatureFlag, data: bytes) -> bytes:
        """No optional features.

        Raises:
            VfioUserError: ENOTTY, always.
        """
        raise VfioUserError(errno.ENOTTY, f"device feature {feature} is not supported")

    def reset(self) -> None:
        """Function reset (FLR, DEVICE_RESET): the device and its config space."""
        with self._lock:
            self.control_reset()
            self._config.reset()

    # -- vgpu_stub.device.registers.RegisterEffects ------------------------------------------------

    def control_reset(self) -> None:
        """Full reset from any state; when this returns nothing accesses guest memory any more."""
        with self._lock:
            self._channels.reset()
            self._admin.disable()
            self._registers.reset()
            # Not channel by channel: the guest can write where it has no channel, too. What it
            # left there must not reach the next guest. Pages given back read as zeros.
            self._memory.madvise(mmap.MADV_REMOVE, abi.CHANNEL_BASE)
            self._publish_info()
        _log.info("%s: reset", self.name)

    def enable(self) -> None:
        """CONTROL.ENABLE."""
        self._admin.enable()

    def doorbell(self, channel: int) -> None:
        """DOORBELL."""
        if channel == 0:
            self._admin.doorbell()
        else:
            self._channels.kick(channel)

    def interrupt_test(self, vector: int) -> None:
        """INTERRUPT_TEST."""
        self._interrupt(vector)

    # -- helpers ---------------------------------------------------------------------------------

    def _channel_ended(self, channel: Channel) -> None:
        if self._on_channel_end:
            self._on_channel_end(self, channel)

    def _publish_info(self) -> None:
        self._memory[abi.INFO_OFFSET : abi.INFO_OFFSET + len(self._info)] = self._info

    def _dma(self) -> DmaMap | None:
        return self._client.dma if self._client else None

    def _interrupt(self, vector: int) -> None:
        client = self._client
        if client:
            client.irqs.trigger(IrqIndex.MSIX, vector)

    def _vector_eventfd(self, vector: int) -> int | None:
        return self._client.irqs.dup_eventfd(IrqIndex.MSIX, vector) if self._client else None


def _config_space(identity: tuple[int, int], on_reset: Callable[[], None]) -> ConfigSpace:
    vendor_id, device_id = identity
    return ConfigSpace(
        PciIdentity(
            vendor_id=vendor_id,
            device_id=device_id,
            class_code=abi.PCI_CLASS,
            revision_id=abi.PCI_REVISION,
        ),
        bars=[
            Bar(0, abi.BAR0_BYTES),
            Bar(2, abi.BAR2_BYTES, BarKind.MEMORY_64_PREFETCHABLE),
        ],
        capabilities=[
            MsixCapability(
                vectors=abi.VECTOR_COUNT,
                table_bar=0,
                table_offset=abi.MSIX_TABLE_OFFSET,
                pba_bar=0,
                pba_offset=abi.MSIX_PBA_OFFSET,
            ),
            PowerManagementCapability(no_soft_reset=True),
            PciExpressCapability(on_function_level_reset=on_reset),
        ],
    )


def _seal_size(fd: int) -> None:
    """Keep a client from shrinking the file, which would kill whoever has it mapped."""
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
