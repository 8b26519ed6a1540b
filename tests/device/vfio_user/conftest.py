"""A served device and a client for it, over a real socket."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vgpu_stub.vfio_user import Client, Server

from .memory_device import MemoryDevice


@pytest.fixture
def device() -> Iterator[MemoryDevice]:
    device = MemoryDevice()
    yield device
    device.close()


@pytest.fixture
def socket_path() -> Iterator[Path]:
    # Not tmp_path: a socket path has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="vu-"))
    yield folder / "s"
    shutil.rmtree(folder)


@pytest.fixture
def server(device: MemoryDevice, socket_path: Path) -> Iterator[Server]:
    with Server(socket_path, lambda: device, max_clients=1) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client.connect(server.path) as client:
        yield client


@pytest.fixture
def memfd() -> Iterator[int]:
    """Sixteen pages of memory to share, page N filled with byte N."""
    fd = os.memfd_create("guest-ram")
    os.write(fd, b"".join(bytes([page]) * 4096 for page in range(16)))
    yield fd
    os.close(fd)


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Wait for a condition that another thread brings about."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 5
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true within 5 s"
            time.sleep(0.001)

    return wait


@pytest.fixture
def open_fds() -> Callable[[], int]:
    """Count the descriptors of this process."""
    return lambda: len(list(Path("/proc/self/fd").iterdir()))
