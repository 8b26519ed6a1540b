"""What every target watches: unexpected errors in the log, descriptors that stay open.

Device and drain survive their own bugs: they log the exception and answer with an error. For the
fuzzer such a log entry is a finding.
"""

from __future__ import annotations

import logging
import os
import traceback
from pathlib import Path
from typing import Final

from vgpu_stub.fuzz.operations import Finding

_PACKAGES: Final = ("vgpu_stub", "vgpu_host")
_DESCRIPTORS: Final = Path("/proc/self/fd")


class LogWatch(logging.Handler):
    """Notes log entries that carry an exception; a context of the world's life."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._found: Finding | None = None
        self._levels: dict[str, tuple[int, bool]] = {}

    def start(self) -> None:
        """Listen to the packages, and quiet what is below an error: refusals are the rule here."""
        for name in _PACKAGES:
            logger = logging.getLogger(name)
            self._levels[name] = logger.level, logger.propagate
            logger.addHandler(self)
            logger.setLevel(logging.ERROR)
            logger.propagate = False

    def stop(self) -> None:
        """Leave logging as it was."""
        for name, (level, propagate) in self._levels.items():
            logger = logging.getLogger(name)
            logger.removeHandler(self)
            logger.setLevel(level)
            logger.propagate = propagate

    def emit(self, record: logging.LogRecord) -> None:
        """Note the first entry with an exception."""
        if self._found is None and record.exc_info and record.exc_info[1] is not None:
            self._found = finding_of(record.exc_info[1], record.getMessage())

    def check(self) -> None:
        """Raise what has been noted."""
        found, self._found = self._found, None
        if found is not None:
            raise found


def finding_of(error: BaseException, context: str = "") -> Finding:
    """A finding that says where an exception came from."""
    if isinstance(error, Finding):
        return error
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/vgpu_" in frame.filename] or list(frames)
    place = f"{Path(ours[-1].filename).name}:{ours[-1].name}" if ours else "?"
    text = "".join(traceback.format_exception(error))
    return Finding(f"{type(error).__name__} in {place}", f"{context}\n{text}".strip())


def open_descriptors() -> dict[int, str]:
    """What this process has open."""
    found = {}
    for entry in _DESCRIPTORS.iterdir():
        try:
            found[int(entry.name)] = str(entry.readlink())
        except OSError:  # the one that iterdir itself used
            continue
    return found


class DescriptorWatch:
    """Checks that descriptors do not add up."""

    def __init__(self) -> None:
        self._before = _count()
        self._shown = open_descriptors()

    def check(self) -> None:
        """Raise a finding where more are open than at the start."""
        if _count() <= self._before:
            return
        now = open_descriptors()
        more = {fd: what for fd, what in now.items() if self._shown.get(fd) != what}
        if len(now) > len(self._shown):
            kinds = sorted({what.split(":")[0] for what in more.values()})
            raise Finding(f"descriptors stay open: {', '.join(kinds)}", f"{more}")


def _count() -> int:
    return len(os.listdir(_DESCRIPTORS))  # noqa: PTH208  # twice as fast, and it is called often
