"""The graph programs on the physical GPU: over our libraries, and over NVIDIA's for comparison.

They state what CUDA does, so they have to pass natively too; where they do not, the statement is
wrong.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from vgpu_host.executors.cuda_library import driver_folder
from vgpu_host.executors.options import ExecutorOptions, why_no_gpu
from vgpu_stub.harness.build import GUEST, cuda_libraries
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.harness.program import program_environment

pytestmark = pytest.mark.gpu

PROGRAMS = ("graph_capture", "graph_nodes", "capture_rules", "graph_threads")
FOLDER = GUEST / "cuda/build/tests"


@pytest.fixture(scope="module")
def server() -> Iterator[DeviceServer]:
    reason = why_no_gpu()
    if reason:
        pytest.skip(f"no physical GPU: {reason}")
    subprocess.run(["make", "-s", "-C", str(GUEST / "cuda"), "tests"], check=True)
    with DeviceServer(ExecutorOptions("cuda"), shared=False) as running:
        yield running


def run(environment: dict[str, str], *command: str) -> tuple[int, str]:
    done = subprocess.run(
        [str(FOLDER / command[0]), *command[1:]],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_graph_program_by_exec(server: DeviceServer, program: str) -> None:
    environment = program_environment(server.device_socket, cuda_libraries())
    assert run(environment, program) == (0, "passed\n")


@pytest.mark.parametrize("program", PROGRAMS)
def test_graph_program_over_the_driver_of_the_machine(server: DeviceServer, program: str) -> None:
    # The programs look beside themselves first, where our library is.
    environment = dict(os.environ, LD_LIBRARY_PATH=str(driver_folder()))
    assert run(environment, program, "native") == (0, "passed\n")
