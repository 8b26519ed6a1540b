"""`vgpu-stub exec --fidelity`: what kernels executed reaches the user and the report file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vgpu_stub.harness.build import GUEST, workloads

pytestmark = pytest.mark.device

COMMAND = "from vgpu_stub.cli.main import app; app()"
PROGRAM = str(GUEST / "workloads/programs.py")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    workloads()
    return subprocess.run(
        [sys.executable, "-c", COMMAND, "exec", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_what_kernels_executed_is_told(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    program = [sys.executable, PROGRAM, "vector_add"]
    done = run("--fidelity", "--fidelity-report", str(report), "--", *program)
    assert done.returncode == 0, done.stderr
    (kernel,) = json.loads(report.read_text())["kernels"]
    assert (kernel["name"], kernel["launches"]) == ("vector_add", 1)
    counts = {each["name"]: each for each in kernel["instructions"]}
    # 100,003 elements in blocks of 256: the last warps have threads beyond the end.
    assert counts["setp.ge.u32"]["threads"] == 391 * 256
    assert counts["setp.ge.u32"]["warps"] == 391 * 8
    assert counts["add.f32"]["threads"] == counts["st.global.f32"]["threads"] == 100_003
    assert counts["add.f32"]["warps"] == 3126
    line = f"{1:>12} {kernel['threads']:>18,}    100%      -      -  vector_add\n"
    assert line in done.stderr


def test_nothing_is_told_unless_asked_for() -> None:
    done = run("--", sys.executable, PROGRAM, "vector_add")
    assert done.returncode == 0, done.stderr
    assert "fidelity" not in done.stderr


def test_a_physical_gpu_is_not_compared_with_itself() -> None:
    refused = run("--executor", "cuda", "--fidelity", "--", "true")
    assert refused.returncode == 2
    assert "--fidelity is for the software GPU" in refused.stderr
