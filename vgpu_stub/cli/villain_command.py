"""`vgpu-stub villain`: hostile suites against the device, and what they find."""

from __future__ import annotations

import json
import os
from pathlib import Path
from time import monotonic
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vgpu_stub.cli.villain_device_command import device_command
from vgpu_stub.villain import report
from vgpu_stub.villain.guest.catalogue import attacks
from vgpu_stub.villain.guest.runner import Settings, run_attacks
from vgpu_stub.villain.registry import Attack, Outcome, Verdict

villain_app = typer.Typer(
    name="villain",
    help="Attack the device, or let the device attack its driver, rule by rule.",
    no_args_is_help=True,
)

_STYLES: Final = {
    Verdict.PASS: "green",
    Verdict.FAIL: "bold red",
    Verdict.WEDGED: "bold magenta",
    Verdict.SKIP: "yellow",
}

ListOption = Annotated[bool, typer.Option("--list", help="List the attacks and end.")]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="GLOB", help="Only attacks whose names match; several times."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write the result as JSON.")]
JunitOption = Annotated[
    Path | None,
    typer.Option("--junit", dir_okay=False, metavar="FILE", help="Write it as JUnit XML too."),
]
SeedOption = Annotated[
    int, typer.Option(metavar="N", help="Seed of everything random; the same gives the same.")
]


@villain_app.callback()
def _villain() -> None:
    """Attack the device, or let the device attack its driver, rule by rule."""


villain_app.command("device")(device_command)


@villain_app.command("guest")
def guest_command(
    list_only: ListOption = False,
    only: OnlyOption = None,
    as_json: JsonOption = False,
    junit: JunitOption = None,
    jobs: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Device servers to attack at a time; 0: by the CPUs."
        ),
    ] = 0,
    seed: SeedOption = 0,
) -> None:
    """Attack the device as a hostile guest would, and see who is harmed.

    Each attack breaks one rule of the data sheet or of the vfio-user protocol. It passes when the
    device answers as the rule says, the device server and everybody else on it go on undisturbed,
    nothing leaks, and the attacked device computes right answers again after a reset.

    The exit status is 1 when an attack FAILs or is WEDGED.

    Examples:

        vgpu-stub villain guest

        vgpu-stub villain guest --list --only 'rings.*'

        vgpu-stub villain guest --only 'races.*' --seed 7

        vgpu-stub villain guest --json --junit reports/villain.xml
    """
    chosen = attacks(only or ())
    if not chosen:
        raise typer.BadParameter("no attack has such a name; --list shows them all")
    if list_only:
        _list(chosen, as_json=as_json)
        return
    console = Console(stderr=as_json)
    started = monotonic()
    settings = Settings(seed, jobs or min(4, os.cpu_count() or 1))
    outcomes: list[Outcome] = []
    for outcome in run_attacks(chosen, settings):
        outcomes.append(outcome)
        _show(console, outcome, len(outcomes), len(chosen))
    seconds = monotonic() - started
    outcomes.sort(key=lambda outcome: outcome.attack.id)
    if as_json:
        print(json.dumps(report.as_json(outcomes, seed, seconds), indent=2))
    if junit:
        report.write_junit(outcomes, "villain.guest", junit)
    found = ", ".join(f"{count} {name}" for name, count in report.counts(outcomes).items())
    console.print(f"{len(outcomes)} attacks in {seconds:.1f} s (seed {seed}): {found}")
    raise typer.Exit(0 if report.harmless(outcomes) else 1)


def _list(chosen: list[Attack], *, as_json: bool) -> None:
    if as_json:
        rows = [
            {
                "id": attack.id,
                "section": attack.section,
                "rule": attack.rule,
                "expects": attack.expects,
                "covers": list(attack.covers),
                "may_break": attack.harm.value,
            }
            for attack in chosen
        ]
        print(json.dumps(rows, indent=2))
        return
    table = Table("attack", "section", "rule", "expected", box=None, pad_edge=False)
    for attack in chosen:
        table.add_row(
            attack.id, escape(attack.section), escape(attack.rule), escape(attack.expects)
        )
    console = Console()
    console.print(table)
    console.print(f"{len(chosen)} attacks")


def _show(console: Console, outcome: Outcome, number: int, total: int) -> None:
    style = _STYLES[outcome.verdict]
    width = len(str(total))
    console.print(
        f"[dim]{number:>{width}}/{total}[/] [{style}]{outcome.verdict.value:6}[/] "
        f"{outcome.seconds:5.2f} s  {outcome.attack.id}",
        highlight=False,
    )
    if outcome.reason:
        console.print(f"{' ' * (2 * width + 9)}{escape(outcome.reason)}", highlight=False)
