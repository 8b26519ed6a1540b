"""The table at the end, and how calls are written."""

from __future__ import annotations

import io
import json

import pytest

from vgpu_stub.calltrace.call import OpenCall, TracedCall, TracedProcess
from vgpu_stub.calltrace.summary import Order, Row, Summary
from vgpu_stub.calltrace.writer import TraceWriter, duration

MS = 1_000_000


def a_call(function: str, ms: int, error: str = "CUDA_SUCCESS") -> TracedCall:
    return TracedCall(1, 1, 0, ms * MS, function, {}, 0, error)


CALLS = [
    a_call("cuB", 1),
    a_call("cuB", 5, "CUDA_ERROR_INVALID_VALUE"),
    a_call("cuA", 30),
    a_call("cuC", 1),
    a_call("cuC", 1),
    a_call("cuC", 2),
]


def test_calls_of_a_function_add_up() -> None:
    summary = Summary(CALLS)
    slow, twice, often = summary.rows()
    assert slow == Row("cuA", calls=1, errors=0, total_ns=30 * MS, slowest_ns=30 * MS)
    assert twice == Row("cuB", calls=2, errors=1, total_ns=6 * MS, slowest_ns=5 * MS)
    assert often == Row("cuC", calls=3, errors=0, total_ns=4 * MS, slowest_ns=2 * MS)
    assert twice.average_ns == 3 * MS
    assert summary.total == Row("total", 6, 1, 40 * MS, 30 * MS)
    assert [summary.share(row) for row in (slow, twice, often)] == [0.75, 0.15, 0.1]


@pytest.mark.parametrize(
    ("order", "names"),
    [
        (Order.TIME, "ABC"),
        (Order.CALLS, "CBA"),
        (Order.ERRORS, "BAC"),
        (Order.AVERAGE, "ABC"),
        (Order.SLOWEST, "ABC"),
        (Order.NAME, "ABC"),
    ],
)
def test_order(order: Order, names: str) -> None:
    assert [row.function for row in Summary(CALLS).rows(order)] == [f"cu{name}" for name in names]


def test_of_nothing_there_is_a_total() -> None:
    summary = Summary()
    assert summary.rows() == []
    assert summary.total == Row("total")
    assert summary.share(summary.total) == 0.0


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (999.6, "1.00 us"),
        (1234, "1.23 us"),
        (99_960, "100 us"),
        (999_600, "1.00 ms"),
        (12_345_678, "12.3 ms"),
        (3_210_000_000, "3.21 s"),
        (4_000_000_000_000, "4000 s"),
    ],
)
def test_a_duration_has_three_figures(ns: float, text: str) -> None:
    assert duration(ns) == text


def written(*, as_json: bool = False) -> str:
    file = io.StringIO()
    writer = TraceWriter(file, as_json=as_json)
    writer.write(TracedProcess(7, 1, "/bin/x"))
    arguments = {"dptr": "[0x7f00]", "bytesize": "16"}
    writer.write(TracedCall(7, 7, 5 * MS, 2000, "cuMemAlloc_v2", arguments, 0, "CUDA_SUCCESS"))
    notes = {"notes": ("it is full",)}
    writer.write(TracedCall(7, 7, 5 * MS, 9, "cuX", {}, 2, "CUDA_ERROR_OUT_OF_MEMORY", **notes))
    writer.write_open(OpenCall(7, 8, 6 * MS, "cuCtxSynchronize"), 1006 * MS)
    writer.write(TracedCall(7, 8, 6 * MS, 1500 * MS, "cuCtxSynchronize", {}, None, ""))
    writer.write_summary(Summary(CALLS[:3]), Order.TIME)
    return file.getvalue()


def test_lines_for_people() -> None:
    assert written() == (
        "             7               +++ /bin/x uses libcuda +++\n"
        "    0.000000 7               cuMemAlloc_v2(dptr=[0x7f00], bytesize=16)"
        " = CUDA_SUCCESS <2.00 us>\n"
        "    0.000000 7               cuX() = CUDA_ERROR_OUT_OF_MEMORY <9 ns> -- it is full\n"
        "    0.001000 7/8             cuCtxSynchronize( <unfinished, 1.00 s so far ...>\n"
        "    0.001000 7/8             cuCtxSynchronize(...) = ? <unfinished ...> <1.50 s>\n"
        "% time       total      calls     average     slowest  errors  function\n"
        "------ ----------- ---------- ----------- ----------- ------- --------\n"
        " 83.33     30.0 ms          1     30.0 ms     30.0 ms          cuA\n"
        " 16.67     6.00 ms          2     3.00 ms     5.00 ms       1  cuB\n"
        "------ ----------- ---------- ----------- ----------- ------- --------\n"
        "100.00     36.0 ms          3     12.0 ms     30.0 ms       1  total\n"
    )


def test_json_has_one_object_a_line() -> None:
    events = [json.loads(text) for text in written(as_json=True).splitlines()]
    assert [event["event"] for event in events] == [
        *("process", "call", "call", "call", "summary", "summary"),
    ]
    assert events[1] == {
        "event": "call",
        "version": 1,
        "pid": 7,
        "tid": 7,
        "begin_ns": 5 * MS,
        "duration_ns": 2000,
        "function": "cuMemAlloc_v2",
        "arguments": {"dptr": "[0x7f00]", "bytesize": 16},
        "status": 0,
        "error": "CUDA_SUCCESS",
        "kernel": "",
        "first_command": 0,
        "last_command": 0,
        "answered": 0,
        "notes": [],
        "failed": False,
    }
    assert (events[3]["status"], events[3]["failed"]) == (None, True)
    assert events[5] == {
        "event": "summary",
        "version": 1,
        "function": "cuB",
        "calls": 2,
        "errors": 1,
        "total_ns": 6 * MS,
        "slowest_ns": 5 * MS,
        "average_ns": 3.0 * MS,
        "share": 6 / 36,
    }
