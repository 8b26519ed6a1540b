"""One client's connection to its device, from VERSION to the end.

A session reads a message, checks it against the specification and the device, calls the device, and
replies; it is the only place that turns an error into an errno on the wire. Nothing that a client
sends ends more than its own session. Requests of the device to the client (DMA_READ, DMA_WRITE) go
out from other threads and their replies come in here.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .constants import (
    HEADER_BYTES,
    MAX_DATA_XFER_BYTES,
    MAX_DMA_MAPS,
    MAX_MSG_FDS,
    PAGE_SIZES,
    PCI_IRQ_COUNT,
    PCI_REGION_COUNT,
    PROTOCOL_MAJOR,
    PROTOCOL_MINOR,
    Command,
    DeviceFlag,
    DmaUnmapFlag,
    FeatureFlag,
    HeaderFlag,
    RegionFlag,
)
from .device import Device, Region
from .dma import DmaMap
from .errors import (
    DisconnectedError,
    ProtocolError,
    VfioUserError,
)
from .irqs import Irq, IrqTable
from .messages import (
    FEATURE_BYTES,
    REGION_ACCESS_BYTES,
    REGION_INFO_BYTES,
    DeviceFeature,
    DeviceInfo,
    DmaMapRequest,
    DmaUnmapRequest,
    Header,
    IrqInfo,
    IrqSet,
    RegionAccess,
    RegionInfo,
    RegionIoFds,
    pack_message,
    pack_sparse_capability,
    pack_write_count,
    unpack_write_multi,
)
from .observer import Direction, Observer, Tap
from .requests import ClientRequests
from .transport import Connection, Message, close_fds
from .version import Version

_log = logging.getLogger(__name__)

#: A client that connects has this long, in seconds, to send VERSION.
HANDSHAKE_TIMEOUT_S = 5.0
#: A client that reads none of its replies is given up after this long, in seconds.
SEND_TIMEOUT_S = 5.0
#: Largest message, in bytes: a full transfer with its header and structure, and some room.
MAX_MESSAGE_BYTES = HEADER_BYTES + MAX_DATA_XFER_BYTES + 64

#: Refusals of one client that are logged as warnings.
_LOUD_REFUSALS = 20

#: A handler that takes longer, in seconds, is logged: QEMU gives the device up after 5.
_SLOW_HANDLER_S = 1.0

_COMMANDS_WITH_FDS = frozenset({Command.DMA_MAP, Command.DEVICE_SET_IRQS})
# Plain integers, because operators on an IntFlag cost a microsecond each on the register path.
_NO_REPLY = int(HeaderFlag.NO_REPLY)
_REPLY = int(HeaderFlag.REPLY)
_BAD_COMMAND_FLAGS = ~int(HeaderFlag.NO_REPLY | HeaderFlag.ERROR)
_COMMAND_NAMES: dict[int, str] = {command.value: command.name for command in Command}


class _Reply(NamedTuple):
    payload: bytes = b""
    #: Descriptors to pass along; they stay the device's.
    fds: tuple[int, ...] = ()


class Session:
    """Serves one client; implements `ConnectedClient` for the device."""

    def __init__(
        self, connection: Connection, observer: Observer | None = None, number: int = 0
    ) -> None:
        """Prepare to serve a connection, which the session then owns; `number` is for taps."""
        self._connection = connection
        self._number = number
        #: Gets every message whole while it is set; any thread may set it.
        self.tap: Tap | None = None
        self._observer = observer
        self._peer_max_fds = 0
        self._peer_max_data_bytes = 0
        self._requests = ClientRequests(connection, self._note)
        #: Messages received and sent, by command name.
        self.message_counts: dict[str, int] = {}
        #: Requests of the client that were answered with an error.
        self.refusals = 0
        self.dma = DmaMap()
        self.irqs = IrqTable(())
        self._device: Device
        self._regions: tuple[Region, ...] = ()
        #: Size of each region that allows the access, by index; 0 where it does not.
        self._readable: tuple[int, ...] = ()
        self._writeable: tuple[int, ...] = ()
        self._irq_types: tuple[Irq, ...] = ()
        self._handlers: dict[int, Callable[[bytes, list[int]], _Reply]] = {
            Command.VERSION: self._handle_version,
            Command.DMA_MAP: self._handle_dma_map,
            Command.DMA_UNMAP: self._handle_dma_unmap,
            Command.DEVICE_GET_INFO: self._handle_device_get_info,
            Command.DEVICE_GET_REGION_INFO: self._handle_device_get_region_info,
            Command.DEVICE_GET_REGION_IO_FDS: self._handle_device_get_region_io_fds,
            Command.DEVICE_GET_IRQ_INFO: self._handle_device_get_irq_info,
            Command.DEVICE_SET_IRQS: self._handle_device_set_irqs,
            Command.REGION_READ: self._handle_region_read,
            Command.REGION_WRITE: self._handle_region_write,
            Command.REGION_WRITE_MULTI: self._handle_region_write_multi,
            Command.DEVICE_RESET: self._handle_device_reset,
            Command.DEVICE_FEATURE: self._handle_device_feature,
        }

    # The life of a connection.

    def run(self, device_factory: Callable[[], Device]) -> None:
        """Serve the client until it goes, breaks the protocol beyond repair, or is disconnected."""
        self._requests.reply_thread_id = threading.get_ident()
        try:
            self._connection.set_send_timeout(SEND_TIMEOUT_S)
            # Not a limit on each read: a client that sends a byte now and then is silent, too.
            limit = threading.Timer(HANDSHAKE_TIMEOUT_S, self._connection.shut_down)
            limit.daemon = True
            limit.start()
            try:
                agreed = self._negotiate()
            finally:
                limit.cancel()
            if agreed:
                self._serve(device_factory())
        except DisconnectedError as error:
            _log.info("client lost: %s", error)
        except VfioUserError as error:
            _log.warning("client dropped: %s", error)
        except Exception:
            _log.exception("client dropped after an unexpected error")
        finally:
            self._requests.close()
            self.dma.clear()
            self.irqs.clear()
            self._connection.close()

    def disconnect(self) -> None:
        """End the connection from any thread; `run` returns soon after."""
        self._connection.shut_down()

    @property
    def peer_gone(self) -> bool:
        """Whether the client has closed its end, so that `run` is about to return."""
        return self._connection.peer_gone

    def _negotiate(self) -> bool:
        """Exchange VERSION; return False when the client left without a word."""
        message = self._connection.receive()
        if message is None:
            return False
        close_fds(message.fds)
        header = message.header
        self._note(header.command, Direction.RECEIVED, header.size)
        if self.tap:
            self._tell(self.tap, Direction.RECEIVED, header.pack() + message.body, len(message.fds))
        try:
            if header.command != Command.VERSION or header.flags != HeaderFlag.COMMAND:
                raise ProtocolError(f"expected VERSION first, got command {header.command}")
            if message.fds:
                raise ProtocolError("VERSION: descriptors came along")
            version = self._accept_version(Version.unpack(message.body))
        except VfioUserError as error:
            self._refuse(header, error)
            raise
        self._send_reply(header, _Reply(version.pack()))
        return True

    def _accept_version(self, proposed: Version) -> Version:
        if proposed.major != PROTOCOL_MAJOR:
            raise ProtocolError(
                f"VERSION: client speaks {proposed.major}.{proposed.minor}, "
                f"this server {PROTOCOL_MAJOR}.{PROTOCOL_MINOR}"
            )
        self._peer_max_fds = proposed.max_msg_fds
        self._peer_max_data_bytes = proposed.max_data_xfer_bytes
        if self._peer_max_data_bytes == 0:
            raise ProtocolError("VERSION: max_data_xfer_size must not be 0")
        self._requests.max_data_bytes = min(self._peer_max_data_bytes, MAX_DATA_XFER_BYTES)
        ours: dict[str, object] = {
            "max_msg_fds": MAX_MSG_FDS,
            "max_data_xfer_size": MAX_DATA_XFER_BYTES,
            "max_dma_maps": MAX_DMA_MAPS,
            "pgsizes": PAGE_SIZES,
            "write_multiple": True,
        }
        # A subset of what was proposed: so says the specification, and QEMU, whose receive buffer
        # is its own request, drops the connection when the reply is longer.
        theirs = proposed.capabilities
        common = None if theirs is None else {key: ours[key] for key in ours if key in theirs}
        return Version(PROTOCOL_MAJOR, min(proposed.minor, PROTOCOL_MINOR), common)

    def _serve(self, device: Device) -> None:
        self._device = device
        self._regions = _every_region(device.regions)
        self._readable = _sizes_with(RegionFlag.READ, self._regions)
        self._writeable = _sizes_with(RegionFlag.WRITE, self._regions)
        self._irq_types = _every_irq(device.irqs)
        self.irqs = IrqTable(self._irq_types)
        device.client_connected(self)
        try:
            while (message := self._connection.receive()) is not None:
                self._process(message)
        finally:
            self._requests.close()
            device.client_disconnected(self)

    # A message.

    def _process(self, message: Message) -> None:
        header, body, fds, fds_truncated = message
        self._note(header.command, Direction.RECEIVED, header.size)
        if self.tap:
            self._tell(self.tap, Direction.RECEIVED, header.pack() + body, len(fds))
        try:
            if header.is_reply:
                self._requests.take_reply(message)
                return
            refusal: VfioUserError | None = None
            try:
                if header.flags & _BAD_COMMAND_FLAGS:
                    raise ProtocolError(f"unknown header flags {header.flags:#x}")
                handler = self._handlers.get(header.command)
                if handler is None:
                    raise ProtocolError(f"command {header.command} is not supported", errno.ENOTSUP)
                if fds and header.command not in _COMMANDS_WITH_FDS:
                    raise ProtocolError("unexpected descriptors")
                if fds_truncated:
                    raise ProtocolError("no room for its descriptors", errno.EMFILE)
                if len(fds) > MAX_MSG_FDS:
                    raise ProtocolError(f"more than {MAX_MSG_FDS} descriptors in one message")
                started = time.monotonic()
                reply = handler(body, fds)
                if (elapsed := time.monotonic() - started) > _SLOW_HANDLER_S:
                    _log.warning("device took %.1f s on %s", elapsed, _name(header.command))
            except VfioUserError as error:
                refusal = error
            except Exception:
                _log.exception("device failed on %s", _name(header.command))
                refusal = VfioUserError(errno.EIO, "the device failed")
            if refusal is not None:
                self._refuse(header, refusal)
            elif not header.flags & _NO_REPLY:
                self._send_reply(header, reply)
        finally:
            if fds:
                close_fds(fds)

    def _send_reply(self, header: Header, reply: _Reply) -> None:
        message = pack_message(header.msg_id, header.command, reply.payload, _REPLY)
        self._note(header.command, Direction.SENT, len(message))
        if self.tap:
            self._tell(self.tap, Direction.SENT, message, len(reply.fds))
        self._connection.send(message, reply.fds)

    def _refuse(self, header: Header, error: VfioUserError) -> None:
        self.refusals += 1
        # A client can go on for ever; after some, its refusals are for those who look closely.
        level = logging.WARNING if self.refusals <= _LOUD_REFUSALS else logging.DEBUG
        _log.log(level, "%s (message %#x): %s", _name(header.command), header.msg_id, error)
        if header.flags & HeaderFlag.NO_REPLY or header.is_reply:
            return
        flags = HeaderFlag.REPLY | HeaderFlag.ERROR
        message = pack_message(header.msg_id, header.command, b"", flags, error.errno)
        self._note(header.command, Direction.SENT, len(message))
        if self.tap:
            self._tell(self.tap, Direction.SENT, message, 0)
        self._connection.send(message)

    def _note(self, command: int, direction: Direction, size: int) -> None:
        name = _name(command)
        self.message_counts[name] = self.message_counts.get(name, 0) + 1
        if self._observer is not None:
            try:
                self._observer(name, direction, size)
            except Exception:
                _log.exception("observer failed and is no longer called")
                self._observer = None

    def _tell(self, tap: Tap, direction: Direction, message: bytes, fds: int) -> None:
        try:
            tap(self._number, direction, message, fds)
        except Exception:
            _log.exception("tap failed and is no longer called")
            self.tap = None

    # Handlers, named after their command.

    def _handle_version(self, _body: bytes, _fds: list[int]) -> _Reply:
        raise ProtocolError("VERSION: already negotiated")

    def _handle_dma_map(self, body: bytes, fds: list[int]) -> _Reply:
        request = DmaMapRequest.unpack(body)
        if len(fds) > 1:
            raise ProtocolError(f"DMA_MAP: expected at most one descriptor, got {len(fds)}")
        fd = fds[0] if fds else None
        window = self.dma.map(request.iova, request.size, request.flags, fd, request.fd_offset)
        fds.clear()
        try:
            self._device.dma_mapped(window)
        except BaseException:
            self.dma.unmap(window)
            raise
        return _Reply()

    def _handle_dma_unmap(self, body: bytes, _fds: list[int]) -> _Reply:
        request = DmaUnmapRequest.unpack(body)
        if request.flags == DmaUnmapFlag.ALL:
            if request.iova or request.size:
                raise ProtocolError("DMA_UNMAP: ALL needs address and size 0")
            windows = list(self.dma)
        elif request.flags:
            raise ProtocolError(f"DMA_UNMAP: unknown flags {request.flags:#x}")
        else:
            windows = [self.dma.find_exact(request.iova, request.size)]
        for window in windows:
            # Out of the map first: a thread of the device shall not find it any more.
            self.dma.remove(window)
            try:
                self._device.dma_unmapped(window)
            finally:
                window.close()
        return _Reply(body)

    def _handle_device_get_info(self, body: bytes, _fds: list[int]) -> _Reply:
        argsz = len(DeviceInfo.unpack(body).pack())
        flags = DeviceFlag.RESET | DeviceFlag.PCI
        return _Reply(DeviceInfo(argsz, flags, len(self._regions), len(self._irq_types)).pack())

    def _handle_device_get_region_info(self, body: bytes, _fds: list[int]) -> _Reply:
        request = RegionInfo.unpack(body)
        region = self._region(request.index)
        flags = RegionFlag(region.flags & (RegionFlag.READ | RegionFlag.WRITE))
        fds: tuple[int, ...] = ()
        capability = b""
        # A client that takes no descriptors is told of a region without mmap.
        if region.fd is not None and self._peer_max_fds > 0:
            flags |= RegionFlag.MMAP
            fds = (region.fd,)
            if region.sparse_areas:
                capability = pack_sparse_capability(region.sparse_areas)
        argsz = REGION_INFO_BYTES + len(capability)
        cap_offset = 0
        # When the chain does not fit, argsz tells the client how much to ask for. CAPS stays clear
        # then: QEMU refuses the flag with an offset that is not inside the reply.
        if capability and request.argsz >= argsz:
            flags |= RegionFlag.CAPS
            cap_offset = REGION_INFO_BYTES
        else:
            capability = b""
        info = RegionInfo(argsz, flags, region.index, cap_offset, region.size, region.mmap_offset)
        return _Reply(info.pack() + capability, fds)

    def _handle_device_get_region_io_fds(self, body: bytes, _fds: list[int]) -> _Reply:
        request = RegionIoFds.unpack(body)
        if request.flags or request.count:
            raise ProtocolError("DEVICE_GET_REGION_IO_FDS: flags and count must be 0")
        self._region(request.index)
        return _Reply(RegionIoFds(len(request.pack()), 0, request.index, 0).pack())

    def _handle_device_get_irq_info(self, body: bytes, _fds: list[int]) -> _Reply:
        request = IrqInfo.unpack(body)
        if request.index >= len(self._irq_types):
            raise ProtocolError(f"DEVICE_GET_IRQ_INFO: no interrupt type {request.index}")
        irq = self._irq_types[request.index]
        return _Reply(IrqInfo(len(request.pack()), irq.flags, irq.index, irq.count).pack())

    def _handle_device_set_irqs(self, body: bytes, fds: list[int]) -> _Reply:
        request = IrqSet.unpack(body)
        vectors = self.irqs.apply(request, fds)
        self._device.irqs_changed(request.index, vectors)
        return _Reply()

    def _handle_region_read(self, body: bytes, _fds: list[int]) -> _Reply:
        access = RegionAccess.unpack(body)
        offset, index, count = access.offset, access.region, access.count
        if len(body) != REGION_ACCESS_BYTES:
            raise ProtocolError("REGION_READ: the request carries data")
        if count > self._peer_max_data_bytes or count > MAX_DATA_XFER_BYTES:
            raise ProtocolError(f"REGION_READ: {count} bytes exceed max_data_xfer_size")
        self._check_access(index, offset, count, RegionFlag.READ)
        if count == 0:
            return _Reply(body)
        data = self._device.region_read(index, offset, count)
        if len(data) != count:
            raise RuntimeError(f"region {index} read of {count} bytes returned {len(data)}")
        return _Reply(body + data)

    def _handle_region_write(self, body: bytes, _fds: list[int]) -> _Reply:
        access = RegionAccess.unpack(body)
        offset, index, count = access.offset, access.region, access.count
        data = body[REGION_ACCESS_BYTES:]
        if len(data) != count:
            raise ProtocolError(f"REGION_WRITE: count is {count}, data are {len(data)} bytes")
        self._check_access(index, offset, count, RegionFlag.WRITE)
        if count:
            self._device.region_write(index, offset, data)
        return _Reply(body[:REGION_ACCESS_BYTES])

    def _handle_region_write_multi(self, body: bytes, _fds: list[int]) -> _Reply:
        writes = unpack_write_multi(body)
        for write in writes:
            self._check_access(write.region, write.offset, len(write.data), RegionFlag.WRITE)
        for write in writes:
            self._device.region_write(write.region, write.offset, write.data)
        return _Reply(pack_write_count(len(writes)))

    def _handle_device_reset(self, body: bytes, _fds: list[int]) -> _Reply:
        if body:
            raise ProtocolError("DEVICE_RESET: unexpected payload")
        self._device.reset()
        return _Reply()

    def _handle_device_feature(self, body: bytes, _fds: list[int]) -> _Reply:
        request = DeviceFeature.unpack(body)
        data = self._device.device_feature(request.index, request.operations, request.data)
        if request.operations != FeatureFlag.GET:
            return _Reply(body)
        argsz = FEATURE_BYTES + len(data)
        fitting = data if request.argsz >= argsz else b""
        return _Reply(DeviceFeature(argsz, request.flags, fitting).pack())

    def _region(self, index: int) -> Region:
        if index >= len(self._regions):
            raise ProtocolError(f"the device has no region {index}")
        return self._regions[index]

    def _check_access(self, index: int, offset: int, count: int, needed: RegionFlag) -> None:
        sizes = self._readable if needed is RegionFlag.READ else self._writeable
        if index < len(sizes) and offset + count <= sizes[index]:
            return
        region = self._region(index)
        if offset + count <= region.size:
            raise ProtocolError(f"region {index} does not allow {needed.name}", errno.EACCES)
        raise ProtocolError(
            f"access {offset:#x}+{count:#x} exceeds region {index} of {region.size:#x} bytes"
        )

    # Client memory by messages (see `ConnectedClient`).

    def dma_read(self, iova: int, count: int, timeout_s: float = 5.0) -> bytes:
        """Read client memory by DMA_READ messages."""
        return self._requests.dma_read(self.dma, iova, count, timeout_s)

    def dma_write(self, iova: int, data: bytes, timeout_s: float = 5.0) -> None:
        """Write client memory by DMA_WRITE messages."""
        self._requests.dma_write(self.dma, iova, data, timeout_s)


def _name(command: int) -> str:
    return _COMMAND_NAMES.get(command, "UNKNOWN")


def _every_region(regions: Sequence[Region]) -> tuple[Region, ...]:
    """Return the regions by index, those that the device does not name with size 0."""
    named = {region.index: region for region in regions}
    count = max(PCI_REGION_COUNT, *(index + 1 for index in named), 0)
    return tuple(named.get(index, Region(index, 0, RegionFlag(0))) for index in range(count))


def _sizes_with(flag: RegionFlag, regions: Sequence[Region]) -> tuple[int, ...]:
    return tuple(region.size if region.flags & flag else 0 for region in regions)


def _every_irq(irqs: Sequence[Irq]) -> tuple[Irq, ...]:
    """Return the interrupt types by index, those that the device does not name with no vectors."""
    named = {irq.index: irq for irq in irqs}
    count = max(PCI_IRQ_COUNT, *(index + 1 for index in named), 0)
    return tuple(named.get(index, Irq(index, 0)) for index in range(count))
