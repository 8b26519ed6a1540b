"""What our CUDA library wrote down about a process: `guest/cuda/driver/journal.h`.

One file for each process, one JSON object a line. A process that died may leave its last line
unfinished; what cannot be read is left out.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

#: Statuses that answer a question and are no failures.
_ANSWERS: Final = {"CUDA_SUCCESS", "CUDA_ERROR_NOT_READY"}
#: Functions that are asked about what may not exist.
_PROBES: Final = (
    "cuGetProcAddress",
    "cuGetExportTable",
    "cuDeviceGetAttribute",
    "cuPointerGetAttribute",
    "cuCtxGetDevice",
)


@dataclass(frozen=True)
class Call:
    """A call as the journal has it: the first of a function, or one that failed."""

    function: str
    status: int
    error: str
    arguments: str

    def __str__(self) -> str:
        """The call as people write it."""
        return f"{self.function}({self.arguments}) = {self.status} {self.error}"


@dataclass
class Journal:
    """One process.

    Attributes:
        pid: Process id.
        parent: That of the process that started it.
        program: Its executable.
        library: Path of the libcuda.so.1 that wrote it.
        preload: LD_PRELOAD of the process.
        device: What the device said of itself when it was opened.
        calls: First calls and failures, in order.
        counts: Calls by function; empty for a process that was killed.
        missing: Names that `cuGetProcAddress` could not give, with the version asked for.
        refused: Calls that are not supported.
        tables: Private tables that were asked for, in hexadecimal.
        notes: Reasons in words.
    """

    pid: int
    parent: int = 0
    program: str = ""
    library: str = ""
    preload: str = ""
    device: dict[str, Any] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    missing: list[tuple[str, int]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, event: dict[str, Any]) -> None:
        """Take over one line."""
        match event["event"]:
            case "load":
                self.parent = event["parent"]
                self.program = event["program"]
                self.library = event["library"]
                self.preload = event.get("preload", "")
            case "device":
                self.device = event
            case "call":
                call = Call(event["function"], event["status"], event["error"], event["arguments"])
                self.calls.append(call)
            case "calls":
                self.counts[event["function"]] += event["count"]
            case "missing":
                self.missing.append((event["function"], event["version"]))
            case "refused":
                self.refused.append(event["function"])
            case "export_table":
                self.tables.append(event["id"])
            case "note":
                self.notes.append(event["text"])

    @property
    def failures(self) -> list[Call]:
        """Calls that failed, in order; questions that were answered with no are none."""
        return [
            call
            for call in self.calls
            if call.error not in _ANSWERS and not call.function.startswith(_PROBES)
        ]

    def called(self, *starts: str) -> Call | None:
        """The first successful call of a function whose name starts so."""
        for call in self.calls:
            if call.function.startswith(starts) and not call.status:
                return call
        return None


def read_journals(folder: Path) -> dict[int, Journal]:
    """Read every journal of a folder, by process id."""
    journals = {}
    for path in folder.glob("*.jsonl"):
        journal = Journal(int(path.stem))
        for line in path.read_text(errors="replace").splitlines():
            try:
                event = json.loads(line)
            except json.JSONDecodeError:
                continue
            journal.add(event)
        journals[journal.pid] = journal
    return journals
