"""The instruction table on the software GPU: every row within its tolerance, most of them exact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.instructions import atomics
from tests.instructions.program import Machine
from tests.instructions.table import by_opcode
from vgpu_host.executors.options import ExecutorOptions, make_executor

OPCODES = tuple(by_opcode())


@pytest.fixture(scope="module")
def machine(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch_module: pytest.MonkeyPatch
) -> Iterator[Machine]:
    monkeypatch_module.setenv("VGPU_STUB_CACHE", str(tmp_path_factory.mktemp("table")))
    executor = make_executor(
        ExecutorOptions("software", memory_bytes=1 << 28, threads=2, profile="sm_90")
    )
    yield Machine(executor)
    executor.close()


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def check(machine: Machine, opcode: str, uniform: bool = False, mixed: bool = False) -> None:
    outcomes, refused = machine.run_rows(by_opcode()[opcode], uniform, mixed)
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
    check(machine, opcode)


ALONE = [opcode for opcode, rows in by_opcode().items() if not all(row.warp for row in rows)]


@pytest.mark.parametrize("opcode", ALONE)
def test_values_that_all_lanes_share(machine: Machine, opcode: str) -> None:
    check(machine, opcode, uniform=True)


FLUSHING = [opcode for opcode, rows in by_opcode().items() if any(row.flushes for row in rows)]


@pytest.mark.parametrize("opcode", FLUSHING)
def test_flushing_beside_instructions_that_do_not(machine: Machine, opcode: str) -> None:
    check(machine, opcode, mixed=True)


@pytest.mark.parametrize("atomic", list(atomics.atomics()), ids=lambda atomic: str(atomic.name))
def test_returned_values_of_atomics_have_an_order(machine: Machine, atomic: atomics.Atomic) -> None:
    assert atomics.run(machine, atomic) == []


def test_values_that_no_order_explains_are_found() -> None:
    assert atomics.explain(Counter({(0, 1): 1, (1, 2): 1}), 0, 2) == ""
    assert "0x1 comes up" in atomics.explain(Counter({(0, 1): 2, (1, 2): 1}), 0, 2)
    assert atomics.explain(Counter({(0, 1): 1, (7, 7): 1}), 0, 1) == "nothing leads to 0x7"
