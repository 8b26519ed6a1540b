"""Every function of libcuda that claims to work is called by a program that checks its effect.

The programs are those of `guest/cuda/tests`, which end with an error where an effect is missing:
those on the driver API, and those on libcudart, which calls the rest of it. The journal that the
library keeps says what was really called.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from vgpu_host.executors.options import ExecutorOptions
from vgpu_stub.abi.driver_api import State, entry_points
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.harness.program import program_environment

CUDA = Path(__file__).resolve().parents[3] / "guest/cuda"
DRIVER_PROGRAMS = (
    "api_smoke",
    "capture_rules",
    "cublas_api",
    "driver_answers",
    "driver_variants",
    "graph_capture",
    "graph_nodes",
    "libraries",
    "link",
)
RUNTIME_PROGRAMS = ("device", "graph", "graph_changes", "launch", "library", "memory", "stream")
STREAMS = ("legacy", "per_thread")
#: Programs that want an empty folder.
WITH_FOLDER = ("driver_variants",)

pytestmark = pytest.mark.device


@pytest.fixture(scope="module")
def programs() -> Path:
    subprocess.run(
        ["make", "-C", str(CUDA), "-j2", "tests"], check=True, capture_output=True, text=True
    )
    return CUDA / "build/tests"


@pytest.fixture(scope="module")
def server() -> Iterator[DeviceServer]:
    with DeviceServer(ExecutorOptions(name="software"), shared=False) as running:
        yield running


def calls_of(server: DeviceServer, program: Path, folder: Path) -> dict[str, int]:
    """Runs a program to its end; returns how often it called each function of libcuda."""
    journal = folder / "journal"
    journal.mkdir(parents=True)
    done = subprocess.run(
        [program, *([folder] if program.name in WITH_FOLDER else [])],
        env={
            **program_environment(server.device_socket, CUDA / "build"),
            "VGPU_STUB_JOURNAL": str(journal),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, f"{program}: {done.stdout}"
    assert done.stdout.endswith("passed\n")
    lines = [
        json.loads(line) for path in journal.iterdir() for line in path.read_text().splitlines()
    ]
    return {line["function"]: line["count"] for line in lines if line["event"] == "calls"}


def test_every_function_that_works_is_called_by_a_program(
    programs: Path, server: DeviceServer, tmp_path: Path
) -> None:
    paths = [programs / name for name in DRIVER_PROGRAMS]
    paths += [
        programs / "runtime/13" / stream / name for stream in STREAMS for name in RUNTIME_PROGRAMS
    ]
    called = set[str]()
    for number, path in enumerate(paths):
        called |= calls_of(server, path, tmp_path / str(number)).keys()
    working = {entry.symbol for entry in entry_points() if entry.state is not State.REFUSED}
    # The library journals only functions that it implements.
    assert called == working
