"""Progress of long steps: fetching packages, building images, first boots.

Library code reports through the `Progress` callback and never prints. `console_progress` is the
callback for people: a live bar on a terminal, one line per step elsewhere.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

Progress = Callable[[str, float | None], None]
"""Called with what is being done and how far it is (0 to 1, or None where that is unknown)."""


def silent(message: str, fraction: float | None = None) -> None:
    """Report nothing."""


@contextmanager
def console_progress(console: Console | None = None) -> Iterator[Progress]:
    """Show progress on standard error until the block ends.

    Args:
        console: Where to write; standard error when not given.

    Yields:
        The callback to hand to long-running functions; it may be called from any thread.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _line_writer(console)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
    )
    with RichProgress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=None, visible=False)

        def report(message: str, fraction: float | None = None) -> None:
            total = None if fraction is None else 1.0
            bars.update(
                task, description=message, total=total, completed=fraction or 0.0, visible=True
            )

        yield report


def _line_writer(console: Console) -> Progress:
    lock = threading.Lock()
    last = ""

    def report(message: str, fraction: float | None = None) -> None:
        nonlocal last
        with lock:
            if message != last:
                console.print(message, highlight=False, markup=False, soft_wrap=True)
            last = message

    return report
