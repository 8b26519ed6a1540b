"""The columns of the monitor's table: what a channel's row says, sorts by, and adds up to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from vgpu_stub.monitor.rows import ChannelRow
from vgpu_stub.monitor.text import STATE_STYLES, bytes_text, format_bytes, rate_text


@dataclass(frozen=True)
class Column:
    """A column of the table: heading, width, text of a cell, value to sort by, sum over rows.

    Widths are fixed: a table that measures its cells anew at each look costs more than the look.
    """

    name: str
    width: int
    text: Callable[[ChannelRow], str]
    value: Callable[[ChannelRow], Any]
    total: Callable[[list[ChannelRow]], str] | None = None


def _sum(value: Callable[[ChannelRow], float | None]) -> Callable[[list[ChannelRow]], float]:
    return lambda rows: sum(value(row) or 0 for row in rows)


def _rate(name: str) -> Callable[[ChannelRow], float]:
    return lambda row: getattr(row, name) or 0.0


COLUMNS: Final = (
    Column(
        "process",
        15,
        lambda row: f"● {row.process} ({row.guest_pid})",
        lambda row: (row.process, row.guest_pid),
        lambda rows: f"{len(rows)} channel{'' if len(rows) == 1 else 's'}",
    ),
    Column(
        "depth",
        5,
        lambda row: str(row.depth),
        lambda row: row.depth,
        lambda rows: str(sum(row.depth for row in rows)),
    ),
    Column(
        "cmd/s",
        9,
        lambda row: rate_text(row.commands_per_s),
        _rate("commands_per_s"),
        lambda rows: rate_text(_sum(lambda row: row.commands_per_s)(rows)),
    ),
    Column(
        "busy",
        4,
        lambda row: "-" if row.busy is None else f"{row.busy:.0%}",
        _rate("busy"),
    ),
    Column(
        "to device",
        11,
        lambda row: bytes_text(row.bytes_to_device, row.to_device_per_s),
        lambda row: (row.to_device_per_s or 0, row.bytes_to_device),
        lambda rows: bytes_text(
            sum(row.bytes_to_device for row in rows), _sum(lambda row: row.to_device_per_s)(rows)
        ),
    ),
    Column(
        "to host",
        11,
        lambda row: bytes_text(row.bytes_to_host, row.to_host_per_s),
        lambda row: (row.to_host_per_s or 0, row.bytes_to_host),
        lambda rows: bytes_text(
            sum(row.bytes_to_host for row in rows), _sum(lambda row: row.to_host_per_s)(rows)
        ),
    ),
    Column(
        "memory",
        9,
        lambda row: format_bytes(row.memory_bytes),
        lambda row: row.memory_bytes,
        lambda rows: format_bytes(sum(row.memory_bytes for row in rows)),
    ),
    Column(
        "err",
        5,
        lambda row: str(row.errors),
        lambda row: row.errors,
        lambda rows: str(sum(row.errors for row in rows)),
    ),
)


def cell_style(column: Column, row: ChannelRow) -> str:
    """How a cell is shown, in rich's words."""
    if column.name == "err" and row.errors:
        return "red"
    return "dim" if row.state == "ended" else ""


def mark_style(row: ChannelRow) -> str:
    """How the mark before a process is shown, which tells its channel's state."""
    return STATE_STYLES.get(row.state, "dim")
