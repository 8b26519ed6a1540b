"""Programs on libcudart: every function that claims to work is called and has its effect.

The C programs in `guest/cuda/tests/runtime` check the effects. Each is compiled against the headers
of CUDA 12 and of CUDA 13, and with either default stream, so that both ABIs are called.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from vgpu_host.executors.options import ExecutorOptions
from vgpu_stub.abi.library_api import LIBRARIES, State, symbols
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.harness.program import program_environment

CUDA = Path(__file__).resolve().parents[3] / "guest/cuda"
(RUNTIME,) = (library for library in LIBRARIES if library.name == "runtime")
PROGRAMS = (
    "device",
    "faults",
    "graph",
    "graph_changes",
    "launch",
    "library",
    "memory",
    "stream",
    "threads",
)
STREAMS = ("legacy", "per_thread")

pytestmark = pytest.mark.device


@pytest.fixture(scope="module")
def programs() -> Path:
    subprocess.run(
        ["make", "-C", str(CUDA), "-j2", "tests"], check=True, capture_output=True, text=True
    )
    return CUDA / "build/tests/runtime"


@pytest.fixture(scope="module")
def server() -> Iterator[DeviceServer]:
    with DeviceServer(ExecutorOptions(name="software"), shared=False) as running:
        yield running


def run(server: DeviceServer, program: Path) -> tuple[int, str]:
    done = subprocess.run(
        [program],
        env=program_environment(server.device_socket, CUDA / "build"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("version", RUNTIME.sonames)
def test_calls_have_their_effects(
    programs: Path, server: DeviceServer, version: str, stream: str, program: str
) -> None:
    assert run(server, programs / version / stream / program) == (0, "passed\n")


def imports(program: Path) -> set[str]:
    """The runtime's functions that a program calls."""
    table = subprocess.run(
        ["nm", "--dynamic", "--undefined-only", program], check=True, capture_output=True, text=True
    ).stdout
    names = {line.split()[-1] for line in table.splitlines()}
    return {name.split("@")[0] for name in names if "@libcudart.so" in name}


@pytest.mark.parametrize("version", RUNTIME.sonames)
def test_every_function_that_works_is_called_by_a_program(programs: Path, version: str) -> None:
    called = set[str]().union(
        *(imports(programs / version / stream / name) for stream in STREAMS for name in PROGRAMS)
    )
    working = {
        row.name
        for row in symbols(RUNTIME)
        if version in row.versions and row.state is not State.REFUSED
    }
    assert called == working


def test_refused_calls_are_named_where_users_see_them(programs: Path, server: DeviceServer) -> None:
    assert run(server, programs / "13/legacy/refused") == (0, "passed\n")
    refused = {"cudaMallocManaged": 1, "cudaCtxResetPersistingL2Cache": 1}
    deadline = monotonic() + 20
    while not any(
        channel["refused_functions"] == refused for channel in server.snapshot()["ended_channels"]
    ):
        assert monotonic() < deadline, "no ended channel names the refused calls"
