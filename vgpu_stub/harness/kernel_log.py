"""Finds what a kernel reported as its own fault in a console log or in dmesg.

A test that passes while the guest's kernel oopsed has not passed. Each report is found by the line
that opens it and taken to its end, so that what belongs to one report is not counted twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class ProblemKind(StrEnum):
    """What a kernel may report about itself."""

    BUG = "BUG"
    OOPS = "oops"
    WARNING = "WARNING"
    LOCKDEP = "lockdep"
    KASAN = "KASAN"
    KMSAN = "KMSAN"
    KFENCE = "KFENCE"
    KCSAN = "KCSAN"
    UBSAN = "UBSAN"
    SLUB = "SLUB"
    KMEMLEAK = "kmemleak"
    HUNG_TASK = "hung task"
    LOCKUP = "lockup"
    RCU_STALL = "RCU stall"
    PANIC = "panic"


@dataclass(frozen=True)
class KernelProblem:
    """One report of the kernel.

    Attributes:
        kind: What it is about.
        title: The line that says what happened, without time stamp.
        line: Number of that line in the log, from 1.
        start: Where that line starts in the text, in characters.
        end: Where the report ends in the text.
        time_s: The kernel's time stamp, where the line has one.
        report: The whole report, with its time stamps.
    """

    kind: ProblemKind
    title: str
    line: int
    start: int
    end: int
    time_s: float | None
    report: str

    def to_json(self) -> dict[str, Any]:
        """The problem as plain data."""
        return {
            "kind": self.kind.value,
            "title": self.title,
            "line": self.line,
            "time_s": self.time_s,
            "report": self.report,
        }

    def __str__(self) -> str:
        return f"{self.kind}: {self.title} (line {self.line})"


#: Level, time stamp and caller that printk and dmesg write before a message.
_PREFIX: Final = re.compile(
    r"(?:<\d+>)?(?:\[\s*(?P<time>\d+\.\d+)\] ?)?(?:\[\s*[TC]\d+\] ?)?(?P<message>.*)"
)

_LOCKDEP_TITLES: Final = (
    r"WARNING: possible (?:circular|recursive) locking",
    r"WARNING: possible irq lock inversion",
    r"WARNING: [A-Z]+-(?:un)?safe -> [A-Z]+-(?:un)?safe lock order",
    r"WARNING: inconsistent lock state",
    r"WARNING: suspicious RCU usage",
    r"WARNING: bad unlock balance",
    r"WARNING: (?:held lock freed|lock held when returning|Nested lock was not taken)",
    r"WARNING: (?:Invalid wait context|nested lock)",
    r"\[ BUG: Invalid wait context \]",
    r"WARNING: \S+/\d+ still has locks held",
    r"INFO: trying to register non-static key",
    r"INFO: possible (?:circular|recursive) locking",
)

#: The first that fits the start of a message names its kind; the general ones come last.
_OPENINGS: Final[tuple[tuple[ProblemKind, re.Pattern[str]], ...]] = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        (ProblemKind.PANIC, r"Kernel panic - not syncing"),
        (ProblemKind.KASAN, r"BUG: KASAN: "),
        (ProblemKind.KMSAN, r"BUG: KMSAN: "),
        (ProblemKind.KFENCE, r"BUG: KFENCE: "),
        (ProblemKind.KCSAN, r"BUG: KCSAN: "),
        (ProblemKind.UBSAN, r"UBSAN: "),
        (ProblemKind.LOCKDEP, "|".join(_LOCKDEP_TITLES)),
        (ProblemKind.LOCKUP, r"watchdog: BUG: soft lockup"),
        (ProblemKind.LOCKUP, r"(?:NMI )?[Ww]atchdog: (?:Watchdog detected )?[Hh]ard LOCKUP"),
        (ProblemKind.LOCKUP, r"BUG: workqueue lockup"),
        (ProblemKind.OOPS, r"BUG: (?:kernel NULL pointer|unable to handle|stack guard page)"),
        (ProblemKind.OOPS, r"(?:Oops: |general protection fault, probably)"),
        (ProblemKind.OOPS, r"[a-z][a-z ]+: [0-9a-f]{4} \[#\d+\]"),
        (ProblemKind.SLUB, r"BUG \S+ \(.*\): "),
        (ProblemKind.SLUB, r"pagealloc: (?:memory corruption|single bit error)"),
        (ProblemKind.KMEMLEAK, r"kmemleak: \d+ new suspected memory leaks"),
        (ProblemKind.KMEMLEAK, r"unreferenced object 0x[0-9a-f]+ \(size \d+\):"),
        (ProblemKind.HUNG_TASK, r"INFO: task \S.* blocked (?:in I/O wait )?for more than \d+ sec"),
        (ProblemKind.RCU_STALL, r"(?:rcu: )?INFO: rcu_\w+ (?:self-)?detected (?:expedited )?stall"),
        (ProblemKind.RCU_STALL, r"rcu: rcu_\w+ kthread (?:starved|timer wakeup)"),
        (ProblemKind.BUG, r"kernel BUG at "),
        (ProblemKind.BUG, r"BUG: "),
        # Linux 6.18 turned the order of the place and the processor around.
        (ProblemKind.WARNING, r"WARNING: (?:CPU: \d+ PID: \d+ at |\S+:\d+ at )"),
        (ProblemKind.WARNING, r"irq \d+: nobody cared"),
    )
)

#: Lines that end a report, for kinds whose reports have such a line.
_TRACE_END: Final = re.compile(r"---\[ end (?:trace|Kernel panic)")
_RULE: Final = re.compile(r"={20,}$")
_ENDS: Final = {
    ProblemKind.BUG: _TRACE_END,
    ProblemKind.OOPS: _TRACE_END,
    ProblemKind.WARNING: _TRACE_END,
    ProblemKind.PANIC: _TRACE_END,
    ProblemKind.UBSAN: re.compile(f"{_TRACE_END.pattern}|{_RULE.pattern}"),
    ProblemKind.KASAN: _RULE,
    ProblemKind.KMSAN: _RULE,
    ProblemKind.KFENCE: _RULE,
    ProblemKind.KCSAN: _RULE,
    ProblemKind.SLUB: re.compile(r"FIX \S+: "),
}
#: A fault opens a report and is named again by the oops in it.
_FAULTS: Final = {ProblemKind.BUG, ProblemKind.OOPS}
#: What goes on with a report of a kind that has no such line.
_CONTINUES: Final = re.compile(
    r"\s|$|=+$|-+$|Call Trace|CPU: |Comm: |Hardware name|Workqueue|[A-Z]\w{1,2}: |Code: "
    r"|Modules linked|Sending NMI|stack backtrace|other info|and this task|but task|which lock"
    r"|\d+ locks? |\d+\.\d+\S* |#\d|backtrace|comm |hex dump|task:|rcu: |-> #|the existing"
    r"|\w.* is trying to|\w.*/\d+ "
)
_LONGEST: Final = 160


def find_problems(
    log: str, *, expected: Iterable[str | re.Pattern[str]] = (), start: int = 0
) -> list[KernelProblem]:
    """What the kernel reported as its own fault, in the order of the log.

    Args:
        log: Text of a console or of dmesg, with or without time stamps.
        expected: Regular expressions; a problem whose report one of them matches is left out.
        start: Characters at the beginning that were looked at before: problems that open there
            are left out, lines are counted from the beginning all the same.
    """
    patterns = [re.compile(pattern) for pattern in expected]
    lines = log.splitlines(keepends=True)
    found: list[KernelProblem] = []
    offset = index = 0
    while index < len(lines):
        opening = _opening(lines[index])
        if opening is None:
            offset += len(lines[index])
            index += 1
            continue
        kind, title, time_s = opening
        length = _report_length(kind, lines, index)
        report = "".join(lines[index : index + length])
        problem = KernelProblem(
            kind, title, index + 1, offset, offset + len(report), time_s, report.rstrip()
        )
        if offset >= start and not any(pattern.search(report) for pattern in patterns):
            found.append(problem)
        offset += len(report)
        index += length
    return found


def _opening(line: str) -> tuple[ProblemKind, str, float | None] | None:
    """Kind, title and time of a report that a line opens."""
    time_s, message = _split(line)
    for kind, pattern in _OPENINGS:
        if pattern.match(message):
            return kind, message, time_s
    return None


def _report_length(kind: ProblemKind, lines: list[str], first: int) -> int:
    """Lines of a report, the first included."""
    end = _ENDS.get(kind)
    for index in range(first + 1, min(first + _LONGEST, len(lines))):
        _, message = _split(lines[index])
        if end and end.match(message):
            return index - first + 1
        opening = _opening(lines[index])
        if opening and not (kind in _FAULTS and opening[0] is ProblemKind.OOPS):
            return index - first
        if not end and not _CONTINUES.match(message):
            return index - first
    return min(_LONGEST, len(lines) - first)


def _split(line: str) -> tuple[float | None, str]:
    """Time stamp and message of a line."""
    parts = _PREFIX.match(line)
    assert parts is not None, "every part may be missing"
    return float(parts["time"]) if parts["time"] else None, parts["message"].rstrip()
