"""CUDA_VISIBLE_DEVICES shows or hides the device as CUDA has it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise

import pytest

from vgpu_host.executors.options import ExecutorOptions
from vgpu_stub.harness.build import cuda_libraries
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.harness.program import program_environment

NO_DEVICE = 100
#: Prints what cuInit and cuDeviceGetCount say, the device's UUID, and the driver's version.
PROGRAM = """
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
count, version, uuid = ctypes.c_int(-1), ctypes.c_int(-1), (ctypes.c_ubyte * 16)()
print(cuda.cuInit(0), cuda.cuDriverGetVersion(ctypes.byref(version)), version.value >= 12000)
print(cuda.cuDeviceGetCount(ctypes.byref(count)), count.value)
cuda.cuDeviceGetUuid(ctypes.byref(uuid), 0)
print(bytes(uuid).hex())
"""

pytestmark = pytest.mark.device


@pytest.fixture(scope="module")
def server() -> Iterator[DeviceServer]:
    with DeviceServer(ExecutorOptions(name="software"), shared=False) as running:
        yield running


def run(server: DeviceServer, visible: str | None) -> list[str]:
    environment = program_environment(server.device_socket, cuda_libraries())
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    if visible is not None:
        environment["CUDA_VISIBLE_DEVICES"] = visible
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.splitlines()


def uuid(server: DeviceServer) -> str:
    digits = run(server, None)[2]
    cuts = (0, 8, 12, 16, 20, 32)
    return "GPU-" + "-".join(digits[a:b] for a, b in pairwise(cuts))


@pytest.mark.parametrize("visible", [None, "0", " 0", "0,1", "0,-1"])
def test_ordinal_zero_shows_the_device(server: DeviceServer, visible: str | None) -> None:
    assert run(server, visible)[:2] == ["0 0 True", "0 1"]


@pytest.mark.parametrize("visible", ["", "-1", "1", "-1,0", "1,0", "none", "GPU-", "GPU-ffff"])
def test_lists_without_the_device_hide_it(server: DeviceServer, visible: str) -> None:
    assert run(server, visible)[0] == f"{NO_DEVICE} 0 True"


def test_uuid_or_its_beginning_shows_the_device(server: DeviceServer) -> None:
    name = uuid(server)
    for visible in (name, name.upper(), name[:10], f"{name},0"):
        assert run(server, visible)[:2] == ["0 0 True", "0 1"], visible
    assert run(server, name[:-1] + ("0" if name[-1] != "0" else "1"))[0] == f"{NO_DEVICE} 0 True"
