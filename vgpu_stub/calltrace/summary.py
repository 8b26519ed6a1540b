"""Calls counted by function: how many, how many failed, how long they took."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from vgpu_stub.calltrace.call import TracedCall


class Order(StrEnum):
    """What a summary is sorted by."""

    TIME = "time"
    CALLS = "calls"
    ERRORS = "errors"
    AVERAGE = "average"
    SLOWEST = "slowest"
    NAME = "name"


@dataclass
class Row:
    """The calls of one function; times in ns."""

    function: str
    calls: int = 0
    errors: int = 0
    total_ns: int = 0
    slowest_ns: int = 0

    @property
    def average_ns(self) -> float:
        """Mean time of a call."""
        return self.total_ns / self.calls if self.calls else 0.0

    def add(self, call: TracedCall) -> None:
        """Count a call."""
        self.calls += 1
        self.errors += call.failed
        self.total_ns += call.duration_ns
        self.slowest_ns = max(self.slowest_ns, call.duration_ns)


_KEYS: Final[dict[Order, Callable[[Row], float]]] = {
    Order.TIME: lambda row: row.total_ns,
    Order.CALLS: lambda row: row.calls,
    Order.ERRORS: lambda row: row.errors,
    Order.AVERAGE: lambda row: row.average_ns,
    Order.SLOWEST: lambda row: row.slowest_ns,
    Order.NAME: lambda row: 0.0,
}


class Summary:
    """Counts calls by function."""

    def __init__(self, calls: Iterable[TracedCall] = ()) -> None:
        self._rows: dict[str, Row] = {}
        for call in calls:
            self.add(call)

    def add(self, call: TracedCall) -> None:
        """Count a call."""
        self._rows.setdefault(call.function, Row(call.function)).add(call)

    @property
    def total(self) -> Row:
        """All calls in one row; the time of threads that called at the same time adds up."""
        rows = self._rows.values()
        return Row(
            "total",
            sum(row.calls for row in rows),
            sum(row.errors for row in rows),
            sum(row.total_ns for row in rows),
            max((row.slowest_ns for row in rows), default=0),
        )

    def rows(self, order: Order = Order.TIME) -> list[Row]:
        """One row for each function, the largest first; by name in the order of the alphabet."""
        key = _KEYS[order]
        return sorted(self._rows.values(), key=lambda row: (-key(row), row.function))

    def share(self, row: Row) -> float:
        """A row's part of the time of all calls, 0 to 1."""
        total = self.total.total_ns
        return row.total_ns / total if total else 0.0
