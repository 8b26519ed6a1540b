"""Monitors: the node opened read only, without a channel, says what the host measures."""

import ctypes
import errno
import fcntl
import mmap
import os
import subprocess
import sys
import time

import pytest
import vgpu_abi as abi
from vgpu_channel import IOCTL_DOORBELL, IOCTL_STATUS, MMAP_INFO, NODE, Channel, eventually, refusal


@pytest.fixture
def monitor():
    fd = os.open(NODE, os.O_RDONLY | os.O_CLOEXEC)
    yield fd
    os.close(fd)


def read_status(fd):
    reply = bytearray(abi.STATUS_BYTES)
    fcntl.ioctl(fd, IOCTL_STATUS, reply)
    values = dict(zip(abi.DEVICE_STATUS_OFFSETS, abi.DEVICE_STATUS.unpack_from(reply), strict=True))
    start = abi.DEVICE_STATUS.size + abi.STATUS_EVENTS * abi.DEVICE_EVENT.size
    rows = reply[start:][: values["process_count"] * abi.DEVICE_PROCESS.size]
    values["processes"] = list(abi.DEVICE_PROCESS.iter_unpack(rows))
    return values


def test_a_monitor_takes_no_channel(attribute, monitor):
    before = attribute("channels")
    assert read_status(monitor)["known"] & abi.KNOWN_MEMORY_TOTAL
    assert attribute("channels") == before


def test_status_lists_the_processes_that_have_a_channel(monitor):
    before = {row[2] for row in read_status(monitor)["processes"]}
    with Channel() as channel:
        own = (0, os.getpid(), channel.info.channel)
        # The host measures at most every 50 ms and keeps the answer until then.
        eventually(
            lambda: own in [tuple(row[:3]) for row in read_status(monitor)["processes"]],
            "this process in the device's status",
        )
    eventually(
        lambda: {row[2] for row in read_status(monitor)["processes"]} == before,
        "this process gone from the device's status",
    )


def test_memory_of_a_program_shows_up_and_goes(cuda, monitor):
    before = read_status(monitor)
    assert (
        before["memory_used"] + before["memory_free"] + before["memory_reserved"]
        == (before["memory_total"])
    )
    pointer = cuda.zeros(32 << 20)
    deadline = time.monotonic() + 10
    while read_status(monitor)["memory_used"] < before["memory_used"] + (32 << 20):
        assert time.monotonic() < deadline, read_status(monitor)
    pointer.free()


def test_many_readers_at_once_all_get_an_answer():
    program = (
        "import fcntl, os\n"
        f"fd = os.open({NODE!r}, os.O_RDONLY)\n"
        f"for _ in range(20): fcntl.ioctl(fd, {IOCTL_STATUS}, bytearray({abi.STATUS_BYTES}))\n"
    )
    readers = [subprocess.Popen([sys.executable, "-ISc", program]) for _ in range(8)]
    assert [reader.wait(60) for reader in readers] == [0] * 8


def test_the_info_page_can_be_mapped_and_nothing_else(monitor):
    with mmap.mmap(monitor, mmap.PAGESIZE, prot=mmap.PROT_READ, offset=MMAP_INFO) as page:
        assert page[:4] == abi.MAGIC.to_bytes(4, "little")
    stride = abi.CHANNEL_STRIDE
    assert refusal(lambda: mmap.mmap(monitor, stride, prot=mmap.PROT_READ)) == "EINVAL"
    assert refusal(fcntl.ioctl, monitor, IOCTL_DOORBELL) == "ENOTTY"


def test_a_channel_is_no_monitor(channel):
    with pytest.raises(OSError) as refused:
        fcntl.ioctl(channel.fd, IOCTL_STATUS, bytearray(abi.STATUS_BYTES))
    assert refused.value.errno == errno.ENOTTY


def test_nvml_finds_the_device_without_a_channel(attribute):
    before = attribute("channels")
    nvml = ctypes.CDLL("libnvidia-ml.so.1")
    count, handle = ctypes.c_uint(), ctypes.c_void_p()
    memory, name = (ctypes.c_uint64 * 3)(), ctypes.create_string_buffer(96)
    assert nvml.nvmlInit_v2() == 0
    assert nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) == 0
    assert count.value == 1
    assert nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(handle)) == 0
    assert nvml.nvmlDeviceGetName(handle, name, 96) == 0
    assert name.value.startswith(b"VGPU-STUB")
    assert nvml.nvmlDeviceGetMemoryInfo(handle, memory) == 0
    total, free, used = memory
    assert total == free + used > 0
    assert attribute("channels") == before
    assert nvml.nvmlShutdown() == 0
