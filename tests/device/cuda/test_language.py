"""A program of CUDA C++ as nvcc compiles it: cooperative groups, function pointers, recursion."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from vgpu_host.executors.options import ExecutorOptions
from vgpu_stub.harness.build import cuda_libraries
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.harness.program import program_environment

SOURCE = Path(__file__).with_name("language.cu")
#: The oldest capability that nvcc 13 compiles for.
PROFILE = "sm_75"

pytestmark = pytest.mark.device


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the program prints."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("nvcc is not installed")
    program = tmp_path_factory.mktemp("program") / "language"
    architecture = f"arch=compute_{PROFILE[3:]},code=compute_{PROFILE[3:]}"
    flags = ["--std=c++17", "--cudart=shared", "--generate-code", architecture]
    subprocess.run([nvcc, *flags, "-o", program, SOURCE], check=True, timeout=300)
    options = ExecutorOptions(name="software", profile=PROFILE)
    with DeviceServer(options, shared=False) as server:
        done = subprocess.run(
            [program],
            env=program_environment(server.device_socket, cuda_libraries()),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stdout
    return done.stdout.splitlines()


def test_blocks_of_a_grid_wait_for_each_other(output: list[str]) -> None:
    found = [line for line in output if line.startswith("grid ")]
    assert found == ["grid right", "grid cudaErrorCooperativeLaunchTooLarge"]


def numbers(output: list[str], name: str) -> list[int]:
    (line,) = (line for line in output if line.endswith(f" {name}"))
    return [int(word) for word in line.split()[:-1]]


def test_functions_are_called_by_pointers(output: list[str]) -> None:
    expected = [3000 * t + (5 * t if t & 1 else t + 5) for t in range(8)]
    assert numbers(output, "pointers") == expected


def test_functions_call_themselves(output: list[str]) -> None:
    data = [(i * 37 + 11) % 100 for i in range(32)]
    expected = [value for t in range(4) for value in sorted(data[8 * t : 8 * t + 8])]
    for t, factorial in enumerate((1, 1, 2, 6)):
        expected[8 * t] += factorial
    assert numbers(output, "sorted") == expected
    printed = [line for line in output if line.startswith("factorial")]
    assert printed == [f"factorial({n}) of thread 3" for n in range(4)]


def test_groups_of_lanes_exchange_values(output: list[str]) -> None:
    """The first three threads of every tile form one group, whose sum each of them has."""
    whole = sum(8 * tile + t for tile in range(4) for t in range(3))
    assert numbers(output, "groups") == [3 * whole - 5] * 4
