"""Unmodified llama.cpp finds the device, and its own tests find the results right."""

from __future__ import annotations

import re

import pytest

from .conftest import RunLlm

pytestmark = pytest.mark.device


def test_lists_the_device(run_llm: RunLlm) -> None:
    done = run_llm("llama-server", "--list-devices")
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"^ +CUDA0: VGPU-STUB software GPU \(\d+ MiB, \d+ MiB free\)$", done.stdout, re.M
    )


def test_hidden_device_is_not_listed(run_llm: RunLlm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    done = run_llm("llama-server", "--list-devices")
    assert "no CUDA-capable device is detected" in done.stderr
    assert "CUDA0" not in done.stdout


@pytest.mark.parametrize("operation", ["RMS_NORM", "ARGMAX", "GET_ROWS"])
def test_operation_agrees_with_the_cpu(run_llm: RunLlm, operation: str) -> None:
    done = run_llm("test-backend-ops", "test", "-b", "CUDA0", "-o", operation)
    passed = re.search(r"(\d+)/(\d+) tests passed", done.stdout)
    assert passed, done.stdout + done.stderr
    assert int(passed[1]) == int(passed[2]) > 0
    assert done.returncode == 0
