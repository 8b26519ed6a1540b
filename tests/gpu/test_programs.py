"""CUDA programs on the physical GPU, through the whole stack but a virtual machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vgpu_host.executors.options import ExecutorOptions, why_no_gpu
from vgpu_stub.harness.build import GUEST, cuda_libraries, workloads
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.harness.program import program_environment

pytestmark = pytest.mark.gpu

PROGRAMS = GUEST / "workloads/programs.py"
SUITE = GUEST / "workloads/suite.py"
LOAD = GUEST / "workloads/endless.py"


@pytest.fixture(scope="module")
def server() -> Iterator[DeviceServer]:
    reason = why_no_gpu()
    if reason:
        pytest.skip(f"no physical GPU: {reason}")
    workloads()
    with DeviceServer(ExecutorOptions("cuda"), shared=False) as running:
        yield running


def environment(server: DeviceServer) -> dict[str, str]:
    return program_environment(server.device_socket, cuda_libraries())


@pytest.mark.parametrize(("command", "count"), [(PROGRAMS, 7), (SUITE, 8)], ids=["basic", "suite"])
def test_every_program_gives_the_right_answer(
    server: DeviceServer, command: Path, count: int
) -> None:
    done = subprocess.run(
        [sys.executable, str(command), "--json"],
        env=environment(server),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["device"].startswith("VGPU-STUB NVIDIA")
    assert all(row["right"] for row in report["results"])
    assert len(report["results"]) == count


def test_killed_worker_gives_its_program_an_error(server: DeviceServer) -> None:
    command = [sys.executable, str(LOAD)]
    with subprocess.Popen(
        command, env=environment(server), stdout=subprocess.PIPE, text=True
    ) as load:
        assert load.stdout is not None
        assert load.stdout.readline() == "ready\n"
        (row,) = [row for device in server.snapshot()["devices"] for row in device["channels"]]
        os.kill(row["worker_pid"], signal.SIGKILL)
        assert load.stdout.readline() == "error 46\n"
        assert load.wait(20) == 3
