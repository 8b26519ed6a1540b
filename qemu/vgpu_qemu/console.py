"""The guest's console log: what firmware, kernel and first program printed.

QEMU writes the file; it is read here to show its last lines where something went wrong.
"""

from __future__ import annotations

import re
from pathlib import Path

_ESCAPE = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[c78=>])")
_TAIL_BYTES = 64 * 1024


def last_lines(path: Path, count: int = 20) -> list[str]:
    """Return the last lines of a console log without terminal control and empty lines.

    A log that does not exist (yet) has none.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    lines = (line.rstrip() for line in re.split(r"[\r\n]+", _ESCAPE.sub("", text)))
    return [line for line in lines if line][-count:]
