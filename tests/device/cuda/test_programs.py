"""C programs on libcuda.so.1 over a real device server: right answers, and no hang when it dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from vgpu_host.executors.options import ExecutorOptions
from vgpu_stub.abi.library_api import LIBRARIES, State, symbols
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.harness.program import program_environment

ROOT = Path(__file__).resolve().parents[3]
BUILD = ROOT / "guest/cuda/build"
DEVICE_UNAVAILABLE = "CUDA_ERROR_DEVICE_UNAVAILABLE"

pytestmark = pytest.mark.device


@pytest.fixture(scope="module")
def programs() -> Path:
    subprocess.run(
        ["make", "-C", str(ROOT / "guest/cuda"), "-j2", "tests"], check=True, capture_output=True
    )
    return BUILD / "tests"


@pytest.fixture
def server() -> Iterator[DeviceServer]:
    with DeviceServer(ExecutorOptions(name="software"), shared=False) as running:
        yield running


def start(server: DeviceServer, *command: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(part) for part in command],
        env=program_environment(server.device_socket, BUILD),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(server: DeviceServer, *command: object) -> tuple[int, str]:
    process = start(server, *command)
    output, _ = process.communicate(timeout=100)
    return process.returncode, output


def wait_for_round_trips(server: DeviceServer, process: subprocess.Popen[str]) -> int:
    """Wait until the program's channel carries queries; returns its worker's process id."""
    deadline = monotonic() + 60
    while monotonic() < deadline:
        assert process.poll() is None
        for device in server.snapshot()["devices"]:
            for channel in device["channels"]:
                busy = channel["commands"].get("STREAM_QUERY", 0) > 100
                if busy and channel["guest_pid"] == process.pid:
                    return int(channel["worker_pid"])
    raise AssertionError("no round trips in a minute")


def test_core_path_of_the_driver_api(programs: Path, server: DeviceServer) -> None:
    status, output = run(server, programs / "api_smoke")
    assert status == 0, output
    assert output.endswith("passed\n")


def test_libraries_and_kernels(programs: Path, server: DeviceServer) -> None:
    assert run(server, programs / "libraries") == (0, "passed\n")


def test_linker(programs: Path, server: DeviceServer) -> None:
    assert run(server, programs / "link") == (0, "passed\n")


def test_answers_that_need_no_command(programs: Path, server: DeviceServer) -> None:
    assert run(server, programs / "driver_answers") == (0, "passed\n")


def test_core_path_of_cublas(programs: Path, server: DeviceServer) -> None:
    assert run(server, programs / "cublas_api") == (0, "passed\n")
    deadline = monotonic() + 20
    while not (ended := server.snapshot()["ended_channels"]):
        assert monotonic() < deadline, "the program's channel does not end"
    assert ended[-1]["refused_functions"] == {"cublasSetBackdoor": 1}


@pytest.mark.parametrize("version", ["12", "13"])
def test_every_function_of_cublas_that_claims_to_work_does(
    programs: Path, server: DeviceServer, version: str
) -> None:
    audit = Path(__file__).with_name("cublas_audit.py")
    status, output = run(server, sys.executable, audit, f"libcublas.so.{version}")
    assert status == 0, output
    (cublas,) = (library for library in LIBRARIES if library.name == "cublas")
    assert set(json.loads(output)) == {
        symbol.name
        for symbol in symbols(cublas)
        if symbol.state is not State.REFUSED and version in symbol.versions
    }


def test_threads_share_a_context_and_a_full_ring(programs: Path, server: DeviceServer) -> None:
    assert run(server, programs / "thread_stress", 6, 2) == (0, "passed\n")


def test_killed_worker_costs_its_program_an_error_and_no_other(
    programs: Path, server: DeviceServer
) -> None:
    victim = start(server, programs / "ring_latency", 100_000_000, 1)
    other = start(server, programs / "ring_latency", 100_000_000, 1)
    try:
        wait_for_round_trips(server, other)
        os.kill(wait_for_round_trips(server, victim), signal.SIGKILL)
        output, _ = victim.communicate(timeout=30)
        assert victim.returncode == 1
        assert DEVICE_UNAVAILABLE in output
        wait_for_round_trips(server, other)
    finally:
        for program in (victim, other):
            program.kill()
            program.communicate()


def test_program_gets_an_error_when_the_device_server_is_killed(
    programs: Path, server: DeviceServer
) -> None:
    process = start(server, programs / "ring_latency", 100_000_000, 1)
    try:
        wait_for_round_trips(server, process)
        os.kill(server.pid, signal.SIGKILL)
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 1
    assert DEVICE_UNAVAILABLE in output


@pytest.mark.parametrize(
    "program", ["graph_capture", "graph_nodes", "capture_rules", "graph_threads"]
)
def test_graphs_follow_the_rules_of_cuda(
    programs: Path, server: DeviceServer, program: str
) -> None:
    assert run(server, programs / program) == (0, "passed\n")
