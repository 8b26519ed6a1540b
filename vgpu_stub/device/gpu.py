"""The device itself: what a vfio-user client sees as VGPU-STUB.

`VirtualGpu` ties config space, registers, shared memory, the admin channel and the channels
together. It does no work of its own: QEMU gives up on a device that answers late and cannot
reconnect to a new one, so everything that may fail or take time is a worker's (docs/device.md).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import mmap
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.device.admin import AdminChannel
from vgpu_stub.device.channels import Channel, ChannelTable
from vgpu_stub.device.delays import Delays
from vgpu_stub.device.fault_registers import read_config, read_registers
from vgpu_stub.device.fault_signals import FaultySignals, InterruptStorm
from vgpu_stub.device.faults import DeviceFaults
from vgpu_stub.device.health import DeviceHealth
from vgpu_stub.device.presence import Presence
from vgpu_stub.device.registers import RegisterFile
from vgpu_stub.device.rings import channel_offset
from vgpu_stub.device.status import DeviceStatusSource
from vgpu_stub.device.tap import DeviceTap
from vgpu_stub.device.worker_link import Workers
from vgpu_stub.faults import Injector, Point
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
    registers: dict[str, int]


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
        self._tap: DeviceTap | None = None
        self._on_disconnect = on_disconnect
        self._on_channel_end = on_channel_end
        self._lock = threading.RLock()
        self._client: ConnectedClient | None = None
        self.bar2_fd = os.memfd_create(f"vgpu-stub-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        # A server that is out of descriptors must not lose more of them to a device that fails.
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, self.bar2_fd)
            os.ftruncate(self.bar2_fd, abi.BAR2_BYTES)
            _seal_size(self.bar2_fd)
            self._memory = mmap.mmap(self.bar2_fd, abi.BAR2_BYTES)
            undo.callback(self._memory.close)
            self._info = workers.device_info()
            software = self._info[_EXECUTOR_FIELD].startswith(b"software\0")
            features = abi.FEATURE_EVENT_SUPPRESSION | abi.FEATURE_SCATTER_LIST
            features |= abi.FEATURE_SOFTWARE_GPU if software else 0
            self._delays = Delays(self._lock)
            self._signals = FaultySignals(self.faults, self._delays)
            self._storm = InterruptStorm(self.faults, self._signal)
            self._health = DeviceHealth(self.faults, software=software)
            self._presence = Presence(self.faults, self._vanish, self._return)
            self._registers = RegisterFile(self, features)
            self._config = _config_space(identity, self._function_level_reset)
            self._channels = ChannelTable(
                self.bar2_fd,
                self._memory,
                self._interrupt,
                self._vector_eventfd,
                self._registers.latch_error,
                self._channel_ended,
                self.faults,
                self._channel_starting,
            )
            undo.callback(self._channels.close)
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
                self._delays,
                self._health.examine,
                self._admin_command,
                self._admin_completion,
                own_thread,
            )
            self._regions = (
                Region(RegionIndex.BAR0, abi.BAR0_BYTES),
                Region(RegionIndex.BAR2, abi.BAR2_BYTES, fd=self.bar2_fd),
                Region(RegionIndex.CONFIG, _CONFIG_BYTES),
            )
            self._irqs = (Irq(IrqIndex.MSIX, abi.VECTOR_COUNT), Irq(IrqIndex.ERR, 1))
            self._publish_info()
            undo.pop_all()

    def close(self) -> None:
        """End every worker and release the device's memory."""
        self._storm.close()
        self._delays.close()
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
                self._registers.values(),
            )

    def faults_changed(self, done: Callable[[int], None]) -> int:
        """Give workers the rules; returns how many will answer, each by a call of `done`."""
        self._storm.rules_changed()
        with self._lock:
            self._presence.rules_changed()
            return self._channels.faults_changed(done)

    def set_tap(self, tap: DeviceTap | None) -> None:
        """Have somebody told of what happens, of channels in use at once; None for nobody."""
        with self._lock:
            self._tap = tap
            self.faults.on_fired = partial(tap.fault_fired, self.name) if tap else None
            if tap:
                for channel in self._channels:
                    tap.channel_starting(self.name, channel)

    def ask_workers(self, verb: str, done: Callable[[int], None]) -> int:
        """Ask every worker for something; `done` is called for each of the answers returned."""
        with self._lock:
            return self._channels.ask_workers(verb, done)

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
        """The client is gone: nothing of it may go on running, whatever faults there are."""
        _log.info("%s: client gone", self.name)
        with self._lock:
            self._reset_all()
            self._config.reset()
            self._client = None
        if self._on_disconnect:
            self._on_disconnect(self)

    def region_read(self, index: int, offset: int, count: int) -> bytes:
        """Read config space, a register, or shared memory by message."""
        if index == RegionIndex.BAR0:
            with self._lock:
                if self._is_absent():
                    return b"\xff" * count
                data = self._registers.read(offset, count)
                if self.faults.has_rules(Point.REGISTER):
                    data = read_registers(self.faults, offset, data)
                return data
        if index == RegionIndex.CONFIG:
            with self._lock:
                if self._is_absent():
                    return b"\xff" * count
                data = self._config.read(offset, count)
                return (
                    read_config(self.faults, data) if self.faults.has_rules(Point.CONFIG) else data
                )
        return self._memory[offset : offset + count]

    def region_write(self, index: int, offset: int, data: bytes) -> None:
        """Write config space, a register, or shared memory by message."""
        if index == RegionIndex.BAR0:
            with self._lock:
                if not self._is_absent():
                    self._registers.write(offset, data)
        elif index == RegionIndex.CONFIG:
            with self._lock:
                if not self._is_absent():
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
        """DEVICE_RESET: the device and its config space.

        Raises:
            VfioUserError: EIO, for an injected fault.
        """
        if not self._function_reset():
            raise VfioUserError(errno.EIO, "injected fault: the reset failed")

    # -- vgpu_stub.device.registers.RegisterEffects ------------------------------------------------

    def control_reset(self) -> None:
        """Full reset from any state; when this returns nothing accesses guest memory any more."""
        self._device_reset()

    def enable(self) -> bool:
        """CONTROL.ENABLE."""
        rule = self.faults.fires(Point.ENABLE)
        if rule is None:
            self._admin.enable()
            return True
        if rule.kind == "enable-late":
            resets = self._registers.reset_count

            def enable_now() -> None:
                if self._registers.reset_count == resets:
                    self._admin.enable()
                    self._registers.enabled = True

            self._delays.later(float(rule.parameters["delay_ms"]), enable_now)
        return False

    def doorbell(self, channel: int) -> None:
        """DOORBELL."""
        if self.faults.has_rules(Point.DOORBELL):
            self._signals.doorbell(channel, self._wake)
        else:
            self._wake(channel)

    def interrupt_test(self, vector: int) -> None:
        """INTERRUPT_TEST."""
        self._interrupt(vector)

    # -- helpers ---------------------------------------------------------------------------------

    def _wake(self, channel: int) -> None:
        if channel == 0:
            self._admin.doorbell()
        else:
            self._channels.kick(channel)

    def _function_level_reset(self) -> None:
        self._function_reset()

    def _function_reset(self) -> bool:
        """Reset the device and its config space; False where a fault prevents it."""
        with self._lock:
            done = self._device_reset()
            if done:
                self._config.reset()
            return done

    def _device_reset(self) -> bool:
        with self._lock:
            rule = self.faults.fires(Point.RESET)
            if rule and rule.kind == "reset-failed":
                return False
            self._reset_all()
            if rule:
                self._registers.ready = False
                if rule.kind == "reset-late":
                    self._delays.later(float(rule.parameters["delay_ms"]), self._registers.be_ready)
            return True

    def _reset_all(self) -> None:
        with self._lock:
            self._channels.reset()
            self._admin.disable()
            self._registers.reset()
            # Not channel by channel: the guest can write where it has no channel, too. What it
            # left there must not reach the next guest. Pages given back read as zeros.
            self._memory.madvise(mmap.MADV_REMOVE, abi.CHANNEL_BASE)
            self._publish_info()
        _log.info("%s: reset", self.name)

    def _is_absent(self) -> bool:
        """Whether faults keep this access from reaching the device."""
        if self._presence.absent or self.faults.has_rules(Point.LINK):
            return self._presence.check()
        return False

    def _vanish(self, keeps_state: bool) -> None:
        """The device cannot be reached any more, and reaches nobody."""
        _log.warning("%s: gone from the bus", self.name)
        if keeps_state:
            self._channels.vectors_changed(range(abi.VECTOR_COUNT))
            return
        used = [0, *(channel.number for channel in self._channels)]
        self._reset_all()
        self._config.reset()
        # The guest has BAR2 mapped; what it looks at there reads all ones as well.
        info = slice(abi.INFO_OFFSET, abi.INFO_OFFSET + len(self._info))
        self._memory[info] = b"\xff" * len(self._info)
        for number in used:
            start = channel_offset(number)
            self._memory[start : start + abi.SQ_OFFSET] = b"\xff" * abi.SQ_OFFSET

    def _return(self, keeps_state: bool) -> None:
        """The device can be reached again."""
        _log.warning("%s: back on the bus", self.name)
        if keeps_state:
            self._channels.vectors_changed(range(abi.VECTOR_COUNT))
            return
        self._reset_all()
        self._config.reset()

    def _channel_starting(self, channel: Channel) -> None:
        if self._tap:
            self._tap.channel_starting(self.name, channel)

    def _admin_command(self, sequence: int, command: bytes) -> None:
        if self._tap:
            self._tap.admin_command(self.name, sequence, command)

    def _admin_completion(self, sequence: int, number: int) -> None:
        if self._tap:
            self._tap.admin_completion(self.name, sequence, number)

    def _channel_ended(self, channel: Channel) -> None:
        if self._on_channel_end:
            self._on_channel_end(self, channel)

    def _publish_info(self) -> None:
        self._memory[abi.INFO_OFFSET : abi.INFO_OFFSET + len(self._info)] = self._info

    def _dma(self) -> DmaMap | None:
        return self._client.dma if self._client else None

    def _interrupt(self, vector: int) -> None:
        if self.faults.has_rules(Point.INTERRUPT):
            self._signals.interrupt(vector, self._signal)
        else:
            self._signal(vector)

    def _signal(self, vector: int) -> None:
        client = self._client
        if client and not self._presence.absent:
            client.irqs.trigger(IrqIndex.MSIX, vector)

    def _vector_eventfd(self, vector: int) -> int | None:
        if self._client is None or self._presence.absent:
            return None
        return self._client.irqs.dup_eventfd(IrqIndex.MSIX, vector)


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
