"""A short campaign of every target, with a new seed each time (in the output, to run it again)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from vgpu_stub.fuzz.campaign import Settings, run_campaign
from vgpu_stub.fuzz.targets import TARGETS

_SECONDS = 3.0


@pytest.mark.parametrize("target", TARGETS)
def test_short_campaign_finds_nothing(target: str, tmp_path: Path) -> None:
    seed = random.randrange(10**9)
    tally = run_campaign(Settings(target, seed, seconds=_SECONDS, output=tmp_path))
    print(tally)
    shown = "\n".join(
        f"{found.failure.signature}\n{found.failure.detail}\n"
        f"{found.path.read_text() if found.path else ''}"
        for found in tally.found.values()
    )
    assert not tally.found, f"{tally}\n{shown}"
    assert tally.operations > 0
