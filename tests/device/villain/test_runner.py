"""The runner of the hostile guest notices what attacks do, and goes on with the others."""

from __future__ import annotations

import importlib

import pytest

from vgpu_stub.villain import registry
from vgpu_stub.villain.guest.runner import Settings, run_attacks
from vgpu_stub.villain.registry import Verdict

pytestmark = pytest.mark.device

MODULE = "tests.device.villain.shams"
#: The verdict on each sham, and part of its reason.
EXPECTED = {
    "shams.passes": (Verdict.PASS, ""),
    "shams.cannot-be-tried": (Verdict.SKIP, "there is no such thing here"),
    "shams.violates": (Verdict.FAIL, "it does not hold"),
    "shams.wedges": (Verdict.WEDGED, "no end in 6.5 s"),
    "shams.kills-the-server": (Verdict.FAIL, "the device server ended"),
    "shams.breaks-more-than-it-may": (Verdict.FAIL, "STATUS"),
    "shams.breaks-nothing": (Verdict.FAIL, "not FAILED"),
}


def test_every_verdict_is_found_once() -> None:
    # One test, because a server, its restarts and a wedged attack take their time.
    with registry.only_for_now():
        importlib.import_module(MODULE)
        chosen = registry.attacks(["shams.*"])
        settings = Settings(jobs=1, modules=(MODULE,), setup_s=6.0)
        outcomes = list(run_attacks(chosen, settings))
    assert sorted(outcome.attack.id for outcome in outcomes) == sorted(EXPECTED)
    found = {outcome.attack.id: (outcome.verdict, outcome.reason) for outcome in outcomes}
    for name, (verdict, reason) in EXPECTED.items():
        assert found[name][0] is verdict, found[name]
        assert reason in found[name][1]
