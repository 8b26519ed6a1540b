"""A table whose rows all change several times a second: only the lines in sight are drawn.

Textual's own table measures and renders every cell that is on the screen anew whenever one changes,
which took most of the monitor's time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip


@dataclass(frozen=True)
class Heading:
    """A column: its name, how wide it is, and whether it is of numbers."""

    name: str
    width: int
    numbers: bool = True

    @property
    def room(self) -> int:
        """Its width with the space that keeps it from others."""
        return self.width + (1 if self.numbers else 2)


@dataclass(frozen=True)
class Row:
    """A row: by what it is known, its texts, and their styles; the first has a mark before it."""

    key: str
    texts: tuple[str, ...]
    styles: tuple[str, ...]
    mark: str


class ChannelTable(ScrollView, can_focus=True):
    """Rows under headings, one of them selected by keys or the mouse."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "channel-table--header",
        "channel-table--cursor",
        "channel-table--odd",
    }
    DEFAULT_CSS = """
    ChannelTable > .channel-table--header { background: $panel; text-style: bold; }
    ChannelTable > .channel-table--cursor { background: $primary; color: $text; text-style: bold; }
    ChannelTable > .channel-table--odd { background: $surface-lighten-1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Up", show=False),
        Binding("down", "move(1)", "Down", show=False),
        Binding("pageup", "move(-10)", "Page up", show=False),
        Binding("pagedown", "move(10)", "Page down", show=False),
        Binding("home", "move(-1000000)", "First", show=False),
        Binding("end", "move(1000000)", "Last", show=False),
    ]

    class Selected(Message):
        """Another row is selected."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    class HeadingClicked(Message):
        """A heading was clicked."""

        def __init__(self, index: int) -> None:
            super().__init__()
            self.index = index

    def __init__(self, name: str) -> None:
        """Make an empty table; `name` is its id."""
        super().__init__(id=name)
        self.headings: tuple[Heading, ...] = ()
        self.rows: tuple[Row, ...] = ()
        self.selected = ""

    def show(self, headings: Sequence[Heading], rows: Sequence[Row]) -> None:
        """Show rows; the one that was selected stays so wherever it is now."""
        self.headings, self.rows = tuple(headings), tuple(rows)
        width = sum(heading.room for heading in headings)
        self.virtual_size = Size(width, len(rows) + 1)
        if rows and self.selected not in {row.key for row in rows}:
            self.selected = rows[0].key
        self.refresh()

    def line(self, texts: Sequence[str]) -> str:
        """Texts under their headings."""
        cells = zip(self.headings, texts, strict=True)
        return "".join(_cell(heading, text) for heading, text in cells)

    def render_line(self, y: int) -> Strip:
        """The heading, which does not scroll, or a row."""
        if y == 0:
            style = self.get_component_rich_style("channel-table--header")
            segments = [Segment(self.line([heading.name for heading in self.headings]), style)]
            return Strip(segments).adjust_cell_length(self.size.width, style)
        index = y - 1 + self.scroll_offset.y
        if index >= len(self.rows):
            return Strip.blank(self.size.width, self.rich_style)
        return self._row_strip(index)

    def action_move(self, rows: int) -> None:
        """Select another row."""
        keys = [row.key for row in self.rows]
        if keys:
            old = keys.index(self.selected) if self.selected in keys else 0
            self._select(max(0, min(old + rows, len(keys) - 1)))

    def on_click(self, event: Click) -> None:
        """Select the row, or tell which heading it was."""
        if event.y:
            if event.y - 1 + self.scroll_offset.y < len(self.rows):
                self._select(event.y - 1 + self.scroll_offset.y)
            return
        end = 0
        for index, heading in enumerate(self.headings):
            end += heading.room
            if event.x < end:
                self.post_message(self.HeadingClicked(index))
                return

    def _select(self, index: int) -> None:
        self.selected = self.rows[index].key
        top, seen = self.scroll_offset.y, self.size.height - 1
        if not top <= index < top + seen:
            place = index if index < top else index - seen + 1
            self.scroll_to(y=place, animate=False, force=True)
        self.refresh()
        self.post_message(self.Selected(self.selected))

    def _row_strip(self, index: int) -> Strip:
        row = self.rows[index]
        style = self.rich_style
        if row.key == self.selected:
            style = self.get_component_rich_style("channel-table--cursor")
        elif index % 2:
            style = self.get_component_rich_style("channel-table--odd")
        segments: list[Segment] = []
        for heading, text, own in zip(self.headings, row.texts, row.styles, strict=True):
            cell = _cell(heading, text)
            if not segments:
                segments.append(Segment(cell[:2], style + Style.parse(row.mark)))
                cell = cell[2:]
            segments.append(Segment(cell, style + Style.parse(own) if own else style))
        return Strip(segments).adjust_cell_length(self.size.width, style)


def _cell(heading: Heading, text: str) -> str:
    if len(text) > heading.width:
        text = text[: heading.width - 1] + "…"
    return f" {text:>{heading.width}}" if heading.numbers else f" {text:<{heading.width}} "
