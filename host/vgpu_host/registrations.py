"""Guest memory in a worker: each registration is one contiguous range of host addresses.

The extents of a scatter list are mapped one after the other into a reserved range, so that a copy
is one operation however scattered the guest's pages are, and an address check is two comparisons.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.device.worker_link import Extent

_PROT_NONE: Final = 0
_PROT_READ: Final = 1
_PROT_WRITE: Final = 2
_MAP_SHARED: Final = 1
_MAP_PRIVATE: Final = 2
_MAP_FIXED: Final = 0x10
_MAP_ANONYMOUS: Final = 0x20
_MAP_NORESERVE: Final = 0x4000
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


def _mmap(address: int | None, size: int, prot: int, flags: int, fd: int, offset: int) -> int:
    result: int = _libc.mmap(address, size, prot, flags, fd, offset)
    if result == _MAP_FAILED:
        number = ctypes.get_errno()
        raise OSError(number, f"mmap of {size} bytes: {os.strerror(number)}")
    return result


@dataclass(frozen=True)
class Registration:
    """A range of guest memory mapped at `address` in this process."""

    address: int
    size: int
    access: int


class Registrations:
    """The registrations of one channel, by id."""

    def __init__(self) -> None:
        self._by_id: dict[int, Registration] = {}
        #: Guest memory registered.
        self.total_bytes = 0

    def add(
        self, number: int, extents: Sequence[Extent], fds: Sequence[int], access: int
    ) -> Registration:
        """Map the extents; `fds` are those that their `fd_index` counts in.

        Raises:
            OSError: The memory cannot be mapped, EEXIST when the id is in use.
        """
        if number in self._by_id:
            raise OSError(errno.EEXIST, f"registration {number} exists")
        size = sum(extent.length for extent in extents)
        reserve = _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE
        base = _mmap(None, size, _PROT_NONE, reserve, -1, 0)
        prot = (_PROT_READ if access & abi.REGISTER_READ else 0) | (
            _PROT_WRITE if access & abi.REGISTER_WRITE else 0
        )
        address = base
        try:
            for extent in extents:
                fd = fds[extent.fd_index]
                _mmap(address, extent.length, prot, _MAP_SHARED | _MAP_FIXED, fd, extent.offset)
                address += extent.length
        except OSError:
            _libc.munmap(base, size)
            raise
        registration = Registration(base, size, access)
        self._by_id[number] = registration
        self.total_bytes += size
        return registration

    def numbers(self) -> list[int]:
        """The ids in use."""
        return list(self._by_id)

    def get(self, number: int) -> Registration:
        """The registration of that id; KeyError when there is none."""
        return self._by_id[number]

    def holds(self, number: int, registration: Registration) -> bool:
        """Whether that id still is that registration, and not a later one or none."""
        return self._by_id.get(number) is registration

    def remove(self, number: int) -> None:
        """Unmap a registration; the caller has made sure that nothing uses it."""
        registration = self._by_id.pop(number)
        self.total_bytes -= registration.size
        _libc.munmap(registration.address, registration.size)

    def resolve(self, number: int, offset: int, size: int, access: int) -> int | None:
        """Host address of a range of a registration, or None when it is not the guest's to use."""
        registration = self._by_id.get(number)
        if (
            registration is None
            or offset + size > registration.size
            or access & ~registration.access
        ):
            return None
        return registration.address + offset
