"""The runtime's programs on the physical GPU: over our libraries, and over NVIDIA's for comparison.

They state what CUDA does, so they have to pass natively too; where they do not, the statement is
wrong.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from vgpu_host.executors.cuda_library import driver_folder
from vgpu_host.executors.options import ExecutorOptions, why_no_gpu
from vgpu_stub.harness.build import GUEST, cuda_libraries
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.harness.program import program_environment

pytestmark = pytest.mark.gpu

CUDA = GUEST / "cuda"
FOLDER = CUDA / "build/tests/runtime"
PROGRAMS = sorted(
    path.stem for path in (CUDA / "tests/runtime").glob("*.c") if path.stem != "refused"
)
#: Where NVIDIA's runtimes are: the toolkit's, and that of the wheel nvidia-cuda-runtime-cu12.
NATIVE = {
    "12": (GUEST.parent, ".venv/lib/python3*/site-packages/nvidia/cuda_runtime/lib"),
    "13": (Path("/usr/local/cuda"), "lib64"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[DeviceServer]:
    reason = why_no_gpu()
    if reason:
        pytest.skip(f"no physical GPU: {reason}")
    subprocess.run(["make", "-s", "-C", str(CUDA), "tests"], check=True)
    with DeviceServer(ExecutorOptions("cuda"), shared=False) as running:
        yield running


def run(environment: dict[str, str], version: str, stream: str, program: str) -> tuple[int, str]:
    path = FOLDER / version / stream / program
    if not path.exists():
        pytest.skip(f"no headers of CUDA {version} on this machine")
    done = subprocess.run(
        [path],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    return done.returncode, done.stdout


def native_folder(version: str) -> Path:
    root, pattern = NATIVE[version]
    for folder in sorted(root.glob(pattern)):
        if (folder / f"libcudart.so.{version}").exists():
            return folder
    pytest.skip(f"NVIDIA's libcudart.so.{version} is not on this machine")


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("stream", ["legacy", "per_thread"])
@pytest.mark.parametrize("version", ["12", "13"])
def test_runtime_program_by_exec(
    server: DeviceServer, version: str, stream: str, program: str
) -> None:
    environment = program_environment(server.device_socket, cuda_libraries())
    assert run(environment, version, stream, program) == (0, "passed\n")


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("stream", ["legacy", "per_thread"])
@pytest.mark.parametrize("version", ["12", "13"])
def test_runtime_program_over_nvidias_runtime(
    server: DeviceServer, version: str, stream: str, program: str
) -> None:
    folders = f"{native_folder(version)}:{driver_folder()}"
    environment = dict(os.environ, LD_LIBRARY_PATH=folders)
    assert run(environment, version, stream, program) == (0, "passed\n")
