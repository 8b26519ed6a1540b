"""NVML by `exec`, through nvidia-ml-py and nvitop: every value against what the host knows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from vgpu_host.executors.options import ExecutorOptions
from vgpu_stub.harness.build import GUEST, cuda_libraries
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.harness.program import program_environment

pytestmark = pytest.mark.device

COMMAND = "from vgpu_stub.cli.main import app; app()"
WORKLOADS = GUEST / "workloads"
PRELUDE = f"""
import ctypes, json, os, subprocess, sys, time
sys.path.insert(0, {str(WORKLOADS)!r})
import pynvml as nvml
"""


def run(program: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", COMMAND, "exec", "--executor", "software", *options, "--"]
    return subprocess.run(
        [*command, sys.executable, "-c", PRELUDE + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def answer(program: str) -> object:
    done = run(program, "--gpu-memory", "256M")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_identity_is_that_of_the_cuda_device() -> None:
    found = answer(
        """
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByIndex(0)
        uuid = nvml.nvmlDeviceGetUUID(handle)
        pci = nvml.nvmlDeviceGetPciInfo(handle)
        cuda = ctypes.CDLL("libcuda.so.1")
        assert cuda.cuInit(0) == 0
        bytes16, name, bus = (ctypes.c_char * 16)(), (ctypes.c_char * 64)(), (ctypes.c_char * 32)()
        cuda.cuDeviceGetUuid(bytes16, 0)
        cuda.cuDeviceGetName(name, 64, 0)
        cuda.cuDeviceGetPCIBusId(bus, 32, 0)
        assert uuid.replace("-", "") == "GPU" + bytes16.raw.hex()
        assert nvml.nvmlDeviceGetName(handle).encode() == name.value
        assert pci.busId.endswith(bus.value.decode())
        same = [nvml.nvmlDeviceGetHandleByUUID(uuid), nvml.nvmlDeviceGetHandleByPciBusId(pci.busId)]
        print(json.dumps([
            nvml.nvmlSystemGetDriverVersion(), nvml.nvmlSystemGetNVMLVersion(),
            nvml.nvmlSystemGetCudaDriverVersion(), nvml.nvmlDeviceGetCount(),
            nvml.nvmlDeviceGetIndex(handle), nvml.nvmlDeviceGetMinorNumber(handle),
            nvml.nvmlDeviceGetCudaComputeCapability(handle), hex(pci.pciDeviceId),
            [nvml.nvmlDeviceGetIndex(other) for other in same],
            nvml.nvmlSystemGetProcessName(os.getpid()) == sys.executable,
        ]))
        """
    )
    assert found == ["580.00", "13.580.00", 13000, 1, 0, 0, [6, 1], "0x50551234", [0, 0], True]


def test_memory_and_work_of_a_program_show_up_and_go() -> None:
    found = answer(
        """
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByIndex(0)
        def state():
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            assert memory.used + memory.free == memory.total
            rows = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
            return [memory.used >> 20, [[row.pid, row.usedGpuMemory >> 20] for row in rows]]
        before = state()
        program = (
            "from ctypes import *; from cuda_driver import Driver\\n"
            "driver = Driver(); memory = driver.zeros(100 << 20); print('ready', flush=True)\\n"
            "while True:\\n"
            "    driver.call('cuMemsetD8_v2', c_uint64(memory.pointer), c_ubyte(1),"
            " c_size_t(100 << 20)); driver.synchronize()\\n"
        )
        environment = {**os.environ, "PYTHONPATH": sys.path[0]}
        worker = subprocess.Popen([sys.executable, "-c", program], env=environment,
                                  stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        worker.stdout.readline()
        deadline = time.monotonic() + 20
        while nvml.nvmlDeviceGetUtilizationRates(handle).gpu < 80:
            assert time.monotonic() < deadline, "the device never became busy"
            time.sleep(0.05)
        during = state()
        samples = nvml.nvmlDeviceGetProcessUtilization(handle, 0)
        busy = [[row.pid == worker.pid, row.smUtil >= 50] for row in samples]
        try:
            nvml.nvmlDeviceGetProcessUtilization(handle, samples[0].timeStamp + 10**9)
            newer = "some"
        except nvml.NVMLError_NotFound:
            newer = "none"
        worker.kill()
        worker.wait()
        deadline = time.monotonic() + 20
        while state() != before or nvml.nvmlDeviceGetUtilizationRates(handle).gpu:
            assert time.monotonic() < deadline, state()
            time.sleep(0.05)
        print(json.dumps([before, during == [100, [[worker.pid, 100]]], busy, newer]))
        """
    )
    assert found == [[0, []], True, [[True, True]], "none"]


def test_what_the_software_gpu_lacks_is_not_supported() -> None:
    found = answer(
        """
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByIndex(0)
        def code(name, *arguments):
            try:
                return getattr(nvml, name)(handle, *arguments)
            except nvml.NVMLError as error:
                return -error.value
        print(json.dumps([
            code("nvmlDeviceGetTemperature", 0), code("nvmlDeviceGetPowerUsage"),
            code("nvmlDeviceGetFanSpeed"), code("nvmlDeviceGetClockInfo", 0),
            code("nvmlDeviceGetEccMode"), code("nvmlDeviceGetMigMode"),
            code("nvmlDeviceGetCurrPcieLinkWidth"), code("nvmlDeviceGetSerial"),
            code("nvmlDeviceGetNumGpuCores"), code("nvmlDeviceGetVbiosVersion"),
            code("nvmlDeviceGetTemperature", 7), code("nvmlDeviceGetClockInfo", 9),
            code("nvmlDeviceGetGraphicsRunningProcesses"), code("nvmlDeviceGetDisplayActive"),
        ]))
        """
    )
    assert found == [-3] * 10 + [-2, -2, [], 0]


def test_room_versions_and_handles_are_checked() -> None:
    found = answer(
        """
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByIndex(0)
        lib = ctypes.CDLL("libnvidia-ml.so.1")
        cuda = ctypes.CDLL("libcuda.so.1")
        context = ctypes.c_void_p()
        assert cuda.cuInit(0) == 0 and cuda.cuCtxCreate_v2(ctypes.byref(context), 0, 0) == 0
        text = ctypes.create_string_buffer(96)
        count = ctypes.c_uint(0)
        processes = lib.nvmlDeviceGetComputeRunningProcesses_v3(handle, ctypes.byref(count), None)
        memory = nvml.c_nvmlMemory_v2_t()
        memory.version = 7
        lib.nvmlDeviceGetName.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint]
        lib.nvmlDeviceGetMemoryInfo_v2.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        print(json.dumps([
            lib.nvmlSystemGetDriverVersion(text, 6), lib.nvmlSystemGetDriverVersion(text, 7),
            lib.nvmlSystemGetDriverVersion(None, 7),
            processes, count.value,
            lib.nvmlDeviceGetMemoryInfo_v2(handle, ctypes.byref(memory)),
            lib.nvmlDeviceGetName(None, text, 96), lib.nvmlDeviceGetName(1, text, 96),
            lib.nvmlDeviceGetName(handle, text, 5),
            lib.nvmlDeviceGetHandleByIndex_v2(1, ctypes.byref(context)),
            lib.nvmlDeviceGetHandleByUUID(b"GPU-none", ctypes.byref(context)),
            lib.nvmlDeviceGetHandleByPciBusId_v2(b"0000:01:00.0", ctypes.byref(context)),
            lib.nvmlDeviceGetHandleByPciBusId_v2(b"nonsense", ctypes.byref(context)),
        ]))
        """
    )
    assert found == [7, 0, 2, 7, 1, 25, 2, 2, 7, 2, 6, 6, 2]


def test_a_forked_child_has_its_own_connection() -> None:
    found = answer(
        """
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByIndex(0)
        total = nvml.nvmlDeviceGetMemoryInfo(handle).total
        child = os.fork()
        if child == 0:
            time.sleep(0.05)  # older than what the library keeps of the parent's answer
            os._exit(0 if nvml.nvmlDeviceGetMemoryInfo(handle).total == total else 1)
        status = os.waitpid(child, 0)[1]
        print(json.dumps([status, nvml.nvmlDeviceGetMemoryInfo(handle).total == total]))
        """
    )
    assert found == [0, True]


def test_nvml_makes_no_channel(tmp_path: Path) -> None:
    done = run("nvml.nvmlInit(); nvml.nvmlSystemGetDriverVersion()", "--stats")
    assert done.returncode == 0
    assert "python" not in done.stderr, "a monitor must not take a channel"


def test_refused_functions_are_named_on_request() -> None:
    done = run(
        """
        os.environ["VGPU_STUB_LOG"] = "info"
        nvml.nvmlInit()
        try:
            nvml.nvmlDeviceGetSerial(nvml.nvmlDeviceGetHandleByIndex(0))
        except nvml.NVMLError_NotSupported:
            pass
        """
    )
    assert done.returncode == 0
    assert "nvmlDeviceGetSerial is not supported" in done.stderr


def test_nvitop_shows_the_device() -> None:
    done = run("os.execvp(sys.executable, [sys.executable, '-m', 'nvitop', '-1', '--ascii'])")
    assert done.returncode == 0, done.stderr
    assert "STUB software GPU" in done.stdout
    assert "Driver Version: 580.00" in done.stdout
    assert "No running processes found" in done.stdout


LOST = """
nvml.nvmlInit()
handle = nvml.nvmlDeviceGetHandleByIndex(0)
print("ready", flush=True)
sys.stdin.readline()
try:
    nvml.nvmlDeviceGetMemoryInfo(handle)
    print("answered")
except nvml.NVMLError_GpuIsLost:
    print("lost")
nvml.nvmlShutdown()
try:
    nvml.nvmlInit()
except nvml.NVMLError_DriverNotLoaded:
    print("no driver")
"""


def test_a_device_server_that_died_is_a_lost_gpu() -> None:
    options = ExecutorOptions("software", memory_bytes=64 << 20)
    with DeviceServer(options, shared=False) as server:
        environment = program_environment(server.device_socket, cuda_libraries())
        with subprocess.Popen(
            [sys.executable, "-c", PRELUDE + LOST],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as program:
            assert program.stdin is not None
            assert program.stdout is not None
            assert program.stdout.readline() == "ready\n"
            os.kill(server.pid, signal.SIGKILL)
            program.stdin.write("go on\n")
            program.stdin.flush()
            assert program.stdout.read() == "lost\nno driver\n"
            assert program.wait(20) == 0
