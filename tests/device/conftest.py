"""Fixtures of the tests that drive a real device over a real vfio-user socket, without a VM."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest

from vgpu_host.pool import WorkerPool
from vgpu_stub.device.gpu import VirtualGpu
from vgpu_stub.driver import GuestDriver
from vgpu_stub.harness.local_device import LocalDevice
from vgpu_stub.pytest_plugin.devices import DeviceMaker
from vgpu_stub.pytest_plugin.settings import VgpuSettings


@pytest.fixture
def workers(vgpu_device_maker: DeviceMaker, vgpu_settings: VgpuSettings) -> WorkerPool:
    """Workers with the software GPU, shared by all tests."""
    return vgpu_device_maker.workers(vgpu_settings)


@pytest.fixture
def gpu(vgpu_device: LocalDevice) -> VirtualGpu:
    return vgpu_device.gpu


@pytest.fixture
def device_socket(vgpu_device: LocalDevice) -> Path:
    return vgpu_device.socket


@pytest.fixture
def driver(vgpu_device: LocalDevice) -> GuestDriver:
    return vgpu_device.driver


WaitUntil = Callable[[Callable[[], bool], str], None]


@pytest.fixture
def wait_until() -> WaitUntil:
    """Waits for a condition that another process makes true; fails after ten seconds."""

    def wait(condition: Callable[[], bool], what: str) -> None:
        deadline = monotonic() + 10.0
        while not condition():
            if monotonic() > deadline:
                pytest.fail(f"not within 10 s: {what}")
            threading.Event().wait(0.005)

    return wait
