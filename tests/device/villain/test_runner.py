"""The runner of the hostile guest notices what attacks do, and goes on with the others."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import pytest

from vgpu_stub.villain import registry
from vgpu_stub.villain.guest.runner import Settings, run_attacks
from vgpu_stub.villain.registry import Outcome, Verdict

pytestmark = [pytest.mark.device, pytest.mark.xdist_group("villain_runner")]

MODULE = "tests.device.villain.shams"


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[str, Outcome]]:
    with registry.only_for_now():
        importlib.import_module(MODULE)
        chosen = registry.attacks(["shams.*"])
        settings = Settings(jobs=1, modules=(MODULE,), setup_s=4.0)
        yield {o.attack.id: o for o in run_attacks(chosen, settings)}


@pytest.mark.parametrize(
    ("name", "verdict", "reason"),
    [
        ("shams.passes", Verdict.PASS, ""),
        ("shams.cannot-be-tried", Verdict.SKIP, "there is no such thing here"),
        ("shams.violates", Verdict.FAIL, "it does not hold"),
        ("shams.wedges", Verdict.WEDGED, "no end in 4.5 s"),
        ("shams.kills-the-server", Verdict.FAIL, "the device server ended"),
        ("shams.breaks-more-than-it-may", Verdict.FAIL, "STATUS"),
        ("shams.breaks-nothing", Verdict.FAIL, "not FAILED"),
    ],
)
def test_every_verdict_is_found(
    outcomes: dict[str, Outcome], name: str, verdict: Verdict, reason: str
) -> None:
    assert outcomes[name].verdict is verdict, outcomes[name].reason
    assert reason in outcomes[name].reason


def test_every_attack_has_one_verdict(outcomes: dict[str, Outcome]) -> None:
    assert len(outcomes) == 7
