"""A device server of its own for each module, whose faults the tests control."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vgpu_host.executors.options import ExecutorOptions
from vgpu_stub.driver import GuestChannel, GuestDriver
from vgpu_stub.harness.control import FaultControl
from vgpu_stub.harness.device_server import DeviceServer


@pytest.fixture(scope="module")
def server() -> Iterator[DeviceServer]:
    options = ExecutorOptions("software", memory_bytes=64 << 20, threads=1)
    with DeviceServer(options, shared=False, spares=2) as running:
        yield running


@pytest.fixture
def faults(server: DeviceServer) -> Iterator[FaultControl]:
    yield server.control.faults
    server.control.faults.clear()


@pytest.fixture
def driver(server: DeviceServer, faults: FaultControl) -> Iterator[GuestDriver]:
    with GuestDriver.connect(server.device_socket) as connected:
        yield connected


@pytest.fixture
def channel(driver: GuestDriver) -> GuestChannel:
    return driver.open_channel()
