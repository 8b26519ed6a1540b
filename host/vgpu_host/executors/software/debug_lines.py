"""Which line of the source each line of a PTX text comes from, where the compiler said so.

nvcc says it with -lineinfo: `.file` numbers the files, `.loc` stands before the instructions of a
line.
"""

from __future__ import annotations

import bisect
import re

_LINE = re.compile(
    r"^[ \t]*(?:\.loc[ \t]+(?P<file>\d+)[ \t]+(?P<line>\d+)|"
    r'\.file[ \t]+(?P<number>\d+)[ \t]+"(?P<path>[^"\n]*)"(?:[ \t]+"(?P<name>[^"\n]+)")?|'
    r"(?P<function>[^/\n]*\.(?:entry|func)\b))",
    re.M,
)


class DebugLines:
    """The `.loc` directives of a PTX text."""

    def __init__(self, text: str) -> None:
        self._files: dict[int, str] = {}
        self._starts: list[int] = []
        self._places: list[tuple[int, int]] = []
        line, counted = 1, 0
        if ".loc" not in text:
            return
        for found in _LINE.finditer(text):
            line += text.count("\n", counted, found.start())
            counted = found.start()
            if found["number"]:
                folder = f"{found['path']}/" if found["name"] else ""
                self._files[int(found["number"])] = folder + (found["name"] or found["path"])
                continue
            place = (int(found["file"]), int(found["line"])) if found["file"] else (0, 0)
            self._starts.append(line)
            self._places.append(place)

    def source_of(self, line: int) -> str:
        """`file:line` of the source for a one-based line of the PTX text; "" where not known."""
        index = bisect.bisect_right(self._starts, line) - 1
        if index < 0:
            return ""
        file, number = self._places[index]
        return f"{self._files[file]}:{number}" if number and file in self._files else ""
