"""NVML through libnvidia-ml.so.1: what monitors such as nvitop ask, and what they are told."""

import ctypes
import os
import time
from ctypes import byref, c_char_p, c_int, c_uint, c_ulonglong, c_void_p, create_string_buffer

import pytest

SUCCESS, INVALID_ARGUMENT, NOT_SUPPORTED, NOT_FOUND = 0, 2, 3, 6


class Memory(ctypes.Structure):
    """nvmlMemory_t."""

    _fields_ = [("total", c_ulonglong), ("free", c_ulonglong), ("used", c_ulonglong)]


class Utilization(ctypes.Structure):
    """nvmlUtilization_t."""

    _fields_ = [("gpu", c_uint), ("memory", c_uint)]


class PciInfo(ctypes.Structure):
    """nvmlPciInfo_t."""

    _fields_ = [
        ("bus_id_legacy", ctypes.c_char * 16),
        ("domain", c_uint),
        ("bus", c_uint),
        ("device", c_uint),
        ("pci_device_id", c_uint),
        ("pci_subsystem_id", c_uint),
        ("bus_id", ctypes.c_char * 32),
    ]


class Process(ctypes.Structure):
    """nvmlProcessInfo_t."""

    _fields_ = [
        ("pid", c_uint),
        ("used_memory", c_ulonglong),
        ("gpu_instance", c_uint),
        ("compute_instance", c_uint),
    ]


@pytest.fixture(scope="module")
def nvml():
    library = ctypes.CDLL("libnvidia-ml.so.1")
    assert library.nvmlInit_v2() == SUCCESS
    yield library
    assert library.nvmlShutdown() == SUCCESS


@pytest.fixture(scope="module")
def handle(nvml):
    found = c_void_p()
    assert nvml.nvmlDeviceGetHandleByIndex_v2(0, byref(found)) == SUCCESS
    return found


def text(function, *arguments):
    buffer = create_string_buffer(96)
    assert function(*arguments, buffer, 96) == SUCCESS
    return buffer.value.decode()


def test_there_is_one_device_and_no_second(nvml):
    count, found = c_uint(), c_void_p()
    assert nvml.nvmlDeviceGetCount_v2(byref(count)) == SUCCESS
    assert count.value == 1
    assert nvml.nvmlDeviceGetHandleByIndex_v2(1, byref(found)) == INVALID_ARGUMENT


def test_versions_are_given(nvml):
    version = c_int()
    assert nvml.nvmlSystemGetCudaDriverVersion_v2(byref(version)) == SUCCESS
    assert version.value >= 12000
    assert text(nvml.nvmlSystemGetDriverVersion).count(".") >= 1
    assert text(nvml.nvmlSystemGetNVMLVersion).count(".") >= 1


def test_name_and_uuid_are_those_of_cuda(nvml, handle, cuda):
    assert text(nvml.nvmlDeviceGetName, handle) == cuda.device_name
    raw = (ctypes.c_ubyte * 16)()
    cuda.call("cuDeviceGetUuid_v2", raw, c_int(0))
    plain = bytes(raw).hex()
    dashed = "-".join((plain[:8], plain[8:12], plain[12:16], plain[16:20], plain[20:]))
    assert text(nvml.nvmlDeviceGetUUID, handle) == f"GPU-{dashed}"


def test_the_device_is_found_by_its_uuid_and_its_address(nvml, handle):
    found = c_void_p()
    uuid = text(nvml.nvmlDeviceGetUUID, handle)
    assert nvml.nvmlDeviceGetHandleByUUID(uuid.encode(), byref(found)) == SUCCESS
    assert found.value == handle.value
    address = c_char_p(b"00000000:00:05.0")
    assert nvml.nvmlDeviceGetHandleByPciBusId_v2(address, byref(found)) == SUCCESS
    assert found.value == handle.value


def test_the_pci_address_is_that_of_the_slot(nvml, handle):
    info = PciInfo()
    assert nvml.nvmlDeviceGetPciInfo_v3(handle, byref(info)) == SUCCESS
    assert (info.domain, info.bus, info.device) == (0, 0, 5)
    assert info.bus_id.lower() == b"00000000:00:05.0"


def test_memory_adds_up(nvml, handle):
    memory = Memory()
    assert nvml.nvmlDeviceGetMemoryInfo(handle, byref(memory)) == SUCCESS
    assert memory.total == memory.free + memory.used > 0


def test_utilisation_is_in_percent(nvml, handle):
    use = Utilization()
    assert nvml.nvmlDeviceGetUtilizationRates(handle, byref(use)) == SUCCESS
    assert 0 <= use.gpu <= 100
    assert 0 <= use.memory <= 100


def test_the_compute_capability_is_that_of_cuda(nvml, handle, cuda):
    major, minor = c_int(), c_int()
    status = nvml.nvmlDeviceGetCudaComputeCapability(handle, byref(major), byref(minor))
    assert status == SUCCESS
    assert (major.value, minor.value) == (cuda.attribute(75), cuda.attribute(76))


def test_this_process_and_its_memory_are_listed(nvml, handle, cuda):
    buffer = cuda.zeros(8 << 20)
    count = c_uint(16)
    rows = (Process * count.value)()
    own = []
    deadline = time.monotonic() + 10
    # An answer may be some milliseconds older than the channel.
    while not own or own[0] < buffer.size:
        assert time.monotonic() < deadline, f"this process with {buffer.size} bytes; found {own}"
        count.value = len(rows)
        function = nvml.nvmlDeviceGetComputeRunningProcesses_v3
        assert function(handle, byref(count), rows) == SUCCESS
        own = [row.used_memory for row in rows[: count.value] if row.pid == os.getpid()]
    assert len(own) == 1
    buffer.free()


@pytest.mark.parametrize(
    "function",
    [
        "nvmlDeviceGetTemperature",
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetFanSpeed",
        "nvmlDeviceGetClockInfo",
        "nvmlDeviceGetTotalEccErrors",
        "nvmlDeviceGetEncoderUtilization",
    ],
)
def test_a_sensor_says_a_value_or_that_there_is_none(nvml, handle, function):
    words = [(c_ulonglong * 2)() for _ in range(2)]
    extra = {"nvmlDeviceGetTemperature": 1, "nvmlDeviceGetClockInfo": 1}.get(function, 0)
    extra = 2 if function == "nvmlDeviceGetTotalEccErrors" else extra
    status = getattr(nvml, function)(handle, *[0] * extra, *words)
    assert status in (SUCCESS, NOT_SUPPORTED)


def test_every_error_has_a_text(nvml):
    nvml.nvmlErrorString.restype = c_char_p
    texts = {nvml.nvmlErrorString(number) for number in range(1, 28)}
    assert b"" not in texts
    assert nvml.nvmlErrorString(NOT_FOUND) != nvml.nvmlErrorString(NOT_SUPPORTED)
