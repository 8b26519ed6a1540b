"""A vfio-user connection whose client is fed by the server itself: no threads, no waiting.

Before the session reads a message, the connection has the fuzzer write what comes next into the
client's end of a socket pair; what the session sends is read back at once. So sockets, framing and
descriptor passing are the real ones, and a sequence does the same each time.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from typing import Final

from vgpu_stub.vfio_user.constants import HEADER_BYTES
from vgpu_stub.vfio_user.messages import Header
from vgpu_stub.vfio_user.transport import Connection, Message

#: A write of this size fits the socket's buffer.
_PIECE: Final = 32768
_ANCILLARY: Final = socket.CMSG_SPACE(64 * 4)

#: Writes the next bytes by `LoopbackConnection.write`; False when there are no more.
Feed = Callable[[], bool]


class LoopbackConnection(Connection):
    """The server's end; the client's is in here too."""

    def __init__(self, max_message_bytes: int, feed: Feed) -> None:
        """Make both ends; `feed` is called when the server wants more."""
        ours, self._client = socket.socketpair()
        super().__init__(ours, max_message_bytes)
        self._max_bytes = max_message_bytes
        self._feed = feed
        self._unread = b""
        self._sent = bytearray()
        self._ended = False
        #: Descriptors that came with replies.
        self.descriptors_received = 0

    def write(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send as the client."""
        if self._ended or not data:
            return
        self._unread += data
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        sent = self._client.sendmsg([data], rights)
        if sent != len(data):
            self._client.sendall(data[sent:])

    def end(self) -> None:
        """Close the client's sending side."""
        if not self._ended:
            self._ended = True
            self._client.shutdown(socket.SHUT_WR)

    def receive(self) -> Message | None:
        """Have the client write until a message is there, or nothing more comes."""
        while not self._has_message() and not self._ended:
            if not self._feed():
                self.end()
        message = super().receive()
        self._unread = self._unread[message.header.size if message else len(self._unread) :]
        return message

    def _has_message(self) -> bool:
        if len(self._unread) < HEADER_BYTES:
            return False
        size = Header.unpack(self._unread[:HEADER_BYTES]).size
        # An impossible size is refused as soon as the header is there.
        return not HEADER_BYTES < size <= self._max_bytes or len(self._unread) >= size

    def send(self, message: bytes, fds: Sequence[int] = ()) -> None:
        """Send in pieces that fit the socket's buffer, reading them back as the client."""
        for start in range(0, len(message), _PIECE):
            super().send(message[start : start + _PIECE], () if start else fds)
            self._read_back()

    def _read_back(self) -> None:
        while True:
            try:
                data, ancillary, _, _ = self._client.recvmsg(
                    1 << 16, _ANCILLARY, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            for _, _, payload in ancillary:
                received = array.array("i")
                received.frombytes(payload[: len(payload) // 4 * 4])
                for fd in received:
                    os.close(fd)
                self.descriptors_received += len(received)
            if not data:
                return
            self._sent += data
            if len(data) < 1 << 16 and not ancillary:
                return

    def take_replies(self) -> list[tuple[Header, bytes]]:
        """What the server has sent since the last call, as messages.

        Raises:
            ValueError: The bytes are no whole messages.
        """
        replies = []
        data, self._sent = bytes(self._sent), bytearray()
        while data:
            header = Header.unpack(data[:HEADER_BYTES].ljust(HEADER_BYTES, b"\0"))
            if not HEADER_BYTES <= header.size <= len(data):
                raise ValueError(f"{len(data)} bytes sent are no message: {data[:32].hex()}")
            replies.append((header, data[HEADER_BYTES : header.size]))
            data = data[header.size :]
        return replies

    def close(self) -> None:
        """Close both ends."""
        with contextlib.suppress(OSError):
            self._client.close()
        super().close()
