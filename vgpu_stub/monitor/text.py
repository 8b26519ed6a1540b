"""The view of device servers as text of 80 columns: printed once, and parts of the screen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

from vgpu_stub.monitor.rows import ChannelRow, ServerView, server_view
from vgpu_stub.monitor.source import Snapshots

STATE_STYLES: Final = {"ready": "green", "starting": "yellow", "failed": "bold red"}
"""How a channel's state is shown."""

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_ENDED_SHOWN: Final = 3
_KINDS_SHOWN: Final = 4


def format_bytes(count: int) -> str:
    """A number of bytes for people: "1.5 MiB"."""
    value = float(count)
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            whole = unit == "B" or value >= 1000
            return f"{value:.0f} {unit}" if whole else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


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
        parts += [Text(fault_line(fault), style="yellow") for fault in snapshot.get("faults", ())]
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
            Text(row.state, style=STATE_STYLES.get(row.state, "dim")),
            str(row.depth),
            rate_text(row.commands_per_s),
            bytes_text(row.bytes_to_device, row.to_device_per_s),
            bytes_text(row.bytes_to_host, row.to_host_per_s),
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


def fault_line(fault: Mapping[str, Any]) -> str:
    """A fault rule that is in force, and what it did."""
    return f"  fault {fault['id']} {fault['text']}: seen {fault['seen']}, fired {fault['fired']}"


def detail_lines(row: ChannelRow) -> list[str]:
    """What does not fit the table: rings, wake-ups, rates by kind, refused functions."""
    asleep = [
        name
        for name, is_so in (("worker", row.worker_sleeps), ("guest", row.guest_sleeps))
        if is_so
    ]
    lines = [
        f"{row.device} channel {row.channel}, worker {row.worker_pid}:"
        f" ring {row.head}..{row.tail}/{row.entries}, most {row.high_water},"
        f" asleep: {' and '.join(asleep) or 'none'}",
        f"  {row.commands} commands, {row.doorbells} doorbells, {row.interrupts} interrupts,"
        f" sleeps: worker {row.sleeps}, guest {row.waits}",
    ]
    if row.error:
        lines.append(f"  failed with CUresult {row.error}")
    if row.kinds_per_s:
        shown = row.kinds_per_s[:_KINDS_SHOWN]
        lines.append("  " + ", ".join(f"{kind} {rate_text(rate)}/s" for kind, rate in shown))
    if row.refused:
        lines.append("  refused: " + ", ".join(f"{name} x{count}" for name, count in row.refused))
    return lines


def rate_text(rate: float | None) -> str:
    """A number a second: "1,234", "0.5", "-" where it is unknown."""
    if rate is None:
        return "-"
    return f"{rate:,.0f}" if rate >= 10 or rate == 0 else f"{rate:.1f}"


def bytes_text(total: int, rate: float | None) -> str:
    """Bytes a second while there are any, else how many there were."""
    if rate:
        return f"{format_bytes(int(rate))}/s"
    return format_bytes(total)
