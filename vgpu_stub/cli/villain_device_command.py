"""`vgpu-stub villain device`: a device that lies, against the libraries and the driver."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from vgpu_qemu.kernels import DEFAULT_KERNEL
from vgpu_qemu.progress import console_progress
from vgpu_stub.cli.vm_command import AccelOption, KernelOption
from vgpu_stub.harness.build import sanitized_libraries
from vgpu_stub.villain.device.catalogue import cases
from vgpu_stub.villain.device.driver import DriverVictim, GuestOptions
from vgpu_stub.villain.device.library import PROGRAM, LibraryVictim
from vgpu_stub.villain.device.lie import Case, Target, select
from vgpu_stub.villain.device.result import Report, Result, joined
from vgpu_stub.villain.device.suite import run_suite
from vgpu_stub.villain.registry import Verdict

_STYLES: Final = {
    Verdict.PASS: "green",
    Verdict.FAIL: "bold red",
    Verdict.WEDGED: "bold magenta",
    Verdict.SKIP: "dim",
}


def device_command(
    list_cases: Annotated[
        bool, typer.Option("--list", help="Say which lies there are, and end.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="GLOB", help="Only lies whose id matches; several times."),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="What chance is made from: the same seed tells the same lies.")
    ] = 0,
    rounds: Annotated[
        int, typer.Option(min=1, help="How often each lie is told, with other chance each time.")
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    library: Annotated[
        bool, typer.Option("--library", help="Lie to the libraries alone, without a VM.")
    ] = False,
    driver: Annotated[
        bool, typer.Option("--driver", help="Lie to the kernel driver alone, in a VM.")
    ] = False,
    kernel: KernelOption = DEFAULT_KERNEL,
    accel: AccelOption = "auto",
    junit: Annotated[
        Path | None,
        typer.Option(dir_okay=False, metavar="FILE", help="Write the report as JUnit XML."),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Say what came of lies that passed, too.")
    ] = False,
) -> None:
    """Lie to the guest's side, and see that it neither crashes, hangs, leaks nor believes it.

    Libraries are built with address and undefined-behaviour sanitizers and lied to over the
    device's socket, without a VM. The kernel driver is lied to in a VM whose kernel checks as much
    as it can: it is bound, used by the libraries, reset and unbound for each lie.

    The exit status is 1 where a lie FAILs or a guest is WEDGED.

    Examples:

        vgpu-stub villain device --list

        vgpu-stub villain device

        vgpu-stub villain device --only 'completion-*' --rounds 5 --seed 7

        vgpu-stub villain device --library --only info-chance --seed 7 --verbose

        vgpu-stub villain device --driver --kernel 6.1 --junit reports/liar.xml
    """
    chosen = select(cases(), only or [])
    if not chosen:
        raise typer.BadParameter("no lie has such an id; --list says which there are")
    if list_cases:
        _print_list(chosen, as_json=as_json)
        return
    # What the lying device logs of its own is part of the lie.
    logging.disable(logging.CRITICAL)
    console = Console(stderr=as_json)

    def show(result: Result) -> None:
        if verbose or result.verdict in {Verdict.FAIL, Verdict.WEDGED}:
            verdict = result.verdict
            console.print(f"[{_STYLES[verdict]}]{verdict.value}[/] {result.id} ", end="")
            console.print(result.text, markup=False, highlight=False)

    both = library == driver
    reports: list[Report] = []
    if library or both:
        with LibraryVictim(sanitized_libraries(PROGRAM)) as libraries:
            reports.append(run_suite(libraries, chosen, seed=seed, rounds=rounds, done=show))
    if driver or both:
        with (
            console_progress() as progress,
            DriverVictim(GuestOptions(kernel, accel), progress) as module,
        ):
            reports.append(run_suite(module, chosen, seed=seed, rounds=rounds, done=show))
    report = joined(reports)
    if junit:
        report.write_junit(junit)
    if as_json:
        print(report.to_json())
    else:
        _print_summary(console, report)
    raise typer.Exit(1 if report.failed else 0)


def _print_list(chosen: list[Case], *, as_json: bool) -> None:
    if as_json:
        rows = [
            {
                "id": case.id,
                "section": case.section,
                "summary": case.summary,
                "targets": [t.name.lower() for t in Target if t in case.targets and t.name],
                "expect": case.expect.value,
            }
            for case in chosen
        ]
        json.dump(rows, sys.stdout, indent=1)
        print()
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("id", "section", "what the device says", "must be"):
        table.add_column(heading, overflow="fold")
    for case in chosen:
        table.add_row(case.id, case.section, case.summary, case.expect.value)
    console = Console()
    console.print(table, markup=False)
    console.print(f"{len(chosen)} lies")


def _print_summary(console: Console, report: Report) -> None:
    counts = report.counts
    told = ", ".join(
        f"[{_STYLES[verdict]}]{counts[verdict.value]} {verdict.value}[/]"
        for verdict in Verdict
        if counts[verdict.value]
    )
    console.print(
        f"{told}; {report.rate:.1f} lies a second, seed {report.seed}"
        + ("; tell one again with --only ID --seed N" if report.failed else "")
    )
