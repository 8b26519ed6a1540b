"""What recordings are played on: a device behind its socket, or an executor in this process."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Final, Protocol

from vgpu_host.drain import ChannelDrain
from vgpu_host.executors.base import Executor
from vgpu_host.executors.options import ExecutorOptions, make_executor
from vgpu_host.registrations import Registrations
from vgpu_host.session import ChannelSession
from vgpu_stub.abi import generated as abi
from vgpu_stub.device.rings import ControlPage, RingError, channel_offset
from vgpu_stub.device.worker_link import Extent
from vgpu_stub.driver import Completion, DriverError, GuestChannel, GuestDriver, GuestMemory

_PAGE: Final = 4096
_ROOM_TIMEOUT_S: Final = 60.0
_NAP_S: Final = 0.0001


class TargetError(Exception):
    """A recording cannot go on there: the channel failed, or does not answer."""


class TargetChannel(Protocol):
    """A channel to play on."""

    def register(self, registration: int, size: int, access: int) -> None:
        """Give the channel memory of `size` bytes."""
        ...

    def unregister(self, registration: int) -> None:
        """Take it away; nothing that was submitted uses it any more."""
        ...

    def memory(self, registration: int) -> mmap.mmap | None:
        """The guest's view of a registration; None when there is none."""
        ...

    def submit(self, command: bytes) -> None:
        """Put a command, whole slots, into the ring.

        Raises:
            TargetError: There is no room, and none will come.
        """
        ...

    def wait(self, sequence: int, timeout_s: float) -> Completion:
        """The completion of a command.

        Raises:
            TargetError: It does not come.
        """
        ...

    def close(self) -> None:
        """End the channel, with whatever still runs there."""
        ...


class Target(Protocol):
    """Where channels to play on come from.

    Attributes:
        name: For reports.
        synchronous: Whether a command has been carried out in full before the next one is taken.
        concurrent: Whether several channels can be open at once.
    """

    name: str
    synchronous: bool
    concurrent: bool

    def open_channel(self, device: str, channel: int, name: str) -> TargetChannel:
        """A fresh channel; `device` tells apart devices of the recording."""
        ...

    def close(self) -> None:
        """Release everything."""
        ...


class ExecutorTarget:
    """An executor in this process behind the worker's own drain and session: no other process.

    One channel at a time: the software GPU's memory then lies where a worker's lies.
    """

    concurrent = False

    def __init__(self, options: ExecutorOptions, name: str = "") -> None:
        """Each channel gets an executor of its own, with these options."""
        self.name = name or options.name
        self.synchronous = options.name == "software"
        self._options = options

    def open_channel(self, device: str, channel: int, name: str) -> ExecutorChannel:
        """A channel with a new executor."""
        return ExecutorChannel(make_executor(self._options))

    def close(self) -> None:
        """Channels release their own."""


class _Bar2:
    """What `GuestChannel` needs of a driver: shared memory; nobody sleeps, so nothing rings."""

    def __init__(self, memory: mmap.mmap) -> None:
        self.bar2 = memory
        self.spins = 0

    def doorbell(self, channel: int) -> None:
        """Not needed: whoever submits runs the worker."""

    def wait_interrupt(self, vector: int, timeout_s: float) -> int:
        """Nobody is interrupted."""
        return 0


class ExecutorChannel:
    """A channel whose worker runs in this thread, when somebody waits."""

    def __init__(self, executor: Executor) -> None:
        """Make a ring in memory of this process and a drain for it."""
        self._executor = executor
        fd = os.memfd_create("vgpu-replay", os.MFD_CLOEXEC)
        offset = channel_offset(0)
        os.ftruncate(fd, offset + abi.CHANNEL_STRIDE)
        self._bar2 = mmap.mmap(fd, offset + abi.CHANNEL_STRIDE)
        self._shared = mmap.mmap(fd, abi.CHANNEL_STRIDE, offset=offset)
        os.close(fd)
        self._registrations = Registrations()
        self._kick_fd = os.eventfd(0, os.EFD_CLOEXEC)
        self._link, self._link_end = os.pipe2(os.O_CLOEXEC)
        self._drain = ChannelDrain(
            self._shared,
            ChannelSession(executor, self._registrations),
            self._registrations,
            lambda: None,
            self._link,
            self._kick_fd,
        )
        control = ControlPage(self._bar2, offset)
        control.publish_state(abi.CHANNEL_READY)
        control.release()
        self._guest = GuestChannel(_Bar2(self._bar2), 0)
        self._memories: dict[int, mmap.mmap] = {}

    def register(self, registration: int, size: int, access: int) -> None:
        """Map memory twice: here, and as the worker has it."""
        fd = os.memfd_create("vgpu-replay-memory", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, size)
            self._memories[registration] = mmap.mmap(fd, size)
            self._registrations.add(registration, [Extent(0, 0, size)], [fd], access)
        finally:
            os.close(fd)
        made = self._registrations.get(registration)
        self._executor.host_register(made.address, made.size)

    def unregister(self, registration: int) -> None:
        """Unmap it again."""
        self._executor.host_unregister(self._registrations.get(registration).address)
        self._registrations.remove(registration)
        self._memories.pop(registration).close()

    def memory(self, registration: int) -> mmap.mmap | None:
        """The guest's view."""
        return self._memories.get(registration)

    def submit(self, command: bytes) -> None:
        """Put it into the ring, taking what is there when there is no room."""
        needed = len(command) // abi.SLOT_BYTES
        _write(self._guest, command, needed, self._step)

    def _step(self) -> bool:
        try:
            return self._drain.step()
        except RingError as error:
            raise TargetError(f"the channel failed: {error}") from error

    def wait(self, sequence: int, timeout_s: float) -> Completion:
        """Carry out what was submitted until the completion comes."""
        deadline = monotonic() + timeout_s
        while True:
            completion = self._guest.take(sequence)
            if completion:
                return completion
            if not self._step() and monotonic() > deadline:
                raise TargetError(f"no completion of command {sequence} in {timeout_s:g} s")

    def close(self) -> None:
        """Release the executor and the memory."""
        self._guest.release()
        self._executor.close()
        for memory in self._memories.values():
            memory.close()
        self._bar2.close()
        os.close(self._kick_fd)
        os.close(self._link)
        os.close(self._link_end)


class DeviceTarget:
    """A device behind its vfio-user socket, with rings and workers as a guest has them."""

    concurrent = True

    def __init__(self, socket: Path, name: str, *, synchronous: bool) -> None:
        """Use a running device server; each device of a recording connects on its own."""
        self.name = name
        self.synchronous = synchronous
        self.socket = socket
        self._drivers: dict[str, GuestDriver] = {}

    def open_channel(self, device: str, channel: int, name: str) -> DeviceChannel:
        """The same channel of the device that stands for the recorded one."""
        driver = self._drivers.get(device)
        if driver is None:
            driver = self._drivers[device] = GuestDriver.connect(self.socket)
        return DeviceChannel(driver, driver.open_channel(channel, name))

    def close(self) -> None:
        """Disconnect."""
        for driver in self._drivers.values():
            driver.close()


class DeviceChannel:
    """A channel of a device behind its socket."""

    def __init__(self, driver: GuestDriver, channel: GuestChannel) -> None:
        self._driver = driver
        self._channel = channel
        self._memories: dict[int, GuestMemory] = {}

    def register(self, registration: int, size: int, access: int) -> None:
        """Allocate memory in a DMA window of its own and register it."""
        memory = self._driver.allocate(-(-size // _PAGE) * _PAGE)
        self._driver.register(self._channel, registration, memory, access)
        self._memories[registration] = memory

    def unregister(self, registration: int) -> None:
        """Take it away from the device."""
        self._driver.unregister(self._channel, registration)
        self._driver.free(self._memories.pop(registration))

    def memory(self, registration: int) -> mmap.mmap | None:
        """The guest's view."""
        memory = self._memories.get(registration)
        return memory.memory if memory else None

    def submit(self, command: bytes) -> None:
        """Put it into the ring once there is room."""
        needed = len(command) // abi.SLOT_BYTES
        _write(self._channel, command, needed, lambda: sleep(_NAP_S))

    def wait(self, sequence: int, timeout_s: float) -> Completion:
        """Wait as a guest does."""
        try:
            return self._channel.wait(sequence, timeout_s)
        except DriverError as error:
            raise TargetError(str(error)) from error

    def close(self) -> None:
        """Destroy the channel."""
        self._driver.close_channel(self._channel)


def _write(channel: GuestChannel, command: bytes, slots: int, wait: Callable[[], object]) -> None:
    """Write a command when the ring has room for it, and for what fills the ring's end."""
    deadline = monotonic() + _ROOM_TIMEOUT_S
    while channel.free_slots < 2 * slots:
        wait()
        if channel.state == abi.CHANNEL_FAILED or monotonic() > deadline:
            raise TargetError("the ring stays full")
    channel.write_slots(command)
    channel.publish()
