"""What came of a lie, and of all of them: verdicts, the report as JSON and as JUnit XML."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from vgpu_stub.villain.device.lie import Target
from vgpu_stub.villain.registry import Verdict


@dataclass(frozen=True)
class Result:
    """One lie told once.

    Attributes:
        id: Of the case.
        section: Of docs/device.md.
        target: Who was lied to.
        round: Number of the round.
        verdict: What came of it.
        text: Why, where it is not PASS; what the guest said, where it is.
        seconds: How long it took.
    """

    id: str
    section: str
    target: Target
    round: int
    verdict: Verdict
    text: str
    seconds: float


@dataclass(frozen=True)
class Report:
    """All that was told.

    Attributes:
        seed: What chance was made from.
        results: One for each lie and round, in order.
        seconds: How long all took, without building and booting.
    """

    seed: int
    results: Sequence[Result]
    seconds: float

    @property
    def counts(self) -> Counter[str]:
        """How often each verdict."""
        return Counter(result.verdict.value for result in self.results)

    @property
    def rate(self) -> float:
        """Lies a second."""
        told = sum(result.verdict is not Verdict.SKIP for result in self.results)
        return told / self.seconds if self.seconds else 0.0

    @property
    def failed(self) -> bool:
        """Whether anything failed or did not come back."""
        return any(result.verdict in {Verdict.FAIL, Verdict.WEDGED} for result in self.results)

    def to_json(self) -> str:
        """The report for machines."""
        return json.dumps(
            {
                "seed": self.seed,
                "seconds": round(self.seconds, 3),
                "lies_per_second": round(self.rate, 1),
                "verdicts": dict(self.counts),
                "results": [
                    {
                        "id": result.id,
                        "section": result.section,
                        "target": _name(result.target),
                        "round": result.round,
                        "verdict": result.verdict.value,
                        "text": result.text,
                        "seconds": round(result.seconds, 3),
                    }
                    for result in self.results
                ],
            },
            indent=1,
        )

    def write_junit(self, path: Path) -> None:
        """Write the report as CI systems read it."""
        counts = self.counts
        suite = ElementTree.Element(
            "testsuite",
            name="villain device",
            tests=str(len(self.results)),
            failures=str(counts["FAIL"]),
            errors=str(counts["WEDGED"]),
            skipped=str(counts["SKIP"]),
            time=f"{self.seconds:.3f}",
        )
        for result in self.results:
            case = ElementTree.SubElement(
                suite,
                "testcase",
                classname=f"villain.device.{_name(result.target)}",
                name=result.id + (f" round {result.round}" if result.round else ""),
                time=f"{result.seconds:.3f}",
            )
            kind = {
                Verdict.FAIL: "failure",
                Verdict.WEDGED: "error",
                Verdict.SKIP: "skipped",
            }.get(result.verdict)
            if kind:
                ElementTree.SubElement(
                    case, kind, message=result.text.partition("\n")[0]
                ).text = result.text
        path.parent.mkdir(parents=True, exist_ok=True)
        ElementTree.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)


def _name(target: Target) -> str:
    return (target.name or "").lower()


def joined(reports: Sequence[Report]) -> Report:
    """One report of several, which have the same seed."""
    results = [result for report in reports for result in report.results]
    return Report(reports[0].seed, results, sum(report.seconds for report in reports))
