"""Fixtures of the smoke tests, which run in the guest: the device, and a fresh channel.

Tests marked `unused_device` unbind, reset or suspend the device. They run first, before this
process has loaded CUDA libraries, which keep a channel open to its end.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from vgpu_channel import NODE, Channel, Memory

ADDRESS = "0000:00:05.0"
WORKLOADS = Path(__file__).resolve().parent.parent / "workloads"
sys.path.insert(0, str(WORKLOADS))


def pytest_configure(config):
    config.addinivalue_line("markers", "unused_device: wants a device that no process has open")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.get_closest_marker("unused_device") is None)


@pytest.fixture(scope="session")
def device() -> Path:
    """The device's folder in sysfs."""
    folder = Path("/sys/bus/pci/devices") / ADDRESS
    assert folder.exists(), f"there is no PCI device at {ADDRESS}; lspci says what there is"
    return folder


@pytest.fixture
def attribute(device: Path) -> Callable[[str], str]:
    """Reads an attribute of the driver."""
    return lambda name: (device / name).read_text().strip()


@pytest.fixture
def channel() -> Iterator[Channel]:
    """A channel of its own for the test."""
    assert Path(NODE).exists(), f"{NODE} is missing: has the driver bound? dmesg says why not"
    with Channel() as opened:
        yield opened


@pytest.fixture
def memory() -> Iterator[Memory]:
    """Sixteen pages of anonymous memory."""
    pages = Memory(16 * 4096)
    yield pages
    pages.close()


@pytest.fixture(scope="module")
def cuda() -> Iterator[Any]:
    """The CUDA driver API with device 0's primary context, through ctypes."""
    from cuda_driver import Driver

    with Driver() as driver:
        yield driver


@pytest.fixture(scope="session")
def ptx() -> Callable[[str], Path]:
    """Where the PTX of a workload's kernel is."""
    return lambda name: WORKLOADS / "build" / f"{name}.ptx"
