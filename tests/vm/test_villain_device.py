"""The kernel driver against a device that lies, on one boot of a kernel that checks itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from vgpu_stub.villain.device.catalogue import cases
from vgpu_stub.villain.device.driver import DriverVictim, GuestOptions
from vgpu_stub.villain.device.lie import Lie, select
from vgpu_stub.villain.registry import Verdict

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("vm")]

#: One or two of each place that a device can lie in, those first that found something.
_TOLD: Final = (
    "admin-errno-512",
    "admin-twice",
    "admin-cq-tail-over-kept",
    "admin-flips-control",
    "admin-channel-create-lost",
    "admin-memory-unregister-success",
    "register-magic-later",
    "register-channel-stride-wraps",
    "register-error-ones",
    "registers-ones-later",
    "registers-chance-later",
    "info-chance",
    "channel-flips-control-all",
    "channel-state-unknown-kept",
    "completion-chance",
    "status-ones",
    "interrupt-storm-all",
)


@pytest.fixture(scope="module")
def victim() -> Iterator[DriverVictim]:
    with DriverVictim(GuestOptions()) as victim:
        yield victim


@pytest.mark.timeout(180)
def test_the_kernel_checks_what_it_can(victim: DriverVictim) -> None:
    for check in ("poison", "red_zone", "sanity_checks", "store_user"):
        assert victim.lines(f"cat /sys/kernel/slab/kmalloc-64/{check}") == ["1"]
    (taken,) = victim.lines("grep 'total allocations' /sys/kernel/debug/kfence/stats")
    assert int(taken.rpartition(" ")[2]) > 0


def test_the_truth_is_believed(victim: DriverVictim) -> None:
    told, log = victim.tell(Lie(), 30)
    assert (told.signal, told.status, told.wrong, told.failures) == (0, 0, [], 0), log
    assert {"bind", "open", "ioctl WAIT", "cuLaunchKernel", "reset"} <= {
        name for name, _ in told.calls
    }


def test_lies_do_no_harm(victim: DriverVictim) -> None:
    chosen = select(cases(), _TOLD)
    assert len(chosen) == len(_TOLD)
    results = [victim.try_case(case, seed=1) for case in chosen]
    assert {
        result.id: result.text for result in results if result.verdict is not Verdict.PASS
    } == {}
    assert victim.boots == 1


@pytest.mark.timeout(240)
def test_lies_leave_nothing_allocated(victim: DriverVictim) -> None:
    result = victim.finish()
    assert result.verdict is Verdict.PASS, result.text


def test_a_truthful_device_works_after_all_of_them(victim: DriverVictim) -> None:
    told, log = victim.tell(Lie(), 30)
    assert (told.failures, told.wrong) == (0, []), log
    assert victim.boots == 1
