"""Findings of the checkers: what they say, counted, and where they are written.

A finding is written when it turns up, as a line of JSON. The worker that finds it may be killed at
any time, so its count is updated in place, in a field of fixed width.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vgpu_host.demangle import demangle

Dim3 = tuple[int, int, int]
_COUNT_WIDTH = 12


@dataclass(frozen=True, slots=True)
class Access:
    """What a thread did: coordinates of block and thread, and the instruction."""

    block: Dim3
    thread: Dim3 | None
    ptx_line: int = 0
    instruction: str = ""
    source: str = ""

    def __str__(self) -> str:
        thread = f", thread {self.thread}" if self.thread else ""
        text = f"block {self.block}{thread}"
        if self.ptx_line:
            source = f"{self.source}, " if self.source else ""
            text += f" at {source}PTX line {self.ptx_line}: {self.instruction}"
        return text


@dataclass(slots=True)
class Finding:
    """One thing that is wrong with a program.

    Attributes:
        check: "mem", "race" or "sync".
        kind: What it is, in a word, such as "out-of-bounds".
        kernel: The kernel's name, as in the PTX.
        message: What happened, in a sentence.
        access: Who did it first.
        other: The other side of a race.
        address: Device address or offset in shared memory; None where there is none.
        place: Where that is, in words.
        count: How often it happened: accesses of single threads.
        process: The process that found it.
    """

    check: str
    kind: str
    kernel: str
    message: str
    access: Access
    other: Access | None = None
    address: int | None = None
    place: str = ""
    count: int = 1
    process: int = field(default_factory=os.getpid)

    @property
    def key(self) -> tuple[object, ...]:
        """What makes it one finding."""
        return self.check, self.kind, self.kernel, self.access.ptx_line

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as it is written."""
        return asdict(self)


def text_of(finding: dict[str, Any]) -> str:
    """A finding as written, for people."""
    lines = [f"vgpu-stub check: {finding['check']}: {finding['message']}"]
    if finding["place"]:
        lines.append(f"    {finding['place']}")
    lines.append(f"    kernel {demangle(finding['kernel'])}, {_access(finding['access'])}")
    if finding["other"]:
        lines.append(f"    and {_access(finding['other'])}")
    return "\n".join(lines)


def _access(plain: dict[str, Any]) -> str:
    thread = tuple(plain["thread"]) if plain["thread"] else None
    return str(Access(**{**plain, "block": tuple(plain["block"]), "thread": thread}))


def read_findings(path: Path) -> list[dict[str, Any]]:
    """What a `Report` has written to a file so far; a line that is not whole yet is left out."""
    lines = path.read_text().split("\n")[:-1]
    return [json.loads(line) for line in lines]


class Report:
    """Findings by their key, written to a file of this process if a folder is given."""

    def __init__(self, folder: Path | None = None) -> None:
        self.findings: dict[tuple[object, ...], Finding] = {}
        self._folder = folder
        self._file: int | None = None
        self._counts: dict[tuple[object, ...], int] = {}

    def add(self, finding: Finding) -> None:
        """Take a finding, or count one that is known."""
        known = self.findings.get(finding.key)
        if known:
            known.count += finding.count
            self._update(known)
        else:
            self.findings[finding.key] = finding
            self._write(finding)

    def _write(self, finding: Finding) -> None:
        if self._folder is None:
            return
        if self._file is None:
            # Named only now: the process may be a fork of the one that made this.
            path = self._folder / f"{os.getpid()}.jsonl"
            self._file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        end = os.lseek(self._file, 0, os.SEEK_END)
        head = f'{{"count": {finding.count:{_COUNT_WIDTH}}, '
        rest = finding.to_dict()
        del rest["count"]
        os.write(self._file, (head + json.dumps(rest)[1:] + "\n").encode())
        self._counts[finding.key] = end + len('{"count": ')

    def _update(self, finding: Finding) -> None:
        if self._file is not None:
            count = f"{min(finding.count, 10**_COUNT_WIDTH - 1):{_COUNT_WIDTH}}".encode()
            os.pwrite(self._file, count, self._counts[finding.key])
