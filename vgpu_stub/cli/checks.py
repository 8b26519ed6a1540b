"""Shows what checkers find while a program runs, and sums up at its end.

Each worker writes its findings to a file of its own in one folder (`vgpu_host.findings`); a thread
here prints what is new.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TextIO

from vgpu_host.demangle import demangle
from vgpu_host.findings import read_findings, text_of

#: Exit status of a command whose program ended well while a checker found something.
FINDINGS_STATUS: Final = 86
_INTERVAL_S: Final = 0.2


class FindingsDisplay:
    """Prints findings as they come, and a summary when the context ends.

    Args:
        folder: Where workers write.
        checks: Names of the checkers; none where nothing is checked.
        report: A file that gets all findings as lines of JSON.
        stream: Where to print; standard error by default.
    """

    def __init__(
        self,
        folder: Path | None,
        checks: tuple[str, ...],
        report: Path | None = None,
        stream: TextIO | None = None,
    ) -> None:
        self._folder = folder if checks else None
        self._checks = checks
        self._report = report
        self._stream = stream or sys.stderr
        self._shown: Counter[Path] = Counter()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="vgpu-findings", daemon=True)
        self.count = 0

    def __enter__(self) -> Self:
        if self._folder:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._folder:
            return
        self._ending.set()
        self._thread.join()
        findings = self._show_new()
        self.count = len(findings)
        self._sum_up(findings)
        if self._report:
            self._report.write_text("".join(json.dumps(each) + "\n" for each in findings))

    def status(self, program: int) -> int:
        """The exit status of a command: the program's, unless that hides findings."""
        return FINDINGS_STATUS if program == 0 and self.count else program

    def _watch(self) -> None:
        while not self._ending.wait(_INTERVAL_S):
            self._show_new()

    def _show_new(self) -> list[dict[str, Any]]:
        """Print what was not there yet; returns everything that is there."""
        assert self._folder
        everything = []
        for path in sorted(self._folder.glob("*.jsonl")):
            findings = read_findings(path)
            for finding in findings[self._shown[path] :]:
                print(text_of(finding), file=self._stream, flush=True)
            self._shown[path] = len(findings)
            everything += findings
        return everything

    def _sum_up(self, findings: list[dict[str, Any]]) -> None:
        if not findings:
            print(f"vgpu-stub check: no errors ({', '.join(self._checks)})", file=self._stream)
            return
        kinds = Counter(finding["check"] for finding in findings)
        parts = ", ".join(f"{check} {kinds[check]}" for check in self._checks if kinds[check])
        plural = "error" if len(findings) == 1 else "errors"
        print(f"vgpu-stub check: {len(findings)} {plural} ({parts})", file=self._stream)
        for finding in findings:
            where = finding["access"]["source"] or f"PTX line {finding['access']['ptx_line']}"
            print(
                f"    {finding['count']:>9} x {finding['kind']} in"
                f" {demangle(finding['kernel'])}, {where}",
                file=self._stream,
            )
