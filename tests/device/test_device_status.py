"""DEVICE_STATUS: what monitors see of memory, work and processes, without a channel of theirs."""

from __future__ import annotations

import errno
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic_ns, time

import pytest

from vgpu_host.pool import WorkerPool
from vgpu_host.telemetry import Telemetry
from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.generated import Opcode
from vgpu_stub.device.gpu import VirtualGpu
from vgpu_stub.device.status import DeviceStatus, ProcessUse, StatusUnavailableError
from vgpu_stub.driver import DriverError, GuestDriver
from vgpu_stub.vfio_user import Server

pytestmark = pytest.mark.device

WaitUntil = Callable[[Callable[[], bool], str], None]
MIB = 1 << 20
DEVICE_MEMORY = 256 * MIB


@pytest.fixture
def measured_gpu(workers: WorkerPool) -> Iterator[VirtualGpu]:
    """A device that is measured as the device server does it."""
    devices: list[VirtualGpu] = []
    with Telemetry(workers.device_info(), lambda: devices, None) as telemetry:
        gpu = VirtualGpu(
            workers, "test", on_channel_end=telemetry.channel_ended, status_source=telemetry
        )
        devices.append(gpu)
        yield gpu
        devices.clear()
        gpu.close()


@pytest.fixture
def monitor(measured_gpu: VirtualGpu) -> Iterator[GuestDriver]:
    with tempfile.TemporaryDirectory(prefix="vgpu") as folder:
        path = Path(folder) / "device.sock"
        with Server(path, lambda: measured_gpu, max_clients=1), GuestDriver.connect(path) as found:
            yield found


def read_status(driver: GuestDriver) -> DeviceStatus:
    reply = driver.allocate(abi.STATUS_BYTES)
    driver.admin.call(Opcode.DEVICE_STATUS, reply.iova, abi.STATUS_BYTES, 0)
    return DeviceStatus.unpack(bytes(reply.memory))


def test_an_idle_software_gpu_has_free_memory_and_no_sensors(monitor: GuestDriver) -> None:
    status = read_status(monitor)
    assert abs(status.time_us / 1e6 - time()) < 10
    assert status.driver_version == "580.00"
    assert status.processes == ()
    assert status.measured == {
        "memory_total": DEVICE_MEMORY,
        "memory_used": 0,
        "memory_free": DEVICE_MEMORY,
        "memory_reserved": 0,
        "gpu_percent": 0,
        "memory_percent": 0,
        "architecture": 0xFFFF_FFFF,
        "brand": 0,
        "process_use": 1,
    }


def test_memory_of_every_channel_is_counted_while_it_is_held(
    monitor: GuestDriver, wait_until: WaitUntil
) -> None:
    first, second = monitor.open_channel(1), monitor.open_channel(2)
    for channel, size in ((first, 64 * MIB), (second, 32 * MIB)):
        (context, *_) = channel.call(Opcode.CONTEXT_CREATE, 0, 0)
        channel.call(Opcode.MEMORY_ALLOCATE, size, context=context)
    wait_until(lambda: read_status(monitor).measured["memory_used"] == 96 * MIB, "96 MiB used")
    status = read_status(monitor)
    assert status.measured["memory_free"] == DEVICE_MEMORY - 96 * MIB
    assert [(row.pid, row.channel, row.memory_bytes) for row in status.processes] == [
        (os.getpid(), 1, 64 * MIB),
        (os.getpid(), 2, 32 * MIB),
    ]
    monitor.close_channel(first)
    status = read_status(monitor)
    assert status.measured["memory_used"] == 32 * MIB
    assert [row.channel for row in status.processes] == [2]


def test_a_channel_whose_worker_died_holds_nothing(
    monitor: GuestDriver, measured_gpu: VirtualGpu, wait_until: WaitUntil
) -> None:
    channel = monitor.open_channel(1)
    (context, *_) = channel.call(Opcode.CONTEXT_CREATE, 0, 0)
    channel.call(Opcode.MEMORY_ALLOCATE, 64 * MIB, context=context)
    os.kill(measured_gpu.snapshot().channels[0].worker.pid, signal.SIGKILL)
    wait_until(lambda: channel.state == abi.CHANNEL_FAILED, "the channel has failed")
    status = read_status(monitor)
    assert (status.measured["memory_used"], status.processes) == (0, ())
    monitor.close_channel(channel)
    assert read_status(monitor).measured["gpu_percent"] <= 100


def test_work_shows_up_as_utilisation_and_goes_again(
    monitor: GuestDriver, wait_until: WaitUntil
) -> None:
    channel = monitor.open_channel(1)
    (context, *_) = channel.call(Opcode.CONTEXT_CREATE, 0, 0)
    (memory, *_) = channel.call(Opcode.MEMORY_ALLOCATE, 128 * MIB, context=context)

    def busy() -> bool:
        until = monotonic_ns() + 100_000_000
        while monotonic_ns() < until:
            channel.call(Opcode.MEMSET, memory, 128 * MIB, 7, 1, 0, 0, context=context)
        status = read_status(monitor)
        percent = status.measured["gpu_percent"]
        return percent > 50 and status.processes[0].use == (percent, percent, 0, 0)

    wait_until(busy, "more than half of a second's time is work")
    wait_until(lambda: read_status(monitor).measured["gpu_percent"] == 0, "idle again")


def test_a_reply_that_has_no_room_or_no_place_is_refused(monitor: GuestDriver) -> None:
    reply = monitor.allocate(abi.STATUS_BYTES)
    for iova, size, number in (
        (reply.iova, abi.STATUS_BYTES - 1, errno.EINVAL),
        (reply.iova + 1, abi.STATUS_BYTES, errno.EFAULT),
        (0xDEAD_0000, abi.STATUS_BYTES, errno.EFAULT),
    ):
        with pytest.raises(DriverError) as refused:
            monitor.admin.call(Opcode.DEVICE_STATUS, iova, size, 0)
        assert refused.value.number == number
    assert bytes(reply.memory) == bytes(abi.STATUS_BYTES)


def test_a_device_without_telemetry_refuses(driver: GuestDriver) -> None:
    with pytest.raises(DriverError) as refused:
        read_status(driver)
    assert refused.value.number == errno.EOPNOTSUPP


def test_status_works_after_a_reset(monitor: GuestDriver) -> None:
    channel = monitor.open_channel(1)
    (context, *_) = channel.call(Opcode.CONTEXT_CREATE, 0, 0)
    channel.call(Opcode.MEMORY_ALLOCATE, 64 * MIB, context=context)
    monitor.reset()
    monitor.enable()
    status = read_status(monitor)
    assert (status.measured["memory_used"], status.processes) == (0, ())


class Sensors:
    """A physical GPU that answers once `well` is set."""

    driver_version = "575.57.08"

    def __init__(self) -> None:
        self.well = threading.Event()
        self.calls = 0

    def measure(self) -> dict[str, int]:
        self.well.wait()
        self.calls += 1
        return {"memory_used": 11, "memory_total": 100, "memory_free": 89, "temperature_c": 41}

    def process_memory(self) -> dict[int, int]:
        return {}

    def process_use(self) -> dict[int, ProcessUse]:
        return {}


def test_values_of_a_physical_gpu_are_passed_on_once_for_many_readers(workers: WorkerPool) -> None:
    sensors = Sensors()
    sensors.well.set()
    with Telemetry(workers.device_info(), list, sensors) as telemetry:
        statuses = [telemetry.device_status() for _ in range(100)]
    assert statuses[0].driver_version == "575.57.08"
    assert statuses[0].measured["temperature_c"] == 41
    assert sensors.calls < 100


def test_a_physical_gpu_that_does_not_answer_costs_a_bounded_time(workers: WorkerPool) -> None:
    sensors = Sensors()
    with Telemetry(workers.device_info(), list, sensors) as telemetry:
        with pytest.raises(StatusUnavailableError, match="NVML has not answered"):
            telemetry.device_status()
        sensors.well.set()
        assert telemetry.device_status().measured["memory_used"] == 11
