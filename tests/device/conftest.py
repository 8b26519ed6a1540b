"""Fixtures of the tests that drive a real device over a real vfio-user socket, without a VM."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest

from vgpu_host.executors.options import ExecutorOptions
from vgpu_host.pool import WorkerPool
from vgpu_stub.device.gpu import VirtualGpu
from vgpu_stub.driver import GuestDriver
from vgpu_stub.vfio_user import Server

DEVICE_MEMORY = 256 << 20


@pytest.fixture(scope="session")
def workers() -> Iterator[WorkerPool]:
    """Workers with the software GPU, shared by all tests."""
    with WorkerPool(ExecutorOptions("software", memory_bytes=DEVICE_MEMORY, threads=1)) as pool:
        yield pool


@pytest.fixture
def gpu(workers: WorkerPool) -> Iterator[VirtualGpu]:
    device = VirtualGpu(workers, "test")
    yield device
    device.close()


@pytest.fixture
def device_socket(gpu: VirtualGpu) -> Iterator[Path]:
    # A socket path has at most 107 bytes, which pytest's own folders may exceed.
    with tempfile.TemporaryDirectory(prefix="vgpu") as folder:
        path = Path(folder) / "device.sock"
        with Server(path, lambda: gpu, max_clients=1):
            yield path


@pytest.fixture
def driver(device_socket: Path) -> Iterator[GuestDriver]:
    with GuestDriver.connect(device_socket) as connected:
        yield connected


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
