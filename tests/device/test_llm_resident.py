"""The resident model by `exec` on the software GPU: exact tokens, few bytes, and every defect."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import quantize

from vgpu_stub.harness.build import GUEST, workloads
from vgpu_stub.models import weights
from vgpu_stub.models.writer import write_model

pytestmark = pytest.mark.device

WORKLOAD = GUEST / "workloads/llm_resident"
COMMAND = "from vgpu_stub.cli.main import app; app()"


@pytest.fixture(scope="module", autouse=True)
def kernels() -> None:
    workloads()


def model(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.gguf"
    write_model(path, "1m", kind, 5, lambda what, part: None)
    return path


def run(*arguments: str, status: int = 0) -> dict[str, Any]:
    """Run the workload; it must end with `status`."""
    program = [sys.executable, str(WORKLOAD), *arguments, "--json"]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "exec", "--executor", "software", "--", *program],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.parametrize("kind", weights.FORMATS)
def test_tokens_are_numpys_whatever_the_weights_are(tmp_path: Path, kind: str) -> None:
    report = run(str(model(tmp_path, kind)), "--check", "--logits", "--tokens", "8")
    assert report["check"]["tokens_right"]
    assert report["check"]["logits_deviation"] < 1e-3
    assert report["verdict"] == "RESIDENT"


def test_a_token_costs_four_bytes_one_launch_and_no_memory(tmp_path: Path) -> None:
    report = run(str(model(tmp_path, "q4_k")), "--tokens", "33")
    assert report["device"] == "VGPU-STUB software GPU"
    assert report["bytes_per_token"] == 4
    assert report["launches_per_token"] == 1
    assert report["kernels_per_token"] == 15
    assert report["allocations_per_token"] == 0
    assert report["waits_per_token"] <= 1
    assert report["fallbacks"] == []
    decode = report["phases"]["decode"]
    assert (decode["to_device_bytes"], decode["to_host_bytes"]) == (0, 128)


def test_weights_that_are_decoded_at_load_give_the_same_tokens(tmp_path: Path) -> None:
    path = str(model(tmp_path, "q8_0"))
    report = run(path, "--check", "--tokens", "8", "--decode-at-load", "--prompt-tokens", "67")
    assert report["check"]["tokens_right"]


@pytest.mark.parametrize(
    ("defect", "code"),
    [
        ("cpu-op", "PARTLY_CPU"),
        ("reupload", "WEIGHTS_NOT_RESIDENT"),
        ("alloc", "ALLOCATING"),
        ("sync", "SYNC_BOUND"),
    ],
)
def test_a_defect_turns_the_verdict_and_not_the_tokens(
    tmp_path: Path, defect: str, code: str
) -> None:
    path = str(model(tmp_path, "f16"))
    report = run(path, "--check", "--tokens", "6", "--defect", defect, status=1)
    assert report["verdict"] == code
    assert report["check"]["tokens_right"]


def test_weights_without_a_kernel_are_computed_by_the_host_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(random: Any, rows: int, columns: int, deviation: float) -> Any:
        values = random.standard_normal((rows, columns), dtype=np.float32) * np.float32(deviation)
        return quantize(values, GGMLQuantizationType.Q4_0)

    monkeypatch.setitem(weights.FORMATS, "q4_0", (GGMLQuantizationType.Q4_0, draw))
    report = run(str(model(tmp_path, "q4_0")), "--check", "--tokens", "4", status=1)
    assert report["verdict"] == "PARTLY_CPU"
    assert report["check"]["tokens_right"]
    named = {(row["operation"], row["reason"]) for row in report["fallbacks"]}
    assert named == {(name, "there is no kernel for Q4_0") for name in ("embed", "linear")}


def test_draws_depend_on_the_seed_alone(tmp_path: Path) -> None:
    path = str(model(tmp_path, "f32"))
    drawn = [
        run(path, "--temperature", "2", "--seed", seed, "--tokens", "12")["tokens"]
        for seed in ("3", "3", "4")
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_model_that_does_not_fit_is_refused_in_words(tmp_path: Path) -> None:
    program = [sys.executable, str(WORKLOAD), str(model(tmp_path, "f32"))]
    options = ["--executor", "software", "--gpu-memory", "64M"]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "exec", *options, "--", *program, "--memory-share", "0.01"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 2
    assert "llm_resident: " in done.stderr
    assert "are in use" in done.stderr


def test_the_plot_shows_memory_and_use(tmp_path: Path) -> None:
    plot = tmp_path / "run.svg"
    run(str(model(tmp_path, "f16")), "--tokens", "4", "--plot", str(plot))
    text = plot.read_text()
    assert text.count("<polyline") == 3
    assert all(f">{phase}</text>" in text for phase in ("load", "prompt", "decode"))
    assert "on VGPU-STUB software GPU: RESIDENT" in text
