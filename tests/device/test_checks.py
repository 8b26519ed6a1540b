"""`vgpu-stub exec --check`: findings reach the user, the report file and the exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vgpu_stub.harness.build import GUEST, workloads

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

RACE = """.version 7.0
.target sm_61
.address_size 64
.file 1 "planted.cu"
.visible .entry planted(.param .u64 p) {
.reg .b64 %x<4>; .reg .b32 %r<8>;
.shared .align 4 .b8 line[1024];
ld.param.u64 %x1, [p]; mov.u32 %r1, %tid.x; mov.u32 %r2, line; shl.b32 %r3, %r1, 2;
add.u32 %r4, %r2, %r3;
.loc 1 21 3
st.shared.u32 [%r4], %r1;
xor.b32 %r5, %r3, 128; add.u32 %r5, %r2, %r5;
.loc 1 23 3
ld.shared.u32 %r6, [%r5];
mul.wide.u32 %x2, %r1, 4; add.u64 %x1, %x1, %x2;
st.global.u32 [%x1], %r6;
ret; }
"""

SYNC = """.version 7.0
.target sm_61
.address_size 64
.file 1 "planted.cu"
.visible .entry planted(.param .u64 p) {
.reg .b64 %x<4>; .reg .b32 %r<8>; .reg .pred %q;
ld.param.u64 %x1, [p]; mov.u32 %r1, %tid.x;
setp.lt.u32 %q, %r1, 20;
@!%q bra PAST;
.loc 1 31 3
bar.sync 0;
PAST: st.global.u32 [%x1], 0;
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


def program(folder: Path, text: str) -> list[str]:
    """A command line of a program that launches a broken kernel; numbers of threads follow."""
    ptx = folder / "planted.ptx"
    ptx.write_text(text)
    return [sys.executable, "-c", PROGRAM, str(PROGRAMS), str(ptx)]


@pytest.fixture
def planted(tmp_path: Path) -> list[str]:
    """A program with an error that the memory checker finds."""
    return program(tmp_path, PTX)


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


def test_a_race_is_shown_with_both_sides(tmp_path: Path) -> None:
    report = tmp_path / "report.jsonl"
    command = program(tmp_path, RACE)
    done = check("--check", "race,sync", "--check-report", str(report), "--", *command, "64")
    assert (done.stdout, done.returncode) == ("done\n", 86)
    assert (
        "race: a thread reads 4 bytes that another thread of its block has written at offset 0 of"
        " shared memory; no barrier (__syncthreads) is between them\n"
        "    0 bytes into shared variable line of 1024 bytes\n"
        "    kernel planted, block (0, 0, 0), thread (32, 0, 0) at planted.cu:23, PTX line 14:"
        " ld.shared.u32 %r6, [%r5]\n"
        "    and block (0, 0, 0), thread (0, 0, 0) at planted.cu:21, PTX line 11:"
        " st.shared.u32 [%r4], %r1\n"
    ) in done.stderr
    assert "vgpu-stub check: 2 errors (race 2)" in done.stderr
    assert "32 x read-after-write in planted, planted.cu:23" in done.stderr
    findings = {row["kind"]: row for row in map(json.loads, report.read_text().splitlines())}
    assert set(findings) == {"read-after-write", "write-after-read"}
    assert findings["read-after-write"]["other"]["ptx_line"] == 11
    assert check("--check", "race", "--", *command, "32").returncode == 0


def test_a_divergent_barrier_is_shown(tmp_path: Path) -> None:
    done = check("--check", "sync", "--", *program(tmp_path, SYNC), "32")
    assert (done.stdout, done.returncode) == ("done\n", 86)
    assert "lanes 20-31 are elsewhere" in done.stderr
    assert "at planted.cu:31, PTX line 11: bar.sync 0" in done.stderr
    assert "vgpu-stub check: 1 error (sync 1)" in done.stderr


def test_several_checkers_at_once(tmp_path: Path, planted: list[str]) -> None:
    done = check("--check", "mem,race,sync", "--", *planted, "32")
    assert "vgpu-stub check: 1 error (mem 1)" in done.stderr
    done = check("--check", "mem", "--check", "race", "--", *program(tmp_path, RACE), "64")
    assert "(mem 1, race 2)" in done.stderr


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
