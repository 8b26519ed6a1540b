"""What runs beside checked kernels: their tables of sites, and findings from what is in them."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Final

from vgpu_host.executors.software.arena import Arena
from vgpu_host.executors.software.coordinates import Dim3, coordinates
from vgpu_host.executors.software.statement import Statement
from vgpu_host.findings import Access, Finding, Report

from .cells import Cells
from .messages import SYNC_KINDS, race, sync
from .shadow import CheckedArena
from .structures import CHECKS, CHECKS_SIZE, SITE, SITE_SIZE, Kind

if TYPE_CHECKING:
    from vgpu_host.executors.software.kernel_cache import KernelDescription

_SITE: Final = struct.Struct("<QQqqQiiiiiI")
StatementAt = Callable[[int], Statement]


class Watched:
    """What can be found in one kernel: its block of memory that compiled code writes to."""

    def __init__(self, description: KernelDescription) -> None:
        size = CHECKS_SIZE + description.sites * SITE_SIZE
        self.memory = (ctypes.c_char * size)()
        self.address = ctypes.addressof(self.memory)
        self.shared_variables = description.shared_variables
        self.shared_size = description.shared_frame

    def take(self) -> list[tuple[int, ...]]:
        """What was found since the last time, one entry for each site."""
        if not struct.unpack_from("<Q", self.memory, CHECKS["total"])[0]:
            return []
        sites = memoryview(self.memory)[CHECKS_SIZE:]
        found = [site for site in _SITE.iter_unpack(sites) if site[0]]
        ctypes.memset(self.address + CHECKS_SIZE, 0, len(sites))
        struct.pack_into("<Q", self.memory, CHECKS["total"], 0)
        return found


class Checker:
    """The checkers of one software GPU.

    Args:
        checks: "mem", "race", "sync".
        arena: Device memory; a `CheckedArena` for "mem".
        report: Where findings go.
    """

    def __init__(self, checks: Collection[str], arena: Arena, report: Report) -> None:
        self._checks = frozenset(checks)
        self._arena = arena
        self.report = report
        self._windows: Sequence[int] = ()
        self._window_size = 0
        self._cells: Cells | None = None

    @property
    def in_turn(self) -> bool:
        """Whether blocks have to run one after the other, so that each run finds the same."""
        return "race" in self._checks

    def attach(self, windows: Sequence[int], window_size: int) -> None:
        """Learn where shared memory of each host thread is."""
        self._windows, self._window_size = windows, window_size
        if "race" in self._checks:
            self._cells = Cells(self._arena, window_size)

    def watch(self, description: KernelDescription) -> Watched:
        """Have a table for a kernel."""
        watched = Watched(description)
        if isinstance(self._arena, CheckedArena):
            struct.pack_into("<q", watched.memory, CHECKS["shadow"], self._arena.shadow.distance)
        if self._cells:
            self._cells.describe(watched.memory)
        return watched

    def begin(self) -> None:
        """A launch begins: no block has shared memory yet."""
        if isinstance(self._arena, CheckedArena):
            for window in self._windows:
                self._arena.shadow.freed(window, self._window_size)
        if self._cells:
            self._cells.begin()

    def collect(
        self, kernel: str, watched: Watched, statement: StatementAt, grid: Dim3, block: Dim3
    ) -> None:
        """A launch is over: report what compiled code found."""
        for values in watched.take():
            site = dict(zip(SITE, values, strict=True))
            access = _access(
                statement(site["position"]),
                coordinates(site["cta"], grid),
                coordinates(site["thread"], block),
            )
            address, size = site["address"], site["size"]
            place, _ = self._place(watched, address, size)
            kind = Kind(site["kind"])
            if kind is Kind.UNINITIALISED:
                what = f"{size} bytes at {address:#x} are read, which nobody has written"
                finding = Finding(
                    "mem",
                    "uninitialised-read",
                    kernel,
                    what,
                    access,
                    None,
                    address,
                    place,
                    site["count"],
                )
            else:
                other = None
                if site["other_thread"] >= 0:
                    other_block = site["cta"] if site["other_cta"] < 0 else site["other_cta"]
                    other = _access(
                        statement(site["other_position"]) if site["other_position"] >= 0 else None,
                        coordinates(other_block, grid),
                        coordinates(site["other_thread"], block),
                    )
                if kind in SYNC_KINDS:
                    finding = sync(kernel, kind, site, access, other)
                else:
                    window = self._window(address)
                    where = (
                        f"offset {address - window} of shared memory" if window else hex(address)
                    )
                    finding = race(kernel, kind, site, access, other, where)
                    finding.address, finding.place = address - window, place
            self.report.add(finding)

    def deadlock(self, kernel: str, statement: Statement | None, block: Dim3) -> None:
        """A kernel was ended because all threads of a block wait for threads that never come."""
        if "sync" in self._checks:
            what = "all threads that have not ended wait at barriers, for threads that never come"
            access = _access(statement, block, None)
            self.report.add(Finding("sync", "deadlock", kernel, what, access))

    def fault(
        self,
        kernel: str,
        watched: Watched,
        statement: Statement,
        address: int,
        size: int,
        misaligned: bool,
        thread_at: tuple[Dim3, Dim3],
    ) -> None:
        """A kernel was ended by an access that must not be."""
        if "mem" not in self._checks:
            return
        if ".local" in statement.text:
            place, freed = f"local memory at offset {address}", False
        else:
            place, freed = self._place(watched, address, size, ".shared" in statement.text)
        kind = "misaligned" if misaligned else "use-after-free" if freed else "out-of-bounds"
        what = {
            "misaligned": f"an access of {size} bytes at {address:#x} is misaligned",
            "use-after-free": f"an access of {size} bytes at {address:#x}, which was freed",
            "out-of-bounds": f"an access of {size} bytes at {address:#x} is out of bounds",
        }[kind]
        access = _access(statement, *thread_at)
        self.report.add(Finding("mem", kind, kernel, what, access, None, address, place))

    def _window(self, address: int) -> int:
        """Start of the shared memory that contains an address, 0 if none does."""
        starts = (w for w in self._windows if w <= address < w + self._window_size)
        return next(starts, 0)

    def _place(
        self, watched: Watched, address: int, size: int, is_offset: bool = False
    ) -> tuple[str, bool]:
        """Where an access lies, in words, and whether that was freed."""
        if window := self._window(address):
            return _shared_place(watched, address - window, size), False
        if is_offset and address < self._window_size:
            return _shared_place(watched, address, size), False
        if address >= self._arena.scratch and self._arena.contains(address, 1):
            return "in local memory or parameters", False
        if isinstance(self._arena, CheckedArena):
            return self._arena.describe(address, size)
        owner = self._arena.owner(address)
        if owner is None:
            return "in no allocation", False
        return f"{address - owner[0]} bytes into the allocation of {owner[1]} bytes", False


def _shared_place(watched: Watched, offset: int, size: int) -> str:
    """A place in shared memory, by the variable before it."""
    before = [v for v in watched.shared_variables if v[1] <= offset]
    if not before:
        return f"shared memory at offset {offset}"
    name, start, length = max(before, key=lambda variable: variable[1])
    name = name.rpartition("::")[2]
    if not length:
        return f"dynamic shared memory ({name}) at offset {offset - start}"
    inside = offset - start
    if inside >= length:
        return f"{inside - length} bytes behind shared variable {name} of {length} bytes"
    return f"{inside} bytes into shared variable {name} of {length} bytes"


def _access(statement: Statement | None, block: Dim3, thread: Dim3 | None) -> Access:
    if statement is None:
        return Access(block, thread)
    return Access(block, thread, statement.line, statement.text, statement.source)
