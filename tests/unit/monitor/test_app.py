"""The live screen, driven by keys as a user does, over snapshots with chosen numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from textual.pilot import Pilot
from textual.widgets import Static

from vgpu_stub.monitor.app import MonitorApp
from vgpu_stub.monitor.table import ChannelTable

Make = Callable[..., dict[str, Any]]
SERVER = Path("/run/gpu7")


class Watched:
    """Snapshots one after the other; the last one for ever."""

    def __init__(self, *snapshots: dict[str, Any]) -> None:
        self._snapshots = list(snapshots)

    def __call__(self) -> dict[Path, dict[str, Any]]:
        snapshot = self._snapshots.pop(0) if len(self._snapshots) > 1 else self._snapshots[0]
        return {SERVER: snapshot} if snapshot else {}


def on_screen(
    source: Watched,
    steps: Callable[[MonitorApp, Pilot[None]], Awaitable[None]],
    size: tuple[int, int] = (80, 24),
) -> None:
    """Run the application without a terminal; it looks only when a step says so."""

    async def run() -> None:
        app = MonitorApp(source, interval=3600)
        async with app.run_test(size=size) as pilot:
            await app.workers.wait_for_complete()
            await pilot.pause()
            await steps(app, pilot)

    asyncio.run(run())


async def look(app: MonitorApp, pilot: Pilot[None]) -> None:
    app.look()
    await app.workers.wait_for_complete()
    await pilot.pause()


def table(app: MonitorApp) -> list[list[str]]:
    return [list(row.texts) for row in app.query_one(ChannelTable).rows]


def text(app: MonitorApp, name: str) -> str:
    return str(app.query_one(f"#{name}", Static).render())


def test_totals_are_the_sums_of_the_rows(channel: Make, server: Make) -> None:
    def busy(number: int, count: int) -> dict[str, Any]:
        made = channel(number, commands={"NOP": count * number}, to_device=1024 * count * number)
        made["host"]["errors"] = number
        return made

    before = server(busy(1, 10), busy(2, 10), time=50)
    after = server(busy(1, 20), busy(2, 20), time=52)

    async def steps(app: MonitorApp, pilot: Pilot[None]) -> None:
        await look(app, pilot)
        assert [row[2] for row in table(app)] == ["10", "5.0"]
        totals = text(app, "totals").split("  ")
        assert [part.strip() for part in totals if part.strip()] == [
            *("2 channels", "8", "15", "15.0 KiB/s", "0 B", "2.0 MiB", "3")
        ]

    on_screen(Watched(before, after), steps)


def test_sorting_goes_through_the_columns_and_round(channel: Make, server: Make) -> None:
    few, many = channel(1), channel(2)
    few["host"]["memory_bytes"], many["host"]["memory_bytes"] = 1 << 20, 3 << 20
    names = {"● python3 (101)", "● python3 (102)"}

    async def steps(app: MonitorApp, pilot: Pilot[None]) -> None:
        await pilot.press("s", "s", "s", "s")
        assert "by memory ↓" in text(app, "top")
        assert [row[0] for row in table(app)] == ["● python3 (102)", "● python3 (101)"]
        await pilot.press("r")
        assert [row[0] for row in table(app)] == ["● python3 (101)", "● python3 (102)"]
        assert {row[0] for row in table(app)} == names

    on_screen(Watched(server(few, many)), steps)


def test_a_filter_hides_rows_from_table_and_totals(channel: Make, server: Make) -> None:
    other = channel(2, guest_process="ollama")

    async def steps(app: MonitorApp, pilot: Pilot[None]) -> None:
        await pilot.press("slash", *"OLLA", "enter")
        assert [row[0] for row in table(app)] == ["● ollama (102)"]
        assert text(app, "totals").split("  ")[0] == " 1 channel"
        assert "filter 'OLLA'" in text(app, "top")
        await pilot.press("slash", "escape")
        assert len(table(app)) == 2

    on_screen(Watched(server(channel(1), other)), steps)


def test_a_pause_keeps_what_is_on_the_screen(channel: Make, server: Make) -> None:
    first, second = server(channel(1)), server(channel(1), channel(2), time=101)

    async def steps(app: MonitorApp, pilot: Pilot[None]) -> None:
        await pilot.press("p")
        await look(app, pilot)
        assert len(table(app)) == 1
        assert "PAUSED" in text(app, "top")
        await pilot.press("p")
        await look(app, pilot)
        assert len(table(app)) == 2

    on_screen(Watched(first, second), steps)


def test_cleared_counters_count_from_then_on(channel: Make, server: Make) -> None:
    def at(errors: int, time: float) -> dict[str, Any]:
        made = channel(1, commands={"NOP": 100 * errors}, to_device=errors * 1024)
        made["host"]["errors"] = errors
        return server(made, time=time)

    async def steps(app: MonitorApp, pilot: Pilot[None]) -> None:
        assert table(app)[0][7] == "7"
        await pilot.press("c")
        await look(app, pilot)
        assert table(app)[0][7] == "2"
        assert table(app)[0][2] == "200"
        assert "200 commands" in text(app, "lines")

    on_screen(Watched(at(7, 50), at(9, 51)), steps)


def test_the_selected_channel_is_shown_in_detail(channel: Make, server: Make) -> None:
    refusing = channel(2, refused_functions={"cuMemPoolCreate": 3})

    async def steps(app: MonitorApp, pilot: Pilot[None]) -> None:
        await pilot.press("down")
        detail = text(app, "lines")
        assert "gpu0 channel 2, worker 5002: ring 40..44/4096" in detail
        assert "refused: cuMemPoolCreate x3" in detail
        assert "2 allocations, 1 modules" in detail

    on_screen(Watched(server(channel(1), refusing)), steps)


def test_a_click_selects_a_row_or_sorts_by_a_column(channel: Make, server: Make) -> None:
    async def steps(app: MonitorApp, pilot: Pilot[None]) -> None:
        await pilot.click(ChannelTable, offset=(5, 2))
        assert "channel 2" in text(app, "lines")
        await pilot.click(ChannelTable, offset=(3, 0))
        assert "by process ↓" in text(app, "top")
        await pilot.click(ChannelTable, offset=(3, 0))
        assert "by process ↑" in text(app, "top")

    on_screen(Watched(server(channel(1), channel(2))), steps)


def test_a_selection_beyond_the_screen_scrolls_there(channel: Make, server: Make) -> None:
    many = [channel(number) for number in range(1, 65)]

    async def steps(app: MonitorApp, pilot: Pilot[None]) -> None:
        await pilot.press("end")
        await pilot.pause()
        shown = app.query_one(ChannelTable)
        assert shown.selected == shown.rows[-1].key
        assert "(164)" in shown.render_line(shown.size.height - 1).text
        await pilot.press("home")
        await pilot.pause()
        assert "(101)" in shown.render_line(1).text

    on_screen(Watched(server(*many)), steps)


def test_faults_in_force_are_shown_with_what_they_did(channel: Make, server: Make) -> None:
    snapshot = server(channel(1))
    snapshot["faults"] = [{"id": 2, "text": "msix-lost:every=3", "seen": 9, "fired": 3}]

    async def steps(app: MonitorApp, pilot: Pilot[None]) -> None:
        assert "1 fault rule in force" in text(app, "measured")
        assert "fault 2 msix-lost:every=3: seen 9, fired 3" in text(app, "lines")

    on_screen(Watched(snapshot), steps)


def test_a_channel_that_comes_or_goes_keeps_the_selection(channel: Make, server: Make) -> None:
    two, three = [channel(1), channel(2)], [channel(1), channel(2), channel(3)]

    async def steps(app: MonitorApp, pilot: Pilot[None]) -> None:
        await pilot.press("down")
        await look(app, pilot)
        assert len(table(app)) == 3
        assert "channel 2" in text(app, "lines")

    on_screen(Watched(server(*two), server(*three, time=101)), steps)


def test_without_a_server_it_says_how_to_start_one() -> None:
    async def steps(app: MonitorApp, pilot: Pilot[None]) -> None:
        assert "no device server runs" in text(app, "top")
        assert "vgpu-stub exec -- python3 PROGRAM" in text(app, "lines")

    on_screen(Watched({}), steps)


def test_eighty_columns_have_room_for_every_column(channel: Make, server: Make) -> None:
    full = channel(1, to_device=int(999.9 * 2**20), to_host=1023 << 30)
    full["submission_ring"]["depth"] = 4096
    full["host"] |= {"ring_high_water": 4096, "memory_bytes": 1023 << 30, "errors": 12345}

    async def steps(app: MonitorApp, pilot: Pilot[None]) -> None:
        shown = app.query_one(ChannelTable)
        # Two are for the bar by which it scrolls.
        assert shown.virtual_size.width <= 78
        assert "999.9 MiB" in shown.render_line(1).text
        assert "…" not in shown.render_line(1).text[17:]

    on_screen(Watched(server(full)), steps)
