"""The client's side of vfio-user, as QEMU plays it: drive a served device without QEMU.

A client is synchronous and belongs to one thread: each call sends a request and reads until its
reply is there, and answers what the server asks (DMA_READ, DMA_WRITE) on the way. `submit` and
`wait` pipeline several requests. Descriptors that the server passes are the caller's to close.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

from .constants import (
    HEADER_BYTES,
    MAX_DATA_XFER_BYTES,
    MAX_DMA_MAPS,
    MAX_MSG_FDS,
    PAGE_SIZES,
    PROTOCOL_MAJOR,
    PROTOCOL_MINOR,
    Command,
    DmaFlag,
    DmaUnmapFlag,
    FeatureFlag,
    HeaderFlag,
    IrqSetFlag,
    RegionFlag,
)
from .errors import DisconnectedError, DmaFaultError, ProtocolError, RemoteError, VfioUserError
from .messages import (
    DMA_ACCESS_BYTES,
    FEATURE_BYTES,
    REGION_ACCESS_BYTES,
    REGION_INFO_BYTES,
    DeviceFeature,
    DeviceInfo,
    DmaAccess,
    DmaMapRequest,
    DmaUnmapRequest,
    IrqInfo,
    IrqSet,
    RegionAccess,
    RegionInfo,
    RegionIoFds,
    RegionWrite,
    SparseArea,
    pack_message,
    pack_write_multi,
    unpack_sparse_areas,
    unpack_write_count,
)
from .transport import Connection, Message, close_fds
from .version import Version

#: What `Client` proposes; the same capabilities in the same order as QEMU 11.1.
CLIENT_CAPABILITIES: dict[str, object] = {
    "pgsizes": PAGE_SIZES,
    "max_msg_fds": 16,
    "max_dma_maps": MAX_DMA_MAPS,
    "max_data_xfer_size": MAX_DATA_XFER_BYTES,
    "write_multiple": True,
}

_READ_WRITE = DmaFlag.READ | DmaFlag.WRITE


@dataclass(frozen=True, slots=True)
class MappableRegion:
    """A region as DEVICE_GET_REGION_INFO describes it.

    Attributes:
        index: Index of the region.
        flags: Access that it allows.
        size: Length in bytes.
        mmap_offset: What to add to an offset in the region for mmap, in bytes.
        sparse_areas: Parts that may be mapped; none with `RegionFlag.MMAP` means all of it.
        fd: File to map, the caller's to close; None when there is none.
    """

    index: int
    flags: RegionFlag
    size: int
    mmap_offset: int
    sparse_areas: tuple[SparseArea, ...]
    fd: int | None


class PendingReply(NamedTuple):
    """A request on its way; `Client.wait` gives its reply."""

    msg_id: int
    command: Command


class _UnsharedWindow(NamedTuple):
    iova: int
    flags: DmaFlag
    memory: memoryview


class Client:
    """A connection to a vfio-user server; a context manager that closes it.

    Every method raises `RemoteError` when the server refuses, `DisconnectedError` when it is gone,
    and `ReplyTimeoutError` when it does not answer in time (after which the connection is of no
    more use).
    """

    def __init__(self, connection: Connection) -> None:
        """Wrap a connection; `connect` is the usual way to make a client."""
        self._connection = connection
        self._next_msg_id = 0
        self._replies: dict[int, Message] = {}
        self._unshared: dict[int, _UnsharedWindow] = {}
        #: What the server agreed to; empty before `negotiate`.
        self.capabilities: dict[str, object] = {}

    @classmethod
    def connect(
        cls,
        path: str | os.PathLike[str],
        *,
        timeout_s: float = 5.0,
        capabilities: dict[str, object] | None = CLIENT_CAPABILITIES,
    ) -> Self:
        """Connect to the server at a socket path and negotiate the version.

        Args:
            path: The server's socket.
            timeout_s: Limit for each reply, in seconds; QEMU's default.
            capabilities: What to propose; None sends no version data.

        Raises:
            VfioUserError: Nobody listens there, or the server wants another version.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(os.fspath(path))
        except OSError as error:
            sock.close()
            code = error.errno or errno.EIO
            raise VfioUserError(code, f"cannot connect to {os.fspath(path)}: {error}") from error
        connection = Connection(sock, HEADER_BYTES + MAX_DATA_XFER_BYTES + 64)
        connection.set_receive_timeout(timeout_s)
        client = cls(connection)
        try:
            client.negotiate(capabilities)
        except BaseException:
            client.close()
            raise
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect; replies not waited for are dropped with their descriptors."""
        for message in self._replies.values():
            close_fds(message.fds)
        self._replies.clear()
        for iova in list(self._unshared):
            self._unshared.pop(iova).memory.release()
        self._connection.close()

    # Requests and replies.

    def submit(
        self,
        command: Command,
        payload: bytes = b"",
        fds: Sequence[int] = (),
        *,
        posted: bool = False,
    ) -> PendingReply:
        """Send a request without waiting.

        Args:
            command: What to ask.
            payload: The message behind the header.
            fds: Descriptors to pass along; they stay the caller's.
            posted: Ask for no reply; such a request must not be waited for.
        """
        msg_id = self._next_msg_id
        self._next_msg_id = (msg_id + 1) & 0xFFFF
        flags = HeaderFlag.NO_REPLY if posted else HeaderFlag.COMMAND
        self._connection.send(pack_message(msg_id, command, payload, flags), fds)
        return PendingReply(msg_id, command)

    def wait(self, request: PendingReply) -> Message:
        """Return the reply to a request; its descriptors are the caller's.

        Raises:
            RemoteError: The server refused the request.
            ProtocolError: The reply is to another command.
        """
        while request.msg_id not in self._replies:
            self._receive_one()
        message = self._replies.pop(request.msg_id)
        header = message.header
        if header.command != request.command:
            close_fds(message.fds)
            raise ProtocolError(f"reply to {request} is for command {header.command}")
        if header.flags & HeaderFlag.ERROR:
            close_fds(message.fds)
            raise RemoteError(header.error, f"server refused {request.command.name}")
        return message

    def request(self, command: Command, payload: bytes = b"", fds: Sequence[int] = ()) -> bytes:
        """Send a request and return the payload of its reply, which must bring no descriptors."""
        message = self.wait(self.submit(command, payload, fds))
        if message.fds:
            close_fds(message.fds)
            raise ProtocolError(f"reply to {command.name} brought unexpected descriptors")
        return message.body

    def serve_requests(self, timeout_s: float) -> bool:
        """Answer one request of the server while nothing else is going on.

        Returns:
            Whether there was a message within `timeout_s` seconds.
        """
        if not self._connection.wait_readable(timeout_s):
            return False
        self._receive_one()
        return True

    def _receive_one(self) -> None:
        message = self._connection.receive()
        if message is None:
            raise DisconnectedError("the server closed the connection")
        if message.header.is_reply:
            self._replies[message.header.msg_id] = message
        else:
            self._answer(message)

    def _answer(self, message: Message) -> None:
        header = message.header
        close_fds(message.fds)
        try:
            payload = self._access_memory(header.command, message.body)
            reply = pack_message(header.msg_id, header.command, payload, HeaderFlag.REPLY)
        except VfioUserError as error:
            flags = HeaderFlag.REPLY | HeaderFlag.ERROR
            reply = pack_message(header.msg_id, header.command, b"", flags, error.errno)
        self._connection.send(reply)

    def _access_memory(self, command: int, body: bytes) -> bytes:
        if command not in (Command.DMA_READ, Command.DMA_WRITE):
            raise ProtocolError(f"a client does not serve command {command}", errno.ENOTSUP)
        access = DmaAccess.unpack(body)
        needed = DmaFlag.READ if command == Command.DMA_READ else DmaFlag.WRITE
        memory = self._find_unshared(access, needed)
        if command == Command.DMA_READ:
            return access.pack() + bytes(memory)
        data = body[DMA_ACCESS_BYTES:]
        if len(data) != access.count:
            raise ProtocolError(f"DMA_WRITE: count is {access.count}, data are {len(data)} bytes")
        memory[:] = data
        return access.pack()

    def _find_unshared(self, access: DmaAccess, needed: DmaFlag) -> memoryview:
        for window in self._unshared.values():
            start = access.iova - window.iova
            if start >= 0 and start + access.count <= len(window.memory):
                if not window.flags & needed:
                    break
                return window.memory[start : start + access.count]
        raise DmaFaultError(access.iova, access.count, f"no window allows {needed.name}")

    # The commands.

    def negotiate(self, capabilities: dict[str, object] | None = CLIENT_CAPABILITIES) -> Version:
        """Agree on version and capabilities; `connect` has done so already."""
        proposed = Version(PROTOCOL_MAJOR, PROTOCOL_MINOR, capabilities)
        agreed = Version.unpack(self.request(Command.VERSION, proposed.pack()))
        if (agreed.major, agreed.minor) != (PROTOCOL_MAJOR, PROTOCOL_MINOR):
            raise ProtocolError(
                f"server speaks version {agreed.major}.{agreed.minor}, expected 0.0"
            )
        self.capabilities = agreed.capabilities or {}
        return agreed

    def device_info(self) -> DeviceInfo:
        """Return what the device is made of."""
        return DeviceInfo.unpack(self.request(Command.DEVICE_GET_INFO, DeviceInfo().pack()))

    def region_info(self, index: int) -> MappableRegion:
        """Return a region's description; its descriptor, if any, is the caller's to close."""
        argsz = REGION_INFO_BYTES
        while True:
            payload = RegionInfo.request(index, argsz).pack()
            message = self.wait(self.submit(Command.DEVICE_GET_REGION_INFO, payload))
            try:
                info = RegionInfo.unpack(message.body)
                if info.argsz <= argsz:
                    return _describe(info, message)
            except BaseException:
                close_fds(message.fds)
                raise
            close_fds(message.fds)
            argsz = info.argsz

    def region_io_fds(self, index: int) -> RegionIoFds:
        """Return how many sub-regions are served by descriptors of their own."""
        payload = RegionIoFds(len(DeviceInfo().pack()), 0, index, 0).pack()
        return RegionIoFds.unpack(self.request(Command.DEVICE_GET_REGION_IO_FDS, payload))

    def irq_info(self, index: int) -> IrqInfo:
        """Return how many interrupts of a type the device has, and what they support."""
        payload = IrqInfo.request(index).pack()
        return IrqInfo.unpack(self.request(Command.DEVICE_GET_IRQ_INFO, payload))

    def region_read(self, index: int, offset: int, count: int) -> bytes:
        """Read `count` bytes of a region at `offset`, in one message."""
        payload = RegionAccess(offset, index, count).pack()
        return self.request(Command.REGION_READ, payload)[REGION_ACCESS_BYTES:]

    def region_write(self, index: int, offset: int, data: bytes, *, posted: bool = False) -> None:
        """Write bytes to a region at `offset`, in one message; posted, without waiting."""
        payload = RegionAccess(offset, index, len(data)).pack() + data
        if posted:
            self.submit(Command.REGION_WRITE, payload, posted=True)
        else:
            self.request(Command.REGION_WRITE, payload)

    def region_write_multi(self, writes: Sequence[RegionWrite]) -> None:
        """Do several writes of at most 8 bytes each, in order, by one message."""
        reply = self.request(Command.REGION_WRITE_MULTI, pack_write_multi(writes))
        if (done := unpack_write_count(reply)) != len(writes):
            raise ProtocolError(f"server did {done} of {len(writes)} writes")

    def map_dma(
        self,
        iova: int,
        size: int,
        *,
        fd: int | None = None,
        offset: int = 0,
        flags: DmaFlag = _READ_WRITE,
        memory: bytearray | None = None,
    ) -> None:
        """Open a range of memory to the device.

        Args:
            iova: First I/O virtual address, in bytes.
            size: Length in bytes.
            fd: File to share; it stays the caller's.
            offset: Where the range begins in the file, in bytes.
            flags: What the device may do.
            memory: Without `fd`: `size` bytes that the server reaches by DMA_READ and DMA_WRITE,
                which this client answers. Without either, such requests are refused.
        """
        if memory is not None and (fd is not None or len(memory) != size):
            raise VfioUserError(errno.EINVAL, f"memory must be {size} bytes and come without fd")
        request = DmaMapRequest(flags, offset, iova, size)
        self.request(Command.DMA_MAP, request.pack(), () if fd is None else (fd,))
        if memory is not None:
            self._unshared[iova] = _UnsharedWindow(iova, flags, memoryview(memory))

    def unmap_dma(self, iova: int, size: int) -> None:
        """Close a range; address and size are those of `map_dma`."""
        self.request(Command.DMA_UNMAP, DmaUnmapRequest(0, iova, size).pack())
        if iova in self._unshared:
            self._unshared.pop(iova).memory.release()

    def unmap_all_dma(self) -> None:
        """Close every range."""
        self.request(Command.DMA_UNMAP, DmaUnmapRequest(DmaUnmapFlag.ALL, 0, 0).pack())
        for iova in list(self._unshared):
            self._unshared.pop(iova).memory.release()

    def set_irqs(
        self,
        index: int,
        flags: IrqSetFlag,
        start: int,
        count: int,
        *,
        fds: Sequence[int] = (),
        data: bytes = b"",
    ) -> None:
        """Send one DEVICE_SET_IRQS as given; `bind_irqs` and `disable_irqs` are the usual cases."""
        payload = IrqSet(flags, index, start, count, data).pack()
        self.request(Command.DEVICE_SET_IRQS, payload, fds)

    def bind_irqs(self, index: int, eventfds: Sequence[int], start: int = 0) -> None:
        """Have the device ring these eventfds for the vectors from `start` on."""
        flags = IrqSetFlag.DATA_EVENTFD | IrqSetFlag.ACTION_TRIGGER
        step = max(1, self._max_fds())
        for first in range(0, len(eventfds), step):
            part = eventfds[first : first + step]
            self.set_irqs(index, flags, start + first, len(part), fds=part)

    def disable_irqs(self, index: int) -> None:
        """Have the device ring nothing for this interrupt type any more."""
        self.set_irqs(index, IrqSetFlag.DATA_NONE | IrqSetFlag.ACTION_TRIGGER, 0, 0)

    def reset(self) -> None:
        """Reset the device; memory and interrupts stay as they are."""
        self.request(Command.DEVICE_RESET)

    def device_feature(
        self, feature: int, operations: FeatureFlag, data: bytes = b"", max_data_bytes: int = 4096
    ) -> bytes:
        """Get, set or probe a feature of the device, and return the data of the reply."""
        argsz = FEATURE_BYTES + max(len(data), max_data_bytes)
        payload = DeviceFeature(argsz, feature | operations, data).pack()
        return DeviceFeature.unpack(self.request(Command.DEVICE_FEATURE, payload)).data

    def _max_fds(self) -> int:
        return min(MAX_MSG_FDS, Version(0, 0, self.capabilities).max_msg_fds)


def _describe(info: RegionInfo, message: Message) -> MappableRegion:
    flags = RegionFlag(info.flags)
    expected = 1 if flags & RegionFlag.MMAP else 0
    if len(message.fds) != expected:
        raise ProtocolError(
            f"region {info.index}: expected {expected} descriptors, got {len(message.fds)}"
        )
    areas = unpack_sparse_areas(message.body) if flags & RegionFlag.CAPS else ()
    fd = message.fds[0] if message.fds else None
    return MappableRegion(info.index, flags, info.size, info.mmap_offset, areas, fd)
