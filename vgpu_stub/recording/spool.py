"""The way from a worker to the recording: a ring of records in memory that both processes map.

A worker is ended by SIGKILL as soon as its channel ends, so what it has to say must already be
somewhere else by then: in this ring, from which the device server writes the file. Records go in
whole, and are there for good once `put` returns.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from time import sleep
from typing import Final

#: Bytes of records that a ring holds.
SPOOL_BYTES: Final = 16 << 20
_DATA: Final = 4096
#: Words of the first page: bytes put and bytes taken since the start, each on a line of its own.
_PUT: Final = 0
_TAKEN: Final = 8
#: Not 0 once nobody takes anything any more.
_ENDED: Final = 16
_NAP_S: Final = 0.0002


def make_spool() -> int:
    """Make the memory of a ring; returns its descriptor, owned by the caller."""
    fd = os.memfd_create("vgpu-spool", os.MFD_CLOEXEC)
    os.ftruncate(fd, _DATA + SPOOL_BYTES)
    return fd


class _Spool:
    def __init__(self, fd: int) -> None:
        self._memory = mmap.mmap(fd, _DATA + SPOOL_BYTES)
        self._words = memoryview(self._memory)[:_DATA].cast("Q")

    def close(self) -> None:
        """Unmap the memory."""
        self._words.release()
        self._memory.close()


class SpoolWriter(_Spool):
    """The worker's end; waits when the server cannot keep up, so that nothing is lost."""

    def __init__(self, fd: int, wake_fd: int) -> None:
        """Map the ring.

        Args:
            fd: Its memory; stays the caller's.
            wake_fd: eventfd by which the server hears that the ring fills; from now on the ring's.
        """
        super().__init__(fd)
        self._wake_fd = wake_fd
        self._put = self._words[_PUT]
        #: Times that a record had to wait for room.
        self.waits = 0

    def put(self, *parts: bytes | memoryview) -> None:
        """Append a record, given in parts."""
        length = sum(map(len, parts))
        used = self._put - self._words[_TAKEN]
        if used + length > SPOOL_BYTES // 2:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_write(self._wake_fd, 1)
            if used + length > SPOOL_BYTES and not self._found_room(length):
                return
        memory, position = self._memory, self._put
        for part in parts:
            start = position % SPOOL_BYTES
            room = SPOOL_BYTES - start
            if len(part) <= room:
                memory[_DATA + start : _DATA + start + len(part)] = part
            else:
                memory[_DATA + start : _DATA + SPOOL_BYTES] = part[:room]
                memory[_DATA : _DATA + len(part) - room] = part[room:]
            position += len(part)
        self._put = position
        self._words[_PUT] = position

    def close(self) -> None:
        """Unmap the memory and close the eventfd."""
        super().close()
        os.close(self._wake_fd)

    def _found_room(self, length: int) -> bool:
        """Wait for room; False when the recording has ended meanwhile."""
        if length > SPOOL_BYTES:
            raise ValueError(f"a record of {length} bytes does not fit {SPOOL_BYTES}")
        self.waits += 1
        while self._put - self._words[_TAKEN] + length > SPOOL_BYTES:
            if self._words[_ENDED]:
                return False
            sleep(_NAP_S)
        return True


class SpoolReader(_Spool):
    """The server's end."""

    def __init__(self, fd: int) -> None:
        """Map the ring; its memory stays the caller's."""
        super().__init__(fd)
        self._taken = 0

    def close(self) -> None:
        """Unmap the memory; a writer that waits for room goes on without its record."""
        self._words[_ENDED] = 1
        super().close()

    def take(self) -> bytes:
        """Everything that was put and not yet taken: whole records.

        The worker is trusted no more than the guest whose code it may run: what it announces is
        checked here, and its records where they are read.
        """
        length = self._words[_PUT] - self._taken
        if not 0 <= length <= SPOOL_BYTES:
            return b""
        start = self._taken % SPOOL_BYTES
        first = min(length, SPOOL_BYTES - start)
        data = self._memory[_DATA + start : _DATA + start + first]
        if length > first:
            data += self._memory[_DATA : _DATA + length - first]
        self._taken += length
        self._words[_TAKEN] = self._taken
        return data
