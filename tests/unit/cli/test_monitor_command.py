"""`vgpu-stub monitor` where no device server runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from vgpu_stub.cli.main import typer_app


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.mark.parametrize("arguments", [[], ["--once"], ["gpu7"]])
def test_without_a_server_it_says_how_to_start_one(arguments: list[str]) -> None:
    result = CliRunner().invoke(typer_app, ["monitor", *arguments])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("No device server runs.")
    assert "vgpu-stub exec -- python3 PROGRAM" in result.stderr


def test_without_a_server_json_is_an_empty_list() -> None:
    result = CliRunner().invoke(typer_app, ["monitor", "--json"])
    assert (result.exit_code, result.stdout, result.stderr) == (1, "[]\n", "")


def test_an_impossible_interval_is_refused() -> None:
    result = CliRunner().invoke(typer_app, ["monitor", "--interval", "0"])
    assert result.exit_code == 2
    assert "--interval" in result.stderr
