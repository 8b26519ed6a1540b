"""Recordings of a guest, made once: by a device server, over its vfio-user socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vgpu_host.executors.options import ExecutorOptions
from vgpu_stub.driver import GuestDriver
from vgpu_stub.harness.device_server import DeviceServer

from . import guest as scenarios

OPTIONS = ExecutorOptions("software", memory_bytes=64 << 20, threads=1)


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of every scenario, each in a channel of its own."""
    path = tmp_path_factory.mktemp("recordings") / "guest.vgpurec"
    with DeviceServer(OPTIONS, shared=False, record=path) as server:
        for scenario in (*scenarios.SCENARIOS, scenarios.memory_that_nothing_has_written):
            with GuestDriver.connect(server.device_socket) as driver:
                scenario(scenarios.Guest(driver))
    return path


@pytest.fixture(scope="session")
def server() -> Iterator[DeviceServer]:
    """A device server that records nothing by itself."""
    with DeviceServer(OPTIONS, shared=False) as running:
        yield running
