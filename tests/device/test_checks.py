"""`vgpu-stub exec --check`: findings reach the user, the report file and the exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vgpu_stub.cli.build import GUEST, workloads

pytestmark = pytest.mark.device

COMMAND = "from vgpu_stub.cli.main import app; app()"
PROGRAMS = GUEST / "workloads"

PTX = """.version 7.0
.target sm_61
.address_size 64
.file 1 "planted.cu"
.visible .entry planted(.param .u64 p) {
.reg .b64 %x<4>; .reg .b32 %r<4>;
ld.param.u64 %x1, [p]; mov.u32 %r1, %tid.x; mul.wide.u32 %x2, %r1, 4; add.u64 %x1, %x1, %x2;
.loc 1 17 3
ld.global.u32 %r2, [%x1];
st.global.u32 [%x1], %r2;
ret; }
"""

PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from cuda_driver import CudaError, Driver
with Driver() as driver:
    memory = driver.allocate(256)
    kernel = driver.load(Path(sys.argv[2])).kernel("planted")
    for threads in map(int, sys.argv[3:]):
        try:
            kernel((1, 1, 1), (threads, 1, 1), memory)
            driver.synchronize()
        except CudaError as error:
            print("result", error.result)
            sys.exit(5)
    print("done")
"""


@pytest.fixture
def planted(tmp_path: Path) -> list[str]:
    """A command line of a program that launches a broken kernel; numbers of threads follow."""
    ptx = tmp_path / "planted.ptx"
    ptx.write_text(PTX)
    return [sys.executable, "-c", PROGRAM, str(PROGRAMS), str(ptx)]


def check(*arguments: str) -> subprocess.CompletedProcess[str]:
    workloads()
    return subprocess.run(
        [sys.executable, "-c", COMMAND, "exec", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_findings_reach_the_user_and_the_exit_status(planted: list[str], tmp_path: Path) -> None:
    report = tmp_path / "report.jsonl"
    done = check("--check", "mem", "--check-report", str(report), "--", *planted, "32", "48")
    assert done.stdout == "done\n"
    assert done.returncode == 86
    assert "4 bytes at 0x" in done.stderr
    assert "kernel planted, block (0, 0, 0), thread (0, 0, 0) at planted.cu:17, PTX line 9" in (
        done.stderr
    )
    assert done.stderr.count("which nobody has written") == 1
    assert "vgpu-stub check: 1 error (mem 1)" in done.stderr
    assert "48 x uninitialised-read in planted, planted.cu:17" in done.stderr
    (finding,) = [json.loads(line) for line in report.read_text().splitlines()]
    assert (finding["check"], finding["kind"], finding["count"]) == (
        "mem",
        "uninitialised-read",
        48,
    )
    assert finding["access"]["ptx_line"] == 9


def test_the_programs_own_failure_stays_its_exit_status(planted: list[str]) -> None:
    done = check("--check=race,mem", "--", *planted, "65")
    assert done.stdout == "result 700\n"
    assert done.returncode == 5
    assert "out of bounds" in done.stderr
    assert "0 bytes behind the allocation of 256 bytes" in done.stderr


def test_a_clean_program_is_said_to_be_clean() -> None:
    program = [sys.executable, str(PROGRAMS / "programs.py"), "vector_add"]
    done = check("--check", "mem", "--check", "race,sync", "--", *program)
    assert done.returncode == 0, done.stderr
    assert done.stderr.endswith("vgpu-stub check: no errors (mem, race, sync)\n")


def test_wrong_uses_are_refused() -> None:
    refused = check("--executor", "cuda", "--check", "mem", "--", "true")
    assert refused.returncode == 2
    assert "compute-sanitizer" in refused.stderr
    unknown = check("--check", "leak", "--", "true")
    assert unknown.returncode == 2
    assert "there is no checker 'leak'" in unknown.stderr
