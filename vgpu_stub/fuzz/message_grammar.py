"""Makes the messages of a client: in the order that QEMU has, and with anything in them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.fuzz.admin_grammar import AdminGrammar
from vgpu_stub.fuzz.device_world import DESCRIPTORS, MEMORY_BYTES
from vgpu_stub.fuzz.operations import Operation
from vgpu_stub.fuzz.values import mutated_bytes, number
from vgpu_stub.vfio_user.client import CLIENT_CAPABILITIES
from vgpu_stub.vfio_user.constants import Command, DmaUnmapFlag, IrqIndex, IrqSetFlag, RegionIndex
from vgpu_stub.vfio_user.messages import (
    REGION_INFO_BYTES,
    DeviceFeature,
    DeviceInfo,
    DmaMapRequest,
    DmaUnmapRequest,
    IrqInfo,
    IrqSet,
    RegionAccess,
    RegionInfo,
    RegionIoFds,
    RegionWrite,
    pack_write_multi,
)
from vgpu_stub.vfio_user.version import Version

_U64: Final = (1 << 64) - 1
_VERSIONS: Final = (
    b"",
    b"\0",
    b"{}\0",
    b'{"capabilities":{}}\0',
    b'{"capabilities":{"max_msg_fds":0}}\0',
    b'{"capabilities":{"max_data_xfer_size":0}}\0',
    b'{"capabilities":{"max_data_xfer_size":1}}\0',
    b'{"capabilities":{"max_data_xfer_size":-1}}\0',
    b'{"capabilities":{"max_data_xfer_size":1e999}}\0',
    b'{"capabilities":{"max_msg_fds":"8"}}\0',
    b'{"capabilities":[]}\0',
    b"[" * 3000 + b"\0",
    b"\xff\xfe\0",
)


@dataclass(frozen=True, slots=True)
class Send(Operation):
    """The client sends a message.

    Attributes:
        command: Command of the header.
        body: What follows the header.
        fds: Descriptors that come along, by kind.
        flags: Flags of the header.
        more: Bytes that the header claims beyond those that come.
        msg_id: Message id of the header.
        error: Error number of the header.
    """

    command: int
    body: bytes = b""
    fds: tuple[str, ...] = ()
    flags: int = 0
    more: int = 0
    msg_id: int = 1
    error: int = 0


@dataclass(frozen=True, slots=True)
class Raw(Operation):
    """The client sends bytes that are no message."""

    data: bytes
    fds: tuple[str, ...] = ()


class MessageGrammar:
    """A client that knows what it has asked for, mostly."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._admin = AdminGrammar(rng)
        self._next_id = 0
        self._makers: list[tuple[int, Callable[[], Send]]] = [
            (3, self._device_info),
            (4, self._region_info),
            (2, self._region_io_fds),
            (3, self._irq_info),
            (8, self._set_irqs),
            (8, self._dma_map),
            (6, self._dma_unmap),
            (10, self._region_read),
            (16, self._region_write),
            (5, self._write_multi),
            (2, self._reset),
            (2, self._feature),
            (1, self._version),
            (2, self._other),
        ]
        self._weights = [weight for weight, _ in self._makers]

    def sequence(self) -> list[Operation]:
        """From VERSION to the end."""
        rng = self._rng
        version = self._version()
        found: list[Operation] = [self._changed(version) if rng.random() < 0.04 else version]
        if rng.random() < 0.85:
            iova = rng.choice((0, 0, 1 << 32))
            self._admin.windows.append((iova, MEMORY_BYTES))
            found.append(self._map(iova, MEMORY_BYTES))
            found += self._enable()
            if rng.random() < 0.6:
                found += [self._admin.channel(), self._write32(abi.REG_DOORBELL, 0)]
        for _ in range(rng.randrange(4, 48)):
            choice = rng.random()
            if choice < 0.22:
                found += self._admin.step()
                if rng.random() < 0.95:
                    found.append(self._write32(abi.REG_DOORBELL, 0))
            elif choice < 0.24:
                found += self._enable()
            elif choice < 0.2425:
                found.append(Raw(rng.randbytes(rng.choice((1, 15, 16, 40)))))
            else:
                ((_, make),) = rng.choices(self._makers, self._weights)
                message = make()
                found.append(self._changed(message) if rng.random() < 0.25 else message)
        return found

    def _send(self, command: Command, body: bytes = b"", fds: tuple[str, ...] = ()) -> Send:
        self._next_id = (self._next_id + 1) & 0xFFFF
        return Send(command, body, fds, msg_id=self._next_id)

    def _changed(self, message: Send) -> Send:
        """A message with one thing that should not be."""
        rng = self._rng
        choice = rng.random()
        if choice < 0.6:
            return replace(message, body=mutated_bytes(rng, message.body))
        if choice < 0.75:
            count = rng.choice((0, 1, 1, 2, 8, 9, 33))
            return replace(message, fds=tuple(rng.choice(DESCRIPTORS) for _ in range(count)))
        if choice < 0.85:
            return replace(message, flags=rng.choice((16, 16, 32, 1, 33, number(rng, 32))))
        if choice < 0.9:
            return replace(message, command=rng.choice((0, 11, 12, 14, 17, number(rng, 16))))
        if choice < 0.95:
            return replace(message, msg_id=number(rng, 16), error=number(rng, 32))
        return replace(message, more=rng.choice((-16, -1, 1, 4, 64, 1 << 20, 1 << 31)))

    # -- messages, one for each command ----------------------------------------------------------

    def _version(self) -> Send:
        rng = self._rng
        if rng.random() < 0.93:
            return self._send(Command.VERSION, Version(0, 0, CLIENT_CAPABILITIES).pack())
        head = rng.choice((bytes(4), bytes(4), b"\1\0\0\0", b"\0\0\5\0"))
        return self._send(Command.VERSION, head + rng.choice(_VERSIONS))

    def _device_info(self) -> Send:
        return self._send(Command.DEVICE_GET_INFO, DeviceInfo().pack())

    def _region_info(self) -> Send:
        argsz = self._rng.choice((REGION_INFO_BYTES, 4096))
        return self._send(
            Command.DEVICE_GET_REGION_INFO, RegionInfo.request(self._index(10), argsz).pack()
        )

    def _region_io_fds(self) -> Send:
        body = RegionIoFds(16, 0, self._index(10), 0).pack()
        return self._send(Command.DEVICE_GET_REGION_IO_FDS, body)

    def _irq_info(self) -> Send:
        return self._send(Command.DEVICE_GET_IRQ_INFO, IrqInfo.request(self._index(6)).pack())

    def _set_irqs(self) -> Send:
        rng = self._rng
        index = rng.choice((IrqIndex.MSIX, IrqIndex.MSIX, IrqIndex.MSIX, IrqIndex.ERR))
        start = rng.choice((0, 0, 1, 2, 60, 64, rng.randrange(70)))
        count = rng.choice((1, 1, 2, 3, 8))
        data = b""
        fds: tuple[str, ...] = ()
        action = rng.choice((IrqSetFlag.ACTION_TRIGGER,) * 8 + tuple(IrqSetFlag)[3:])
        kind = rng.choice((IrqSetFlag.DATA_EVENTFD,) * 4 + tuple(IrqSetFlag)[:3])
        if kind == IrqSetFlag.DATA_EVENTFD:
            fds = ("eventfd",) * count
        elif kind == IrqSetFlag.DATA_BOOL:
            data = bytes(rng.randrange(2) for _ in range(count))
        elif rng.random() < 0.5:
            start = count = 0
        body = IrqSet(action | kind, index, start, count, data).pack()
        return self._send(Command.DEVICE_SET_IRQS, body, fds)

    def _dma_map(self) -> Send:
        rng = self._rng
        size = rng.choice((4096, 8192, 65536, MEMORY_BYTES))
        iova = rng.choice((0, 4096, MEMORY_BYTES, 1 << 32, 1 << 40, (1 << 64) - size))
        self._admin.windows.append((iova, size))
        return self._map(iova, size)

    def _map(self, iova: int, size: int) -> Send:
        rng = self._rng
        fds = rng.choice((("memory",),) * 8 + ((), ("small",), ("zero",), ("bar2",)))
        flags = rng.choice((3, 3, 3, 3, 1, 2, 0))
        offset = rng.choice((0, 0, 0, 0, 4096))
        if size == MEMORY_BYTES:
            offset, flags, fds = 0, 3, ("memory",)
        return self._send(Command.DMA_MAP, DmaMapRequest(flags, offset, iova, size).pack(), fds)

    def _dma_unmap(self) -> Send:
        rng = self._rng
        if rng.random() < 0.1:
            request = DmaUnmapRequest(DmaUnmapFlag.ALL, 0, 0)
        else:
            request = DmaUnmapRequest(0, *rng.choice(self._admin.windows or [(0, 4096)]))
        return self._send(Command.DMA_UNMAP, request.pack())

    def _place(self) -> tuple[int, int, int]:
        """Region, offset and size of an access that may be."""
        rng = self._rng
        choice = rng.random()
        if choice < 0.45:
            size = rng.choice((4, 4, 4, 8, 1, 2, 64))
            offsets = (rng.randrange(0, 0x58, 4), 0x1000 + 4 * rng.randrange(128), 0x8000)
            return RegionIndex.BAR0, rng.choice(offsets), size
        if choice < 0.75:
            return RegionIndex.CONFIG, rng.randrange(256), rng.choice((1, 2, 4))
        if choice < 0.95:
            size = rng.choice((4, 64, 4096, 16384, rng.choice((1 << 20, 1))))
            return RegionIndex.BAR2, rng.randrange(abi.BAR2_BYTES - size), size
        return self._index(10), number(rng, 64), rng.choice((0, 1, 4, 8, number(rng, 32)))

    def _region_read(self) -> Send:
        region, offset, count = self._place()
        return self._send(Command.REGION_READ, RegionAccess(offset, region, count).pack())

    def _region_write(self) -> Send:
        region, offset, count = self._place()
        data = self._data(min(count, 4096))
        return self._send(
            Command.REGION_WRITE, RegionAccess(offset, region, len(data)).pack() + data
        )

    def _write32(self, register: int, value: int) -> Send:
        body = RegionAccess(register, RegionIndex.BAR0, 4).pack() + value.to_bytes(4, "little")
        return self._send(Command.REGION_WRITE, body)

    def _write_multi(self) -> Send:
        writes = []
        for _ in range(self._rng.choice((0, 1, 2, 5))):
            region, offset, count = self._place()
            writes.append(RegionWrite(region, offset, self._data(min(count, 8))))
        return self._send(Command.REGION_WRITE_MULTI, pack_write_multi(writes))

    def _reset(self) -> Send:
        return self._send(Command.DEVICE_RESET)

    def _feature(self) -> Send:
        rng = self._rng
        operations = rng.choice((1 << 16, 1 << 17, 1 << 18, 5 << 16, 0))
        feature = DeviceFeature(64, operations | rng.choice((0, 1, 2, 9)), rng.randbytes(8))
        return self._send(Command.DEVICE_FEATURE, feature.pack())

    def _other(self) -> Send:
        """A command that clients do not send."""
        commands = (Command.DMA_READ, Command.DMA_WRITE, Command.MIG_DATA_READ)
        return self._send(self._rng.choice(commands), self._rng.randbytes(16))

    # -- parts -----------------------------------------------------------------------------------

    def _enable(self) -> list[Operation]:
        return [
            self._write32(abi.REG_GUEST_ABI_VERSION, abi.ABI_VERSION),
            self._write32(abi.REG_CONTROL, abi.CONTROL_ENABLE),
        ]

    def _index(self, count: int) -> int:
        return self._rng.randrange(count) if self._rng.random() < 0.95 else number(self._rng, 32)

    def _data(self, size: int) -> bytes:
        rng = self._rng
        if size in (1, 2, 4, 8) and rng.random() < 0.8:
            return number(rng, 8 * size).to_bytes(size, "little")
        return rng.randbytes(size)
