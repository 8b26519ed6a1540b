"""What suites found, for people and machines: a table, JSON, JUnit XML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from vgpu_stub.villain.registry import Outcome, Verdict


def counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How many attacks have each verdict."""
    found = Counter(outcome.verdict for outcome in outcomes)
    return {verdict.value: found[verdict] for verdict in Verdict}


def harmless(outcomes: Sequence[Outcome]) -> bool:
    """Whether no attack came through."""
    return not any(o.verdict in (Verdict.FAIL, Verdict.WEDGED) for o in outcomes)


def as_json(outcomes: Sequence[Outcome], seed: int, seconds: float) -> dict[str, Any]:
    """The whole result as plain data."""
    return {
        "seed": seed,
        "seconds": round(seconds, 3),
        "verdicts": counts(outcomes),
        "attacks": [
            {
                "id": outcome.attack.id,
                "section": outcome.attack.section,
                "rule": outcome.attack.rule,
                "expects": outcome.attack.expects,
                "verdict": outcome.verdict.value,
                "reason": outcome.reason,
                "seconds": round(outcome.seconds, 3),
            }
            for outcome in outcomes
        ],
    }


def write_junit(outcomes: Sequence[Outcome], suite: str, path: Path) -> None:
    """Write the result as JUnit XML; WEDGED is an error there, FAIL a failure."""
    found = counts(outcomes)
    root = ElementTree.Element(
        "testsuite",
        name=suite,
        tests=str(len(outcomes)),
        failures=str(found["FAIL"]),
        errors=str(found["WEDGED"]),
        skipped=str(found["SKIP"]),
        time=f"{sum(outcome.seconds for outcome in outcomes):.3f}",
    )
    elements = {Verdict.FAIL: "failure", Verdict.WEDGED: "error", Verdict.SKIP: "skipped"}
    for outcome in outcomes:
        attack = outcome.attack
        case = ElementTree.SubElement(
            root,
            "testcase",
            classname=f"{suite}.{attack.area}",
            name=attack.id,
            time=f"{outcome.seconds:.3f}",
        )
        if element := elements.get(outcome.verdict):
            note = ElementTree.SubElement(case, element, message=outcome.reason)
            note.text = f"{attack.section}: {attack.rule}\nexpected: {attack.expects}"
    path.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
