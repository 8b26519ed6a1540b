"""The account of what the rings carried."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rich.table import Table

from vgpu_stub.cli.report import account_tables, all_channels, format_bytes

Make = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536 << 10, "1.5 MiB"),
        (3 << 30, "3.0 GiB"),
        (2048 << 40, "2048 TiB"),
    ],
)
def test_bytes_are_written_for_people(count: int, text: str) -> None:
    assert format_bytes(count) == text


def cells(table: Table) -> dict[str, list[str]]:
    """Rows of a table by their first cell."""
    columns = [list(column.cells) for column in table.columns]
    rows = [[str(cell) for cell in row] for row in zip(*columns, strict=True)]
    return {row[0]: row[1:] for row in rows}


def test_account_has_a_column_for_each_channel(channel: Make) -> None:
    channels = [
        channel(1, commands={"LAUNCH_KERNEL": 30, "MEMSET": 12}, to_device=2048, to_host=10),
        channel(2, commands={"GRAPH_LAUNCH": 2}, state="ended"),
    ]
    channels[1]["host"]["graph_kernels"] = 14
    (table,) = account_tables(channels)
    assert [str(column.header) for column in table.columns] == [
        "",
        "python3 (101)",
        "python3 (102)",
    ]
    assert cells(table) == {
        "state": ["ready", "ended"],
        "commands": ["42", "2"],
        "kernel launches": ["30", "14"],
        "graph launches": ["0", "2"],
        "host to device": ["2.0 KiB", "0 B"],
        "device to host": ["10 B", "0 B"],
        "doorbells (trapped writes)": ["2", "2"],
        "waits (guest sleeps)": ["3", "3"],
        "interrupts": ["6", "6"],
        "device busy": ["1.5 ms", "1.5 ms"],
        "errors": ["0", "0"],
    }


def test_refused_functions_are_summed_most_often_first(channel: Make) -> None:
    channels = [
        channel(1, refused_functions={"cuGraphCreate": 2, "cuArrayCreate": 3}),
        channel(2, refused_functions={"cuGraphCreate": 5}),
    ]
    _, refusals = account_tables(channels)
    assert list(cells(refusals).items()) == [("cuGraphCreate", ["7"]), ("cuArrayCreate", ["3"])]


def test_ended_and_live_channels_are_all_accounted(channel: Make, server: Make) -> None:
    snapshot = server(channel(2), channel(3), ended=[channel(1)])
    assert [found["channel"] for found in all_channels(snapshot)] == [1, 2, 3]
