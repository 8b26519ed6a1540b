"""Writes a trace of calls as lines for people or as JSON, one object a line."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import Any, Final, TextIO

from vgpu_stub.calltrace.call import OpenCall, Traced, TracedCall, TracedProcess
from vgpu_stub.calltrace.summary import Order, Row, Summary

SCHEMA_VERSION: Final = 1
_NUMBER: Final = re.compile(r"-?\d+")
_HEADER: Final = "% time       total      calls     average     slowest  errors  function"
_RULE: Final = "------ ----------- ---------- ----------- ----------- ------- --------"


def duration(ns: float) -> str:
    """A time with three figures and its unit: "12.3 us"."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        # Less would be 1000 of the smaller unit, rounded to three figures.
        if ns >= 0.9995 * size:
            value = ns / size
            return f"{value:#.3g}".rstrip(".") + f" {unit}" if value < 999.5 else f"{value:.0f} s"
    return f"{ns:.0f} ns"


class TraceWriter:
    """Writes calls as they come.

    Args:
        file: Where to.
        as_json: One JSON object a line, instead of text.
    """

    def __init__(self, file: TextIO, *, as_json: bool = False) -> None:
        self._file = file
        self._as_json = as_json
        self._start_ns: int | None = None

    def write(self, traced: Traced) -> None:
        """Write one call, or that a process begins."""
        if self._as_json:
            self._put(json.dumps(_as_json(traced)))
        elif isinstance(traced, TracedProcess):
            self._put(f"{'':12} {traced.pid:<15} +++ {traced.program} uses libcuda +++")
        else:
            result = traced.error or "? <unfinished ...>"
            text = f"{_call_text(traced)} = {result} <{duration(traced.duration_ns)}>"
            if traced.failed:
                text += "".join(f" -- {note}" for note in traced.notes)
            self._line(traced, text)

    def write_open(self, call: OpenCall, now_ns: int) -> None:
        """Write that a call takes long; JSON has only what is over."""
        if not self._as_json:
            text = f"{call.function}( <unfinished, {duration(now_ns - call.begin_ns)} so far ...>"
            self._line(call, text)

    def write_summary(self, summary: Summary, order: Order) -> None:
        """Write one row for each function, then their total."""
        rows = [*summary.rows(order), summary.total]
        if self._as_json:
            for row in rows[:-1]:
                values = {**asdict(row), "average_ns": row.average_ns, "share": summary.share(row)}
                self._put(json.dumps({"event": "summary", "version": SCHEMA_VERSION, **values}))
            return
        self._put(_HEADER)
        self._put(_RULE)
        for row in rows[:-1]:
            self._put(_row_text(row, summary.share(row)))
        self._put(_RULE)
        self._put(_row_text(rows[-1], 1.0 if rows[-1].total_ns else 0.0))

    def _line(self, call: TracedCall | OpenCall, text: str) -> None:
        if self._start_ns is None:
            self._start_ns = call.begin_ns
        seconds = (call.begin_ns - self._start_ns) / 1e9
        thread = f"{call.pid}" if call.tid == call.pid else f"{call.pid}/{call.tid}"
        self._put(f"{seconds:12.6f} {thread:<15} {text}")

    def _put(self, line: str) -> None:
        self._file.write(line + "\n")
        self._file.flush()


def _call_text(call: TracedCall) -> str:
    arguments = ", ".join(f"{name}={value}" for name, value in call.arguments.items())
    if not call.arguments and call.status is None:
        arguments = "..."
    kernel = f" /* {call.kernel} */" if call.kernel else ""
    return f"{call.function}({arguments}){kernel}"


def _row_text(row: Row, share: float) -> str:
    times = (duration(ns) for ns in (row.total_ns, row.average_ns, row.slowest_ns))
    total, average, slowest = times
    errors = str(row.errors) if row.errors else ""
    return (
        f"{100 * share:6.2f} {total:>11} {row.calls:>10} {average:>11} {slowest:>11}"
        f" {errors:>7}  {row.function}"
    )


def _as_json(traced: Traced) -> dict[str, Any]:
    if isinstance(traced, TracedProcess):
        return {"event": "process", "version": SCHEMA_VERSION, **asdict(traced)}
    arguments = {
        name: int(value) if _NUMBER.fullmatch(value) else value
        for name, value in traced.arguments.items()
    }
    values = {**asdict(traced), "arguments": arguments, "failed": traced.failed}
    return {"event": "call", "version": SCHEMA_VERSION, **values}
