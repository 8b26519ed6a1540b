"""A driver for VGPU-STUB in Python, over a vfio-user client: the device without a VM.

It does what the guest's kernel driver and CUDA library do between them, step by step as
docs/device.md describes, and lets tests do the same things wrongly. Not thread-safe.
"""

from __future__ import annotations

import errno
import mmap
import os
import select
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Final, Protocol, Self

from vgpu_stub.abi import generated as abi
from vgpu_stub.device.rings import ControlPage, channel_offset, full_barrier
from vgpu_stub.vfio_user import Client, IrqIndex, RegionIndex

_PAGE: Final = 4096
_SQ_MASK: Final = abi.SQ_ENTRIES - 1
_SPINS: Final = 2000


class DriverError(Exception):
    """The device did not do what the driver needs; `number` is an errno or a CUresult."""

    def __init__(self, message: str, number: int = 0) -> None:
        super().__init__(message)
        self.number = number


@dataclass(frozen=True)
class Completion:
    """One entry of a completion ring."""

    sequence: int
    status: int
    flags: int
    result: tuple[int, ...]


class GuestMemory:
    """Memory that the device may be given: a memfd mapped here and in a DMA window."""

    def __init__(self, client: Client, iova: int, size: int) -> None:
        self.iova = iova
        self.size = size
        self._fd = os.memfd_create("guest-memory", os.MFD_CLOEXEC)
        os.ftruncate(self._fd, size)
        self.memory = mmap.mmap(self._fd, size)
        client.map_dma(iova, size, fd=self._fd)

    def close(self) -> None:
        """Unmap it here; the DMA window stays."""
        self.memory.close()
        os.close(self._fd)


class ChannelDevice(Protocol):
    """What a channel needs of its device."""

    @property
    def bar2(self) -> mmap.mmap:
        """Shared memory."""
        ...

    @property
    def spins(self) -> int:
        """How often a wait looks for a completion before it asks for an interrupt."""
        ...

    def doorbell(self, channel: int) -> None:
        """Wake the channel's worker."""
        ...

    def wait_interrupt(self, vector: int, timeout_s: float) -> int:
        """Wait for an MSI-X vector."""
        ...


class GuestChannel:
    """One channel as the guest uses it: submits commands, takes completions."""

    def __init__(self, driver: ChannelDevice, number: int) -> None:
        self.number = number
        self._driver = driver
        self._memory = driver.bar2
        self._offset = channel_offset(number)
        self._control = ControlPage(self._memory, self._offset)
        self._sequence = 0
        self._tail = 0
        self._cq_head = 0
        self._completions: dict[int, Completion] = {}

    @property
    def state(self) -> int:
        """`vgpu_channel_control.state`."""
        return self._word("state", "I")

    @property
    def error(self) -> int:
        """`vgpu_channel_control.error`."""
        return self._word("error", "i")

    def _word(self, name: str, kind: str) -> int:
        offset = self._offset + abi.CONTROL_OFFSET + abi.CHANNEL_CONTROL_OFFSETS[name]
        value: int = struct.unpack_from("<" + kind, self._memory, offset)[0]
        return value

    def host_counter(self, name: str) -> int:
        """A counter of `struct vgpu_host_counters`, as last published."""
        offset = self._offset + abi.HOST_COUNTERS_OFFSET + abi.HOST_COUNTERS_OFFSETS[name]
        value: int = struct.unpack_from("<Q", self._memory, offset)[0]
        return value

    def encode(
        self,
        opcode: int,
        *fields: int | bytes,
        tail: bytes = b"",
        context: int = 0,
        flags: int = abi.COMMAND_COMPLETE,
    ) -> tuple[int, bytes]:
        """Make a command; returns its sequence number and its bytes, whole slots."""
        self._sequence += 1
        body = abi.COMMANDS[opcode].fields.pack(*fields) + tail
        slots = -(-(abi.COMMAND_HEADER.size + len(body)) // abi.SLOT_BYTES)
        header = abi.COMMAND_HEADER.pack(opcode, slots, flags, context, self._sequence)
        return self._sequence, (header + body).ljust(slots * abi.SLOT_BYTES, b"\0")

    @property
    def free_slots(self) -> int:
        """Slots of the ring that the device has given back."""
        control = self._control
        return abi.SQ_ENTRIES - (self._tail - control.words64[control.sq_head_index])

    def take(self, sequence: int) -> Completion | None:
        """Take the completion of a command if it is there."""
        self._reap()
        return self._completions.pop(sequence, None)

    def write_slots(self, command: bytes) -> None:
        """Put whole slots into the ring, without telling the device."""
        slots = len(command) // abi.SLOT_BYTES
        room = abi.SQ_ENTRIES - (self._tail & _SQ_MASK)
        while slots > room:
            # A NOP may be COMMAND_MAX_SLOTS long, so a long rest takes several.
            length = min(room, abi.COMMAND_MAX_SLOTS)
            self._place(abi.COMMAND_HEADER.pack(abi.Opcode.NOP, length, 0, 0, 0), length)
            room -= length
            if not room:
                break
        self._place(command, slots)

    def _place(self, data: bytes, slots: int) -> None:
        start = self._offset + abi.SQ_OFFSET + (self._tail & _SQ_MASK) * abi.SLOT_BYTES
        self._memory[start : start + len(data)] = data
        self._tail += slots

    def publish(self, tail: int | None = None) -> None:
        """Tell the device how far the ring is filled, and wake it if it asks for that."""
        control = self._control
        control.words64[control.sq_tail_index] = self._tail if tail is None else tail
        full_barrier()
        if control.words32[control.sq_sleeping_index]:
            self._driver.doorbell(self.number)

    def submit(
        self,
        opcode: int,
        *fields: int | bytes,
        tail: bytes = b"",
        context: int = 0,
        flags: int = abi.COMMAND_COMPLETE,
    ) -> int:
        """Submit a command and return its sequence number; the ring must have room."""
        sequence, command = self.encode(opcode, *fields, tail=tail, context=context, flags=flags)
        self.write_slots(command)
        self.publish()
        return sequence

    def wait(self, sequence: int, timeout_s: float = 30.0) -> Completion:
        """Take the completion of a command.

        Raises:
            DriverError: The channel failed (`number`: its CUresult); the time is over (ETIMEDOUT).
        """
        deadline = monotonic() + timeout_s
        spins = 0
        while True:
            self._reap()
            if sequence in self._completions:
                return self._completions.pop(sequence)
            if self.state == abi.CHANNEL_FAILED:
                raise DriverError(f"channel {self.number} failed: {self.error}", self.error)
            if monotonic() > deadline:
                raise DriverError(
                    f"no completion of command {sequence} in {timeout_s} s", errno.ETIMEDOUT
                )
            spins += 1
            if spins > self._driver.spins:
                self._sleep()

    def poll_for(self, sequence: int, timeout_s: float = 30.0) -> Completion:
        """Take the completion of a command without ever asking for an interrupt.

        Raises:
            DriverError: The time is over (ETIMEDOUT).
        """
        deadline = monotonic() + timeout_s
        while sequence not in self._completions:
            self._reap()
            if monotonic() > deadline:
                raise DriverError(f"no completion of command {sequence}", errno.ETIMEDOUT)
        return self._completions.pop(sequence)

    @property
    def completions_taken(self) -> int:
        """Entries of the completion ring that were read, whoever they were for."""
        return self._cq_head

    @property
    def sequences_taken(self) -> list[int]:
        """Numbers that the entries taken have, as they stand in the ring; the latest lap alone."""
        first = max(0, self._cq_head - abi.CQ_ENTRIES)
        return [self.entry(index).sequence for index in range(first, self._cq_head)]

    def entry(self, index: int) -> Completion:
        """What stands in the completion ring at an index."""
        place = index & (abi.CQ_ENTRIES - 1)
        start = self._offset + abi.CQ_OFFSET + place * abi.SLOT_BYTES
        sequence, status, flags, *result = abi.COMPLETION.unpack_from(self._memory, start)
        return Completion(sequence, status, flags, tuple(result))

    @property
    def sleeping(self) -> bool:
        """Whether the worker has announced that it sleeps."""
        return bool(self._word("sq_sleeping", "I"))

    def ask_for_interrupt(self) -> None:
        """Announce that the next completion shall interrupt."""
        self._control.words32[self._control.cq_waiting_index] = 1
        full_barrier()

    def _sleep(self) -> None:
        control = self._control
        self.ask_for_interrupt()
        if control.words64[control.cq_tail_index] == self._cq_head:
            self._driver.wait_interrupt(self.number, 0.1)
        control.words32[control.cq_waiting_index] = 0

    def _reap(self) -> None:
        control = self._control
        tail = control.words64[control.cq_tail_index]
        while self._cq_head != tail:
            completion = self.entry(self._cq_head)
            self._completions[completion.sequence] = completion
            self._cq_head += 1
        control.words64[control.cq_head_index] = self._cq_head

    def call(
        self, opcode: int, *fields: int | bytes, tail: bytes = b"", context: int = 0
    ) -> tuple[int, ...]:
        """Submit a command, wait for it, and return its result words.

        Raises:
            DriverError: It failed; `number` is its status.
        """
        completion = self.wait(self.submit(opcode, *fields, tail=tail, context=context))
        if completion.status:
            name = abi.COMMANDS[opcode].name
            raise DriverError(f"{name} failed with {completion.status}", completion.status)
        return completion.result

    def release(self) -> None:
        """Give up the view of shared memory."""
        self._control.release()


class GuestDriver:
    """The device brought up: registers, admin channel, interrupts and memory."""

    def __init__(self, client: Client, spins: int = _SPINS) -> None:
        """Bring the device up.

        Args:
            client: Connected to it.
            spins: How often a wait looks for a completion before it asks for an interrupt; few
                where the device's server is in this interpreter, which cannot answer meanwhile.

        Raises:
            DriverError: It is no VGPU-STUB, or refuses this ABI version.
        """
        self.client = client
        self.spins = spins
        region = client.region_info(RegionIndex.BAR2)
        if region.fd is None:
            raise DriverError("BAR2 cannot be mapped")
        self.bar2 = mmap.mmap(region.fd, region.size)
        os.close(region.fd)
        self._eventfds = [
            os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(abi.VECTOR_COUNT)
        ]
        self._next_iova = 1 << 32
        self._memories: list[GuestMemory] = []
        self._channels: list[GuestChannel] = []
        if self.read(abi.REG_MAGIC) != abi.MAGIC:
            raise DriverError("this is no VGPU-STUB")
        client.bind_irqs(IrqIndex.MSIX, self._eventfds)
        self.admin = GuestChannel(self, 0)
        self.enable()

    @classmethod
    def connect(cls, path: str | os.PathLike[str], spins: int = _SPINS) -> Self:
        """Connect to a device server and bring the device up."""
        return cls(Client.connect(Path(path)), spins)

    def enable(self, abi_version: int = abi.ABI_VERSION) -> None:
        """State the ABI version and enable the device.

        Raises:
            DriverError: The device refuses the version.
        """
        self.write(abi.REG_GUEST_ABI_VERSION, abi_version)
        self.write(abi.REG_CONTROL, abi.CONTROL_ENABLE)
        if not self.read(abi.REG_STATUS) & abi.STATUS_ENABLED:
            theirs = self.read(abi.REG_ABI_VERSION)
            raise DriverError(f"the device has ABI 0x{theirs:x} and refuses 0x{abi_version:x}")
        self.admin.release()
        self.admin = GuestChannel(self, 0)

    def reset(self) -> None:
        """Reset the device; it must be enabled again."""
        self.write(abi.REG_CONTROL, abi.CONTROL_RESET)

    def read(self, register: int) -> int:
        """Read a 32-bit register."""
        return int.from_bytes(self.client.region_read(RegionIndex.BAR0, register, 4), "little")

    def write(self, register: int, value: int) -> None:
        """Write a 32-bit register."""
        self.client.region_write(RegionIndex.BAR0, register, value.to_bytes(4, "little"))

    def doorbell(self, channel: int) -> None:
        """Ring a channel's doorbell."""
        self.write(abi.REG_DOORBELL + 4 * channel, 1)

    def wait_interrupt(self, vector: int, timeout_s: float) -> int:
        """Wait for an MSI-X vector; returns how often it was signalled, 0 when the time is over."""
        eventfd = self._eventfds[vector]
        ready, _, _ = select.select([eventfd], [], [], timeout_s)
        return os.eventfd_read(eventfd) if ready else 0

    def info(self) -> bytes:
        """`struct vgpu_device_info`."""
        return self.bar2[abi.INFO_OFFSET : abi.INFO_OFFSET + abi.DEVICE_INFO.size]

    def open_channel(self, number: int = 1, name: str = "test", vector: int = 0) -> GuestChannel:
        """Create a channel; its vector is `number` unless another is given."""
        text = name.encode()[:15]
        self.admin.call(abi.Opcode.CHANNEL_CREATE, number, vector or number, os.getpid(), 0, text)
        channel = GuestChannel(self, number)
        self._channels.append(channel)
        return channel

    def close_channel(self, channel: GuestChannel) -> None:
        """Destroy a channel."""
        channel.release()
        self.admin.call(abi.Opcode.CHANNEL_DESTROY, channel.number, 0)

    def allocate(self, size: int) -> GuestMemory:
        """Make memory that the device can be given; `size` in bytes, whole pages."""
        memory = GuestMemory(self.client, self._next_iova, size)
        self._memories.append(memory)
        self._next_iova += size + _PAGE
        return memory

    def scatter_list(self, extents: Sequence[tuple[int, int]]) -> int:
        """Write a scatter list of (iova, length); returns the address of its first block."""
        per_block = abi.SCATTER_ENTRIES
        blocks = [extents[i : i + per_block] for i in range(0, len(extents), per_block)]
        memory = self.allocate(_PAGE * len(blocks))
        for index, block in enumerate(blocks):
            following = memory.iova + _PAGE * (index + 1) if index + 1 < len(blocks) else 0
            data = abi.SCATTER_BLOCK.pack(following, len(block), 0)
            data += b"".join(abi.SCATTER_ENTRY.pack(*extent) for extent in block)
            memory.memory[index * _PAGE : index * _PAGE + len(data)] = data
        return memory.iova

    def register(
        self,
        channel: GuestChannel,
        registration: int,
        memory: GuestMemory,
        access: int = abi.REGISTER_READ | abi.REGISTER_WRITE,
    ) -> None:
        """Register memory with a channel, as one extent."""
        first = self.scatter_list([(memory.iova, memory.size)])
        self.admin.call(
            abi.Opcode.MEMORY_REGISTER,
            first,
            memory.size,
            channel.number,
            registration,
            access,
            1,
        )

    def unregister(self, channel: GuestChannel, registration: int) -> None:
        """Take registered memory away from a channel."""
        self.admin.call(abi.Opcode.MEMORY_UNREGISTER, channel.number, registration)

    def free(self, memory: GuestMemory) -> None:
        """Take back memory that is registered nowhere any more, with its DMA window."""
        self.client.unmap_dma(memory.iova, memory.size)
        self._memories.remove(memory)
        memory.close()

    def close(self) -> None:
        """Disconnect; the device resets itself."""
        self.admin.release()
        for channel in self._channels:
            channel.release()
        self.client.close()
        self.bar2.close()
        for memory in self._memories:
            memory.close()
        for eventfd in self._eventfds:
            os.close(eventfd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
