"""Makes a failing case small: fewer threads, fewer statements, simpler operands and memory."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace

from .case import Case, Dim3

Fails = Callable[[Case], bool]

_GUARD = re.compile(r"^@!?%\w+ (?!bra\b|brx\b)")
_FUNCTION = re.compile(r"^\.func .*?^}\n", re.M | re.S)
_REGISTER = re.compile(r"%[hrlfdxzywp]\d+")


def one_statement_a_line(text: str) -> str:
    """The text with each statement, label and brace of a function on a line of its own."""
    lines = []
    for line in text.splitlines():
        if line.startswith("."):
            lines.append(line)
            continue
        lines += [part.strip() + ";" for part in line.split(";")[:-1]]
        if rest := line.split(";")[-1].strip():
            lines.append(rest)
    return "\n".join(lines) + "\n"


class Reducer:
    """Reduces one case.

    Args:
        fails: whether a case still shows the failure; a case that means nothing does not.
        seconds: when to stop looking for more.
    """

    def __init__(self, fails: Fails, seconds: float = 120.0) -> None:
        self._fails = fails
        self._deadline = time.monotonic() + seconds
        self.tries = 0

    def reduce(self, case: Case) -> Case:
        """The smallest case found."""
        case = self._try(case, replace(case, text=one_statement_a_line(case.text)))
        before = None
        while before != case and time.monotonic() < self._deadline:
            before = case
            case = self._launch(case)
            for function in _FUNCTION.findall(case.text):
                case = self._try(case, replace(case, text=case.text.replace(function, "")))
            case = self._statements(case)
            case = self._operands(case)
            case = self._buffers(case)
        return self._declarations(case)

    def _try(self, case: Case, candidate: Case) -> Case:
        """The candidate if it fails, else the case."""
        if candidate == case or time.monotonic() > self._deadline:
            return case
        self.tries += 1
        return candidate if self._fails(candidate) else case

    def _launch(self, case: Case) -> Case:
        shapes: list[Dim3] = [(1, 1, 1), (2, 1, 1), (5, 1, 1), (32, 1, 1), (33, 1, 1)]
        for grid in ((1, 1, 1), (2, 1, 1)):
            if grid < case.grid:
                case = self._try(case, replace(case, grid=grid))
        for block in shapes:
            x, y, z = case.block
            if block[0] < x * y * z:
                smaller = self._try(case, replace(case, block=block))
                if smaller != case:
                    return smaller
        return case

    def _statements(self, case: Case) -> Case:
        """Leave out lines, many at first, then one at a time."""
        size = max(1, len(case.text.splitlines()) // 2)
        while size and time.monotonic() < self._deadline:
            lines = case.text.splitlines()
            end = len(lines)
            while end > 0:
                start = max(0, end - size)
                kept = [
                    line
                    for index, line in enumerate(lines)
                    if not start <= index < end or _is_frame(line)
                ]
                if len(kept) < len(lines):
                    smaller = self._try(case, replace(case, text="\n".join(kept) + "\n"))
                    if smaller != case:
                        case, lines = smaller, kept
                end = start
            size //= 2
        return case

    def _operands(self, case: Case) -> Case:
        """Drop guards, and put literals for registers."""
        index = 0
        while index < len(case.text.splitlines()) and time.monotonic() < self._deadline:
            line = case.text.splitlines()[index]
            for simpler in _simpler(line):
                lines = case.text.splitlines()
                lines[index] = simpler
                smaller = self._try(case, replace(case, text="\n".join(lines) + "\n"))
                if smaller != case:
                    case = smaller
                    break
            index += 1
        return case

    def _buffers(self, case: Case) -> Case:
        for index, recipe in enumerate(case.recipes):
            if not recipe.startswith("fill 00"):
                recipes = list(case.recipes)
                recipes[index] = f"fill 00 {len(case.buffers()[index])}"
                case = self._try(case, replace(case, recipes=tuple(recipes)))
        return self._try(case, replace(case, scalars=(0,) * len(case.scalars)))

    def _declarations(self, case: Case) -> Case:
        """Declare as many registers as there are."""
        most: dict[str, int] = {}
        for name in _REGISTER.findall(case.text):
            most[name[1]] = max(most.get(name[1], 0), int(name[2:]) + 1)
        lines = []
        for line in case.text.splitlines():
            found = re.match(r"\.reg \.\w+ %(\w)<\d+>;", line)
            if found:
                if found[1] in most:
                    lines.append(re.sub(r"<\d+>", f"<{most[found[1]]}>", line))
                continue
            lines.append(line)
        return self._try(case, replace(case, text="\n".join(lines) + "\n"))


def _is_frame(line: str) -> bool:
    """Lines that a module cannot be without."""
    return line.startswith((".version", ".target", ".address_size", ".visible", ".reg"))


def _simpler(line: str) -> list[str]:
    """Simpler lines in the place of one."""
    found = []
    if _GUARD.match(line):
        found.append(_GUARD.sub("", line))
    head, comma, sources = line.partition(",")
    if not comma or line.startswith((".", "@")) or "call" in head:
        return found
    for register in dict.fromkeys(_REGISTER.findall(sources)):
        if register[1] in "hrl":
            found.append(head + comma + sources.replace(register, "0"))
            found.append(head + comma + sources.replace(register, "1"))
        elif register[1] == "f":
            found.append(head + comma + sources.replace(register, "0f3F800000"))
    return found
