"""Cells run side by side within memory and processors, and each ends in a verdict."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from vgpu_stub.matrix.capacity import Ledger, Machine, Need, cell_need, this_machine
from vgpu_stub.matrix.cells import Cell, make_cells
from vgpu_stub.matrix.file import load_matrix
from vgpu_stub.matrix.results import CellResult, Verdict, make_result
from vgpu_stub.matrix.scheduler import run_cells

NEED = Need(memory_mib=1024 + 512 + 400, cpus=2)


class Quiet:
    """Observes and remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def started(self, cell: Cell) -> None:
        self.events.append(("started", cell.kernel.name))

    def told(self, cell: Cell, what: str) -> None:
        self.events.append((what, cell.kernel.name))

    def ended(self, cell: Cell, result: CellResult) -> None:
        self.events.append((result.verdict, cell.kernel.name))


@pytest.fixture
def cells(tmp_path: Path) -> list[Cell]:
    path = tmp_path / "matrix.toml"
    path.write_text("[axes]\nkernels = ['6.1', '6.12', '7.2']")
    return make_cells(load_matrix(path))


def test_a_cell_needs_its_guest_its_device_and_the_processes(cells: list[Cell]) -> None:
    assert cell_need(cells[0]) == NEED
    assert cell_need(replace(cells[0], executor="cuda")) == replace(NEED, memory_mib=1424)


@pytest.mark.parametrize(
    ("machine", "jobs", "together"),
    [
        (Machine(memory_mib=100_000, cpus=2), None, 1),
        (Machine(memory_mib=100_000, cpus=5), None, 2),
        (Machine(memory_mib=2 * NEED.memory_mib, cpus=64), None, 2),
        (Machine(memory_mib=100_000, cpus=2), 3, 3),
        (Machine(memory_mib=NEED.memory_mib, cpus=64), 3, 1),
        (Machine(memory_mib=10, cpus=1), None, 1),
    ],
)
def test_memory_processors_and_jobs_decide_how_many_fit(
    machine: Machine, jobs: int | None, together: int
) -> None:
    ledger = Ledger(machine, jobs)
    fitted = 0
    while fitted < 10 and ledger.fits(NEED):
        ledger.take(NEED)
        fitted += 1
    assert fitted == together
    ledger.give_back(NEED)
    assert ledger.fits(NEED)


def test_cells_that_fit_run_at_the_same_time(cells: list[Cell], tmp_path: Path) -> None:
    together = threading.Barrier(3, timeout=20)

    def run(cell: Cell, folder: Path, tell: Callable[[str], None]) -> CellResult:
        together.wait()
        return make_result(cell, Verdict.PASS, folder=folder.name)

    ledger = Ledger(Machine(memory_mib=100_000, cpus=6))
    results = run_cells(cells, tmp_path, ledger, Quiet(), run)
    assert [result.name for result in results] == [cell.name for cell in cells]
    assert results[0].folder == "6.1--software--sm_61--no-faults--smoke"


def test_cells_that_do_not_fit_wait_in_order(cells: list[Cell], tmp_path: Path) -> None:
    observer = Quiet()

    def run(cell: Cell, folder: Path, tell: Callable[[str], None]) -> CellResult:
        tell("running")
        return make_result(cell, Verdict.FAIL if cell.kernel.name == "6.12" else Verdict.PASS)

    run_cells(cells, tmp_path, Ledger(Machine(memory_mib=100_000, cpus=2)), observer, run)
    assert observer.events == [
        (what, kernel)
        for kernel, verdict in (("6.1", "PASS"), ("6.12", "FAIL"), ("7.2", "PASS"))
        for what in ("started", "running", verdict)
    ]


def test_a_fault_in_one_cell_leaves_the_others_alone(cells: list[Cell], tmp_path: Path) -> None:
    def run(cell: Cell, folder: Path, tell: Callable[[str], None]) -> CellResult:
        if cell.kernel.name == "6.1":
            raise RuntimeError("out of luck")
        return make_result(cell, Verdict.PASS)

    ledger = Ledger(Machine(memory_mib=100_000, cpus=2))
    results = run_cells(cells, tmp_path, ledger, Quiet(), run)
    assert [result.verdict for result in results] == ["ERROR", "PASS", "PASS"]
    assert results[0].reason == "RuntimeError: out of luck"


def test_a_control_group_limits_what_there_is(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n")
    machine = this_machine(meminfo, tmp_path)
    assert machine.memory_mib == int(8192 * 0.85)
    (tmp_path / "memory.max").write_text(f"{4 << 30}\n")
    (tmp_path / "memory.current").write_text(f"{1 << 30}\n")
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert this_machine(meminfo, tmp_path) == Machine(memory_mib=int(3072 * 0.85), cpus=1)
