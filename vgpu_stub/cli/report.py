"""Prints what the rings carried, as tables for people."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from vgpu_stub.monitor.text import format_bytes


def all_channels(snapshot: dict[str, Any]) -> list[dict[str, Any]]:
    """Channels of a server that are in use, and those that ended."""
    live = [channel for device in snapshot["devices"] for channel in device["channels"]]
    return [*snapshot["ended_channels"], *live]


def _kernel_launches(channel: dict[str, Any]) -> int:
    """Kernels launched one by one and as part of graphs."""
    commands = channel["commands"]
    single = commands.get("LAUNCH_KERNEL", 0) + commands.get("LAUNCH_COOPERATIVE", 0)
    return int(single + channel["host"]["graph_kernels"])


#: Rows of the account: what it says, and where the number is in a channel's snapshot.
_ROWS: Final[tuple[tuple[str, Callable[[dict[str, Any]], str]], ...]] = (
    ("state", lambda channel: str(channel["state"])),
    ("commands", lambda channel: str(sum(channel["commands"].values()))),
    ("kernel launches", lambda channel: str(_kernel_launches(channel))),
    ("graph launches", lambda channel: str(channel["commands"].get("GRAPH_LAUNCH", 0))),
    ("host to device", lambda channel: format_bytes(channel["host"]["bytes_to_device"])),
    ("device to host", lambda channel: format_bytes(channel["host"]["bytes_to_host"])),
    ("doorbells (trapped writes)", lambda channel: str(channel["guest"]["doorbells"])),
    ("waits (guest sleeps)", lambda channel: str(channel["guest"]["waits"])),
    ("interrupts", lambda channel: str(channel["host"]["interrupts"])),
    ("device busy", lambda channel: f"{channel['host']['busy_ns'] / 1e6:.1f} ms"),
    ("errors", lambda channel: str(channel["host"]["errors"])),
)


def account_tables(channels: list[dict[str, Any]]) -> list[Table]:
    """Tables of what each channel carried, and of refused functions where there are any."""
    table = Table(title="What the rings carried", title_justify="left")
    table.add_column("")
    for channel in channels:
        heading = f"{channel['guest_process']} ({channel['guest_pid']})"
        table.add_column(heading, justify="right")
    for name, read in _ROWS:
        table.add_row(name, *(read(channel) for channel in channels))
    refused: Counter[str] = Counter()
    for channel in channels:
        refused.update(channel["refused_functions"])
    if not refused:
        return [table]
    refusals = Table(title="Refused: CUDA_ERROR_NOT_SUPPORTED", title_justify="left")
    refusals.add_column("function")
    refusals.add_column("calls", justify="right")
    for name, count in refused.most_common():
        refusals.add_row(name, str(count))
    return [table, refusals]


def fault_line(fault: dict[str, Any]) -> str:
    """A fault rule of a snapshot in one line."""
    return f"{fault['id']} {fault['text']}: seen {fault['seen']}, fired {fault['fired']}"


def print_faults(snapshot: dict[str, Any]) -> None:
    """Say on standard error what became of a server's fault rules."""
    for fault in snapshot["faults"]:
        print(f"vgpu-stub: fault {fault_line(fault)}", file=sys.stderr)


def print_account(snapshot: dict[str, Any]) -> None:
    """Print the account of a server's channels to standard error."""
    console = Console(file=sys.stderr)
    channels = all_channels(snapshot)
    if not channels:
        console.print("No process opened the device: nothing went through a ring.")
        return
    for table in account_tables(channels):
        console.print(table)
