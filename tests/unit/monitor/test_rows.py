"""What the monitor makes of two snapshots: rates, totals, order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from vgpu_stub.monitor.rows import server_view
from vgpu_stub.monitor.text import detail_lines, render

Make = Callable[..., dict[str, Any]]


def test_a_row_has_the_numbers_of_its_channel(channel: Make, server: Make) -> None:
    commands = {"LAUNCH_KERNEL": 30, "MEMSET": 12}
    view = server_view("gpu", server(channel(commands=commands, to_device=10, to_host=20)))
    (row,) = view.channels
    assert (row.head, row.tail, row.depth, row.entries) == (40, 44, 4, 4096)
    assert (row.commands, row.bytes_to_device, row.bytes_to_host) == (42, 10, 20)
    assert (row.doorbells, row.waits, row.sleeps, row.interrupts) == (2, 3, 5, 6)
    assert (row.memory_bytes, row.registered_bytes, row.errors) == (1 << 20, 4096, 0)
    assert (view.pid, view.devices, view.connected, view.resets) == (4242, 1, 1, 1)


def test_without_an_earlier_snapshot_there_are_no_rates(channel: Make, server: Make) -> None:
    (row,) = server_view("gpu", server(channel(commands={"NOP": 5}))).channels
    assert (row.commands_per_s, row.to_device_per_s, row.to_host_per_s) == (None, None, None)
    assert row.kinds_per_s == ()


def test_rates_are_differences_by_the_time_between(channel: Make, server: Make) -> None:
    before = server(channel(commands={"NOP": 10, "MEMSET": 1}, to_device=1000, to_host=0), time=50)
    after = channel(
        commands={"NOP": 14, "MEMSET": 1, "LAUNCH_KERNEL": 100}, to_device=5000, to_host=200
    )
    (row,) = server_view("gpu", server(after, time=52), before).channels
    assert row.commands_per_s == 52
    assert (row.to_device_per_s, row.to_host_per_s) == (2000, 100)
    assert row.kinds_per_s == (("LAUNCH_KERNEL", 50), ("NOP", 2))
    assert sum(rate for _, rate in row.kinds_per_s) == row.commands_per_s


def test_a_worker_in_the_middle_of_a_batch_is_busy(channel: Make, server: Make) -> None:
    def at(time: float, busy_ns: int, since_s: float) -> dict[str, Any]:
        made = channel(commands={"NOP": 1})
        made["host"] |= {"busy_ns": busy_ns, "busy_since_ns": int(since_s * 1e9)}
        return server(made, time=time)

    idle, working, done = at(50, 0, 0), at(52, 0, 51.5), at(54, 1_500_000_000, 0)
    assert server_view("gpu", working, idle).channels[0].busy == 0.25
    assert server_view("gpu", done, working).channels[0].busy == 0.5


def test_a_channel_that_was_reused_has_no_rates_of_its_predecessor(
    channel: Make, server: Make
) -> None:
    before = server(channel(commands={"NOP": 1000}), time=50)
    after = server(channel(commands={"NOP": 3}, worker_pid=9999), time=51)
    (row,) = server_view("gpu", after, before).channels
    assert (row.commands, row.commands_per_s) == (3, None)


def test_snapshots_of_the_same_moment_give_no_rates(channel: Make, server: Make) -> None:
    same = server(channel(commands={"NOP": 3}))
    (row,) = server_view("gpu", same, same).channels
    assert row.commands_per_s is None


def test_ended_channels_come_latest_first(channel: Make, server: Make) -> None:
    ended = [channel(number, state="ended") for number in (1, 2, 3)]
    view = server_view("gpu", server(ended=ended))
    assert view.channels == ()
    assert [row.channel for row in view.ended] == [3, 2, 1]


def shown(now: dict[str, Any], before: dict[str, Any] | None = None) -> str:
    folder = Path("/run/vgpu-stub/gpu")
    console = Console(width=80, force_terminal=False)
    with console.capture() as capture:
        console.print(render({folder: now}, {folder: before} if before else {}))
    return capture.get()


def test_the_view_fits_80_columns_and_has_every_channel(channel: Make, server: Make) -> None:
    channels = [
        channel(1, guest_process="matrix_multiply", commands={"LAUNCH_KERNEL": 123_456_789}),
        channel(2, guest_process="train", to_device=3 << 30, to_host=17 << 40, state="failed"),
    ]
    text = shown(server(*channels, time=101.0), server(channel(1), time=100.0))
    assert max(len(line) for line in text.splitlines()) <= 80
    lines = text.splitlines()
    assert lines[0].startswith("server gpu  pid 4242  software executor")
    first = next(line for line in lines if line.startswith("matrix"))
    assert "ready" in first
    assert "123,456,789" in first
    second = next(line for line in lines if line.startswith("train (102)"))
    assert "failed" in second
    assert "17.0 TiB" in second


def test_a_server_that_nobody_uses_says_so(server: Make) -> None:
    assert "no process has opened the device yet" in shown(server())


def test_details_name_refused_functions_and_errors(channel: Make, server: Make) -> None:
    failed = channel(
        state="failed", error=719, refused_functions={"cuGraphCreate": 2, "cuArrayCreate": 1}
    )
    (row,) = server_view("gpu", server(failed)).channels
    lines = detail_lines(row)
    assert "  failed with CUresult 719" in lines
    assert "  refused: cuArrayCreate x1, cuGraphCreate x2" in lines
