"""A recording as a trace: slices by lane, arrows, answers, errors."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from vgpu_stub.harness.build import GUEST, cuda_libraries, workloads
from vgpu_stub.harness.timeline import write_timeline
from vgpu_stub.recording.reader import Recording
from vgpu_stub.recording.records import Kind

from .guest import SCENARIOS, copies_and_kernels, errors, graphs

pytestmark = pytest.mark.device

Event = dict[str, Any]


@pytest.fixture(scope="module")
def trace(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    path = tmp_path_factory.mktemp("traces") / "trace.json"
    with Recording(recorded) as recording:
        count = write_timeline(recording, path)
    events: list[Event] = json.loads(path.read_text())["traceEvents"]
    assert len(events) == count
    return events


def of(trace: list[Event], scenario: object, **wanted: str) -> list[Event]:
    pid = SCENARIOS.index(scenario) + 1  # type: ignore[arg-type]
    return [
        event
        for event in trace
        if event["pid"] == pid and all(event.get(key) == value for key, value in wanted.items())
    ]


def test_every_command_is_a_slice_of_the_worker(recorded: Path, trace: list[Event]) -> None:
    with Recording(recorded) as recording:
        for pid, channel in recording.channels.items():
            commands = sum(record.kind == Kind.COMMAND for record in channel.records)
            slices = [e for e in trace if e["pid"] == pid and e.get("cat") == "command"]
            assert len(slices) == commands
            assert all(each["ph"] == "X" and each["dur"] >= 0 for each in slices)
            # One worker, one thing at a time.
            ends = [each["ts"] + each["dur"] for each in slices]
            starts = [each["ts"] for each in slices]
            assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))


def test_kernels_and_graphs_have_their_names_on_a_stream_of_their_own(trace: list[Event]) -> None:
    names = Counter(e["name"] for e in of(trace, copies_and_kernels, cat="stream"))
    assert names == {"COPY_HOST_TO_DEVICE": 3, "add_one": 3, "COPY_DEVICE_TO_HOST": 3}
    assert [e["name"] for e in of(trace, graphs, cat="stream")] == ["graph 20"] * 3
    lanes = [e["args"]["name"] for e in of(trace, graphs, name="thread_name")]
    assert lanes == ["worker", "context 1, default stream"]


def test_arrows_lead_from_the_worker_to_the_stream(trace: list[Event]) -> None:
    slices = {(e["tid"], e["ts"]) for e in trace if e["ph"] == "X"}
    begins = {e["id"]: e for e in trace if e["ph"] == "s"}
    ends = {e["id"]: e for e in trace if e["ph"] == "f"}
    assert begins.keys() == ends.keys()
    assert len(begins) == sum(e.get("cat") == "stream" for e in trace)
    for number, begin in begins.items():
        assert begin["tid"] == 1 != ends[number]["tid"]
        assert {(begin["tid"], begin["ts"]), (ends[number]["tid"], ends[number]["ts"])} <= slices


def test_every_answer_ends_what_its_command_began(trace: list[Event]) -> None:
    for category in ("answer", "admin"):
        phases: dict[str, list[Event]] = {}
        for event in trace:
            if event.get("cat") == category:
                phases.setdefault(event["id"], []).append(event)
        assert phases
        for begin, end in phases.values():
            assert (begin["ph"], end["ph"]) == ("b", "e")
            assert begin["ts"] <= end["ts"]


def test_errors_are_shown_where_they_were_told(trace: list[Event]) -> None:
    found = [(e["name"], e["args"]["asynchronous"]) for e in of(trace, errors, cat="error")]
    assert found == [("CUresult 1", True), ("CUresult 400", False)]


def test_memory_held_is_counted(trace: list[Event]) -> None:
    counted = of(trace, copies_and_kernels, name="device memory held")
    assert [e["args"]["value"] for e in counted] == [4096]


def test_exec_writes_a_trace_and_leaves_nothing_else(tmp_path: Path) -> None:
    workloads()
    cuda_libraries()
    path = tmp_path / "trace.json"
    command = "from vgpu_stub.cli.main import app; app()"
    program = [sys.executable, str(GUEST / "workloads/programs.py"), "vector_add"]
    arguments = ["--executor", "software", "--gpu-memory", "256M", "--trace", str(path)]
    subprocess.run(
        [sys.executable, "-c", command, "exec", *arguments, "--", *program], check=True, timeout=100
    )
    events = json.loads(path.read_text())["traceEvents"]
    assert "vector_add" in {e["name"] for e in events if e.get("cat") == "stream"}
    assert list(tmp_path.iterdir()) == [path]
