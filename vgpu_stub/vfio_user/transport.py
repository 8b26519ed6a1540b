"""One vfio-user connection over AF_UNIX: framing, descriptor passing, whole-message sends.

A message is read as exactly its 16 header bytes and then exactly its body. A larger read would be
one system call cheaper but could return two pipelined messages at once, and the kernel then hands
over descriptors without saying whose they are. This module knows no command.
"""

from __future__ import annotations

import array
import contextlib
import os
import select
import socket
import struct
import threading
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .constants import HEADER_BYTES
from .errors import DisconnectedError, ProtocolError, ReplyTimeoutError
from .messages import Header

#: Descriptors taken from one message at most. More than any peer was told it may send, so that a
#: few too many are seen, refused and closed; what exceeds even this the kernel discards and flags.
_RECEIVE_FDS = 32
_ANCILLARY_BYTES = socket.CMSG_SPACE(_RECEIVE_FDS * 4)
# A plain integer: an operator on an IntFlag costs a microsecond.
_MSG_CTRUNC = int(socket.MSG_CTRUNC)
_RECEIVE_FLAGS = socket.MSG_CMSG_CLOEXEC | socket.MSG_WAITALL
_TIMEVAL = struct.Struct("@ll")


class Message(NamedTuple):
    """A received message; whoever takes it owns the descriptors."""

    header: Header
    body: bytes
    fds: list[int]
    #: More descriptors came than could be received; those in `fds` are not all of them.
    fds_truncated: bool


def close_fds(fds: Iterable[int]) -> None:
    """Close descriptors, however many of them are already closed."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


class Connection:
    """A connected socket that carries whole vfio-user messages.

    One thread at a time may receive; any thread may send.
    """

    def __init__(self, sock: socket.socket, max_message_bytes: int) -> None:
        """Take over a connected, blocking AF_UNIX stream socket.

        Args:
            sock: The socket; the connection owns and closes it.
            max_message_bytes: Size of the largest message to accept, header included.
        """
        self._socket = sock
        self._max_message_bytes = max_message_bytes
        self._send_lock = threading.Lock()

    def set_receive_timeout(self, timeout_s: float | None) -> None:
        """Bound how long `receive` waits for bytes, in seconds; None waits for ever.

        The kernel keeps the time (SO_RCVTIMEO); a timeout of Python's own would cost a poll a read.
        """
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(timeout_s))

    def set_send_timeout(self, timeout_s: float | None) -> None:
        """Bound how long `send` waits for a peer that does not read, in seconds."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(timeout_s))

    def receive(self) -> Message | None:
        """Wait for the next message.

        Returns:
            The message, or None when the peer closed the connection between two messages.

        Raises:
            ProtocolError: The header announces an impossible size; the stream is lost.
            DisconnectedError: The connection broke, or ended inside a message.
            ReplyTimeoutError: The receive timeout passed. After part of a message, the stream is
                lost.
        """
        fds: list[int] = []
        try:
            data, truncated = self._receive_exactly(HEADER_BYTES, fds)
            if not data:
                return None
            header = Header.unpack(data)
            body = b""
            if header.size != HEADER_BYTES:
                if not HEADER_BYTES < header.size <= self._max_message_bytes:
                    raise ProtocolError(
                        f"message size {header.size} is not within "
                        f"{HEADER_BYTES} to {self._max_message_bytes}"
                    )
                body, body_truncated = self._receive_exactly(header.size - HEADER_BYTES, fds)
                if not body:
                    raise DisconnectedError("connection closed after a message header")
                truncated |= body_truncated
        except BaseException:
            close_fds(fds)
            raise
        return Message(header, body, fds, truncated)

    def _receive_exactly(self, count: int, fds: list[int]) -> tuple[bytes, bool]:
        """Return `count` bytes, or none at all at the end of the stream; collect descriptors."""
        data, truncated = self._receive_some(count, fds)
        if not data:
            return data, False
        while len(data) < count:
            # MSG_WAITALL stops early at a descriptor, a signal or the time limit.
            more, more_truncated = self._receive_some(count - len(data), fds)
            if not more:
                raise DisconnectedError("connection closed inside a message")
            data += more
            truncated |= more_truncated
        return data, truncated

    def _receive_some(self, count: int, fds: list[int]) -> tuple[bytes, bool]:
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(
                count, _ANCILLARY_BYTES, _RECEIVE_FLAGS
            )
        except BlockingIOError as error:
            raise ReplyTimeoutError("no message within the time limit") from error
        except OSError as error:
            raise DisconnectedError(f"cannot receive: {error}") from error
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received = array.array("i")
                received.frombytes(payload[: len(payload) // 4 * 4])
                fds.extend(received)
        return data, bool(flags & _MSG_CTRUNC)

    def send(self, message: bytes, fds: Sequence[int] = ()) -> None:
        """Send one whole message, with descriptors that stay the caller's.

        Raises:
            DisconnectedError: The peer is gone, or did not read within the send timeout. The stream
                is then lost, because part of the message may be out.
        """
        with self._send_lock:
            try:
                if fds:
                    sent = socket.send_fds(self._socket, [message], list(fds))
                    message = message[sent:]
                if message:
                    self._socket.sendall(message)
            except OSError as error:
                raise DisconnectedError(f"cannot send: {error}") from error

    @property
    def peer_gone(self) -> bool:
        """Whether either end is closed, though what the peer sent before may still be unread."""
        fd = self._socket.fileno()
        if fd < 0:
            # Another thread has just closed this end.
            return True
        poller = select.poll()
        poller.register(fd, select.POLLRDHUP)
        return any(event & (select.POLLRDHUP | select.POLLHUP) for _, event in poller.poll(0))

    def wait_readable(self, timeout_s: float) -> bool:
        """Return whether a message (or the end) is there to receive within `timeout_s` seconds."""
        poller = select.poll()
        poller.register(self._socket.fileno(), select.POLLIN)
        return bool(poller.poll(timeout_s * 1000))

    def shut_down(self) -> None:
        """End the stream both ways; a thread that waits in `receive` returns from it."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket; only when no other thread uses it any more."""
        self._socket.close()


def _timeval(timeout_s: float | None) -> bytes:
    microseconds = 0 if timeout_s is None else max(1, round(timeout_s * 1_000_000))
    return _TIMEVAL.pack(*divmod(microseconds, 1_000_000))
