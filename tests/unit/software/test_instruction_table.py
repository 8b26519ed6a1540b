"""The instruction table on the software GPU: every row within its tolerance, most of them exact."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import llvmlite.binding as llvm
import pytest

from tests.instructions import atomics
from tests.instructions.program import Machine
from tests.instructions.rows import Row
from tests.instructions.table import by_opcode
from vgpu_host.executors.options import ExecutorOptions, make_executor

OPCODES = tuple(by_opcode())


#: How many forms of an instruction are tried at most; `bench/instruction_differences.py` tries all.
MOST = 32
#: How many suffice where their translation is known to be right.
SAMPLE = 3


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with software_machine() as made:
        yield made


@pytest.fixture(scope="module")
def plain_machine() -> Iterator[Machine]:
    with software_machine(general=True) as made:
        yield made


@pytest.fixture(scope="module", params=["x86-64-v2", "x86-64-v3"])
def older_machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    if not llvm.get_host_cpu_features().get("avx2") and request.param != "x86-64-v2":
        pytest.skip("this processor has no AVX2")
    with software_machine(request.param, general=True) as made:
        yield made


@contextmanager
def software_machine(processor: str = "", general: bool = False) -> Iterator[Machine]:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("VGPU_STUB_CACHE", folder)
        options = ExecutorOptions("software", memory_bytes=1 << 28, threads=2, profile="sm_90")
        executor = make_executor(replace(options, processor=processor, general=general))
        yield Machine(executor)
        executor.close()


def sample(rows: Sequence[Row], limit: int) -> Sequence[Row]:
    """At most so many rows, evenly spread."""
    return rows[:: -(-len(rows) // limit)]


def check(
    machine: Machine, rows: Sequence[Row], uniform: bool = False, mixed: bool = False
) -> None:
    outcomes, refused = machine.run_rows(rows, uniform, mixed)
    assert not refused, "; ".join(f"{row.name}: {why}" for row, why in refused.items())
    failures = [
        f"{outcome.row.name}: {len(outcome.wrong)} wrong, such as {outcome.wrong[0]}"
        for outcome in outcomes
        if outcome.wrong
    ]
    assert outcomes
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("opcode", OPCODES)
def test_lanes_of_their_own(machine: Machine, opcode: str) -> None:
    check(machine, sample(by_opcode()[opcode], MOST))


ALONE = [opcode for opcode, rows in by_opcode().items() if not all(row.warp for row in rows)]


@pytest.mark.parametrize("opcode", ALONE)
def test_values_that_all_lanes_share(plain_machine: Machine, opcode: str) -> None:
    check(plain_machine, sample(by_opcode()[opcode], SAMPLE), uniform=True)


FLUSHING = [opcode for opcode, rows in by_opcode().items() if any(row.flushes for row in rows)]


@pytest.mark.parametrize("opcode", FLUSHING)
def test_flushing_beside_instructions_that_do_not(plain_machine: Machine, opcode: str) -> None:
    flushing = [row for row in by_opcode()[opcode] if row.flushes]
    check(plain_machine, sample(flushing, SAMPLE), mixed=True)


@pytest.mark.parametrize("opcode", OPCODES)
def test_code_for_older_processors(older_machine: Machine, opcode: str) -> None:
    check(older_machine, sample(by_opcode()[opcode], SAMPLE))


def test_fused_multiply_add_without_the_instruction() -> None:
    """The C library has an exact one for processors without FMA, in each rounding mode."""
    program = """
import sys
from tests.instructions.program import Machine
from tests.instructions.table import by_opcode
from vgpu_host.executors.options import ExecutorOptions, make_executor
options = ExecutorOptions("software", memory_bytes=1 << 28, threads=1, processor="x86-64-v2")
rows = [row for row in by_opcode()["fma"] if row.target == "sm_61"]
outcomes, refused = Machine(make_executor(options)).run_rows(rows)
sys.exit(not outcomes or bool(refused) or any(outcome.wrong for outcome in outcomes))
"""
    root = Path(__file__).parents[3]
    with TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in [str(root), *sys.path] if path),
            "VGPU_STUB_CACHE": folder,
            "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-FMA,-FMA4,-AVX2,-AVX512F",
        }
        command = [sys.executable, "-c", program]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("atomic", list(atomics.atomics()), ids=lambda atomic: str(atomic.name))
def test_returned_values_of_atomics_have_an_order(machine: Machine, atomic: atomics.Atomic) -> None:
    assert atomics.run(machine, atomic) == []


def test_values_that_no_order_explains_are_found() -> None:
    assert atomics.explain(Counter({(0, 1): 1, (1, 2): 1}), 0, 2) == ""
    assert "the value 0x0" in atomics.explain(Counter({(0, 1): 2, (1, 2): 1}), 0, 2)
    assert atomics.explain(Counter({(0, 1): 1, (7, 7): 1}), 0, 1) == "nothing leads to 0x7"
