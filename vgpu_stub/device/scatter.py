"""Scatter lists: reads one from guest memory and finds what memory it names.

Everything here comes from the guest and is checked: alignment, counts, loops, and that each extent
lies in memory that the client shares with the rights asked for (docs/device.md, section 4).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.device.worker_link import Extent
from vgpu_stub.vfio_user import DmaFaultError, DmaFlag, DmaMap, DmaWindow

_PAGE: Final = 4096
_BLOCK_BYTES: Final = 4096
#: Windows of one registration: their descriptors travel to the worker in one message.
_MAX_WINDOWS: Final = 60


class ScatterError(Exception):
    """A scatter list is refused; `number` is the errno for the completion."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


def read_scatter_list(dma: DmaMap, list_iova: int, extents: int) -> Iterator[tuple[int, int]]:
    """Yield (iova, length) of each extent of a list.

    Raises:
        ScatterError: EINVAL for a malformed list, EFAULT when it is not in guest memory.
    """
    seen = 0
    block = list_iova
    while block:
        if block % _BLOCK_BYTES:
            raise ScatterError(errno.EINVAL, f"scatter block at {block:#x} is not aligned")
        data = _read_block(dma, block)
        block, count, _ = abi.SCATTER_BLOCK.unpack_from(data)
        if not 0 < count <= abi.SCATTER_ENTRIES or seen + count > extents:
            raise ScatterError(errno.EINVAL, f"scatter block has {count} entries")
        seen += count
        start = abi.SCATTER_BLOCK.size
        yield from abi.SCATTER_ENTRY.iter_unpack(
            data[start : start + count * abi.SCATTER_ENTRY.size]
        )
    if seen != extents:
        raise ScatterError(errno.EINVAL, f"scatter list has {seen} entries, expected {extents}")


def _read_block(dma: DmaMap, iova: int) -> bytes:
    try:
        window = dma.find(iova, _BLOCK_BYTES)
    except DmaFaultError as error:
        raise ScatterError(errno.EFAULT, f"scatter block: {error}") from error
    _check_access(window, abi.REGISTER_READ)
    # By pread, not through the mapping: a client that shrinks its file shall not kill the server.
    offset = window.fd_offset + iova - window.iova
    try:
        data = os.pread(window.fd, _BLOCK_BYTES, offset) if window.fd is not None else b""
    except OSError as error:
        raise ScatterError(errno.EFAULT, f"{window!r} cannot be read: {error}") from error
    if len(data) != _BLOCK_BYTES:
        raise ScatterError(errno.EFAULT, f"scatter block at {iova:#x} is past the end of its file")
    return data


def write_memory(dma: DmaMap, iova: int, data: bytes) -> None:
    """Copy bytes into guest memory.

    Raises:
        ScatterError: Part of the range is not there, not shared or not writeable.
    """
    try:
        pieces = list(dma.segments(iova, len(data)))
    except DmaFaultError as error:
        raise ScatterError(errno.EFAULT, str(error)) from error
    for window, _, _ in pieces:
        _check_access(window, abi.REGISTER_WRITE)
    done = 0
    for window, offset, part in pieces:
        # By pwrite, for the same reason as pread above.
        place = window.fd_offset + offset
        try:
            written = (
                os.pwrite(window.fd, data[done : done + part], place)
                if window.fd is not None
                else 0
            )
        except OSError as error:
            raise ScatterError(errno.EFAULT, f"{window!r} cannot be written: {error}") from error
        if written != part:
            raise ScatterError(errno.EFAULT, f"{window!r} took {written} of {part} bytes")
        done += part


def resolve(
    dma: DmaMap, list_iova: int, extents: int, size: int, access: int
) -> tuple[list[DmaWindow], list[Extent]]:
    """Find the shared memory behind a scatter list.

    Returns:
        The windows used, and the extents with `fd_index` into them; neighbours are merged.

    Raises:
        ScatterError: The list is malformed, too long, or names memory that may not be used.
    """
    windows: list[DmaWindow] = []
    found: list[Extent] = []
    total = 0
    for iova, length in read_scatter_list(dma, list_iova, extents):
        if not length or iova % _PAGE or length % _PAGE:
            raise ScatterError(errno.EINVAL, f"extent {iova:#x}+{length:#x} is not whole pages")
        total += length
        if total > size:
            break
        try:
            pieces = list(dma.segments(iova, length))
        except DmaFaultError as error:
            raise ScatterError(errno.EFAULT, str(error)) from error
        for window, offset, part in pieces:
            _check_access(window, access)
            if window not in windows:
                if len(windows) == _MAX_WINDOWS:
                    raise ScatterError(errno.ENOSPC, f"more than {_MAX_WINDOWS} DMA windows")
                windows.append(window)
            piece = Extent(windows.index(window), window.fd_offset + offset, part)
            last = found[-1] if found else None
            if (
                last
                and last.fd_index == piece.fd_index
                and last.offset + last.length == piece.offset
            ):
                found[-1] = Extent(last.fd_index, last.offset, last.length + part)
            else:
                found.append(piece)
    if total != size:
        raise ScatterError(errno.EINVAL, f"extents add up to {total:#x} bytes, expected {size:#x}")
    return windows, found


def _check_access(window: DmaWindow, access: int) -> None:
    if not window.is_shared:
        raise ScatterError(errno.EFAULT, f"{window!r} is not shared with the device")
    if access & abi.REGISTER_READ and not window.flags & DmaFlag.READ:
        raise ScatterError(errno.EFAULT, f"{window!r} is not readable")
    if access & abi.REGISTER_WRITE and not window.flags & DmaFlag.WRITE:
        raise ScatterError(errno.EFAULT, f"{window!r} is not writeable")
