"""The fixture `vgpu_exec`: programs on the device, without a VM."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vgpu_stub.harness.build import GUEST, workloads
from vgpu_stub.pytest_plugin.programs import ProgramRunner

pytestmark = [pytest.mark.device, pytest.mark.vgpu(gpu_memory=1024)]


@pytest.fixture(scope="module")
def vector_add() -> list[str | Path]:
    workloads()
    return [sys.executable, GUEST / "workloads/programs.py", "vector_add"]


def test_a_program_runs_on_the_device(
    vgpu_exec: ProgramRunner, vector_add: list[str | Path]
) -> None:
    done = vgpu_exec(vector_add)
    assert done.status == 0, done.stderr
    (ended,) = vgpu_exec.snapshot()["ended_channels"]
    assert ended["commands"]["LAUNCH_KERNEL"] >= 1


def test_a_fault_reaches_a_program_and_is_gone_with_the_test(
    vgpu_exec: ProgramRunner, vector_add: list[str | Path]
) -> None:
    fault = vgpu_exec.faults.inject("command-error", opcode="LAUNCH_KERNEL", nth=1)
    assert vgpu_exec(vector_add).status != 0
    assert fault.fired == 1


def test_the_next_test_has_no_fault(vgpu_exec: ProgramRunner, vector_add: list[str | Path]) -> None:
    assert vgpu_exec.faults.list() == []
    assert vgpu_exec(vector_add).status == 0


def test_status_input_and_environment_are_the_programs(vgpu_exec: ProgramRunner) -> None:
    done = vgpu_exec(["sh", "-c", 'cat; echo "$WORD" >&2; exit 3'], stdin="in", env={"WORD": "w"})
    assert (done.status, done.stdout, done.stderr) == (3, "in", "w\n")
    assert vgpu_exec(["sh", "-c", "kill -9 $$"]).status == 128 + 9


def test_a_program_that_does_not_end_is_killed(vgpu_exec: ProgramRunner) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        vgpu_exec(["sleep", "60"], timeout=0.1)


@pytest.mark.vgpu(fresh=True)
def test_a_fresh_server_has_seen_nothing(vgpu_exec: ProgramRunner) -> None:
    assert vgpu_exec.snapshot()["ended_channels"] == []
