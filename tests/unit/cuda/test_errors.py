"""Names and texts of errors, and what the library answers where there is no device."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
HEADERS = list(ROOT.glob(".venv/lib/python3*/site-packages/nvidia/cu13/include/cuda.h"))
NOT_INITIALIZED, NO_DEVICE, SYSTEM_DRIVER_MISMATCH = 3, 100, 803


def call_in_process(build: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != "VGPU_STUB_SOCKET"}
    script = f"import ctypes; cuda = ctypes.CDLL({str(build / 'libcuda.so.1')!r})\n{code}"
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


@pytest.mark.skipif(not HEADERS, reason="needs NVIDIA's cuda.h")
def test_every_error_of_the_headers_has_its_name_and_a_text(library: ctypes.CDLL) -> None:
    codes = {
        int(value): name
        for name, value in re.findall(
            r"^\s+(CUDA_SUCCESS|CUDA_ERROR_\w+)\s*= (\d+)", HEADERS[0].read_text(), re.MULTILINE
        )
    }
    assert len(codes) > 90
    text = ctypes.c_char_p()
    for code, name in codes.items():
        assert library.cuGetErrorName(code, ctypes.byref(text)) == 0, name
        assert text.value == name.encode()
        assert library.cuGetErrorString(code, ctypes.byref(text)) == 0
        assert text.value


def test_number_that_is_no_error_has_no_name(library: ctypes.CDLL) -> None:
    text = ctypes.c_char_p(b"before")
    assert library.cuGetErrorName(12345, ctypes.byref(text)) == 1
    assert text.value is None


def test_without_a_device_cuinit_says_no_device(build: Path, tmp_path: Path) -> None:
    done = call_in_process(build, "print(cuda.cuInit(0))", VGPU_STUB_SOCKET=str(tmp_path / "none"))
    assert (done.stdout, done.stderr) == (f"{NO_DEVICE}\n", "")


def test_log_says_why_there_is_no_device(build: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "none")
    done = call_in_process(build, "cuda.cuInit(0)", VGPU_STUB_SOCKET=path, VGPU_STUB_LOG="info")
    assert f"cannot connect to the device at {path}: No such file or directory" in done.stderr


def test_calls_before_cuinit_say_not_initialized(build: Path) -> None:
    done = call_in_process(
        build,
        "p = ctypes.c_void_p()\n"
        "print(cuda.cuDeviceGetCount(ctypes.byref(p)), cuda.cuCtxGetCurrent(ctypes.byref(p)),\n"
        "      cuda.cuMemAlloc_v2(ctypes.byref(p), ctypes.c_size_t(64)), cuda.cuCtxSynchronize())",
    )
    assert done.stdout.split() == [str(NOT_INITIALIZED)] * 4
