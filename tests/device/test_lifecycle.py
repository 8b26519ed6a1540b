"""Bring-up, reset from any state, clients that come and go, workers that die."""

from __future__ import annotations

import errno
import os
import signal
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from vgpu_host.pool import WorkerPool
from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.generated import Opcode
from vgpu_stub.device.gpu import VirtualGpu
from vgpu_stub.driver import DriverError, GuestDriver
from vgpu_stub.vfio_user import RegionIndex

pytestmark = pytest.mark.device

WaitUntil = Callable[[Callable[[], bool], str], None]

WORKER_LOST = 46
CONFIG = RegionIndex.CONFIG


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def parent_pid(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("PPid:")[1].split()[0])


def test_identity_in_config_space(driver: GuestDriver) -> None:
    vendor, device = struct.unpack("<HH", driver.client.region_read(CONFIG, 0, 4))
    class_revision = int.from_bytes(driver.client.region_read(CONFIG, 8, 4), "little")
    assert (vendor, device, class_revision) == (0x1234, 0x5055, 0x030200_01)


def test_device_info_describes_the_software_gpu(driver: GuestDriver) -> None:
    magic, version, memory, *_ = abi.DEVICE_INFO.unpack(driver.info())
    assert (magic, version, memory) == (abi.MAGIC, abi.ABI_VERSION, 256 << 20)
    assert driver.read(abi.REG_FEATURES_LOW) & abi.FEATURE_SOFTWARE_GPU


@pytest.mark.parametrize("version", [0, 0x2_0000, abi.ABI_VERSION + 1])
def test_other_abi_version_is_refused(driver: GuestDriver, version: int) -> None:
    driver.reset()
    with pytest.raises(DriverError, match="refuses"):
        driver.enable(version)
    assert driver.read(abi.REG_STATUS) == abi.STATUS_READY | abi.STATUS_ABI_REFUSED
    driver.enable()
    assert driver.read(abi.REG_STATUS) == abi.STATUS_READY | abi.STATUS_ENABLED


def test_scratch_keeps_its_value_until_reset(driver: GuestDriver) -> None:
    driver.write(abi.REG_SCRATCH, 0xDEADBEEF)
    assert driver.read(abi.REG_SCRATCH) == 0xDEADBEEF
    driver.reset()
    assert driver.read(abi.REG_SCRATCH) == 0


def test_interrupt_test_signals_every_vector_once(driver: GuestDriver) -> None:
    for vector in range(abi.VECTOR_COUNT):
        while driver.wait_interrupt(vector, 0):
            pass
        driver.write(abi.REG_INTERRUPT_TEST, vector)
        assert driver.wait_interrupt(vector, 5.0) == 1
    driver.write(abi.REG_INTERRUPT_TEST, abi.VECTOR_COUNT)
    assert driver.read(abi.REG_INTERRUPT_TEST_COUNT) == abi.VECTOR_COUNT


@pytest.mark.parametrize(
    ("channel", "vector", "expected"),
    [(0, 1, errno.EINVAL), (127, 1, errno.EINVAL), (1, 0, errno.EINVAL), (1, 65, errno.EINVAL)],
)
def test_impossible_channels_are_refused(
    driver: GuestDriver, channel: int, vector: int, expected: int
) -> None:
    with pytest.raises(DriverError) as refused:
        driver.admin.call(Opcode.CHANNEL_CREATE, channel, vector, 1, 0, b"")
    assert refused.value.number == expected


def test_channel_in_use_is_busy(driver: GuestDriver) -> None:
    driver.open_channel(3)
    with pytest.raises(DriverError) as refused:
        driver.open_channel(3)
    assert refused.value.number == errno.EBUSY


def flr(driver: GuestDriver) -> None:
    """Function-level reset, through the PCI Express capability found in the list."""
    pointer = driver.client.region_read(CONFIG, 0x34, 1)[0]
    while driver.client.region_read(CONFIG, pointer, 1)[0] != 0x10:
        pointer = driver.client.region_read(CONFIG, pointer + 1, 1)[0]
    driver.client.region_write(CONFIG, pointer + 8, (0x8000).to_bytes(2, "little"))


RESETS = {
    "control register": GuestDriver.reset,
    "clearing enable": lambda driver: driver.write(abi.REG_CONTROL, 0),
    "vfio-user DEVICE_RESET": lambda driver: driver.client.reset(),
    "function-level reset": flr,
}


@pytest.mark.parametrize("kind", RESETS)
def test_every_kind_of_reset_ends_all_channels(
    driver: GuestDriver, gpu: VirtualGpu, kind: str
) -> None:
    channel = driver.open_channel()
    memory = driver.allocate(1 << 20)
    driver.register(channel, 1, memory)
    (context, *_) = channel.call(Opcode.CONTEXT_CREATE, 0, 0)
    channel.call(Opcode.MEMORY_ALLOCATE, 1 << 20, context=context)
    worker = gpu.snapshot().channels[0].worker.pid
    for _ in range(100):
        channel.submit(Opcode.NOP)  # under load
    RESETS[kind](driver)
    assert not Path(f"/proc/{worker}").exists()
    assert gpu.snapshot().channels == ()
    assert driver.read(abi.REG_STATUS) == abi.STATUS_READY
    assert not any(driver.bar2[abi.CHANNEL_BASE : abi.CHANNEL_BASE + 4 * abi.CHANNEL_STRIDE])
    driver.enable()
    driver.open_channel().call(Opcode.NOP)


def test_reset_of_a_disabled_device_zeroes_all_channel_memory(driver: GuestDriver) -> None:
    driver.reset()
    for place in (0, 1, abi.CHANNEL_COUNT - 1):
        start = abi.CHANNEL_BASE + place * abi.CHANNEL_STRIDE
        driver.bar2[start : start + 8] = b"leftover"
    driver.reset()
    assert not any(driver.bar2[abi.CHANNEL_BASE :])
    assert driver.info()[:4] == abi.MAGIC.to_bytes(4, "little")
    driver.enable()
    driver.admin.call(Opcode.NOP)


def test_admin_ring_that_broke_works_again_after_a_reset(driver: GuestDriver) -> None:
    driver.admin.publish(1 << 40)
    driver.doorbell(0)
    while not driver.read(abi.REG_ERROR):
        pass
    assert driver.read(abi.REG_ERROR) == abi.DEVICE_ERROR_ADMIN_RING
    driver.reset()
    driver.enable()
    driver.admin.call(Opcode.NOP)


def test_killed_worker_fails_its_channel_only(driver: GuestDriver, gpu: VirtualGpu) -> None:
    victim, other = driver.open_channel(1), driver.open_channel(2)
    victim.call(Opcode.NOP)
    workers = {channel.number: channel.worker.pid for channel in gpu.snapshot().channels}
    os.kill(workers[1], signal.SIGKILL)
    with pytest.raises(DriverError) as failed:
        victim.wait(victim.submit(Opcode.NOP))
    assert failed.value.number == WORKER_LOST
    assert driver.read(abi.REG_ERROR) == abi.DEVICE_ERROR_WORKER_LOST
    assert driver.read(abi.REG_ERROR_CHANNEL) == 1
    other.call(Opcode.NOP)
    driver.close_channel(victim)
    driver.open_channel(1).call(Opcode.NOP)


def test_fifty_killed_workers_leak_nothing(
    driver: GuestDriver, gpu: VirtualGpu, wait_until: WaitUntil
) -> None:
    channel = driver.open_channel()
    channel.call(Opcode.NOP)
    driver.close_channel(channel)
    before = open_descriptors()
    for round_number in range(50):
        channel = driver.open_channel()
        for _ in range(round_number):
            channel.submit(Opcode.NOP)
        pid = gpu.snapshot().channels[0].worker.pid
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(DriverError):
            while True:
                channel.call(Opcode.NOP)
        assert channel.state == abi.CHANNEL_FAILED
        driver.close_channel(channel)
        assert not Path(f"/proc/{pid}").exists()
    # The pool may be between spares: it has at most one link more or less open.
    wait_until(lambda: open_descriptors() <= before, "descriptors of dead workers closed")


def test_killed_spare_worker_is_replaced(
    driver: GuestDriver, workers: WorkerPool, wait_until: WaitUntil
) -> None:
    wait_until(lambda: bool(workers.spare_pids()), "a spare worker is ready")
    for spare in workers.spare_pids():
        os.kill(spare, signal.SIGKILL)
    driver.open_channel().call(Opcode.NOP)


def test_killed_template_fails_its_channels_and_is_replaced(
    driver: GuestDriver, gpu: VirtualGpu
) -> None:
    channel = driver.open_channel()
    channel.call(Opcode.NOP)
    worker = gpu.snapshot().channels[0].worker.pid
    os.kill(parent_pid(worker), signal.SIGKILL)
    with pytest.raises(DriverError) as failed:
        while True:
            channel.call(Opcode.NOP)
    assert failed.value.number == WORKER_LOST
    driver.open_channel(2).call(Opcode.NOP)


def test_client_that_vanishes_leaves_nothing_and_the_next_one_works(
    device_socket: Path, gpu: VirtualGpu, wait_until: WaitUntil
) -> None:
    for _ in range(3):
        driver = GuestDriver.connect(device_socket)
        channel = driver.open_channel()
        driver.register(channel, 1, driver.allocate(1 << 20))
        pid = gpu.snapshot().channels[0].worker.pid
        channel.release()
        driver.close()
        wait_until(lambda: not gpu.snapshot().connected, "disconnect noticed")
        assert not Path(f"/proc/{pid}").exists()
        assert gpu.snapshot().channels == ()


def test_many_channels_at_once(driver: GuestDriver) -> None:
    channels = [driver.open_channel(number) for number in range(1, 5)]
    sequences = [(channel, channel.submit(Opcode.NOP)) for channel in channels for _ in range(50)]
    assert all(channel.wait(sequence).status == 0 for channel, sequence in sequences)
