"""llama.cpp writes the same text with all layers on the device as on the CPU."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vgpu_stub.models.writer import write_model

from .conftest import RunLlm

pytestmark = pytest.mark.device

GREEDY = ("-p", "hello world", "-n", "24", "--temp", "0", "-no-cnv")


def ignore(what: str, part: float | None) -> None:
    """Progress that nobody looks at."""


@pytest.mark.parametrize("kind", ["f32", "f16", "q8_0"])
def test_text_is_that_of_the_cpu(run_llm: RunLlm, tmp_path: Path, kind: str) -> None:
    model = tmp_path / "model.gguf"
    write_model(model, "1m", kind, 3, ignore)
    device = run_llm("llama-completion", "-m", str(model), "-ngl", "99", *GREEDY)
    assert device.returncode == 0, device.stderr
    launches = re.search(r"kernel launches\D+(\d+)", device.stderr)
    assert launches and int(launches[1]) > 24, device.stderr
    cpu = run_llm("llama-completion", "-m", str(model), "-ngl", "0", "-dev", "none", *GREEDY)
    assert cpu.returncode == 0, cpu.stderr
    assert device.stdout == cpu.stdout
    assert len(device.stdout.strip()) > len("hello world")


@pytest.mark.parametrize("kind", ["q4_k", "q6_k"])
def test_quantised_model_is_measured_on_the_device(
    run_llm: RunLlm, tmp_path: Path, kind: str
) -> None:
    model = tmp_path / "model.gguf"
    write_model(model, "1m", kind, 3, ignore)
    done = run_llm("llama-bench", "-m", str(model), "-ngl", "99", "-p", "8", "-n", "8", "-r", "1")
    assert done.returncode == 0, done.stderr
    assert re.search(r"CUDA +\| +99 \| +tg8 \| +[1-9]", done.stdout), done.stdout
