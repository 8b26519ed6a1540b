"""`vgpu-stub villain device`: what it lists, and what it refuses."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vgpu_stub.cli import villain_device_command
from vgpu_stub.cli.main import typer_app
from vgpu_stub.villain.device.catalogue import cases
from vgpu_stub.villain.device.lie import Case, Target
from vgpu_stub.villain.device.result import Result
from vgpu_stub.villain.registry import Verdict


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    yield
    logging.disable(logging.NOTSET)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(typer_app, ["villain", "device", *arguments])
    return result.exit_code, result.output


def test_every_lie_is_listed() -> None:
    status, output = run("--list", "--json")
    assert status == 0
    listed = json.loads(output)
    assert [row["id"] for row in listed] == [case.id for case in cases()]
    assert listed[0] == {
        "id": "config-capability-loop",
        "section": "1",
        "summary": "the capability list leads back to itself",
        "targets": ["library"],
        "expect": "refused",
    }


def test_a_pattern_that_matches_nothing_is_refused() -> None:
    status, output = run("--only", "nonsense")
    assert status == 2
    assert "no lie has such an id" in output


class Victim:
    """Believes what it is told to believe."""

    def __init__(self, *_arguments: object) -> None:
        self.verdict = Verdict.PASS

    def __enter__(self) -> Victim:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def try_case(self, case: Case, seed: int, round_number: int = 0) -> Result:
        verdict = Verdict.FAIL if case.id.endswith("-zero") else Verdict.PASS
        return Result(case.id, "2", Target.LIBRARY, round_number, verdict, f"seed {seed}", 0.1)

    def finish(self) -> None:
        pass


@pytest.fixture
def victims(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(villain_device_command, "sanitized_libraries", lambda *names: Path())
    monkeypatch.setattr(villain_device_command, "LibraryVictim", Victim)
    monkeypatch.setattr(villain_device_command, "DriverVictim", Victim)


@pytest.mark.usefixtures("victims")
def test_both_are_lied_to_and_a_failure_is_the_exit_status(tmp_path: Path) -> None:
    junit = tmp_path / "reports" / "liar.xml"
    status, output = run("--only", "register-magic-*", "--seed", "3", "--junit", str(junit))
    assert status == 1
    assert "2 FAIL" in output
    assert "8 PASS" in output
    assert "--only ID --seed N" in " ".join(output.split())
    assert junit.exists()


@pytest.mark.usefixtures("victims")
def test_one_target_alone_can_be_asked_for() -> None:
    status, output = run("--only", "register-magic-ones", "--library", "--rounds", "3")
    assert status == 0
    assert "3 PASS" in output
