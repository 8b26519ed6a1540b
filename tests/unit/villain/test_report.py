"""Verdicts as JSON and JUnit XML."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from vgpu_stub.villain import report
from vgpu_stub.villain.guest.catalogue import attacks
from vgpu_stub.villain.registry import Outcome, Verdict


def outcomes() -> list[Outcome]:
    chosen = attacks(["registers.*"])[:4]
    return [
        Outcome(attack, verdict, "" if verdict is Verdict.PASS else "because", 0.5)
        for attack, verdict in zip(chosen, Verdict, strict=True)
    ]


def test_failures_and_wedges_are_not_harmless() -> None:
    by_verdict = {outcome.verdict: outcome for outcome in outcomes()}
    assert report.harmless([by_verdict[Verdict.PASS], by_verdict[Verdict.SKIP]])
    assert not report.harmless([by_verdict[Verdict.PASS], by_verdict[Verdict.FAIL]])
    assert not report.harmless([by_verdict[Verdict.WEDGED]])


def test_json_names_every_attack_with_its_verdict() -> None:
    result = report.as_json(outcomes(), seed=7, seconds=1.25)
    assert (result["seed"], result["seconds"]) == (7, 1.25)
    assert result["verdicts"] == {"PASS": 1, "FAIL": 1, "WEDGED": 1, "SKIP": 1}
    assert [row["verdict"] for row in result["attacks"]] == ["PASS", "FAIL", "WEDGED", "SKIP"]


def test_junit_has_a_case_for_each_attack(tmp_path: Path) -> None:
    path = tmp_path / "reports" / "villain.xml"
    report.write_junit(outcomes(), "villain.guest", path)
    suite = ElementTree.parse(path).getroot()
    counts = [suite.get(name) for name in ("tests", "failures", "errors", "skipped")]
    assert counts == ["4", "1", "1", "1"]
    kinds = [[child.tag for child in case] for case in suite]
    assert kinds == [[], ["failure"], ["error"], ["skipped"]]
