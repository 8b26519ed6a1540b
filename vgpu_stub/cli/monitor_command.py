"""`vgpu-stub monitor`: a live view of the channels of running device servers.

Looking costs the data path nothing: guest and worker keep their counters in shared memory anyway.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated

import typer
from rich.console import Console

from vgpu_stub.monitor.app import MonitorApp
from vgpu_stub.monitor.source import take_snapshots
from vgpu_stub.monitor.text import render

_NOBODY = (
    "No device server runs. Start one in another terminal, for example:\n"
    "    vgpu-stub exec -- python3 PROGRAM\n"
    "    vgpu-stub vm"
)


def monitor_command(
    server: Annotated[
        str | None,
        typer.Argument(metavar="[SERVER]", help="Name or folder of one server; all without it."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one snapshot of each server as JSON and end.")
    ] = False,
    once: Annotated[
        bool, typer.Option("--once", help="Print the view once, with rates over one interval.")
    ] = False,
    interval: Annotated[
        float, typer.Option(min=0.1, max=60, metavar="SECONDS", help="Time between two looks.")
    ] = 0.2,
) -> None:
    """Watch the channels of running devices: rings, commands, bytes, errors, memory.

    Keys: arrows choose a channel, s sorts by the next column, r turns the order round, / filters,
    p pauses, c counts from now on, q leaves; the mouse works too. Ends with status 1 when no
    device server runs.

    Examples:

        vgpu-stub monitor

        vgpu-stub monitor --once --interval 2

        vgpu-stub monitor --json | jq '.[].devices[].channels[].commands'
    """
    first = take_snapshots(server)
    if as_json:
        print(json.dumps([{"folder": str(path), **state} for path, state in first.items()]))
        raise typer.Exit(0 if first else 1)
    if not first:
        where = f"No device server {server!r} runs." if server and take_snapshots() else _NOBODY
        print(where, file=sys.stderr)
        raise typer.Exit(1)
    console = Console()
    if once or not console.is_terminal:
        time.sleep(interval)
        console.print(render(take_snapshots(server) or first, first))
    else:
        MonitorApp(lambda: take_snapshots(server), interval).run()
