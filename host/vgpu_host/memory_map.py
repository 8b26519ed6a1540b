"""mmap as the system has it: at an address of our choice, which Python's own module lacks."""

from __future__ import annotations

import ctypes
import os
from typing import Final

PROT_NONE: Final = 0
PROT_READ: Final = 1
PROT_WRITE: Final = 2
MAP_SHARED: Final = 1
MAP_PRIVATE: Final = 2
MAP_FIXED: Final = 0x10
MAP_ANONYMOUS: Final = 0x20
MAP_NORESERVE: Final = 0x4000
_MADV_DONTNEED: Final = 4
_MAP_FAILED: Final = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def map_memory(
    address: int | None, size: int, prot: int, flags: int, fd: int = -1, offset: int = 0
) -> int:
    """Map memory; without MAP_FIXED the address is a wish. Returns where it is.

    Raises:
        OSError: It cannot be mapped.
    """
    result: int = _libc.mmap(address, size, prot, flags, fd, offset)
    if result == _MAP_FAILED:
        number = ctypes.get_errno()
        raise OSError(number, f"mmap of {size} bytes: {os.strerror(number)}")
    return result


def unmap_memory(address: int, size: int) -> None:
    """Undo `map_memory`."""
    _libc.munmap(address, size)


def discard_memory(address: int, size: int) -> None:
    """Give whole pages back to the system; private memory reads zero afterwards."""
    _libc.madvise(address, size, _MADV_DONTNEED)
