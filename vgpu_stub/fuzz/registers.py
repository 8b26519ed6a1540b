"""The target `registers`: BAR0, config space and the admin queue, without a socket between.

A sequence is what a guest's driver does, more or less: it brings the device up, makes channels and
registrations, resets, and lies at any point. After each operation the registers must make sense,
and at the end a reset must recover the device, so that it can be brought up again.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.device.rings import channel_offset
from vgpu_stub.fuzz.admin_grammar import AdminGrammar
from vgpu_stub.fuzz.device_world import (
    DESCRIPTORS,
    MEMORY_BYTES,
    DeviceWorld,
    Fill,
    Poke,
    Submit,
    Truncate,
    WorkerEvent,
)
from vgpu_stub.fuzz.operations import Finding, Operation, kinds_of
from vgpu_stub.fuzz.values import number
from vgpu_stub.fuzz.watch import finding_of
from vgpu_stub.vfio_user import (
    DmaMap,
    IrqIndex,
    IrqTable,
    RegionIndex,
    VfioUserError,
)
from vgpu_stub.vfio_user.constants import IrqSetFlag
from vgpu_stub.vfio_user.messages import IrqSet

_REGIONS: Final = (RegionIndex.BAR0, RegionIndex.CONFIG, RegionIndex.BAR2)
_SIZES: Final = {
    RegionIndex.BAR0: abi.BAR0_BYTES,
    RegionIndex.CONFIG: 4096,
    RegionIndex.BAR2: abi.BAR2_BYTES,
}
_REGISTERS: Final = (*range(0, 0x50, 4), 0x50, 0x54, 0xFFC, 0x1000, 0x1004, 0x11F8, 0x11FC, 0x8000)
_STATUS_BITS: Final = (
    abi.STATUS_READY | abi.STATUS_ENABLED | abi.STATUS_ERROR | abi.STATUS_ABI_REFUSED
)
_MAX_CHECKED_FDS: Final = 64


@dataclass(frozen=True, slots=True)
class Read(Operation):
    """The guest reads a region: "bar0", "config" or "bar2"."""

    region: int
    offset: int
    count: int = 4


@dataclass(frozen=True, slots=True)
class Write(Operation):
    """The guest writes to a region."""

    region: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class MapDma(Operation):
    """The client opens a window of memory to the device, or closes one (`size` 0)."""

    iova: int
    size: int
    flags: int = 3
    descriptor: str = "memory"
    offset: int = 0


@dataclass(frozen=True, slots=True)
class SetIrqs(Operation):
    """The client binds eventfds to vectors, or unbinds them (`bind` 0)."""

    start: int
    count: int
    bind: int = 1


@dataclass(frozen=True, slots=True)
class Reset(Operation):
    """The client resets the device."""


class _Client:
    """A client without a socket; implements `vgpu_stub.vfio_user.ConnectedClient`."""

    def __init__(self, world: DeviceWorld) -> None:
        self.dma = DmaMap()
        self.irqs = IrqTable(world.gpu.irqs)

    def dma_read(self, iova: int, count: int, timeout_s: float = 5.0) -> bytes:
        raise NotImplementedError("the device reads no memory by message")

    def dma_write(self, iova: int, data: bytes, timeout_s: float = 5.0) -> None:
        raise NotImplementedError("the device writes no memory by message")

    def disconnect(self) -> None:
        raise NotImplementedError("the device disconnects nobody")


class Registers:
    """Fuzzes `VirtualGpu` by what a guest can do to it."""

    name: ClassVar[str] = "registers"
    summary: ClassVar[str] = "BAR0, config space, admin queue and shared memory of the device"
    kinds: ClassVar[dict[str, type[Operation]]] = kinds_of(
        Read, Write, MapDma, SetIrqs, Reset, Submit, Poke, Fill, Truncate, WorkerEvent
    )

    def start(self) -> None:
        """Make the device."""
        self._world = DeviceWorld()

    def close(self) -> None:
        """End the device."""
        self._world.close()

    # -- generate ------------------------------------------------------------------------------

    def generate(self, rng: random.Random) -> list[Operation]:
        """A driver's life, with lies."""
        admin = AdminGrammar(rng)
        found: list[Operation] = []
        if rng.random() < 0.95:
            size = rng.choice((MEMORY_BYTES, MEMORY_BYTES, 65536))
            iova = rng.choice((0, 0, 1 << 32, 0x7FFF_F000, (1 << 64) - MEMORY_BYTES))
            admin.windows.append((iova, size))
            found.append(MapDma(iova, size))
        if rng.random() < 0.9:
            found += _enable()
            if rng.random() < 0.6:
                found += [admin.channel(), _doorbell(0)]
        for _ in range(rng.randrange(4, 40)):
            choice = rng.random()
            if choice < 0.45:
                found += admin.step()
                if rng.random() < 0.9:
                    found.append(_doorbell(0))
            elif choice < 0.65:
                found.append(self._write(rng))
            elif choice < 0.8:
                found.append(self._read(rng))
            elif choice < 0.87:
                found.append(self._map(rng, admin))
            elif choice < 0.93:
                found.append(SetIrqs(rng.randrange(66), rng.randrange(66), rng.randrange(2)))
            elif choice < 0.95:
                found.append(Reset())
            else:
                found += _enable()
        return found

    def _write(self, rng: random.Random) -> Write:
        choice = rng.random()
        if choice < 0.5:
            offset = rng.choice(_REGISTERS)
            size = rng.choice((4, 4, 4, 8, 1, 2))
            return Write(RegionIndex.BAR0, offset, number(rng, 8 * size).to_bytes(size, "little"))
        if choice < 0.8:
            size = rng.choice((1, 2, 4))
            offset = rng.choice(
                (rng.randrange(256), 4, 0x10, 0x14, 0x18, 0x1C, rng.randrange(4096))
            )
            return Write(RegionIndex.CONFIG, offset, number(rng, 8 * size).to_bytes(size, "little"))
        region = rng.choice(_REGIONS)
        return Write(region, rng.randrange(_SIZES[region]), rng.randbytes(rng.choice((1, 3, 16))))

    def _read(self, rng: random.Random) -> Read:
        region = rng.choice(_REGIONS)
        offset = rng.choice(_REGISTERS) if rng.random() < 0.7 else rng.randrange(_SIZES[region])
        return Read(region, offset, rng.choice((1, 2, 4, 4, 4, 8, 3, 64)))

    def _map(self, rng: random.Random, admin: AdminGrammar) -> MapDma:
        if admin.windows and rng.random() < 0.4:
            iova, _ = rng.choice(admin.windows)
            return MapDma(iova, 0)
        size = rng.choice((4096, 65536, MEMORY_BYTES, number(rng, 64), 12288))
        iova = rng.choice((0, 4096, 65536, 1 << 32, number(rng, 64)))
        admin.windows.append((iova, size))
        return MapDma(
            iova,
            size,
            rng.choice((3, 3, 3, 1, 2, 0, number(rng, 32))),
            rng.choice((*DESCRIPTORS, "memory", "memory", "small", "")),
            rng.choice((0, 0, 4096, number(rng, 64))),
        )

    # -- run -----------------------------------------------------------------------------------

    def run(self, operations: Sequence[Operation]) -> list[str]:
        """Carry out a guest's life on a device in its power-on state."""
        world = self._world
        world.begin()
        client = _Client(world)
        world.gpu.client_connected(client)
        try:
            ends = []
            for operation in operations:
                try:
                    ends.append(self._perform(client, operation))
                    world.settle()
                    ends += world.answers()
                except VfioUserError as error:
                    ends.append(f"{type(operation).__name__} refused {error.errno}")
                except Finding:
                    raise
                except Exception as error:
                    raise finding_of(error, f"on {operation}") from error
                self._check_registers()
            self._check_recovery()
        finally:
            world.gpu.client_disconnected(client)
            client.irqs.clear()
            client.dma.clear()
        world.check_reset()
        world.logs.check()
        world.end()
        return ends

    def _perform(self, client: _Client, operation: Operation) -> str:
        gpu = self._world.gpu
        if isinstance(operation, Read):
            region, offset = _place(operation.region, operation.offset)
            count = max(0, min(operation.count, 4096, _SIZES[region] - offset))
            if len(gpu.region_read(region, offset, count)) != count:
                raise Finding("a read returned another number of bytes", repr(operation))
            return f"read {region.name}"
        if isinstance(operation, Write):
            region, offset = _place(operation.region, operation.offset)
            gpu.region_write(region, offset, operation.data[: _SIZES[region] - offset])
            return f"write {region.name}{_register_name(region, offset)}"
        if isinstance(operation, MapDma):
            return self._map_dma(client, operation)
        if isinstance(operation, SetIrqs):
            return self._set_irqs(client, operation)
        if isinstance(operation, Reset):
            gpu.reset()
            self._world.check_reset()
            return "reset"
        end = self._world.perform(operation)
        if end is None:
            raise TypeError(f"{operation} is none of this target's")
        return end

    def _map_dma(self, client: _Client, operation: MapDma) -> str:
        if not operation.size:
            windows = [window for window in client.dma if window.iova == operation.iova]
            for window in windows:
                self._world.gpu.dma_unmapped(window)
                client.dma.unmap(window)
            return f"unmap {len(windows)}"
        fd = self._world.fds.get(operation.descriptor)
        owned = None if fd is None else os.dup(fd)
        try:
            window = client.dma.map(
                operation.iova & (1 << 64) - 1,
                operation.size & (1 << 64) - 1,
                operation.flags & 0xFFFF_FFFF,
                owned,
                operation.offset & (1 << 64) - 1,
            )
        except VfioUserError:
            if owned is not None:
                os.close(owned)
            raise
        self._world.gpu.dma_mapped(window)
        return "map"

    def _set_irqs(self, client: _Client, operation: SetIrqs) -> str:
        flags = IrqSetFlag.ACTION_TRIGGER
        flags |= IrqSetFlag.DATA_EVENTFD if operation.bind else IrqSetFlag.DATA_NONE
        count = operation.count % _MAX_CHECKED_FDS
        request = IrqSet(flags, IrqIndex.MSIX, operation.start & 0xFFFF_FFFF, count)
        fds: list[int] = []
        if operation.bind:
            fds = [os.dup(self._world.fds["eventfd-nonblocking"]) for _ in range(count)]
        try:
            vectors = client.irqs.apply(IrqSet.unpack(request.pack()), fds)
        finally:
            for fd in fds:
                os.close(fd)
        self._world.gpu.irqs_changed(IrqIndex.MSIX, vectors)
        return "bind" if operation.bind else "trigger or unbind"

    # -- what must hold --------------------------------------------------------------------------

    def _register(self, offset: int) -> int:
        return int.from_bytes(self._world.gpu.region_read(RegionIndex.BAR0, offset, 4), "little")

    def _check_registers(self) -> None:
        status = self._register(abi.REG_STATUS)
        error = self._register(abi.REG_ERROR)
        if status & ~_STATUS_BITS or not status & abi.STATUS_READY:
            raise Finding("STATUS is no status", f"{status:#x}")
        if bool(status & abi.STATUS_ERROR) != bool(error):
            raise Finding("STATUS.ERROR and ERROR differ", f"{status:#x}, {error}")
        if bool(status & abi.STATUS_ENABLED) != self._world.gpu.snapshot().enabled:
            raise Finding("STATUS.ENABLED is not the device's", f"{status:#x}")

    def _check_recovery(self) -> None:
        """A reset by register brings the device back from anything (docs/device.md, section 2)."""
        world = self._world
        self._write32(abi.REG_CONTROL, abi.CONTROL_RESET)
        world.check_reset()
        for offset in (abi.REG_ERROR, abi.REG_CONTROL, abi.REG_GUEST_ABI_VERSION, abi.REG_SCRATCH):
            if value := self._register(offset):
                raise Finding("a register kept its value over a reset", f"{offset:#x}: {value:#x}")
        for operation in _enable():
            self._write32(operation.offset, int.from_bytes(operation.data, "little"))
        status = self._register(abi.REG_STATUS)
        if not status & abi.STATUS_ENABLED:
            raise Finding("the device cannot be enabled after a reset", f"STATUS {status:#x}")
        world.perform(Submit(abi.Opcode.CHANNEL_CREATE, _CREATE))
        self._write32(abi.REG_DOORBELL, 0)
        # The worker's answer comes to the second round.
        world.settle()
        world.settle()
        entry = channel_offset(0) + abi.CQ_OFFSET
        _, answer, *_ = abi.COMPLETION.unpack_from(world.bar2, entry)
        if answer or not world.workers.alive:
            raise Finding("no channel can be made after a reset", f"errno {answer}")

    def _write32(self, offset: int, value: int) -> None:
        self._world.gpu.region_write(RegionIndex.BAR0, offset, value.to_bytes(4, "little"))


_CREATE: Final = abi.COMMANDS[abi.Opcode.CHANNEL_CREATE].fields.pack(1, 1, 1, 0, b"after")


def _register_name(region: RegionIndex, offset: int) -> str:
    """Tells registers apart, but not all that may be an offset."""
    return f" {offset:x}" if region is RegionIndex.BAR0 and offset in _REGISTERS else ""


def _place(region: int, offset: int) -> tuple[RegionIndex, int]:
    found = _REGIONS[region % len(_REGIONS)] if region not in _SIZES else RegionIndex(region)
    return found, offset % _SIZES[found]


def _doorbell(channel: int) -> Write:
    return Write(RegionIndex.BAR0, abi.REG_DOORBELL + 4 * channel, bytes(4))


def _enable() -> list[Write]:
    version = abi.ABI_VERSION.to_bytes(4, "little")
    enable = abi.CONTROL_ENABLE.to_bytes(4, "little")
    return [
        Write(RegionIndex.BAR0, abi.REG_GUEST_ABI_VERSION, version),
        Write(RegionIndex.BAR0, abi.REG_CONTROL, enable),
    ]
