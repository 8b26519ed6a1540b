"""Requests of a server to its client: DMA_READ and DMA_WRITE, for memory that is not shared.

They go out from any thread of the device; the thread that reads the connection hands in the
replies. That thread itself must never wait for one, so it is refused.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable

from .constants import DEFAULT_MAX_DATA_XFER_BYTES, Command, DmaFlag, HeaderFlag
from .dma import DmaMap
from .errors import (
    DisconnectedError,
    DmaFaultError,
    ProtocolError,
    RemoteError,
    ReplyTimeoutError,
    VfioUserError,
)
from .messages import DMA_ACCESS_BYTES, DmaAccess, pack_message
from .observer import Direction
from .transport import Connection, Message

_log = logging.getLogger(__name__)


class _Request:
    """A request that awaits its reply."""

    __slots__ = ("command", "done", "reply")

    def __init__(self, command: Command) -> None:
        self.command = command
        self.done = threading.Event()
        self.reply: Message | None = None


class ClientRequests:
    """The requests of one connection that are on their way."""

    def __init__(self, connection: Connection, note: Callable[[int, Direction, int], None]) -> None:
        """Send over a connection that somebody else reads; `note` is told of each message sent."""
        self._connection = connection
        self._note = note
        self._pending: dict[int, _Request] = {}
        self._lock = threading.Lock()
        self._next_id = 0
        self._closed = False
        #: The thread that reads the connection.
        self.reply_thread_id = 0
        #: Largest transfer in one message, as negotiated, in bytes.
        self.max_data_bytes = DEFAULT_MAX_DATA_XFER_BYTES

    def dma_read(self, dma: DmaMap, iova: int, count: int, timeout_s: float) -> bytes:
        """Read `count` bytes of client memory (see `ConnectedClient.dma_read`)."""
        parts = []
        for access in self._transfers(dma, iova, count, DmaFlag.READ):
            body = self._request(Command.DMA_READ, access.pack(), timeout_s).body
            data = body[DMA_ACCESS_BYTES:]
            if DmaAccess.unpack(body) != access or len(data) != access.count:
                raise ProtocolError(f"DMA_READ: the reply does not fit {access}")
            parts.append(data)
        return b"".join(parts)

    def dma_write(self, dma: DmaMap, iova: int, data: bytes, timeout_s: float) -> None:
        """Write bytes to client memory (see `ConnectedClient.dma_write`)."""
        for access in self._transfers(dma, iova, len(data), DmaFlag.WRITE):
            start = access.iova - iova
            payload = access.pack() + data[start : start + access.count]
            self._request(Command.DMA_WRITE, payload, timeout_s)

    def take_reply(self, message: Message) -> None:
        """Give a received reply to whoever waits for it; one that nobody awaits is dropped."""
        with self._lock:
            request = self._pending.get(message.header.msg_id)
        if request is None or request.command != message.header.command:
            _log.warning("ignored a reply to no request: %s", message.header)
            return
        request.reply = message
        request.done.set()

    def close(self) -> None:
        """End every wait with `DisconnectedError`, now and from now on."""
        with self._lock:
            self._closed = True
            for request in self._pending.values():
                request.done.set()

    def _transfers(self, dma: DmaMap, iova: int, count: int, needed: DmaFlag) -> list[DmaAccess]:
        if threading.get_ident() == self.reply_thread_id:
            raise VfioUserError(
                errno.EDEADLK, "DMA by message inside a handler: the client waits for this handler"
            )
        transfers = []
        for window, offset, length in dma.segments(iova, count):
            if not window.flags & needed:
                raise DmaFaultError(iova, count, f"{window!r} does not allow {needed.name}")
            first = window.iova + offset
            for address in range(first, first + length, self.max_data_bytes):
                size = min(self.max_data_bytes, first + length - address)
                transfers.append(DmaAccess(address, size))
        return transfers

    def _request(self, command: Command, payload: bytes, timeout_s: float) -> Message:
        request = _Request(command)
        msg_id = self._enter(request)
        try:
            message = pack_message(msg_id, command, payload)
            self._note(command, Direction.SENT, len(message))
            self._connection.send(message)
            if not request.done.wait(timeout_s):
                raise ReplyTimeoutError(f"no reply to {command.name} in {timeout_s} s")
        finally:
            with self._lock:
                del self._pending[msg_id]
        if request.reply is None:
            raise DisconnectedError("the client went before it replied")
        header = request.reply.header
        if header.flags & HeaderFlag.ERROR:
            raise RemoteError(header.error, f"client refused {command.name}")
        return request.reply

    def _enter(self, request: _Request) -> int:
        with self._lock:
            if self._closed:
                raise DisconnectedError("the client is gone")
            while self._next_id in self._pending:
                self._next_id = (self._next_id + 1) & 0xFFFF
            msg_id = self._next_id
            self._next_id = (msg_id + 1) & 0xFFFF
            self._pending[msg_id] = request
            return msg_id
