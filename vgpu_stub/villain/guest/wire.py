"""A vfio-user client that keeps no rule: any bytes, any descriptors, at any moment."""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from vgpu_stub.vfio_user import Command
from vgpu_stub.villain.registry import Violation

_HEADER: Final = struct.Struct("<HHIII")
_MESSAGE_ID: Final = 7
_TIMEOUT_S: Final = 15.0
VERSION: Final = struct.pack("<HH", 0, 0) + b'{"capabilities":{"max_msg_fds":16}}\0'


class Wire:
    """One connection to a server's socket."""

    def __init__(self, path: Path, *, negotiate: bool = True) -> None:
        """Connect, and agree on the version unless told not to."""
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(_TIMEOUT_S)
        self.socket.connect(str(path))
        if negotiate:
            self.error(Command.VERSION, VERSION)

    def send(
        self, command: int, payload: bytes = b"", fds: Sequence[int] = (), flags: int = 0
    ) -> None:
        """Send a well-framed message."""
        header = _HEADER.pack(_MESSAGE_ID, command, _HEADER.size + len(payload), flags, 0)
        self.send_bytes(header + payload, fds)

    def send_bytes(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send bytes as they are."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        sent = self.socket.sendmsg([data], rights)
        if sent < len(data):
            self.socket.sendall(data[sent:])

    def error(self, command: int, payload: bytes = b"", fds: Sequence[int] = ()) -> int:
        """Send a message and return the errno of its reply, 0 for success."""
        self.send(command, payload, fds)
        return self.reply(command)[0]

    def reply(self, command: int) -> tuple[int, bytes]:
        """Receive a reply; returns its errno and its payload.

        Raises:
            Violation: It is malformed, for another command, or does not come.
        """
        number, echoed, size, flags, code = _HEADER.unpack(self._receive(_HEADER.size))
        body = self._receive(size - _HEADER.size)
        if (number, echoed) != (_MESSAGE_ID, command):
            raise Violation(f"the reply is to message {number}, command {echoed}, not {command}")
        if flags != (0x21 if code else 1) or (code and body):
            raise Violation(f"a reply with flags {flags:#x}, errno {code}, {len(body)} bytes")
        return int(code), body

    def _receive(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                part = self.socket.recv(count - len(data))
            except TimeoutError:
                raise Violation(f"no reply in {_TIMEOUT_S:g} s") from None
            except ConnectionResetError:
                part = b""
            if not part:
                raise Violation("the server closed the connection instead of a reply")
            data += part
        return data

    def is_closed(self) -> bool:
        """Whether the server closes the connection, without saying anything more."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False

    def close(self) -> None:
        """Disconnect."""
        with contextlib.suppress(OSError):
            self.socket.close()


@contextlib.contextmanager
def memory_file(size: int) -> Iterator[int]:
    """A memfd of that size, closed in the end."""
    fd = os.memfd_create("villain", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, size)
        yield fd
    finally:
        os.close(fd)
