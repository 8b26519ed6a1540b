"""The live screen: every channel of every device server in a table, and one of them in detail.

It looks in a thread of its own, so that a server that answers late never holds up the keys. What
it shows is made by `History` and `rows`; totals are sums of the rows on the screen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from rich.text import Text
from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import DataTable, Footer, Input, Sparkline, Static

from vgpu_stub.monitor.history import History, Key, key_of
from vgpu_stub.monitor.rows import ChannelRow, ServerView
from vgpu_stub.monitor.source import Snapshots, Source
from vgpu_stub.monitor.text import (
    STATE_STYLES,
    bytes_text,
    detail_lines,
    fault_line,
    format_bytes,
    rate_text,
)


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


_PROCESS_EXTRA: Final = 24

COLUMNS: Final = (
    Column(
        "process",
        13,
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
        10,
        lambda row: bytes_text(row.bytes_to_device, row.to_device_per_s),
        lambda row: (row.to_device_per_s or 0, row.bytes_to_device),
        lambda rows: bytes_text(
            sum(row.bytes_to_device for row in rows), _sum(lambda row: row.to_device_per_s)(rows)
        ),
    ),
    Column(
        "to host",
        10,
        lambda row: bytes_text(row.bytes_to_host, row.to_host_per_s),
        lambda row: (row.to_host_per_s or 0, row.bytes_to_host),
        lambda rows: bytes_text(
            sum(row.bytes_to_host for row in rows), _sum(lambda row: row.to_host_per_s)(rows)
        ),
    ),
    Column(
        "memory",
        8,
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
        self._cells: dict[str, tuple[str, ...]] = {}
        self._selected: Key | None = None

    def compose(self) -> ComposeResult:
        """The screen from top to bottom."""
        yield Static(id="top")
        yield Static(id="measured")
        yield DataTable(id="channels", cursor_type="row", zebra_stripes=True)
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
        table = self._table
        for column in COLUMNS:
            # Names get what a wide terminal has.
            spare = min(max(self.size.width - 80, 0), _PROCESS_EXTRA) if column is COLUMNS[0] else 0
            heading = Text(column.name, justify="left" if column is COLUMNS[0] else "right")
            table.add_column(heading, key=column.name, width=column.width + spare)
        table.focus()
        self.look()
        self.set_interval(self._interval, self.look)

    @property
    def _table(self) -> DataTable[Text]:
        return self.query_one("#channels", DataTable)

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
        table = self._table
        self._shown = {_id(key_of(view.name, row)): (view, row) for view, row in rows}
        if list(self._shown) != list(self._cells):
            selected = self._selected_id()
            table.clear()
            self._cells = {}
            for name, (_, row) in self._shown.items():
                texts = tuple(column.text(row) for column in COLUMNS)
                table.add_row(*(_cell(i, text, row) for i, text in enumerate(texts)), key=name)
                self._cells[name] = texts
            if selected in self._cells:
                table.move_cursor(row=list(self._cells).index(selected), animate=False)
            return
        for name, (_, row) in self._shown.items():
            texts = tuple(column.text(row) for column in COLUMNS)
            for i, (old, new) in enumerate(zip(self._cells[name], texts, strict=True)):
                if old != new:
                    table.update_cell(name, COLUMNS[i].name, _cell(i, new, row))
            self._cells[name] = texts

    def _render_totals(self, rows: list[ChannelRow]) -> None:
        """Show the sums under their columns."""
        line = ""
        for column, place in zip(COLUMNS, self._table.ordered_columns, strict=True):
            text = column.total(rows) if column.total else ""
            room = place.get_render_width(self._table)
            line += f" {text}".ljust(room) if column is COLUMNS[0] else f"{text} ".rjust(room)
        self._write("totals", Text(line.rstrip()))

    def _selected_id(self) -> str:
        return _id(self._selected) if self._selected else ""

    @on(DataTable.RowHighlighted)
    def _highlighted(self, event: DataTable.RowHighlighted) -> None:
        found = self._shown.get(str(event.row_key.value))
        if found:
            self._selected = key_of(found[0].name, found[1])
            self._render_detail()

    @on(DataTable.HeaderSelected)
    def _header(self, event: DataTable.HeaderSelected) -> None:
        column = COLUMNS[event.column_index]
        self._reverse = not self._reverse if column is self._sorted_by else True
        self._sorted_by = column
        self._render_all()

    # -- the channel that is selected ------------------------------------------------------------

    def _render_detail(self) -> None:
        found = self._shown.get(self._selected_id())
        if found is None and self._shown:
            found = next(iter(self._shown.values()))
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


def _cell(column: int, text: str, row: ChannelRow) -> Text:
    style = "dim" if row.state == "ended" else ""
    if column == 0:
        made = Text(text, style=style, no_wrap=True, overflow="ellipsis")
        made.stylize(STATE_STYLES.get(row.state, "dim"), 0, 1)
        return made
    if COLUMNS[column].name == "err" and row.errors:
        style = "red"
    return Text(text, style=style, justify="right", no_wrap=True)
