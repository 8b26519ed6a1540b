"""The link between the device server and one worker process.

A SOCK_SEQPACKET pair that carries small JSON messages with descriptors. The server attaches the
worker to a channel and gives or takes memory and interrupts; the worker answers requests by number.
When the socket closes, the other side is gone. Long scatter lists travel in a memfd.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

_MAX_MESSAGE: Final = 65536
_MAX_FDS: Final = 64
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(_MAX_FDS * 4)
_EXTENT: Final = struct.Struct("<IQQ")


class LinkClosedError(Exception):
    """The other side of the link is gone."""


@dataclass(frozen=True)
class Extent:
    """A run of client memory: `length` bytes at `offset` of descriptor number `fd_index`."""

    fd_index: int
    offset: int
    length: int


@dataclass(frozen=True)
class Message:
    """One message: a verb, its arguments, and descriptors owned by the receiver."""

    verb: str
    arguments: dict[str, Any]
    fds: tuple[int, ...] = ()


class WorkerProcess(Protocol):
    """A running worker as its launcher hands it over."""

    @property
    def pid(self) -> int:
        """Process id."""
        ...

    @property
    def link(self) -> WorkerLink:
        """The server's end of the link."""
        ...

    @property
    def pidfd(self) -> int:
        """Readable once the process has ended."""
        ...

    def kill(self) -> None:
        """End the process; when this returns, nothing of it runs and all it held is released."""
        ...


class Workers(Protocol):
    """Where the device gets its workers from."""

    def device_info(self) -> bytes:
        """`struct vgpu_device_info` as the workers' executor describes the device."""
        ...

    def take(self) -> WorkerProcess:
        """Hand over a worker that is ready; may wait for one to start.

        Raises:
            WorkerUnavailableError: None can be had.
        """
        ...


class WorkerUnavailableError(Exception):
    """No worker could be started; the text says why."""


class WorkerLink:
    """One end of the link."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    @classmethod
    def pair(cls) -> tuple[WorkerLink, socket.socket]:
        """The server's end, and the socket to pass to a new worker."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), theirs

    def fileno(self) -> int:
        """Descriptor to poll for messages."""
        return self._socket.fileno()

    def send(self, verb: str, fds: Sequence[int] = (), **arguments: object) -> None:
        """Send a message without ever waiting; the descriptors stay the caller's.

        Raises:
            LinkClosedError: The other side is gone, or so far behind that the link is full.
        """
        data = json.dumps({"verb": verb, **arguments}).encode()
        try:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))] if fds else []
            self._socket.sendmsg([data], rights, socket.MSG_DONTWAIT)
        except OSError as error:
            raise LinkClosedError(f"cannot send {verb}: {error}") from error

    def receive(self, *, wait: bool = True) -> Message | None:
        """Receive the next message; without `wait`, None when there is none.

        Raises:
            LinkClosedError: The other side is gone.
        """
        flags = socket.MSG_CMSG_CLOEXEC | (0 if wait else socket.MSG_DONTWAIT)
        try:
            # Not socket.recv_fds and send_fds: they ignore their flags (Python 3.11 and 3.12).
            data, ancillary, _, _ = self._socket.recvmsg(_MAX_MESSAGE, _ANCILLARY_BYTES, flags)
        except BlockingIOError:
            return None
        except OSError as error:
            raise LinkClosedError(str(error)) from error
        if not data:
            raise LinkClosedError("the other side closed the link")
        fds = array("i")
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(content[: len(content) // fds.itemsize * fds.itemsize])
        arguments = json.loads(data)
        return Message(arguments.pop("verb"), arguments, tuple(fds))

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


def pack_extents(extents: Sequence[Extent]) -> int:
    """Put a scatter list into a memfd; returns its descriptor, owned by the caller."""
    fd = os.memfd_create("vgpu-extents", os.MFD_CLOEXEC)
    data = b"".join(_EXTENT.pack(e.fd_index, e.offset, e.length) for e in extents)
    with open(fd, "wb", closefd=False) as file:
        file.write(data)
    return fd


def unpack_extents(fd: int) -> Iterator[Extent]:
    """Read a scatter list back."""
    data = os.pread(fd, os.fstat(fd).st_size, 0)
    for fields in _EXTENT.iter_unpack(data):
        yield Extent(*fields)
