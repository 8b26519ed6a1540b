"""What the machine has for virtual machines, and what is lent of it.

A cell takes its guest's memory and virtual processors and its device's memory. Memory is never
lent twice; processors are lent up to what there are, or to one cell that wants more.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vgpu_stub.matrix.cells import Cell

#: Memory of QEMU, a device server and its workers, besides what the guest and the device have.
_PROCESSES_MIB: Final = 400
#: The part of free memory that is used: the rest is for caches and other programs.
_USABLE: Final = 0.85


@dataclass(frozen=True)
class Need:
    """What a cell takes while it runs."""

    memory_mib: int
    cpus: int


@dataclass(frozen=True)
class Machine:
    """What there is."""

    memory_mib: int
    cpus: int


def cell_need(cell: Cell) -> Need:
    """What a cell takes."""
    device = 0 if cell.executor == "cuda" else cell.settings.gpu_memory
    return Need(cell.settings.memory + device + _PROCESSES_MIB, cell.settings.cpus)


def this_machine(
    meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")
) -> Machine:
    """Free memory and processors of this machine, or of the control group that this runs in."""
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    free = int(lines["MemAvailable"].split()[0]) * 1024
    limit, used = _number(cgroup / "memory.max"), _number(cgroup / "memory.current")
    if limit is not None and used is not None:
        free = min(free, max(0, limit - used))
    cpus = len(os.sched_getaffinity(0))
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        if quota != "max":
            cpus = max(1, min(cpus, int(quota) // int(period)))
    except OSError:
        pass  # No such control group: the affinity is all there is.
    return Machine(int(free * _USABLE) >> 20, cpus)


class Ledger:
    """What is lent; not thread-safe.

    Args:
        machine: What there is.
        jobs: How many cells run at once at most, whatever their processors; None leaves it to the
            processors.
    """

    def __init__(self, machine: Machine, jobs: int | None = None) -> None:
        self._machine = machine
        self._jobs = jobs
        self._lent: list[Need] = []

    def fits(self, need: Need) -> bool:
        """Whether so much is left. One cell alone always fits: it was asked for."""
        if not self._lent:
            return True
        memory = sum(lent.memory_mib for lent in self._lent) + need.memory_mib
        cpus = sum(lent.cpus for lent in self._lent) + need.cpus
        if memory > self._machine.memory_mib:
            return False
        if self._jobs is not None:
            return len(self._lent) < self._jobs
        return cpus <= self._machine.cpus

    def take(self, need: Need) -> None:
        """Lend it."""
        self._lent.append(need)

    def give_back(self, need: Need) -> None:
        """Take it back."""
        self._lent.remove(need)


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
