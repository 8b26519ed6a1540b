"""The hostile guest suite against a real device server: no attack may come through."""

from __future__ import annotations

import pytest

from vgpu_stub.villain.guest.catalogue import attacks
from vgpu_stub.villain.guest.runner import Settings, run_attacks
from vgpu_stub.villain.registry import Verdict

pytestmark = pytest.mark.device

AREAS = sorted({attack.area for attack in attacks()})


@pytest.mark.parametrize("area", AREAS)
def test_no_attack_comes_through(area: str) -> None:
    chosen = attacks([f"{area}.*"])
    outcomes = list(run_attacks(chosen, Settings(jobs=1)))
    assert sorted(outcome.attack.id for outcome in outcomes) == sorted(a.id for a in chosen)
    harmless = (Verdict.PASS, Verdict.SKIP)
    broken = {o.attack.id: o.reason for o in outcomes if o.verdict not in harmless}
    assert broken == {}
