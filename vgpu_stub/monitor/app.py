"""The live screen: every channel of every device server in a table, and one of them in detail.

It looks in a thread of its own, so that a server that answers late never holds up the keys. What
it shows is made by `History` and `rows`; totals are sums of the rows on the screen.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from rich.text import Text
from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Footer, Input, Sparkline, Static

from vgpu_stub.monitor.columns import COLUMNS, cell_style, mark_style
from vgpu_stub.monitor.history import History, Key, key_of
from vgpu_stub.monitor.rows import ChannelRow, ServerView
from vgpu_stub.monitor.source import Snapshots, Source
from vgpu_stub.monitor.table import ChannelTable, Heading, Row
from vgpu_stub.monitor.text import detail_lines, fault_line, format_bytes

_PROCESS_EXTRA: Final = 24


class MonitorApp(App[None]):
    """The screen of `vgpu-stub monitor`."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #top { height: 1; padding: 0 1; background: $primary-darken-2; color: $text; }
    #measured { height: 1; padding: 0 1; color: $text-muted; }
    #channels { height: 1fr; min-height: 5; }
    #totals { height: 1; text-style: bold; }
    #filter { display: none; height: 1; border: none; padding: 0 1; }
    #filter.open { display: block; }
    #detail { height: 10; padding: 0 1; border-top: solid $primary-darken-2; }
    #graphs { height: 2; }
    #graphs Static { width: 9; }
    #graphs Sparkline { width: 1fr; height: 2; margin-right: 2; }
    #depths > .sparkline--max-color { color: $warning; }
    #depths > .sparkline--min-color { color: $warning-darken-3; }
    #lines { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("p", "pause", "Pause"),
        Binding("s", "sort", "Sort"),
        Binding("r", "reverse", "Reverse"),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("c", "clear", "Clear counters"),
        Binding("escape", "close_filter", "No filter", show=False),
    ]

    def __init__(self, source: Source, interval: float = 0.2) -> None:
        """Prepare.

        Args:
            source: Takes snapshots.
            interval: Time between two looks in seconds.
        """
        super().__init__()
        self._source = source
        self._interval = interval
        self._history = History()
        self._views: list[ServerView] = []
        self._measured: dict[str, Any] = {}
        self._faults: list[dict[str, Any]] = []
        self._paused = False
        self._sorted_by = COLUMNS[2]
        self._reverse = True
        self._wanted = ""
        self._shown: dict[str, tuple[ServerView, ChannelRow]] = {}

    def compose(self) -> ComposeResult:
        """The screen from top to bottom."""
        yield Static(id="top")
        yield Static(id="measured")
        yield ChannelTable("channels")
        yield Static(id="totals")
        yield Input(id="filter", placeholder="part of a process, device or state; Enter keeps it")
        with Vertical(id="detail"):
            with Horizontal(id="graphs"):
                yield Static("commands\na second")
                yield Sparkline([], id="rates")
                yield Static("ring\ndepth")
                yield Sparkline([], id="depths")
            yield Static(id="lines")
        yield Footer()

    def on_mount(self) -> None:
        """Look at once, and then again and again."""
        self._table.focus()
        self.look()
        self.set_interval(self._interval, self.look)

    @property
    def _table(self) -> ChannelTable:
        return self.query_one("#channels", ChannelTable)

    # -- looking ---------------------------------------------------------------------------------

    @work(thread=True, exclusive=True, exit_on_error=True)
    def look(self) -> None:
        """Take snapshots and show them."""
        if not self._paused:
            self.call_from_thread(self.show, self._source())

    def show(self, snapshots: Snapshots) -> None:
        """Show snapshots."""
        self._views = self._history.view(snapshots)
        self._measured = {}
        self._faults = []
        for snapshot in snapshots.values():
            self._measured |= snapshot.get("measured") or {}
            self._faults += snapshot.get("faults") or []
        self._render_all()

    def _render_all(self) -> None:
        rows = [(view, row) for view in self._views for row in (*view.channels, *view.ended[:3])]
        rows = [(view, row) for view, row in rows if self._matches(view, row)]
        rows.sort(key=lambda pair: self._sorted_by.value(pair[1]), reverse=self._reverse)
        rows.sort(key=lambda pair: pair[1].state == "ended")
        self._render_top(len(rows))
        self._render_table(rows)
        self._render_totals([row for _, row in rows])
        self._render_detail()

    def _matches(self, view: ServerView, row: ChannelRow) -> bool:
        text = f"{view.name} {row.device} {row.process} ({row.guest_pid}) {row.state}"
        return self._wanted.lower() in text.lower()

    def _render_top(self, rows: int) -> None:
        names = ", ".join(f"{view.name} ({view.executor})" for view in self._views)
        state = "  PAUSED" if self._paused else ""
        wanted = f"  filter {self._wanted!r}" if self._wanted else ""
        order = f"  by {self._sorted_by.name} {'↓' if self._reverse else '↑'}"
        head = f"vgpu-stub monitor  {names or 'no device server runs'}{order}{wanted}{state}"
        self._write("top", Text(head))
        self._write("measured", Text(self._measured_line() or f"{rows} rows"))

    def _measured_line(self) -> str:
        measured = self._measured
        parts = []
        if "gpu_percent" in measured:
            parts.append(f"GPU {measured['gpu_percent']} %")
        if "memory_used" in measured:
            parts.append(f"device memory {format_bytes(measured['memory_used'])} used")
        if "temperature_c" in measured:
            parts.append(f"{measured['temperature_c']} °C")
        if "power_mw" in measured:
            parts.append(f"{measured['power_mw'] / 1000:.0f} W")
        if self._faults:
            rules = "rule" if len(self._faults) == 1 else "rules"
            parts.append(f"{len(self._faults)} fault {rules} in force")
        return "  ".join(parts)

    # -- the table -------------------------------------------------------------------------------

    def _render_table(self, rows: list[tuple[ServerView, ChannelRow]]) -> None:
        self._shown = {_id(key_of(view.name, row)): (view, row) for view, row in rows}
        # Names get what a wide terminal has.
        spare = min(max(self.size.width - 80, 0), _PROCESS_EXTRA)
        headings = [
            Heading(each.name, each.width + (0 if i else spare), numbers=i > 0)
            for i, each in enumerate(COLUMNS)
        ]
        self._table.show(headings, [_table_row(key, row) for key, (_, row) in self._shown.items()])

    def _render_totals(self, rows: list[ChannelRow]) -> None:
        """Show the sums under their columns."""
        sums = [column.total(rows) if column.total else "" for column in COLUMNS]
        self._write("totals", Text(self._table.line(sums)))

    @on(ChannelTable.Selected)
    def _selection(self) -> None:
        self._render_detail()

    @on(ChannelTable.HeadingClicked)
    def _heading(self, event: ChannelTable.HeadingClicked) -> None:
        column = COLUMNS[event.index]
        self._reverse = not self._reverse if column is self._sorted_by else True
        self._sorted_by = column
        self._render_all()

    # -- the channel that is selected ------------------------------------------------------------

    def _render_detail(self) -> None:
        found = self._shown.get(self._table.selected)
        if found is None:
            nothing = (
                "No process has opened a device. Start one in another terminal, for example:\n"
                "    vgpu-stub exec -- python3 PROGRAM\n    vgpu-stub vm"
            )
            self._write("lines", Text(nothing, style="dim"))
            return
        view, row = found
        past = self._history.past(key_of(view.name, row))
        self.query_one("#rates", Sparkline).data = list(past.rates)
        self.query_one("#depths", Sparkline).data = list(past.depths)
        text = [f"{row.process} ({row.guest_pid}), {row.state}", *detail_lines(row)]
        text.append(
            f"  {row.allocations} allocations, {row.modules} modules,"
            f" {format_bytes(row.registered_bytes)} of the guest's memory registered"
        )
        text += [fault_line(fault) for fault in self._faults]
        self._write("lines", Text("\n".join(text)))

    def _write(self, name: str, text: Text) -> None:
        """Put text into a part of the screen; its size never changes, so nothing is laid out."""
        text.no_wrap, text.overflow = True, "ellipsis"
        self.query_one(f"#{name}", Static).update(text, layout=False)

    # -- keys ------------------------------------------------------------------------------------

    def action_pause(self) -> None:
        """Stop looking, or go on."""
        self._paused = not self._paused
        self._render_all()

    def action_sort(self) -> None:
        """Sort by the next column."""
        self._sorted_by = COLUMNS[(COLUMNS.index(self._sorted_by) + 1) % len(COLUMNS)]
        self._render_all()

    def action_reverse(self) -> None:
        """Turn the order round."""
        self._reverse = not self._reverse
        self._render_all()

    def action_clear(self) -> None:
        """Count from now on."""
        self._history.clear()
        self.notify("Counting from now on; the devices' own counters go on.")

    def action_filter(self) -> None:
        """Ask for a filter."""
        field = self.query_one("#filter", Input)
        field.add_class("open")
        field.focus()

    def action_close_filter(self) -> None:
        """Show everything again."""
        field = self.query_one("#filter", Input)
        field.value = ""
        field.remove_class("open")
        self._table.focus()

    @on(Input.Changed, "#filter")
    def _filter(self, event: Input.Changed) -> None:
        self._wanted = event.value
        self._render_all()

    @on(Input.Submitted, "#filter")
    def _keep_filter(self) -> None:
        self.query_one("#filter", Input).remove_class("open")
        self._table.focus()


def _id(key: Key) -> str:
    return "/".join(map(str, key))


def _table_row(key: str, row: ChannelRow) -> Row:
    return Row(
        key,
        tuple(column.text(row) for column in COLUMNS),
        tuple(cell_style(column, row) for column in COLUMNS),
        mark_style(row),
    )
