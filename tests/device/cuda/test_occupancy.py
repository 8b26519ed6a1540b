"""What the library asks the device once, it does not ask again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vgpu_host.executors.options import ExecutorOptions
from vgpu_stub.harness.build import GUEST, cuda_libraries, workloads
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.harness.program import program_environment

pytestmark = pytest.mark.device

PROGRAM = """
import sys
from ctypes import byref, c_int, c_size_t
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from cuda_driver import Driver

def ask(driver, kernel, threads):
    blocks = c_int()
    name = "cuOccupancyMaxActiveBlocksPerMultiprocessor"
    driver.call(name, byref(blocks), kernel.handle, c_int(threads), c_size_t(0))
    return blocks.value

with Driver() as driver:
    kernel = driver.load(Path(sys.argv[2])).kernel("vector_add")
    first = [ask(driver, kernel, threads) for threads in (64, 256)]
    again = [ask(driver, kernel, threads) for threads in (256, 64, 64)]
    assert again == [first[1], first[0], first[0]], (first, again)
    driver.call("cuFuncSetAttribute", kernel.handle, c_int(8), c_int(1024))
    assert ask(driver, kernel, 64) == first[0]
"""


def test_occupancy_is_asked_once_until_an_attribute_changes() -> None:
    ptx: Path = workloads() / "vector_add.ptx"
    with DeviceServer(ExecutorOptions("software"), shared=False) as server:
        subprocess.run(
            [sys.executable, "-c", PROGRAM, str(GUEST / "workloads"), str(ptx)],
            env=program_environment(server.device_socket, cuda_libraries()),
            timeout=60,
            check=True,
        )
        (channel,) = server.snapshot()["ended_channels"]
    assert channel["commands"]["FUNCTION_OCCUPANCY"] == 3
