"""Recordings of a physical GPU, played on it, and one of the software GPU played there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.device.replay.guest import (
    SCENARIOS,
    Guest,
    copies_and_kernels,
    copies_that_nobody_waits_for,
    graphs,
)
from vgpu_host.executors.options import ExecutorOptions, why_no_gpu
from vgpu_stub.driver import GuestDriver
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.harness.replay.report import DifferenceKind
from vgpu_stub.harness.replay.runs import replay

_REASON = why_no_gpu()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(_REASON is not None, reason=f"no physical GPU: {_REASON}"),
]
CUDA = ExecutorOptions("cuda")
SOFTWARE = ExecutorOptions("software", memory_bytes=64 << 20, threads=1)


def record(options: ExecutorOptions, path: Path, *scenarios: Callable[[Guest], None]) -> Path:
    with DeviceServer(options, shared=False, record=path) as server:
        for scenario in scenarios:
            with GuestDriver.connect(server.device_socket) as driver:
                scenario(Guest(driver))
    return path


def test_a_gpu_answers_as_it_did(tmp_path: Path) -> None:
    report = replay(record(CUDA, tmp_path / "cuda.vgpurec", *SCENARIOS))
    assert [str(each) for channel in report.channels for each in channel.differences] == []
    assert all(channel.data for channel in report.channels)


def test_a_gpu_computes_what_the_software_gpu_did(tmp_path: Path) -> None:
    """Their functions are described differently; everything else is the same."""
    scenarios = (copies_and_kernels, graphs, copies_that_nobody_waits_for)
    report = replay(record(SOFTWARE, tmp_path / "software.vgpurec", *scenarios), CUDA)
    found = [each for channel in report.channels for each in channel.differences]
    assert {(each.kind, each.command.split("(")[0]) for each in found} <= {
        (DifferenceKind.DATA, "MODULE_GET_FUNCTION")
    }
