"""Ollama's documented discovery ends in library=CUDA, or says which step does not."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from vgpu_stub.harness.build import GUEST

from .conftest import RunLlm

pytestmark = pytest.mark.device

DISCOVERY = str(GUEST / "workloads/ollama_discovery.py")


def test_decision_is_cuda(run_llm: RunLlm) -> None:
    done = run_llm("python3", DISCOVERY, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["library"] == "CUDA"
    assert [step["name"] for step in report["steps"]] == [
        "first pass: server",
        "first pass: devices",
        "driver probe",
        "second pass",
    ]
    (device,) = report["devices"]
    assert device["identifier"] == "CUDA0"
    assert device["capability"] == "6.1"
    assert device["total_mib"] >= device["free_mib"] > 0


def test_several_at_once_decide_the_same(run_llm: RunLlm) -> None:
    """Servers are killed by SIGKILL in the middle of it; nobody else may notice."""
    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda _: run_llm("python3", DISCOVERY), range(3)))
    assert [done.returncode for done in runs] == [0, 0, 0], [done.stdout for done in runs]


def test_hidden_device_is_the_reason_for_the_cpu(run_llm: RunLlm) -> None:
    done = run_llm("env", "CUDA_VISIBLE_DEVICES=", "python3", DISCOVERY)
    assert done.returncode == 1
    assert "library=cpu: no CUDA device is listed" in done.stdout
