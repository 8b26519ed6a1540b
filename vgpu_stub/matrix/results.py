"""What came of cells, as data that reports are made of and that is read back to run some again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

from vgpu_stub.harness.kernel_log import KernelProblem
from vgpu_stub.harness.ktap import TestResult
from vgpu_stub.matrix.cells import Cell
from vgpu_stub.matrix.file import MatrixError

#: Grows when the JSON report changes in a way that readers notice.
_FORMAT: Final = 1


class Verdict(StrEnum):
    """How a cell ended."""

    PASS = "PASS"
    #: The command or a test failed, or the guest's kernel reported a fault of its own.
    FAIL = "FAIL"
    #: The guest did not get ready or the command did not end in time; the machine was ended.
    WEDGED = "WEDGED"
    #: The cell could not be started: something for it could not be found or built.
    ERROR = "ERROR"
    #: The cell makes no sense on this machine.
    SKIP = "SKIP"

    @property
    def is_good(self) -> bool:
        """Whether the matrix can be called good with it."""
        return self in (Verdict.PASS, Verdict.SKIP)


@dataclass(frozen=True)
class CellResult:
    """What came of one cell.

    Attributes:
        name: The cell's.
        row: Where it ran: the name without the command.
        column: The command.
        verdict: How it ended.
        reason: Why, in one line; "" for a pass.
        duration_s: From start to end, the boot included.
        boot_s: Until the guest took commands; None where it never did.
        status: Exit status of the command; None where it did not end.
        tests: Results of single tests, where the command has any.
        problems: What the guest's kernel reported about itself, as plain data.
        faults: The rules of injected faults with their counts.
        kernel_release: What `uname -r` says in the guest.
        logs: Names of the cell's files in its folder.
        folder: The cell's folder in the report's.
        tail: The last lines of output and console, for those who read the report.
    """

    name: str
    row: str
    column: str
    verdict: Verdict
    reason: str = ""
    duration_s: float = 0.0
    boot_s: float | None = None
    status: int | None = None
    tests: tuple[Mapping[str, Any], ...] = ()
    problems: tuple[Mapping[str, Any], ...] = ()
    faults: tuple[Mapping[str, Any], ...] = ()
    kernel_release: str = ""
    logs: tuple[str, ...] = ()
    folder: str = ""
    tail: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The result as plain data."""
        return {**vars(self), "verdict": self.verdict.value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The result of plain data."""
        listed = {name: tuple(data[name]) for name in ("tests", "problems", "faults", "logs")}
        return cls(**{**data, **listed, "verdict": Verdict(data["verdict"])})

    @property
    def test_counts(self) -> dict[str, int]:
        """How many tests ended in each way."""
        counts: dict[str, int] = {}
        for test in self.tests:
            counts[test["outcome"]] = counts.get(test["outcome"], 0) + 1
        return counts


@dataclass(frozen=True)
class MatrixReport:
    """A run of a matrix.

    Attributes:
        matrix: The file.
        started: When it started, as ISO 8601.
        duration_s: How long it took.
        host: The machine, for those who compare runs.
        results: The cells, in the order of the matrix.
    """

    matrix: str
    started: str
    duration_s: float
    host: Mapping[str, Any]
    results: tuple[CellResult, ...]

    @property
    def counts(self) -> dict[Verdict, int]:
        """How many cells ended in each way, none left out."""
        return {
            verdict: sum(result.verdict is verdict for result in self.results)
            for verdict in Verdict
        }

    @property
    def is_good(self) -> bool:
        """Whether no cell failed."""
        return all(result.verdict.is_good for result in self.results)

    def to_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return {
            "format": _FORMAT,
            "matrix": self.matrix,
            "started": self.started,
            "duration_s": self.duration_s,
            "host": dict(self.host),
            "counts": {verdict.value: number for verdict, number in self.counts.items()},
            "cells": [result.to_json() for result in self.results],
        }


def make_result(
    cell: Cell,
    verdict: Verdict,
    *,
    tests: Iterable[TestResult] = (),
    problems: Iterable[KernelProblem] = (),
    **values: Any,
) -> CellResult:
    """The result of a cell."""
    return CellResult(
        cell.name,
        cell.row,
        cell.column,
        verdict,
        tests=tuple(test.to_json() for test in tests),
        problems=tuple(problem.to_json() for problem in problems),
        **values,
    )


def failed_cells(report: Path) -> list[str]:
    """Names of the cells of an earlier report that did not pass.

    Raises:
        MatrixError: The file is no report.
    """
    try:
        data = json.loads(report.read_text(encoding="utf-8"))
        if data["format"] != _FORMAT:
            raise MatrixError(f"{report} has format {data['format']}, not {_FORMAT}")
        results = [CellResult.from_json(cell) for cell in data["cells"]]
    except OSError as error:
        raise MatrixError(f"{report}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise MatrixError(f"{report} is no report of a matrix (report.json): {error!r}") from error
    return [result.name for result in results if not result.verdict.is_good]
