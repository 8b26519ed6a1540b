"""The suite of algorithms by `exec` on the software GPU, and that it notices wrong results."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vgpu_host.executors.options import ExecutorOptions
from vgpu_host.nvrtc import compile_ptx
from vgpu_stub.harness.build import GUEST, cuda_libraries, workloads
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.harness.program import program_environment

pytestmark = pytest.mark.device

SUITE = GUEST / "workloads/suite.py"
NAMES = ["bfs", "hotspot", "srad", "needle", "kmeans", "lud", "pathfinder", "backprop"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    options = ExecutorOptions("software", memory_bytes=1 << 28)
    with DeviceServer(options, shared=False) as server:
        return subprocess.run(
            [sys.executable, *arguments],
            env=program_environment(server.device_socket, cuda_libraries()),
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )


@pytest.mark.parametrize("scale", [1, 3])
def test_every_algorithm_gives_numpys_answer(scale: int) -> None:
    workloads()
    done = run(str(SUITE), "--json", "--scale", str(scale))
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["device"] == "VGPU-STUB software GPU"
    assert {row["program"]: row["right"] for row in report["results"]} == dict.fromkeys(NAMES, True)


#: A small mistake in each kernel: what to replace, and by what.
MISTAKES = {
    "bfs": ("seen[neighbour] < 0 &&", "seen[neighbour] < 0 && edge % 97 &&"),
    "hotspot": ("column < width - 1, 1, 0", "column < width, 1, 0"),
    "srad": ("0.5f * gradient", "0.4f * gradient"),
    "needle": ("step < height + width - 1", "step < height + width - 2"),
    "kmeans": ("distance < nearest", "distance < 0.9f * nearest"),
    "lud": ("k < TILE - 1", "k < TILE - 2"),
    "pathfinder": ("x < WIDTH - 1", "x < WIDTH - 2 * rows - 1"),
    "backprop": ("row > input_count", "row >= input_count"),
}

WITH_MISTAKES = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import suite
from cuda_driver import Driver
with Driver() as driver:
    for name, algorithm in suite.ALGORITHMS.items():
        work = algorithm()
        work.upload(driver, driver.load(Path(sys.argv[2]) / f"{name}.ptx"))
        work.compute()
        print(name, work.agrees(work.download(), work.reference()))
"""


def test_mistakes_in_kernels_are_noticed(tmp_path: Path) -> None:
    for name, (right, wrong) in MISTAKES.items():
        source = (SUITE.parent / "kernels" / f"{name}.cu").read_text()
        assert source.count(right) == 1, name
        (tmp_path / f"{name}.ptx").write_bytes(compile_ptx(source.replace(right, wrong)))
    done = run("-c", WITH_MISTAKES, str(SUITE.parent), str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert dict(line.split() for line in done.stdout.splitlines()) == dict.fromkeys(NAMES, "False")
