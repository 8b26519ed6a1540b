"""Guest memory in a worker: each registration is one contiguous range of host addresses.

The extents of a scatter list are mapped one after the other into a reserved range, so that a copy
is one operation however scattered the guest's pages are, and an address check is two comparisons.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass

from vgpu_host.memory_map import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    map_memory,
    unmap_memory,
)
from vgpu_stub.abi import generated as abi
from vgpu_stub.device.worker_link import Extent


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
        reserve = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
        base = map_memory(None, size, PROT_NONE, reserve)
        prot = (PROT_READ if access & abi.REGISTER_READ else 0) | (
            PROT_WRITE if access & abi.REGISTER_WRITE else 0
        )
        address = base
        try:
            for extent in extents:
                fd = fds[extent.fd_index]
                map_memory(address, extent.length, prot, MAP_SHARED | MAP_FIXED, fd, extent.offset)
                address += extent.length
        except OSError:
            unmap_memory(base, size)
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

    def items(self) -> list[tuple[int, Registration]]:
        """Every registration with its id."""
        return list(self._by_id.items())

    def holds(self, number: int, registration: Registration) -> bool:
        """Whether that id still is that registration, and not a later one or none."""
        return self._by_id.get(number) is registration

    def remove(self, number: int) -> None:
        """Unmap a registration; the caller has made sure that nothing uses it."""
        registration = self._by_id.pop(number)
        self.total_bytes -= registration.size
        unmap_memory(registration.address, registration.size)

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
