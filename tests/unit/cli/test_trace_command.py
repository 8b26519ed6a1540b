"""Options of `vgpu-stub trace` that make no sense are refused before anything runs."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from vgpu_stub.cli.main import typer_app


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-e", "memroy"], "'memroy' is neither a group"),
        (["-o", "/no/such/file"], "cannot write /no/such/file"),
        (["--sort", "colour"], "'colour' is not one of"),
    ],
)
def test_refused(options: list[str], words: str) -> None:
    done = CliRunner().invoke(typer_app, ["trace", *options, "--", "true"])
    assert done.exit_code == 2
    assert words in " ".join(done.output.replace("│", " ").split())
