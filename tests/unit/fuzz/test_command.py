"""`vgpu-stub fuzz` as people and CI systems call it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from vgpu_stub.cli.main import typer_app

_RAISING = "tests.unit.fuzz.planted:Raising"


def fuzz(*arguments: str | Path) -> Result:
    return CliRunner().invoke(typer_app, ["fuzz", *map(str, arguments)])


def test_what_was_found_is_in_the_json_the_status_and_three_files(tmp_path: Path) -> None:
    result = fuzz(_RAISING, "--seed", "1", "--count", "20", "--json", "--output", tmp_path)
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    (finding,) = report["findings"]
    assert finding["signature"] == "the counter overflowed"
    assert report["sequences"] + finding["count"] == 20
    path = Path(finding["file"])
    assert path == tmp_path / "test_raising_the_counter_overflowed.py"
    assert {each.suffix for each in tmp_path.iterdir()} == {".py", ".json", ".txt"}
    again = fuzz(_RAISING, "--case", path.with_suffix(".json"))
    assert again.exit_code == 1
    assert again.stdout.startswith("the counter overflowed\nat ")
    fine = fuzz("tests.unit.fuzz.planted:Planted", "--case", path.with_suffix(".json"))
    assert (fine.exit_code, fine.stdout.endswith(" operations, no failure\n")) == (0, True)


@pytest.mark.parametrize("target", ["nothing", "tests.unit.fuzz.planted:Missing", "missing:Target"])
def test_target_that_does_not_exist_is_refused(target: str) -> None:
    assert fuzz(target, "--count", "1").exit_code == 2


def test_case_of_another_target_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "case.json"
    path.write_text('[{"kind": "Send", "command": 1}]')
    assert fuzz(_RAISING, "--case", path).exit_code == 2
