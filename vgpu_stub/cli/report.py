"""Prints what the rings carried, as tables for people."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

from rich.console import Console
from rich.table import Table

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def format_bytes(count: int) -> str:
    """A number of bytes for people: "1.5 MiB"."""
    value = float(count)
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def all_channels(snapshot: dict[str, Any]) -> list[dict[str, Any]]:
    """Channels of a server that are in use, and those that ended."""
    live = [channel for device in snapshot["devices"] for channel in device["channels"]]
    return [*snapshot["ended_channels"], *live]


def account_tables(channels: list[dict[str, Any]]) -> list[Table]:
    """Tables of what each channel carried, and of refused functions where there are any."""
    table = Table(title="What the rings carried", title_justify="left")
    for heading in ("process", "state"):
        table.add_column(heading)
    for heading in (
        "commands",
        "launches",
        "to device",
        "to host",
        "doorbells",
        "waits",
        "interrupts",
        "errors",
    ):
        table.add_column(heading, justify="right")
    refused: Counter[str] = Counter()
    for channel in channels:
        guest, host = channel["guest"], channel["host"]
        table.add_row(
            f"{channel['guest_process']} ({channel['guest_pid']})",
            channel["state"],
            str(sum(channel["commands"].values())),
            str(channel["commands"].get("LAUNCH_KERNEL", 0)),
            format_bytes(host["bytes_to_device"]),
            format_bytes(host["bytes_to_host"]),
            str(guest["doorbells"]),
            str(guest["waits"]),
            str(host["interrupts"]),
            str(host["errors"]),
        )
        refused.update(channel["refused_functions"])
    tables = [table]
    if refused:
        refusals = Table(title="Refused functions (CUDA_ERROR_NOT_SUPPORTED)", title_justify="left")
        refusals.add_column("function")
        refusals.add_column("calls", justify="right")
        for name, count in refused.most_common():
            refusals.add_row(name, str(count))
        tables.append(refusals)
    return tables


def print_account(snapshot: dict[str, Any]) -> None:
    """Print the account of a server's channels to standard error."""
    console = Console(file=sys.stderr)
    channels = all_channels(snapshot)
    if not channels:
        console.print("No process opened the device: nothing went through a ring.")
        return
    for table in account_tables(channels):
        console.print(table)
