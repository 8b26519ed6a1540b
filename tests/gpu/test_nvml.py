"""NVML over the physical GPU: the values of the host's own NVML, and the work of our programs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vgpu_host.executors.options import ExecutorOptions, why_no_gpu
from vgpu_stub.harness.build import cuda_libraries
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.harness.program import program_environment

pytestmark = pytest.mark.gpu

PROGRAM = Path(__file__).parents[1] / "device/explain/program.py"
#: Asks the library that it is given; the functions that follow have one number as their result.
QUERY = """
import ctypes, json
nvml = ctypes.CDLL("libnvidia-ml.so.1")
assert nvml.nvmlInit_v2() == 0
handle = ctypes.c_void_p()
assert nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(handle)) == 0
def number(name, *arguments):
    value = ctypes.c_uint64()
    status = getattr(nvml, name)(handle, *arguments, ctypes.byref(value))
    return value.value if status == 0 else -status
text = ctypes.create_string_buffer(96)
nvml.nvmlSystemGetDriverVersion(text, 96)
memory = (ctypes.c_uint64 * 3)()
nvml.nvmlDeviceGetMemoryInfo(handle, memory)
rates = (ctypes.c_uint * 2)()
nvml.nvmlDeviceGetUtilizationRates(handle, rates)
print(json.dumps({
    "driver": text.value.decode(), "total": memory[0], "used": memory[2], "gpu": rates[0],
    "power limit": number("nvmlDeviceGetPowerManagementLimit"),
    "power": number("nvmlDeviceGetPowerUsage"),
    "temperature": number("nvmlDeviceGetTemperature", 0),
    "memory clock": number("nvmlDeviceGetMaxClockInfo", 2),
    "link": [number("nvmlDeviceGetMaxPcieLinkWidth"), number("nvmlDeviceGetMaxPcieLinkGeneration")],
    "cores": number("nvmlDeviceGetNumGpuCores"),
    "architecture": number("nvmlDeviceGetArchitecture"),
}))
"""
FIXED = ("driver", "total", "power limit", "memory clock", "link", "cores", "architecture")


@pytest.fixture(scope="module")
def server() -> Iterator[DeviceServer]:
    reason = why_no_gpu()
    if reason:
        pytest.skip(f"no physical GPU: {reason}")
    pytest.importorskip("pynvml", reason="the package nvidia-ml-py is not installed")
    with DeviceServer(ExecutorOptions("cuda"), shared=False) as running:
        yield running


def query(environment: dict[str, str] | None) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", QUERY],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    values: dict[str, object] = json.loads(done.stdout)
    return values


def test_values_are_those_of_the_hosts_nvml(server: DeviceServer) -> None:
    ours = query(program_environment(server.device_socket, cuda_libraries()))
    native = query(None)
    assert {name: ours[name] for name in FIXED} == {name: native[name] for name in FIXED}
    assert abs(int(str(ours["temperature"])) - int(str(native["temperature"]))) <= 5
    assert int(str(ours["power"])) > 0


def test_work_of_a_program_raises_the_utilisation(server: DeviceServer) -> None:
    environment = program_environment(server.device_socket, cuda_libraries())
    command = [sys.executable, str(PROGRAM), "forever"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as load:
        assert load.stdout is not None
        assert load.stdout.readline() == "ready\n"
        seen = [query(environment) for _ in range(20)]
        load.kill()
    assert max(int(str(values["gpu"])) for values in seen) > 0
    assert int(str(seen[-1]["used"])) > 0
