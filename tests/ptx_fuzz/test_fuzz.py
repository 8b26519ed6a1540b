"""Freshly seeded random programs and mutations in every run, and tests of the fuzzer itself."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.ptx_fuzz import integers, softfloat
from tests.ptx_fuzz.campaign import QUICK, describe, jobs, reduce, run, write_reproduction
from tests.ptx_fuzz.case import Case, read_case
from tests.ptx_fuzz.device import Runner
from tests.ptx_fuzz.floats import IndeterminateError
from tests.ptx_fuzz.generator import HEADER, generate
from tests.ptx_fuzz.judge import Judge, Verdict
from tests.ptx_fuzz.memory import FaultError
from tests.ptx_fuzz.mutations import mutate
from tests.ptx_fuzz.reducer import Reducer
from tests.ptx_fuzz.reference import run_reference
from tests.ptx_fuzz.text import NotUnderstoodError
from tests.ptx_fuzz.workers import Job, Worker

PROGRAMS = int(os.environ.get("VGPU_STUB_FUZZ_COUNT", "300"))


@pytest.mark.timeout(1200)
def test_random_programs_and_mutations(tmp_path: Path) -> None:
    seed = int(os.environ.get("VGPU_STUB_FUZZ_SEED") or random.randrange(10**9))
    print(f"VGPU_STUB_FUZZ_SEED={seed}")
    todo = jobs(seed, PROGRAMS, PROGRAMS // 2, ways=QUICK)
    tally = run(todo, len(os.sched_getaffinity(0)))
    print(describe(tally))
    reports = [
        f"{failure}\n{write_reproduction(failure, reduce(failure, 60), tmp_path).read_text()}"
        for failure in tally.failures[:3]
    ]
    assert not tally.failures, f"VGPU_STUB_FUZZ_SEED={seed}\n" + "\n".join(reports)
    assert tally.counts["program right"] > 0.9 * PROGRAMS


def kernel(body: str, threads: int = 2) -> Case:
    text = (
        f"{HEADER}.visible .entry f(.param .u64 output)\n{{\n"
        ".reg .b32 %r<9>; .reg .b64 %l<9>; .reg .f32 %f<9>; .reg .pred %p<9>;\n"
        "ld.param.u64 %l0, [output]; mov.u32 %r0, %tid.x;\n"
        "mul.wide.u32 %l1, %r0, 4; add.s64 %l1, %l0, %l1;\n"
        f"{body}\nret;\n}}\n"
    )
    return Case(text, (1, 1, 1), (threads, 1, 1), (), ("fill 00 256",))


def test_a_seed_gives_one_program() -> None:
    assert generate(7) == generate(7) != generate(8)
    assert mutate(7) == mutate(7)


def test_a_case_is_read_as_it_was_written() -> None:
    case = generate(11)
    assert read_case(case.write()) == case


def miscounted(statement: object, ptx_type: str) -> integers.Operation:
    """A wrong `popc` for the reference interpreter."""
    return (ptx_type,), lambda a: a.bit_count() ^ (a.bit_count() > 9)


def test_checkers_accuse_a_wrong_program_and_no_right_one() -> None:
    body = ".shared .b32 s; st.shared.u32 [s], %r0; ld.shared.u32 %r1, [s]; bar.sync 0;"
    right = kernel("bar.sync 0; st.global.u32 [%l1], %r0;")
    wrong = Runner("checked")
    assert wrong.run(right).findings == ()
    (finding, *_) = wrong.run(kernel(body)).findings
    assert finding.startswith("race")
    wrong.close()


def test_a_wrong_result_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    case = kernel("popc.b32 %r1, -1; st.global.u32 [%l1], %r1;")
    judge = Judge()
    assert judge.program(case).verdict is Verdict.RIGHT
    monkeypatch.setitem(integers.OPERATIONS, "popc", miscounted)
    found = judge.program(case)
    assert found.verdict is Verdict.WRONG
    assert "got 2000000020000000, expected 2100000021000000" in found.detail
    judge.close()


def test_a_failure_is_reduced_to_what_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(case: Case) -> bool:
        try:
            right = run_reference(case, strict=True)
            with monkeypatch.context() as planted:
                planted.setitem(integers.OPERATIONS, "popc", miscounted)
                return run_reference(case) != right
        except (IndeterminateError, NotUnderstoodError, FaultError):
            return False

    case = next(case for case in map(generate, range(2000)) if "popc" in case.text and fails(case))
    small = Reducer(fails).reduce(case)
    assert fails(small)
    assert "popc" in small.text
    assert len(small.text.splitlines()) < 40
    assert small.threads == 1


def test_a_child_that_dies_or_hangs_is_a_verdict() -> None:
    with Worker(limit_s=60) as worker:
        os.kill(worker.pid, signal.SIGKILL)
        assert worker.judge(Job("program", 1)).verdict is Verdict.CRASHED
        assert worker.judge(Job("program", 1)).verdict is Verdict.RIGHT
    with Worker(limit_s=1) as worker:
        os.kill(worker.pid, signal.SIGSTOP)
        assert worker.judge(Job("program", 1)).verdict is Verdict.HUNG


def test_the_reference_runs_loops_barriers_and_warps() -> None:
    body = """
    .shared .b32 s[8];
    mov.u32 %r1, 0; mov.u32 %r2, 0;
    L: add.u32 %r2, %r2, %r1; add.u32 %r1, %r1, 1;
    setp.le.u32 %p0, %r1, %r0; @%p0 bra L;
    mov.u32 %r3, s; mad.lo.u32 %r4, %r0, 4, %r3; st.shared.u32 [%r4], %r2;
    bar.sync 0;
    sub.u32 %r5, 3, %r0; mad.lo.u32 %r5, %r5, 4, %r3; ld.shared.u32 %r6, [%r5];
    shfl.sync.bfly.b32 %r7, %r6, 1, 31, -1;
    st.global.u32 [%l1], %r7;"""
    (output,) = run_reference(kernel(body, threads=4), strict=True)
    assert np.frombuffer(output, "u4")[:4].tolist() == [3, 6, 0, 1]


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        ("st.global.u32 [%l1], %r5;", IndeterminateError, "before it is written"),
        ("st.global.u32 [%l0], %r0;", IndeterminateError, "data race"),
        (".shared .b32 s; ld.shared.u32 %r1, [s];", IndeterminateError, "never written"),
        ("mov.f32 %f0, 0f7FC00000; add.f32 %f0, %f0, %f0; st.global.f32 [%l1], %f0;",
         IndeterminateError, "payload of a NaN"),
        ("st.global.u32 [%l1+4096], %r0;", FaultError, "illegal address"),
        ("st.global.u32 [%l1+2], %r0;", FaultError, "misaligned"),
    ],
)  # fmt: skip
def test_the_reference_knows_what_ptx_leaves_open(
    body: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run_reference(kernel(body), strict=True)


FORMATS = [(softfloat.F16, "f2", "u2"), (softfloat.F32, "f4", "u4"), (softfloat.F64, "f8", "u8")]
OPERATIONS: dict[str, Callable[..., object]] = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide,
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize(("form", "floating", "bits"), FORMATS)
def test_soft_arithmetic_is_that_of_the_host(
    name: str, form: softfloat.Format, floating: str, bits: str
) -> None:
    rng = np.random.default_rng(5)
    width = form.exponent + form.fraction + 1
    a, b = (
        rng.integers(0, 1 << width, 2000, dtype=np.uint64).astype(bits).view(floating)
        for _ in range(2)
    )
    with np.errstate(all="ignore"):
        expected = np.asarray(OPERATIONS[name](a, b))
    pairs = zip(a.view(bits).tolist(), b.view(bits).tolist(), strict=True)
    got = np.array([getattr(softfloat, name)(x, y, form) for x, y in pairs], bits)
    both_nan = np.isnan(expected) & np.isnan(got.view(floating))
    assert ((got == expected.view(bits)) | both_nan).all()
