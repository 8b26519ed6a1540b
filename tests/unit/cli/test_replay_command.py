"""What `vgpu-stub replay` takes, and what it says of files that are no recordings."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from vgpu_host.executors.options import ExecutorOptions
from vgpu_stub.cli.main import typer_app
from vgpu_stub.cli.replay_command import parse_options
from vgpu_stub.harness.replay.runs import describe
from vgpu_stub.recording import records
from vgpu_stub.recording.container import BlockWriter
from vgpu_stub.recording.records import Kind

USUAL = ExecutorOptions("software", memory_bytes=64 << 20, threads=1)


def test_settings_change_what_was_recorded() -> None:
    assert parse_options("software", USUAL) == USUAL
    changed = parse_options("software,general,profile=sm_80,memory=1G,threads=2", USUAL)
    assert (changed.general, changed.profile, changed.threads) == (True, "sm_80", 2)
    assert changed.memory_bytes == 1 << 30
    assert describe(USUAL) == "software,memory_bytes=67108864,threads=1"


@pytest.mark.parametrize("text", ["opencl", "software,fast", "software,profile=turing"])
def test_settings_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_options(text, USUAL)


def test_a_file_that_is_no_recording_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("nothing")
    result = CliRunner().invoke(typer_app, ["replay", str(path), "--list"])
    assert result.exit_code == 2
    assert "is no recording" in result.output


def test_an_empty_recording_is_listed_and_said_not_to_be_whole(tmp_path: Path) -> None:
    path = tmp_path / "empty.vgpurec"
    with BlockWriter(path) as writer:
        start = records.pack_json(Kind.START, 0, monotonic_ns=0, program="test", host="here")
        writer.write(0, start)
    result = CliRunner().invoke(typer_app, ["replay", str(path), "--list"])
    assert result.exit_code == 0
    assert "recorded by test on here" in result.output
    assert "not whole: it was not stopped properly" in result.output
