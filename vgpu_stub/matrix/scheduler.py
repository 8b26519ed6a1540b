"""Runs cells side by side, as many as the machine has room for.

Each cell gets a thread of its own, which mostly waits for its machine. One thread, the caller's,
decides what starts next: the first cell in the order of the matrix that fits.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vgpu_stub.matrix.capacity import Ledger, cell_need
from vgpu_stub.matrix.cells import Cell
from vgpu_stub.matrix.results import CellResult, Verdict, make_result


class Observer(Protocol):
    """Is told how a run goes; from several threads, one at a time for each cell."""

    def started(self, cell: Cell) -> None:
        """A cell has started."""

    def told(self, cell: Cell, what: str) -> None:
        """A cell says what it does now."""

    def ended(self, cell: Cell, result: CellResult) -> None:
        """A cell has ended."""


#: Runs one cell: the cell, its folder, whom to tell what it does.
Runner = Callable[[Cell, Path, Callable[[str], None]], CellResult]


@dataclass(frozen=True)
class _End:
    cell: Cell
    result: CellResult


def run_cells(
    cells: Sequence[Cell], folder: Path, ledger: Ledger, observer: Observer, runner: Runner
) -> list[CellResult]:
    """Run cells and return what came of them, in their order.

    Args:
        cells: What to run.
        folder: Each cell gets a folder in it.
        ledger: What the machine has.
        observer: Told how it goes.
        runner: Runs one cell.
    """
    ends: queue.SimpleQueue[_End] = queue.SimpleQueue()
    waiting = list(cells)
    running = 0
    results: dict[str, CellResult] = {}

    def work(cell: Cell) -> None:
        try:
            result = runner(
                cell, folder / folder_name(cell.name), lambda what: observer.told(cell, what)
            )
        except Exception as error:  # A fault in one cell's run must not take the others with it.
            result = make_result(cell, Verdict.ERROR, reason=f"{type(error).__name__}: {error}")
        ends.put(_End(cell, result))

    while waiting or running:
        fitting = next((cell for cell in waiting if ledger.fits(cell_need(cell))), None)
        if fitting is not None:
            waiting.remove(fitting)
            ledger.take(cell_need(fitting))
            running += 1
            observer.started(fitting)
            threading.Thread(target=work, args=(fitting,), name=fitting.name, daemon=True).start()
            continue
        end = ends.get()
        running -= 1
        ledger.give_back(cell_need(end.cell))
        results[end.cell.name] = end.result
        observer.ended(end.cell, end.result)
    return [results[cell.name] for cell in cells]


def folder_name(name: str) -> str:
    """Name of a cell's folder: its name without slashes."""
    return name.replace("/", "--")
