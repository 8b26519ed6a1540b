"""Shows how a matrix runs: a live table on a terminal, else a line for each cell that ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from vgpu_stub.matrix.cells import Cell
from vgpu_stub.matrix.results import CellResult, Verdict

STYLES: Final = {
    Verdict.PASS: "green",
    Verdict.FAIL: "bold red",
    Verdict.WEDGED: "bold magenta",
    Verdict.ERROR: "bold yellow",
    Verdict.SKIP: "dim",
}
_REFRESHES: Final = 4


class MatrixDisplay:
    """Observes a run; a context manager."""

    def __init__(self, console: Console, cells: Sequence[Cell]) -> None:
        self._console = console
        self._rows = list(dict.fromkeys(cell.row for cell in cells))
        self._columns = list(dict.fromkeys(cell.column for cell in cells))
        self._places = {(cell.row, cell.column): cell.name for cell in cells}
        self._total = len(cells)
        self._lock = threading.Lock()
        self._states: dict[str, tuple[str, float]] = {}
        self._results: dict[str, CellResult] = {}
        self._start = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=self.render, console=self._console, refresh_per_second=_REFRESHES
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def started(self, cell: Cell) -> None:
        """A cell has started."""
        with self._lock:
            self._states[cell.name] = ("starting", time.monotonic())
        if not self._live:
            self._console.print(f"start   {cell.name}", soft_wrap=True, highlight=False)

    def told(self, cell: Cell, what: str) -> None:
        """A cell says what it does now."""
        with self._lock:
            self._states[cell.name] = (what, self._states[cell.name][1])

    def ended(self, cell: Cell, result: CellResult) -> None:
        """A cell has ended."""
        with self._lock:
            self._results[cell.name] = result
            line = result_line(result)
        if not self._live:
            self._console.print(line, soft_wrap=True)
        elif not result.verdict.is_good:
            self._live.console.print(line, soft_wrap=True)

    def render(self) -> Group:
        """The table now."""
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("")
        for column in self._columns:
            table.add_column(column, no_wrap=True)
        with self._lock:
            for row in self._rows:
                table.add_row(row, *(self._entry(row, column) for column in self._columns))
            done = len(self._results)
            running = len(self._states) - done
        seconds = time.monotonic() - self._start
        line = f"{done} of {self._total} cells, {running} running, {seconds:.0f} s"
        return Group(table, Text(line, style="dim"))

    def _entry(self, row: str, column: str) -> Text:
        name = self._places.get((row, column))
        if name is None:
            return Text("")
        if result := self._results.get(name):
            text = f"{result.verdict} {result.duration_s:.0f} s"
            return Text(text, style=STYLES[result.verdict])
        if state := self._states.get(name):
            what, since = state
            return Text(f"{what} {time.monotonic() - since:.0f} s", style="cyan")
        return Text("·", style="dim")


def result_line(result: CellResult) -> Text:
    """One line about a cell that has ended."""
    tests = ", ".join(f"{number} {name}" for name, number in result.test_counts.items())
    details = " ".join(part for part in (f"({tests})" if tests else "", result.reason) if part)
    return Text.assemble(
        (f"{result.verdict:<7} ", STYLES[result.verdict]),
        result.name,
        (f" {result.duration_s:.1f} s ", "dim"),
        details,
    )
