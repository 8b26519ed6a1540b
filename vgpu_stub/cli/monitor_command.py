"""`vgpu-stub monitor`: a live view of the channels of running device servers.

The numbers come from `monitor_rows`; here they become lines of text that fit 80 columns. Looking
costs the data path nothing: guest and worker keep their counters in shared memory anyway.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from vgpu_host import runtime
from vgpu_stub.cli.monitor_rows import ChannelRow, ServerView, server_view
from vgpu_stub.cli.report import format_bytes
from vgpu_stub.harness.device_server import DeviceServerError, read_snapshot

Snapshots = dict[Path, dict[str, Any]]

_NOBODY = (
    "No device server runs. Start one in another terminal, for example:\n"
    "    vgpu-stub exec -- python3 PROGRAM\n"
    "    vgpu-stub vm"
)
_STATE_STYLES = {"ready": "green", "starting": "yellow", "failed": "bold red"}
_ENDED_SHOWN = 3
_KINDS_SHOWN = 4


def take_snapshots(wanted: str | None = None) -> Snapshots:
    """Snapshots of running servers by folder; of `wanted` alone (name or path) where given."""
    snapshots = {}
    for folder in runtime.running_servers():
        if wanted in (None, folder.name, str(folder)):
            # A server may end between being found and being asked.
            with contextlib.suppress(DeviceServerError, json.JSONDecodeError):
                snapshots[folder] = read_snapshot(folder)
    return snapshots


def render(now: Snapshots, before: Mapping[Path, Any], *, details: bool = True) -> Group:
    """The view of all servers.

    Args:
        now: Latest snapshots.
        before: Earlier ones, for rates.
        details: A second and third line for each channel.
    """
    parts: list[Table | Text] = []
    for folder, snapshot in now.items():
        view = server_view(folder.name, snapshot, before.get(folder))
        parts += [_headline(view), _table(view, details=details)]
    return Group(*parts)


def _headline(view: ServerView) -> Text:
    return Text.assemble(
        (f"server {view.name}", "bold"),
        f"  pid {view.pid}  {view.executor} executor  devices {view.connected}/{view.devices}"
        f"  channels {len(view.channels)}  register accesses {view.register_accesses}"
        f"  resets {view.resets}",
    )


def _table(view: ServerView, *, details: bool) -> Table | Text:
    if not view.channels and not view.ended:
        return Text("  no process has opened the device yet", style="dim")
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    # The one column that may shrink: a name cut short still tells, a number cut short lies.
    table.add_column("process", min_width=10)
    table.add_column("state", no_wrap=True)
    headings = ("depth", "cmd/s", "to device", "to host", "memory", "errors")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    rows = [*view.channels, *view.ended[:_ENDED_SHOWN]]
    for row in rows:
        table.add_row(
            Text(f"{row.process} ({row.guest_pid})", no_wrap=True, overflow="ellipsis"),
            Text(row.state, style=_STATE_STYLES.get(row.state, "dim")),
            str(row.depth),
            _rate_text(row.commands_per_s),
            _bytes_text(row.bytes_to_device, row.to_device_per_s),
            _bytes_text(row.bytes_to_host, row.to_host_per_s),
            format_bytes(row.memory_bytes),
            Text(str(row.errors), style="red" if row.errors else ""),
            style="dim" if row.state == "ended" else "",
        )
    if not details:
        return table
    grid = Table.grid()
    grid.add_row(table)
    for row in rows:
        for line in detail_lines(row):
            grid.add_row(Text(line, style="dim", overflow="ellipsis", no_wrap=True))
    return grid


def detail_lines(row: ChannelRow) -> list[str]:
    """What does not fit the table: rings, wake-ups, rates by kind, refused functions."""
    asleep = [
        name
        for name, is_so in (("worker", row.worker_sleeps), ("guest", row.guest_sleeps))
        if is_so
    ]
    lines = [
        f"{row.device} channel {row.channel}, worker {row.worker_pid}:"
        f" ring {row.head}..{row.tail}/{row.entries}, asleep: {' and '.join(asleep) or 'none'}",
        f"  {row.commands} commands, {row.doorbells} doorbells, {row.interrupts} interrupts,"
        f" sleeps: worker {row.sleeps}, guest {row.waits}",
    ]
    if row.error:
        lines.append(f"  failed with CUresult {row.error}")
    if row.kinds_per_s:
        shown = row.kinds_per_s[:_KINDS_SHOWN]
        lines.append("  " + ", ".join(f"{kind} {_rate_text(rate)}/s" for kind, rate in shown))
    if row.refused:
        lines.append("  refused: " + ", ".join(f"{name} x{count}" for name, count in row.refused))
    return lines


def _rate_text(rate: float | None) -> str:
    if rate is None:
        return "-"
    return f"{rate:,.0f}" if rate >= 10 or rate == 0 else f"{rate:.1f}"


def _bytes_text(total: int, rate: float | None) -> str:
    if rate:
        return f"{format_bytes(int(rate))}/s"
    return format_bytes(total)


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
    ] = 1.0,
) -> None:
    """Watch the channels of running devices: rings, commands, bytes, errors, memory.

    Ends with status 1 when no device server runs. Ctrl-C leaves the live view.

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
    with contextlib.suppress(KeyboardInterrupt):
        if once or not console.is_terminal:
            time.sleep(interval)
            console.print(render(take_snapshots(server) or first, first))
        else:
            _watch(console, server, first, interval)


def _watch(console: Console, server: str | None, before: Snapshots, interval: float) -> None:
    with Live(console=console, screen=True, auto_refresh=False) as live:
        live.update(render(before, {}), refresh=True)
        while True:
            time.sleep(interval)
            now = take_snapshots(server)
            if not now:
                break
            live.update(render(now, before), refresh=True)
            before = now
    console.print(render(before, {}))
    console.print("The device server ended.")
