"""`vgpu-stub exec` as users call it: exit statuses, process trees, counters."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vgpu_stub.harness.build import GUEST, workloads

pytestmark = pytest.mark.device

COMMAND = "from vgpu_stub.cli.main import app; app()"
PROGRAMS = GUEST / "workloads/programs.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    workloads()
    return subprocess.run(
        [sys.executable, "-c", COMMAND, "exec", "--executor", "software", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_exit_status_is_the_programs() -> None:
    assert run("--", "sh", "-c", "exit 7").returncode == 7
    assert run("--", "sh", "-c", "kill -9 $$").returncode == 137
    missing = run("--", "/nonexistent")
    assert missing.returncode == 127
    assert "cannot run /nonexistent" in missing.stderr


def test_all_processes_of_a_tree_compute_at_once() -> None:
    program = f"{sys.executable} {PROGRAMS}"
    line = (
        f"{program} vector_add & a=$!; {program} histogram & b=$!;"
        f" sh -c '{program} nbody' || exit 3; wait $a || exit 1; wait $b || exit 2"
    )
    done = run("--stats", "--", "sh", "-c", line)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" right ") == 3
    assert done.stderr.count("python") == 3  # three channels in the account


FORK = """
import os, sys
sys.path.insert(0, sys.argv[1])
from cuda_driver import CudaError, Driver
child = os.fork()
if child == 0:
    with Driver() as driver:
        os._exit(0 if driver.device_name == "VGPU-STUB software GPU" else 1)
assert os.waitpid(child, 0)[1] == 0, "a child that forked before cuInit must work"
driver = Driver()
child = os.fork()
if child == 0:
    try:
        driver.zeros(64)
    except CudaError as error:
        os._exit(error.result)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3, "CUDA_ERROR_NOT_INITIALIZED"
driver.zeros(64)
driver.close()
"""


def test_forked_children_have_a_device_of_their_own_or_none() -> None:
    done = run("--", sys.executable, "-c", FORK, str(PROGRAMS.parent))
    assert done.returncode == 0, done.stdout + done.stderr
