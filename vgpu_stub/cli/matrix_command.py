"""`vgpu-stub matrix`: runs commands over kernels, executors, device profiles, faults and images."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from vgpu_qemu.errors import LauncherError
from vgpu_qemu.kernels import find_kernel
from vgpu_qemu.progress import Progress, console_progress
from vgpu_qemu.vm import VmConfig, prepare
from vgpu_stub.harness.build import BuildError, cuda_libraries, driver, workloads
from vgpu_stub.matrix.capacity import Ledger, this_machine
from vgpu_stub.matrix.cells import Cell, make_cells, select
from vgpu_stub.matrix.display import MatrixDisplay
from vgpu_stub.matrix.file import load_matrix
from vgpu_stub.matrix.report_files import HTML_NAME, JSON_NAME, JUNIT_NAME, write_reports
from vgpu_stub.matrix.results import MatrixReport, failed_cells
from vgpu_stub.matrix.run_cell import run_cell, why_not
from vgpu_stub.matrix.scheduler import run_cells


def matrix_command(
    file: Annotated[
        Path, typer.Argument(metavar="MATRIX.toml", dir_okay=False, help="What to run, on what.")
    ],
    cell: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Only cells whose name matches; several times for more."),
    ] = None,
    failed: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", dir_okay=False, help="Only cells that failed in this report.json."
        ),
    ] = None,
    list_cells: Annotated[
        bool, typer.Option("--list", help="Print the names of the cells and end.")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            min=1,
            help="How many cells run at once at most, whatever the processors; memory still counts."
            " Without it guests get no more processors together than there are.",
        ),
    ] = None,
    report: Annotated[
        Path, typer.Option(file_okay=False, metavar="DIR", help="Where reports and logs go.")
    ] = Path("reports/matrix"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as JSON; progress on standard error.")
    ] = False,
) -> None:
    """Run a matrix of kernels, executors, device profiles, faults, images and commands.

    Writes report.html, junit.xml and report.json, and each cell's console, kernel messages, server
    log and output. Ends with 0 if every cell passed or was skipped, else with 1.

    Examples:

        vgpu-stub matrix examples/matrix.toml

        vgpu-stub matrix examples/matrix.toml --list

        vgpu-stub matrix examples/matrix.toml --cell '6.1/*/smoke' --cell '*debug*'

        vgpu-stub matrix examples/matrix.toml --failed reports/matrix/report.json
    """
    cells = make_cells(load_matrix(file))
    if cell:
        cells = select(cells, cell)
    if failed:
        names = set(failed_cells(failed))
        cells = [one for one in cells if one.name in names]
    if list_cells:
        names_now = [one.name for one in cells]
        print(json.dumps(names_now) if as_json else "\n".join(names_now))
        raise typer.Exit
    if not cells:
        print(f"{failed} has no failed cell of {file}", file=sys.stderr)
        raise typer.Exit
    console = Console(stderr=as_json)
    started, start = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    with console_progress() as progress:
        _prepare(cells, progress)
    machine = this_machine()
    with MatrixDisplay(console, cells) as display:
        results = run_cells(cells, report / "cells", Ledger(machine, jobs), display, run_cell)
    host = {
        "machine": f"{platform.machine()}, {machine.cpus} processors",
        "memory": f"{machine.memory_mib} MiB for guests",
        "kernel": platform.release(),
        "cells at once": jobs or "as processors and memory allow",
    }
    made = MatrixReport(
        str(file), started, round(time.monotonic() - start, 3), host, tuple(results)
    )
    write_reports(made, report)
    if as_json:
        print(json.dumps(made.to_json()))
    counts = ", ".join(f"{number} {verdict}" for verdict, number in made.counts.items() if number)
    console.print(f"{counts} in {made.duration_s:.0f} s", highlight=False)
    paths = [os.fspath(report / name) for name in (HTML_NAME, JUNIT_NAME, JSON_NAME)]
    console.print("reports: " + " ".join(paths), soft_wrap=True, highlight=False)
    raise typer.Exit(0 if made.is_good else 1)


def _prepare(cells: list[Cell], progress: Progress) -> None:
    """Fetch and build what cells share before they start side by side.

    What cannot be had is left to the cells that want it: they end with ERROR.
    """
    cuda_libraries()
    workloads()
    seen: set[tuple[str, str]] = set()
    for cell in cells:
        key = (cell.kernel.source, cell.image)
        if key in seen or why_not(cell):
            continue
        seen.add(key)
        try:
            prepare(VmConfig(kernel=cell.kernel.source, image=cell.image), progress=progress)
            driver(find_kernel(cell.kernel.source, progress=progress))
        except (BuildError, LauncherError) as error:
            progress(f"{cell.kernel.name}: {error}", None)
