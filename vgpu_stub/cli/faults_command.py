"""`vgpu-stub faults`: what can go wrong on purpose, and the rules of running device servers."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from vgpu_host import runtime
from vgpu_stub.cli.options import FaultFileOption, fault_rules
from vgpu_stub.cli.report import fault_line
from vgpu_stub.faults import KINDS, Kind
from vgpu_stub.harness.control import Control

faults_app = typer.Typer(
    help="Faults on purpose: which there are, and the rules of running device servers.",
    no_args_is_help=True,
)

ServerOption = Annotated[
    str | None,
    typer.Option("--server", metavar="SERVER", help="Name or folder, where several run."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

_NOBODY = "No device server runs. Start one in another terminal: vgpu-stub exec, or vgpu-stub vm."


def chosen_servers(wanted: str | None) -> list[Path]:
    """Folders of the running servers, of `wanted` alone (name or path) where given.

    Ends the command with status 1 when there is none.
    """
    running = list(runtime.running_servers())
    found = [folder for folder in running if wanted in (None, folder.name, str(folder))]
    if not found:
        names = ", ".join(folder.name for folder in running)
        print(
            f"No device server {wanted!r} runs; there are {names}." if running else _NOBODY,
            file=sys.stderr,
        )
        raise typer.Exit(1)
    return found


def chosen_server(wanted: str | None) -> Path:
    """Folder of the one server that runs, or of `wanted`: what changes a server names it."""
    folders = chosen_servers(wanted)
    if len(folders) > 1:
        names = ", ".join(folder.name for folder in folders)
        raise typer.BadParameter(f"several servers run: say --server, one of {names}")
    return folders[0]


def kind_json(kind: Kind) -> dict[str, Any]:
    """A kind as plain data."""
    return {**asdict(kind), "point": kind.point.value}


@faults_app.command("kinds")
def kinds_command(
    name: Annotated[
        str | None, typer.Argument(metavar="[KIND]", help="One kind, with all about it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the kinds of faults: where each happens and what a guest sees.

    Examples:

        vgpu-stub faults kinds

        vgpu-stub faults kinds completion-late
    """
    if name is not None and name not in KINDS:
        raise typer.BadParameter(f"there is no fault {name!r}; see vgpu-stub faults kinds")
    kinds = [KINDS[name]] if name else list(KINDS.values())
    if as_json:
        print(json.dumps([kind_json(kind) for kind in kinds], indent=2))
    elif name:
        _print_kind(kinds[0])
    else:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for heading in ("kind", "at", "what a guest sees"):
            table.add_column(heading, overflow="fold", no_wrap=heading != "what a guest sees")
        for kind in kinds:
            table.add_row(kind.name, kind.point.value, kind.guest_sees)
        Console().print(table)


def _print_kind(kind: Kind) -> None:
    print(f"{kind.name}: {kind.summary}")
    print(f"A guest sees: {kind.guest_sees}.")
    for parameter in kind.parameters:
        print(f"  {parameter.name}={parameter.default}  {parameter.summary}")
    if kind.commands:
        print(f"About, unless an opcode is selected: {', '.join(kind.commands)}")
    print(f"Selectors: {', '.join(kind.selectors)}")
    print(
        f"Fires {'until it is cleared' if not kind.times else f'{kind.times} time(s)'}"
        " unless times, every or probability say otherwise."
    )


@faults_app.command("list")
def list_command(server: ServerOption = None, as_json: JsonOption = False) -> None:
    """List the rules of running servers, with the events that each has seen and how often it fired.

    Examples:

        vgpu-stub faults list

        vgpu-stub faults list --json | jq '.[].faults[] | {text, seen, fired}'
    """
    rules = {folder: Control(folder).faults.list() for folder in chosen_servers(server)}
    if as_json:
        print(json.dumps([{"folder": str(folder), "faults": rules[folder]} for folder in rules]))
        return
    for folder, faults in rules.items():
        print(f"server {folder.name}")
        for fault in faults:
            print(f"  {fault_line(fault)}")
        if not faults:
            print("  no fault rules")


@faults_app.command("add")
def add_command(
    rules: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RULE...]", help="Like completion-lost:opcode=cuMemAlloc,nth=3"),
    ] = None,
    file: FaultFileOption = None,
    server: ServerOption = None,
) -> None:
    """Add rules to a running server; they apply at once, to channels that there are and new ones.

    Examples:

        vgpu-stub faults add completion-lost:opcode=cuMemAlloc,nth=3

        vgpu-stub faults add --server gpu worker-crash:process=python3 ring-slow:delay_ms=2
    """
    wanted = fault_rules(rules, file)
    if not wanted:
        raise typer.BadParameter("name a rule, or a file with --faults")
    for fault in Control(chosen_server(server)).faults.add(wanted):
        print(f"{fault.id} {fault.rule}")


@faults_app.command("clear")
def clear_command(
    ids: Annotated[
        list[int] | None, typer.Argument(metavar="[ID...]", help="Which; all without any.")
    ] = None,
    server: ServerOption = None,
) -> None:
    """Clear rules of a running server.

    Examples:

        vgpu-stub faults clear

        vgpu-stub faults clear 2 3
    """
    Control(chosen_server(server)).faults.clear(*ids or ())
