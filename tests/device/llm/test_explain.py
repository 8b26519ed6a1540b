"""Why llama.cpp does not use the GPU, asked of `vgpu-stub explain`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vgpu_stub.harness.build import cuda_libraries
from vgpu_stub.models.writer import write_model

from .conftest import COMMAND

pytestmark = pytest.mark.device

Explain = Callable[..., tuple[str, str]]
LIST_DEVICES = ("llama-server", "--list-devices")


@pytest.fixture
def explain(llm_image: None) -> Explain:
    """Runs a program of the image; gives the verdict's code and evidence."""

    def run(*program: str) -> tuple[str, str]:
        options = ["--json", "--executor", "software", "--image", "llm", "--"]
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, "explain", *options, *program],
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=110,
            check=False,
        )
        assert done.stdout, done.stderr
        verdict = json.loads(done.stdout)["verdict"]
        return verdict["code"], "\n".join(verdict["evidence"])

    return run


@pytest.fixture
def libraries(tmp_path: Path) -> Path:
    """A folder with our libraries but libcublas."""
    for path in cuda_libraries().glob("*.so.*"):
        if "cublas" not in path.name:
            (tmp_path / path.name).symlink_to(path)
    return tmp_path


def ignore(what: str, part: float | None) -> None:
    """Progress that nobody looks at."""


def test_listing_devices_uses_none(explain: Explain) -> None:
    code, seen = explain(*LIST_DEVICES)
    assert code == "DETECTED_NOT_USED"
    assert "llama-server opened VGPU-STUB software GPU" in seen


@pytest.mark.parametrize(("layers", "code"), [("99", "RESIDENT"), ("0", "DETECTED_NOT_USED")])
def test_layers_on_the_device_decide(
    explain: Explain, tmp_path: Path, layers: str, code: str
) -> None:
    # Large enough that kernels take most of the time, also on a busy machine.
    model = tmp_path / "model.gguf"
    write_model(model, "15m", "q8_0", 3, ignore)
    bench = ("llama-bench", "-m", str(model), "-p", "8", "-n", "8", "-r", "1", "-ngl", layers)
    assert explain(*bench)[0] == code


def test_a_backend_without_cublas_is_not_loaded(explain: Explain, libraries: Path) -> None:
    code, seen = explain("env", f"LD_LIBRARY_PATH={libraries}", *LIST_DEVICES)
    assert code == "BACKEND_UNLOADABLE"
    assert "libggml-cuda.so needs libcublas.so.12, which was not found" in seen


def test_a_cublas_without_a_symbol_keeps_the_backend_out(explain: Explain, libraries: Path) -> None:
    source, script = libraries / "cublas.c", libraries / "cublas.map"
    source.write_text("int cublasCreate_v2(void **handle) { return 1; }\n")
    script.write_text("libcublas.so.12 { global: cublasCreate_v2; local: *; };\n")
    target = libraries / "libcublas.so.12"
    flags = [f"-Wl,--version-script={script}", f"-Wl,-soname,{target.name}"]
    subprocess.run(["cc", "-shared", "-fPIC", *flags, str(source), "-o", str(target)], check=True)
    code, seen = explain("env", f"LD_LIBRARY_PATH={libraries}", *LIST_DEVICES)
    assert code == "BACKEND_UNLOADABLE"
    assert "libggml-cuda.so: symbol lookup error: undefined symbol: cublas" in seen
    assert "version libcublas.so.12" in seen
