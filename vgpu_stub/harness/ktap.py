"""Reads KTAP version 1 as it comes: a plan, then a line for each test.

The form is that of Linux' Documentation/dev-tools/ktap.rst, without subtests. Lines that start with
`#` before a result explain it; a line "# duration 0.123" has its seconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

_RESULT: Final = re.compile(
    r"(?P<not>not )?ok (?P<number>\d+)(?: -)? (?P<name>.*?)(?: # (?P<directive>SKIP.*))?"
)
_PLAN: Final = re.compile(r"1\.\.(\d+)")
_DURATION: Final = re.compile(r"# duration (\d+(?:\.\d+)?)")
_BETWEEN_SKIP_AND_REASON: Final = " -:"


class Outcome(StrEnum):
    """How a test ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class TestResult:
    """One test.

    Attributes:
        name: Its id.
        outcome: How it ended.
        duration_s: How long it took.
        text: What explains a failure, or why it was skipped.
    """

    __test__ = False  # no test class, whatever pytest makes of the name

    name: str
    outcome: Outcome
    duration_s: float = 0.0
    text: str = ""

    def to_json(self) -> dict[str, Any]:
        """The result as plain data."""
        return {**vars(self), "outcome": self.outcome.value}


class KtapReader:
    """Takes the bytes of a KTAP stream as they come and makes results of them.

    Args:
        on_result: Called with each result.
        on_text: Called with each line that is no KTAP.
    """

    def __init__(
        self,
        on_result: Callable[[TestResult], None] | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> None:
        self.results: list[TestResult] = []
        self.planned: int | None = None
        self.lines: list[str] = []
        self._on_result = on_result
        self._on_text = on_text
        self._pending = b""
        self._explanation: list[str] = []
        self._duration_s = 0.0

    def feed(self, data: bytes) -> None:
        """Take more of the stream."""
        *complete, self._pending = (self._pending + data).split(b"\n")
        for line in complete:
            self._line(line.decode(errors="replace").rstrip("\r"))

    def close(self) -> list[TestResult]:
        """The stream has ended; tests of the plan that never reported have failed.

        Returns:
            All results.
        """
        if self._pending:
            self.feed(b"\n")
        if self.planned is None:
            self._add("plan", Outcome.FAILED, "the tests ended before they said how many they are")
        elif len(self.results) != self.planned:
            last = self.results[-1].name if self.results else "none"
            self._add(
                "plan",
                Outcome.FAILED,
                f"{self.planned} tests were planned and {len(self.results)} reported;"
                f" the last was {last}",
            )
        return self.results

    def _line(self, line: str) -> None:
        self.lines.append(line)
        if match := _RESULT.fullmatch(line):
            outcome = Outcome.FAILED if match["not"] else Outcome.PASSED
            text = "\n".join(self._explanation)
            if match["directive"] and outcome is Outcome.PASSED:
                outcome = Outcome.SKIPPED
                text = match["directive"].removeprefix("SKIP").strip(_BETWEEN_SKIP_AND_REASON)
            self._add(match["name"], outcome, text)
        elif match := _PLAN.fullmatch(line):
            self.planned = int(match[1])
        elif match := _DURATION.fullmatch(line):
            self._duration_s = float(match[1])
        elif line.startswith("#"):
            self._explanation.append(line[1:].removeprefix(" "))
        elif line.strip() and not line.startswith("KTAP version") and self._on_text:
            self._on_text(line)

    def _add(self, name: str, outcome: Outcome, text: str) -> None:
        result = TestResult(name, outcome, self._duration_s, text)
        self._explanation, self._duration_s = [], 0.0
        self.results.append(result)
        if self._on_result:
            self._on_result(result)


def count(results: Iterable[TestResult]) -> dict[str, int]:
    """How many tests ended in each way."""
    counts = {outcome.value: 0 for outcome in Outcome}
    for result in results:
        counts[result.outcome] += 1
    return counts


def write_junit(path: Path, suite: str, results: Iterable[TestResult]) -> None:
    """Write results as JUnit XML."""
    results = list(results)
    counts = count(results)
    root = ElementTree.Element("testsuites")
    element = ElementTree.SubElement(
        root,
        "testsuite",
        name=suite,
        tests=str(len(results)),
        failures=str(counts["failed"]),
        errors="0",
        skipped=str(counts["skipped"]),
        time=f"{sum(result.duration_s for result in results):.3f}",
    )
    for result in results:
        file, _, name = result.name.rpartition("::")
        case = ElementTree.SubElement(
            element,
            "testcase",
            classname=file.removesuffix(".py") or suite,
            name=name,
            time=f"{result.duration_s:.3f}",
        )
        if result.outcome is Outcome.FAILED:
            last = xml_text(result.text).strip().splitlines()[-1:] or ["failed"]
            ElementTree.SubElement(case, "failure", message=last[0]).text = xml_text(result.text)
        elif result.outcome is Outcome.SKIPPED:
            ElementTree.SubElement(case, "skipped", message=xml_text(result.text))
    path.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def xml_text(text: str) -> str:
    """Text without the characters that XML 1.0 has no way to write."""
    return re.sub(
        r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\N{REPLACEMENT CHARACTER}", text
    )
