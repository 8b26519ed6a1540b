"""What others wrote for CUDA, by `bench/peers.py`; skipped where its packages are not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.device

PEERS = Path(__file__).resolve().parents[2] / "bench/peers.py"
NOT_INSTALLED = 77
NUMBA = {
    *("vector_add", "matmul", "reduction", "histogram", "mandelbrot", "streams", "functions"),
    *("universal_function", "random_numbers", "convolution"),
}
TRITON = {"vector_add", "softmax", "matmul_f32", "matmul_f16", "matmul_tf32", "layer_norm"}


def right_programs(suite: str, profile: str) -> set[str]:
    """Names of the programs of a suite, once all of them were right."""
    done = subprocess.run(
        [sys.executable, PEERS, "--json", "--profile", profile, suite],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    if done.returncode == NOT_INSTALLED:
        pytest.skip(done.stderr.strip())
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, [row for row in rows if not row["right"]] or done.stderr
    return {row["program"] for row in rows}


@pytest.mark.parametrize("profile", ["sm_75", "sm_80", "sm_90"])
def test_tritons_kernels(profile: str) -> None:
    assert right_programs("triton", profile) == TRITON


@pytest.mark.parametrize("profile", ["sm_75", "sm_90"])
def test_programs_of_numba(profile: str) -> None:
    assert right_programs("numba", profile) == NUMBA


@pytest.mark.parametrize("profile", ["sm_75", "sm_90"])
def test_programs_of_cuda_core(profile: str) -> None:
    assert right_programs("cuda_core", profile) == {"templates", "prefix_sum", "linked_sources"}
