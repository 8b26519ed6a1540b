"""DMA windows: the ranges of client memory that the client has opened to the device.

`DmaMap` owns the descriptors and mappings of one connection. It is changed by the thread that
serves the connection and read by any other: every change replaces one immutable table, so a reader
sees the state before or after, never between. A window without a descriptor is normal (firmware
ROM, the device's own BARs, memory that is not shared); it can only be reached by messages.
"""

from __future__ import annotations

import errno
import logging
import mmap
import os
import stat
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from .constants import MAX_DMA_MAPS, DmaFlag
from .errors import DmaFaultError, ProtocolError
from .transport import close_fds

_log = logging.getLogger(__name__)

_ADDRESS_SPACE = 1 << 64


class DmaWindow:
    """A contiguous range of I/O virtual addresses, backed by part of a file or by nothing shared.

    Attributes:
        iova: First I/O virtual address, in bytes.
        size: Length in bytes.
        flags: What the device may do with the range.
        fd: Descriptor of the file behind it, owned by the `DmaMap` and closed when the window goes
            (use `os.dup` or pass it to another process before that); None when nothing is shared.
        fd_offset: Offset of the range in the file, in bytes.
    """

    __slots__ = ("_mapping", "fd", "fd_offset", "flags", "iova", "size")

    def __init__(
        self, iova: int, size: int, flags: DmaFlag, fd: int | None = None, fd_offset: int = 0
    ) -> None:
        """Map the file, if there is one; on failure the descriptor stays the caller's.

        Raises:
            ProtocolError: The descriptor cannot be mapped at this offset, size and access.
        """
        self.iova = iova
        self.size = size
        self.flags = flags
        self.fd = fd
        self.fd_offset = fd_offset
        self._mapping = None if fd is None else _map_file(fd, fd_offset, size, flags)

    def __repr__(self) -> str:
        shared = "not shared" if self.fd is None else f"fd {self.fd}+{self.fd_offset:#x}"
        return f"<DmaWindow {self.iova:#x}+{self.size:#x} {self.flags!r} {shared}>"

    @property
    def end(self) -> int:
        """First I/O virtual address after the window."""
        return self.iova + self.size

    @property
    def is_shared(self) -> bool:
        """Whether the memory can be reached directly, without messages."""
        return self._mapping is not None

    def view(self) -> memoryview:
        """Return the memory of the window: shape (size,), format "B", aliasing client memory.

        Touching a page that the client has cut off its file since is a SIGBUS, as with any shared
        mapping; a client that seals its memory against shrinking (QEMU does) rules that out.

        A view keeps the memory mapped after the window has gone, so release it when `dma_unmapped`
        is called: the client relies on that.

        Raises:
            DmaFaultError: Nothing is shared.
        """
        if self._mapping is None:
            raise DmaFaultError(self.iova, self.size, "the client shares no descriptor for it")
        return memoryview(self._mapping)

    def close(self) -> None:
        """Give up mapping and descriptor."""
        if self._mapping is not None:
            try:
                self._mapping.close()
            except BufferError:
                _log.warning("%r is unmapped while views of it are still held", self)
            self._mapping = None
        if self.fd is not None:
            close_fds([self.fd])
            self.fd = None


def _map_file(fd: int, offset: int, size: int, flags: DmaFlag) -> mmap.mmap:
    access = 0
    if flags & DmaFlag.READ:
        access |= mmap.PROT_READ
    if flags & DmaFlag.WRITE:
        access |= mmap.PROT_WRITE
    try:
        status = os.fstat(fd)
        # Touching a page past the end of a file is a SIGBUS, so such a window is never made.
        if stat.S_ISREG(status.st_mode) and offset + size > status.st_size:
            raise ProtocolError(
                f"DMA_MAP: {offset:#x}+{size:#x} exceeds the file's {status.st_size:#x} bytes"
            )
        return mmap.mmap(fd, size, flags=mmap.MAP_SHARED, prot=access, offset=offset)
    except OSError as error:
        raise ProtocolError(f"DMA_MAP: cannot map: {error}", error.errno or errno.EINVAL) from error
    except (ValueError, OverflowError) as error:
        raise ProtocolError(f"DMA_MAP: cannot map {offset:#x}+{size:#x}: {error}") from error


class _Table(NamedTuple):
    starts: tuple[int, ...]
    windows: tuple[DmaWindow, ...]


class DmaMap:
    """The windows of one connection, ordered by address and never overlapping."""

    def __init__(self, max_windows: int = MAX_DMA_MAPS) -> None:
        """Start with no window; refuse more than `max_windows`."""
        self._max_windows = max_windows
        self._table = _Table((), ())

    def __len__(self) -> int:
        return len(self._table.windows)

    def __iter__(self) -> Iterator[DmaWindow]:
        return iter(self._table.windows)

    def map(
        self, iova: int, size: int, flags: int, fd: int | None = None, fd_offset: int = 0
    ) -> DmaWindow:
        """Add a window and take over its descriptor (on failure it stays the caller's).

        Raises:
            ProtocolError: EINVAL for an impossible range, unknown flags or an unusable descriptor;
                EEXIST when it overlaps a window; ENOSPC when there are too many. Source: DMA_MAP.
        """
        if size == 0 or iova + size > _ADDRESS_SPACE:
            raise ProtocolError(f"DMA_MAP: {iova:#x}+{size:#x} is no range of addresses")
        if flags & ~int(DmaFlag.READ | DmaFlag.WRITE):
            raise ProtocolError(f"DMA_MAP: unknown flags {flags:#x}")
        starts, windows = self._table
        place = bisect_right(starts, iova)
        neighbours = windows[max(place - 1, 0) : place + 1]
        for other in neighbours:
            if iova < other.end and other.iova < iova + size:
                raise ProtocolError(
                    f"DMA_MAP: {iova:#x}+{size:#x} overlaps {other!r}", errno.EEXIST
                )
        if len(windows) >= self._max_windows:
            raise ProtocolError(f"DMA_MAP: more than {self._max_windows} windows", errno.ENOSPC)
        window = DmaWindow(iova, size, DmaFlag(flags), fd, fd_offset)
        self._table = _Table(
            (*starts[:place], iova, *starts[place:]),
            (*windows[:place], window, *windows[place:]),
        )
        return window

    def find_exact(self, iova: int, size: int) -> DmaWindow:
        """Return the window that is exactly this range.

        Raises:
            ProtocolError: ENOENT when there is none. Source: DMA_UNMAP, "must match exactly".
        """
        starts, windows = self._table
        place = bisect_right(starts, iova) - 1
        if place >= 0 and windows[place].iova == iova and windows[place].size == size:
            return windows[place]
        raise ProtocolError(f"DMA_UNMAP: no window is exactly {iova:#x}+{size:#x}", errno.ENOENT)

    def unmap(self, window: DmaWindow) -> None:
        """Remove a window; its mapping and descriptor are closed."""
        self.remove(window)
        window.close()

    def remove(self, window: DmaWindow) -> None:
        """Remove a window, which the caller then closes."""
        starts, windows = self._table
        place = windows.index(window)
        self._table = _Table(
            starts[:place] + starts[place + 1 :], windows[:place] + windows[place + 1 :]
        )

    def clear(self) -> None:
        """Remove every window."""
        windows = self._table.windows
        self._table = _Table((), ())
        for window in windows:
            window.close()

    def find(self, iova: int, length: int = 1) -> DmaWindow:
        """Return the window that holds the whole range.

        Raises:
            DmaFaultError: No single window does.
        """
        starts, windows = self._table
        place = bisect_right(starts, iova) - 1
        if place < 0 or iova + length > windows[place].end:
            raise DmaFaultError(iova, length, "no window holds it")
        return windows[place]

    def segments(self, iova: int, length: int) -> Iterator[tuple[DmaWindow, int, int]]:
        """Yield `(window, offset in window, length)` for each piece of a range, in order, in bytes.

        A guest's buffer may cross windows that touch, as firmware splits memory below 1 MiB.

        Raises:
            DmaFaultError: Part of the range is in no window.
        """
        while length > 0:
            window = self.find(iova)
            part = min(length, window.end - iova)
            yield window, iova - window.iova, part
            iova += part
            length -= part

    def view(self, iova: int, length: int) -> memoryview:
        """Return shared memory of one window: shape (length,), format "B", not a copy.

        Raises:
            DmaFaultError: No single shared window holds the range.
        """
        window = self.find(iova, length)
        offset = iova - window.iova
        return window.view()[offset : offset + length]

    def read(self, iova: int, length: int) -> bytes:
        """Copy `length` bytes out of shared memory.

        Raises:
            DmaFaultError: Part of the range is not mapped, not shared or not readable.
        """
        parts = []
        for window, offset, part in self.segments(iova, length):
            if not window.flags & DmaFlag.READ:
                raise DmaFaultError(iova, length, f"{window!r} is not readable")
            with window.view() as view:
                parts.append(bytes(view[offset : offset + part]))
        return b"".join(parts)

    def write(self, iova: int, data: bytes | memoryview) -> None:
        """Copy bytes into shared memory; nothing is written unless all of it can be.

        Raises:
            DmaFaultError: Part of the range is not mapped, not shared or not writeable.
        """
        pieces = list(self.segments(iova, len(data)))
        for window, _, _ in pieces:
            if not window.flags & DmaFlag.WRITE or not window.is_shared:
                raise DmaFaultError(iova, len(data), f"{window!r} is not writeable memory")
        done = 0
        for window, offset, part in pieces:
            with window.view() as view:
                view[offset : offset + part] = data[done : done + part]
            done += part
