"""Finds workers that are there and do nothing: stopped processes, whose end nobody is told of."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from time import monotonic
from typing import Final

#: How long a worker may be stopped before its channel fails, in seconds.
HANG_LIMIT_S: Final = 2.0
#: Time between two looks, in seconds.
LOOK_INTERVAL_S: Final = 1.0
#: The state of a process that a signal has stopped (proc(5)); one under a debugger has another.
_STOPPED: Final = "T"


class HangWatch:
    """Remembers since when workers are stopped."""

    def __init__(self, limit_s: float = HANG_LIMIT_S) -> None:
        """`limit_s`: see HANG_LIMIT_S."""
        self._limit_s = limit_s
        self._stopped_since: dict[int, float] = {}

    def look(self, pids: Iterable[int]) -> list[int]:
        """Which of these processes have been stopped for longer than they may."""
        now = monotonic()
        self._stopped_since = {
            pid: self._stopped_since.get(pid, now) for pid in pids if _is_stopped(pid)
        }
        return [pid for pid, since in self._stopped_since.items() if now - since >= self._limit_s]


def _is_stopped(pid: int) -> bool:
    try:
        # The name before the state is in parentheses and may hold any character.
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):  # it has just ended
        return False
    return state == _STOPPED
