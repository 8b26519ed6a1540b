"""Calls put together from lines of journals."""

from __future__ import annotations

import json
from typing import Any

from vgpu_stub.abi.journal import CallRecord, parse_record, render_formats
from vgpu_stub.calltrace.call import CallReader, TracedCall, TracedProcess, split_arguments

PID = 100


def line(event: str, pid: int = PID, **values: Any) -> tuple[int, bytes]:
    return pid, json.dumps({"event": event, **values}).encode()


def call(function: str, begin_ns: int, arguments: str = "", **other: Any) -> tuple[int, bytes]:
    values: dict[str, Any] = {
        "tid": PID,
        "duration_ns": 5,
        "first_command": 0,
        "last_command": 0,
        "answered": 0,
        "status": 0,
        "error": "CUDA_SUCCESS",
        **other,
    }
    return line("call", function=function, begin_ns=begin_ns, arguments=arguments, **values)


def test_arguments_are_taken_apart_by_name() -> None:
    text = 'hfunc=[0x7f00], name="odd, name="x", y", count=3, extra=(nil)'
    assert split_arguments(text) == {
        "hfunc": "[0x7f00]",
        "name": '"odd, name="x", y"',
        "count": "3",
        "extra": "NULL",
    }
    assert split_arguments("") == {}


def test_a_call_is_decoded() -> None:
    (found,) = CallReader().read(
        [call("cuMemAlloc_v2", 7, "dptr=(nil), bytesize=0", status=1, error="CUDA_ERROR_X", tid=3)]
    )
    assert found == TracedCall(
        PID, 3, 7, 5, "cuMemAlloc_v2", {"dptr": "NULL", "bytesize": "0"}, 1, "CUDA_ERROR_X"
    )
    assert found.failed


def test_not_ready_is_an_answer() -> None:
    (found,) = CallReader().read(
        [call("cuEventQuery", 7, status=600, error="CUDA_ERROR_NOT_READY")]
    )
    assert isinstance(found, TracedCall)
    assert not found.failed


def test_calls_of_processes_are_in_the_order_of_their_ends() -> None:
    lines = [call("first", 10), call("third", 30), call("second", 20, tid=101)]
    found = CallReader().read([*lines, line("load", parent=1, program="/bin/x")])
    assert found[0] == TracedProcess(PID, 1, "/bin/x")
    assert [one.function for one in found[1:] if isinstance(one, TracedCall)] == [
        "first",
        "second",
        "third",
    ]


def test_a_launch_names_its_kernel_in_the_process_that_looked_it_up() -> None:
    reader = CallReader()
    found = reader.read(
        [
            call("cuModuleGetFunction", 1, 'hfunc=[0xa0], hmod=0x1, name="_Z5scalePfi"'),
            call("cuLaunchKernel", 10, "f=0xa0, gridDimX=1"),
            call("cuLaunchKernel", 20, "f=0xb0, gridDimX=1"),
            (PID + 1, call("cuLaunchKernel", 30, "f=0xa0, gridDimX=1")[1]),
        ]
    )
    kernels = [one.kernel for one in found if isinstance(one, TracedCall)]
    assert kernels == ["", "scale(float*, int)", "", ""]


def test_a_kernel_of_a_library_is_known_by_its_function_too() -> None:
    found = CallReader().read(
        [
            call("cuLibraryGetKernel", 1, 'pKernel=[0xa0], library=0x1, name="add"'),
            call("cuKernelGetFunction", 10, "pFunc=[0xc0], kernel=0xa0"),
            call("cuLaunchKernel", 20, "f=0xc0"),
        ]
    )
    assert isinstance(found[-1], TracedCall)
    assert found[-1].kernel == "add"


def test_a_call_that_never_returns_lasts_until_the_end() -> None:
    reader = CallReader()
    enter = {"tid": PID, "function": "cuCtxSynchronize"}
    assert reader.read([line("enter", begin_ns=100, **enter)]) == []
    (found,) = reader.unfinished(end_ns=400)
    assert (found.function, found.duration_ns, found.status) == ("cuCtxSynchronize", 300, None)
    assert found.failed
    reader.read([call("cuCtxSynchronize", 101)])
    assert reader.unfinished(end_ns=500) == []


def test_a_function_that_only_refuses_is_a_failed_call() -> None:
    reader = CallReader()
    refused = {"tid": PID, "begin_ns": 1, "function": "cuTexRefCreate"}
    assert reader.read([line("refused", within=1, **refused)]) == []
    (found,) = reader.read([line("refused", within=0, **refused)])
    assert isinstance(found, TracedCall)
    assert (found.error, found.arguments) == ("CUDA_ERROR_NOT_SUPPORTED", {})


def test_a_reason_in_words_goes_with_the_call_of_its_thread() -> None:
    enter = {"begin_ns": 1, "function": "cuX"}
    found = CallReader().read(
        [
            line("note", tid=PID, text="before any call"),
            line("enter", tid=PID, **enter),
            line("enter", tid=101, **enter),
            line("note", tid=PID, text="there is no such kernel"),
            call("cuX", 20, tid=101),
            call("cuX", 30),
            call("cuX", 40),
        ]
    )
    notes = [one.notes for one in found if isinstance(one, TracedCall)]
    assert notes == [(), ("there is no such kernel",), ()]


def test_lines_that_make_no_sense_are_left_out() -> None:
    broken = [(PID, b'{"event": "call", "tid"'), (PID, b"[]"), line("call"), line("note", text="")]
    assert CallReader().read(broken) == []


def test_the_library_writes_the_fields_that_are_read() -> None:
    formats = dict(text.split(" ", 2)[1:] for text in render_formats().splitlines()[2:])
    written = formats["VGPU_JOURNAL_CALL"].strip('"').replace('\\"', '"')
    values = (1, 2, 3, 4, 5, 6, 7, "CUDA_SUCCESS", "cuInit")
    text = '{"event": "call"' + written.replace("%lld", "%d") % values + '"flags=0"}'
    assert parse_record(json.loads(text)) == CallRecord(*values, "flags=0")  # type: ignore[arg-type]
