"""What a screen keeps of earlier looks: rates over time, and where counting began anew."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from vgpu_stub.monitor.rows import ChannelRow, ServerView, server_view

KEPT: Final = 120
"""Looks that are kept for each channel."""

Key = tuple[str, str, int, int]
"""Server, device, channel, and process id of the worker: a channel in one of its lives."""

_COUNTERS: Final = {
    "host": ("bytes_to_device", "bytes_to_host", "errors", "sleeps", "interrupts", "busy_ns"),
    "guest": ("submissions", "launches", "doorbells", "waits", "ring_full", "refused"),
}


def key_of(server: str, row: ChannelRow) -> Key:
    """How a channel is known from look to look."""
    return server, row.device, row.channel, row.worker_pid


class Past:
    """Depth and speed of one channel's ring, newest last."""

    def __init__(self) -> None:
        self.depths: deque[float] = deque(maxlen=KEPT)
        self.rates: deque[float] = deque(maxlen=KEPT)


class History:
    """Turns snapshots into views, remembering what rates and graphs need."""

    def __init__(self) -> None:
        self._before: Mapping[Path, Any] = {}
        self._cleared: Mapping[Path, Any] = {}
        self._past: dict[Key, Past] = {}

    def view(self, snapshots: Mapping[Path, Any]) -> list[ServerView]:
        """Views of servers, with rates since the look before; notes this look."""
        views = []
        for folder, snapshot in snapshots.items():
            cleared = self._cleared.get(folder)
            before = self._before.get(folder)
            now = since(snapshot, cleared)
            view = server_view(folder.name, now, since(before, cleared) if before else None)
            views.append(view)
            for row in view.channels:
                past = self._past.setdefault(key_of(view.name, row), Past())
                past.depths.append(float(row.depth))
                past.rates.append(row.commands_per_s or 0.0)
        alive = {key_of(view.name, row) for view in views for row in view.channels}
        for key in [key for key in self._past if key not in alive]:
            del self._past[key]
        self._before = snapshots
        return views

    def past(self, key: Key) -> Past:
        """Earlier looks at a channel."""
        return self._past.get(key) or Past()

    def clear(self) -> None:
        """Count from the last look on; the servers' own counters go on."""
        self._cleared = self._before


def since(snapshot: Any, cleared: Any | None) -> Any:
    """A snapshot with what was counted before another one taken off."""
    if not cleared:
        return snapshot
    start = {
        (row["device"], row["channel"], row["worker_pid"]): row
        for device in cleared["devices"]
        for row in device["channels"]
    }

    def less(row: Mapping[str, Any]) -> Mapping[str, Any]:
        was = start.get((row["device"], row["channel"], row["worker_pid"]))
        if was is None:
            return row
        counters = {
            part: {**row[part], **{name: row[part][name] - was[part][name] for name in names}}
            for part, names in _COUNTERS.items()
        }
        commands = {
            kind: count - was["commands"].get(kind, 0) for kind, count in row["commands"].items()
        }
        return {**row, **counters, "commands": {kind: n for kind, n in commands.items() if n}}

    return {
        **snapshot,
        "ended_channels": [less(row) for row in snapshot["ended_channels"]],
        "devices": [
            {**device, "channels": [less(row) for row in device["channels"]]}
            for device in snapshot["devices"]
        ],
    }
