"""`vgpu-stub trace`: the CUDA calls of programs as they happen."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from vgpu_stub.harness import build

pytestmark = pytest.mark.device

COMMAND = "from vgpu_stub.cli.main import app; app()"
PROGRAM = [sys.executable, str(Path(__file__).with_name("trace_program.py"))]
SLOW = [sys.executable, str(build.ROOT / "examples/slow-call/settle.py")]

Event = dict[str, Any]


def run(*options: str, program: list[str]) -> subprocess.CompletedProcess[str]:
    line = ["trace", "--executor", "software", *options, "--", *program]
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *line],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def events(*options: str, program: list[str], folder: Path) -> list[Event]:
    path = folder / "trace.jsonl"
    run("--json", "-o", str(path), *options, program=program)
    return [json.loads(line) for line in path.read_text().splitlines()]


def calls(found: list[Event]) -> list[tuple[str, str]]:
    return [(event["function"], event["error"]) for event in found if event["event"] == "call"]


def test_calls_of_a_child_are_shown_and_the_program_is_left_alone() -> None:
    done = run("-C", program=[*PROGRAM, "child"])
    assert done.returncode == 3
    assert done.stdout == "to standard output\n"
    parent, child, *lines = done.stderr.splitlines()
    for begins in (parent, child):
        assert begins.endswith("+++ " + str(Path(sys.executable).resolve()) + " uses libcuda +++")
    assert {line.split()[1] for line in lines[:4]} == {child.split()[0]} != {parent.split()[0]}
    shown = [line.split(maxsplit=2)[2].rsplit(" <", 1)[0] for line in lines[:4]]
    assert shown[0] == "cuInit(Flags=0) = CUDA_SUCCESS"
    assert shown[1].startswith("cuCtxCreate_v2(pctx=[0x")
    assert shown[1].endswith("], flags=0, dev=0) = CUDA_SUCCESS")
    assert shown[2].startswith("cuMemAlloc_v2(dptr=[0x")
    assert shown[2].endswith("], bytesize=1048576) = CUDA_SUCCESS")
    assert shown[3].endswith(", bytesize=0) = CUDA_ERROR_INVALID_VALUE")
    assert lines[4].startswith("% time ")
    (row,) = [line for line in lines[6:] if line.endswith(" cuMemAlloc_v2")]
    assert row.split()[3] == "2"
    assert row.split()[-2] == "1"


def test_threads_and_forked_children_have_their_own_calls(tmp_path: Path) -> None:
    found = events("-e", "cuMemAlloc", program=[*PROGRAM, "threads"], folder=tmp_path)
    made = [event for event in found if event["event"] == "call"]
    (parent,) = {event["pid"] for event in made if event["tid"] != event["pid"]}
    threads = [event["tid"] for event in made if event["pid"] == parent]
    assert sorted(threads.count(tid) for tid in set(threads)) == [20, 20]
    children = [event for event in made if event["pid"] != parent]
    assert len({event["pid"] for event in children}) == len(children) == 5
    assert {event["error"] for event in children} == {"CUDA_ERROR_NOT_INITIALIZED"}
    for tid in set(threads):
        mine = [event for event in made if event["tid"] == tid]
        ends = [event["begin_ns"] + event["duration_ns"] for event in mine]
        assert all(end <= later["begin_ns"] for end, later in zip(ends, mine[1:], strict=False))
        # Each allocation is a command of its own in the ring.
        assert all(event["first_command"] == event["last_command"] > 0 for event in mine)
    numbers = [event["first_command"] for event in made if event["pid"] == parent]
    assert len(set(numbers)) == 40


def test_only_failed_calls(tmp_path: Path) -> None:
    found = events("--failed", program=[*PROGRAM, "failures"], folder=tmp_path)
    assert calls(found) == [
        ("cuMemFree_v2", "CUDA_ERROR_NOT_INITIALIZED"),
        ("cuModuleGetFunction", "CUDA_ERROR_NOT_FOUND"),
        ("cuTexRefCreate", "CUDA_ERROR_NOT_SUPPORTED"),
    ]
    assert found[2]["arguments"]["name"] == '"no_such_kernel"'


def test_a_call_that_never_returns_is_shown_while_it_lasts() -> None:
    done = run("-C", program=[*PROGRAM, "hang"])
    assert done.returncode == 137
    waits = [line for line in done.stderr.splitlines() if "cuCtxSynchronize" in line]
    assert "cuCtxSynchronize( <unfinished, 1." in waits[0]
    assert "cuCtxSynchronize(...) = ? <unfinished ...>" in waits[1]
    (launch,) = [line for line in done.stderr.splitlines() if "cuLaunchKernel(" in line]
    assert "/* spin() */" in launch


def test_calls_of_a_c_program_of_the_runtime(tmp_path: Path) -> None:
    program = [str(build.test_program("runtime/13/legacy/launch"))]
    found = events("-e", "launch", "-c", program=program, folder=tmp_path)
    assert [event["event"] for event in found] == ["summary"] * len(found)
    assert "cuLaunchKernel" in {event["function"] for event in found}


def test_the_timeline_and_the_summary_of_the_example_show_the_slow_call(tmp_path: Path) -> None:
    timeline = tmp_path / "timeline.json"
    made = events(
        *("-e", "copy", "--timeline", str(timeline)), program=[*SLOW, "--mended"], folder=tmp_path
    )
    assert made[-1]["arguments"]["ByteCount"] == 4
    # Arrows lead from each call to what it became.
    found = json.loads(timeline.read_text())
    assert found["otherData"]["program_clock"] == "the same"
    slices = {
        (e["pid"], e["tid"], e["ts"]): e["name"] for e in found["traceEvents"] if e["ph"] == "X"
    }
    flows: dict[str, list[str]] = {}
    times: dict[str, list[float]] = {}
    for event in found["traceEvents"]:
        if event.get("cat") == "call flow":
            place = event["pid"], event["tid"], event["ts"]
            flows.setdefault(event["id"], []).append(slices[place])
            times.setdefault(event["id"], []).append(event["ts"])
    assert all(begin <= taken for begin, taken in times.values())
    assert Counter((begin, taken) for begin, taken in flows.values()) == {
        ("cuCtxCreate_v2", "CONTEXT_CREATE"): 1,
        ("cuModuleLoadData", "MODULE_LOAD"): 1,
        ("cuModuleGetFunction", "MODULE_GET_FUNCTION"): 1,
        ("cuMemAlloc_v2", "MEMORY_ALLOCATE"): 1,
        ("cuMemsetD32_v2", "MEMSET"): 1,
        ("cuLaunchKernel", "settle"): 20,
        ("cuMemcpyDtoH_v2", "COPY_DEVICE_TO_HOST"): 20,
    }
    lanes = [e for e in found["traceEvents"] if e["ph"] == "M" and e["tid"] >= 100_000]
    assert [lane["args"]["name"] for lane in lanes] == [f"thread {made[-1]['tid']}"]
    # The kernel is compiled by now, so that nothing but the copies is slow.
    slow = events("-c", program=SLOW, folder=tmp_path)
    assert slow[0]["function"] == "cuMemcpyDtoH_v2"
    assert slow[0]["calls"] == 20
