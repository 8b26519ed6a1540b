"""The libraries, built with sanitizers, against a device that lies: what `villain device` tells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from vgpu_stub.harness.build import sanitized_libraries
from vgpu_stub.villain.device.catalogue import cases
from vgpu_stub.villain.device.library import PROGRAM, LibraryVictim
from vgpu_stub.villain.device.lie import Case, Expect, Lie, Target
from vgpu_stub.villain.device.places import Info
from vgpu_stub.villain.registry import Verdict

pytestmark = [pytest.mark.device, pytest.mark.xdist_group("villain_device")]

#: Those that wait for a deadline are left to the command.
_SLOW: Final = ("unheard-", "register-status-never", "admin-lost", "channel-guest-waiting")
#: Told with every run: each of these once found something.
_FOUND: Final = {
    "region-short-file",
    "region-shrinking-file",
    "region-offset-end",
    "info-name-unterminated-all",
    "info-warp-largest",
    "info-multiprocessors-largest",
    "info-attributes-largest",
    "reply-function-offset-ones",
    "reply-function-offset-wraps",
    "reply-function-size-ones",
    "result-function-occupancy-negative",
    "result-function-occupancy-largest",
    "result-memory-allocate-null",
    "result-memory-allocate-same",
    "result-memory-get-info-more-free",
    "result-module-get-global-wraps",
    "result-module-link-ones",
    "channel-cq-tail-over",
    "channel-cq-tail-back",
    "channel-cq-tail-ones-kept",
    "status-used-over-total",
    "admin-status-negative",
    "completion-status-unknown",
}


def _told() -> list[Case]:
    """What is told here: all that found something, and of the others every third."""
    quick = [
        case
        for case in cases()
        if Target.LIBRARY in case.targets
        and case.expect is not Expect.STUCK
        and not case.id.startswith(_SLOW)
    ]
    return [case for i, case in enumerate(quick) if case.id in _FOUND or i % 3 == 0]


@pytest.fixture(scope="module")
def victim() -> Iterator[LibraryVictim]:
    with LibraryVictim(sanitized_libraries(PROGRAM)) as victim:
        yield victim


def test_the_truth_is_believed(victim: LibraryVictim) -> None:
    told = victim.tell(Lie(), 20)
    assert (told.signal, told.status, told.wrong, told.report) == (0, 0, [], "")
    assert told.failures == 0
    assert {"cuInit", "cuLaunchKernel", "cuLinkComplete", "cudaMalloc", "nvmlInit_v2"} <= {
        name for name, _ in told.calls
    }


def test_what_found_something_is_told() -> None:
    assert {case.id for case in _told()} >= _FOUND


@pytest.mark.parametrize("case", _told(), ids=lambda case: case.id)
def test_a_lie_does_no_harm(victim: LibraryVictim, case: Case) -> None:
    result = victim.try_case(case, seed=1)
    assert result.verdict is Verdict.PASS, result.text


def test_a_lie_can_be_told_again_after_one_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VGPU_STUB_WATCHDOG", "0")
    (case,) = [case for case in cases() if case.id == "completion-lost"]
    with LibraryVictim(sanitized_libraries(PROGRAM)) as patient:
        result = patient.try_case(case, seed=1)
        assert result.verdict is Verdict.PASS
        assert "could be ended" in result.text
        assert patient.tell(Lie(), 20).failures == 0


def test_a_device_of_another_executor_name_is_only_slower(victim: LibraryVictim) -> None:
    told = victim.tell(Info.member("executor", b"cuda\0"), 20)
    assert (told.status, told.failures, told.wrong) == (0, 0, [])
