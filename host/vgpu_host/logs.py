"""Logging of the host's processes: to standard error, at the level in `VGPU_STUB_LOG`.

Guests can cause messages, and must not fill the host's disk with them: a process logs a few hundred
at once, and then only so many a second.
"""

from __future__ import annotations

import logging
import os
from time import monotonic
from typing import Final

VARIABLE: Final = "VGPU_STUB_LOG"
_LEVELS: Final = ("debug", "info", "warning", "error")
_BURST: Final = 400
_PER_SECOND: Final = 2.0


class RateLimit(logging.Filter):
    """Lets a burst of messages through, then so many a second, and says how many it kept back."""

    def __init__(self, burst: int = _BURST, per_second: float = _PER_SECOND) -> None:
        super().__init__()
        self._burst = burst
        self._per_second = per_second
        self._room = float(burst)
        self._last = monotonic()
        self._kept_back = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether there is room for another message."""
        now = monotonic()
        self._room = min(self._burst, self._room + (now - self._last) * self._per_second)
        self._last = now
        if self._room < 1:
            self._kept_back += 1
            return False
        self._room -= 1
        if self._kept_back:
            record.msg = f"{record.getMessage()} ({self._kept_back} messages before were kept back)"
            record.args = ()
            self._kept_back = 0
        return True


def configure_logging(process: str) -> None:
    """Log to standard error; an unknown level is said once and taken as "warning"."""
    level = os.environ.get(VARIABLE, "warning").lower()
    known = level in _LEVELS
    logging.basicConfig(
        level=level.upper() if known else logging.WARNING,
        format=f"%(asctime)s {process}[%(process)d] %(levelname)s %(message)s",
    )
    if level != "debug":
        for handler in logging.getLogger().handlers:
            handler.addFilter(RateLimit())
    if not known:
        logging.warning("%s is %r; choose from %s", VARIABLE, level, ", ".join(_LEVELS))
