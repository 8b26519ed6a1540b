"""What is said about a program's use of the device, from counters alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from vgpu_stub.explain.activity import ChannelUse, Use
from vgpu_stub.explain.evidence import Evidence, Process
from vgpu_stub.explain.verdicts import Code, Verdict, judge

MIB = 1 << 20


def verdict(
    *,
    launches: int = 1000,
    waits: int = 10,
    moved_bytes: int = 0,
    busy_s: float = 0.9,
    cpu_s: float = 0.0,
) -> Verdict:
    """Judge a program that ran for one second."""
    last = ChannelUse(
        pid=10,
        worker_pid=11,
        process="program",
        state="ended",
        error=0,
        launches=launches,
        waits=waits,
        bytes_to_device=moved_bytes,
        bytes_to_host=0,
        busy_s=busy_s,
        busy_for_all=False,
        memory_bytes=MIB,
        cpu_s=cpu_s,
        refused={},
    )
    use = Use(last, MIB, launches, waits, moved_bytes, busy_s, cpu_s, 1.0)
    return judge(Evidence(["program"], 0, 1.0, Path(), [Process(10, uses=[use])]))


def test_a_busy_device_is_resident() -> None:
    assert verdict().code is Code.RESIDENT


def test_waiting_after_every_launch_with_an_idle_device_is_sync_bound() -> None:
    assert verdict(waits=1000, busy_s=0.2).code is Code.SYNC_BOUND


def test_waiting_after_every_short_launch_is_sync_bound_however_busy_the_device_looks() -> None:
    found = verdict(launches=20_000, waits=20_000, busy_s=0.66)
    assert found.code is Code.SYNC_BOUND
    assert "20000 waits for 20000 launches" in found.evidence


def test_waiting_for_long_kernels_that_keep_the_device_busy_is_fine() -> None:
    assert verdict(launches=100, waits=100, busy_s=0.95).code is Code.RESIDENT


def test_many_short_launches_without_waits_are_launch_bound() -> None:
    assert verdict(launches=20_000, busy_s=0.66).code is Code.LAUNCH_BOUND


def test_copying_many_times_what_is_held_is_traffic_bound() -> None:
    assert verdict(moved_bytes=100 * MIB).code is Code.TRAFFIC_BOUND


@pytest.mark.parametrize(
    ("cpu_s", "code"), [(0.95, Code.PARTLY_CPU), (0.3, Code.RESIDENT)], ids=["much", "little"]
)
def test_processor_time_counts_beyond_what_calls_take(cpu_s: float, code: Code) -> None:
    assert verdict(launches=100, busy_s=0.6, cpu_s=cpu_s).code is code


def test_a_handful_of_launches_is_not_judged_by_its_share() -> None:
    assert verdict(launches=3, waits=3, busy_s=0.01).code is Code.RESIDENT
