"""The catalogue of lies, and what is reported of them."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from vgpu_stub.abi import generated as abi
from vgpu_stub.villain.device.catalogue import cases
from vgpu_stub.villain.device.library import Told, judge
from vgpu_stub.villain.device.lie import Answer, Case, Expect, Lie, Target, select
from vgpu_stub.villain.device.places import Completions, Flips, Info, Registers, always
from vgpu_stub.villain.device.result import Report, Result
from vgpu_stub.villain.device.suite import run_suite
from vgpu_stub.villain.registry import Verdict


def test_every_section_that_a_guest_reads_has_lies() -> None:
    assert {case.section for case in cases()} == {"1", "2", "3", "4", "5"}
    assert len(cases()) >= 300


def test_a_case_that_leaves_a_target_out_says_why() -> None:
    for case in cases():
        for target in (Target.LIBRARY, Target.DRIVER):
            assert target in case.targets or case.skipped.get(target), case.id


def test_every_lie_can_be_made() -> None:
    for case in cases():
        assert isinstance(case.lie(seed=3), Lie), case.id


def test_a_seed_makes_the_same_lie_again() -> None:
    (case,) = select(cases(), ["completion-results-chance"])
    answer = Answer(abi.Opcode.NOP, 5, 0, 0, ())

    def told(seed: int, round_number: int = 0) -> object:
        return case.lie(seed, round_number).completions(1, answer)

    assert told(1) == told(1)
    assert told(1) != told(2)
    assert told(1) != told(1, 1)


def test_lies_are_chosen_by_pattern() -> None:
    assert {case.id for case in select(cases(), ["register-magic-*"])} == {
        f"register-magic-{kind}" for kind in ("zero", "ones", "swapped", "near", "later")
    }
    assert select(cases(), ["nothing"]) == []
    assert len(select(cases(), [])) == len(cases())


def test_registers_lie_after_so_many_true_reads() -> None:
    lie = Registers({abi.REG_MAGIC: always(0)}, after=2)
    assert [lie.register(abi.REG_MAGIC, 7) for _ in range(4)] == [7, 7, 0, 0]
    assert lie.register(abi.REG_STATUS, 7) == 7


def test_completions_of_other_channels_stay_true() -> None:
    lie = Completions(admin=True, change=lambda answer: ())
    answer = Answer(abi.Opcode.NOP, 1, 0, 0, ())
    assert lie.completions(1, answer) == (answer,)
    assert lie.completions(0, answer) == ()


def test_a_member_of_the_information_is_replaced() -> None:
    data = bytearray(abi.DEVICE_INFO.size)
    Info.member("name", b"x" * 128).info(data)
    start = abi.DEVICE_INFO_OFFSETS["name"]
    assert data[start - 1 : start + 129] == b"\0" + b"x" * 128 + b"\0"


def test_lies_that_meddle_say_so() -> None:
    assert Flips.meddles
    assert not Info.meddles


CASE = Case("case", "2", "a lie", lambda rng: Lie())


@pytest.mark.parametrize(
    ("expect", "told", "verdict"),
    [
        (Expect.SURVIVED, Told(calls=[("cuInit", 0)]), Verdict.PASS),
        (Expect.REFUSED, Told(calls=[("cuInit", 0)]), Verdict.FAIL),
        (Expect.REFUSED, Told(calls=[("cuInit", 3)]), Verdict.PASS),
        (Expect.SURVIVED, Told(wrong=["memory"]), Verdict.FAIL),
        (Expect.UNSEEN, Told(wrong=["memory"]), Verdict.PASS),
        (Expect.UNSEEN, Told(status=23, report="ERROR: AddressSanitizer"), Verdict.FAIL),
        (Expect.UNSEEN, Told(signal=11), Verdict.FAIL),
        (Expect.REFUSED, Told(signal=14), Verdict.WEDGED),
        (Expect.STUCK, Told(signal=14), Verdict.PASS),
    ],
)
def test_a_verdict_follows_from_what_the_child_said(
    expect: Expect, told: Told, verdict: Verdict
) -> None:
    case = Case("case", "2", "a lie", lambda rng: Lie(), expect)
    assert judge(case, told)[0] is verdict


class Believer:
    def try_case(self, case: Case, seed: int, round_number: int = 0) -> Result:
        verdict = Verdict.FAIL if round_number else Verdict.PASS
        return Result(case.id, "2", Target.LIBRARY, round_number, verdict, "why\nmore", 0.5)

    def finish(self) -> Result:
        return Result("memory-kept", "4", Target.LIBRARY, 0, Verdict.PASS, "", 0.1)


def test_a_report_counts_and_names_what_failed(tmp_path: Path) -> None:
    seen: list[Result] = []
    report = run_suite(Believer(), [CASE], seed=4, rounds=2, done=seen.append)
    assert seen == list(report.results)
    assert report.failed
    found = json.loads(report.to_json())
    assert found["seed"] == 4
    assert found["verdicts"] == {"PASS": 2, "FAIL": 1}
    assert found["results"][-1]["id"] == "memory-kept"
    report.write_junit(tmp_path / "junit.xml")
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("3", "1")
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "why"


def test_a_rate_leaves_out_what_was_skipped() -> None:
    skipped = Result("a", "2", Target.LIBRARY, 0, Verdict.SKIP, "", 0.0)
    told = Result("b", "2", Target.LIBRARY, 0, Verdict.PASS, "", 0.5)
    report = Report(0, [skipped, told], 0.5)
    assert report.rate == 2.0
    assert not report.failed
