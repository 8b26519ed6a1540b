"""Faults of the device itself as a driver sees them: signals, registers, presence, resets."""

from __future__ import annotations

import errno
from collections.abc import Callable
from time import monotonic

import pytest

from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.generated import Opcode
from vgpu_stub.device.status import DeviceEvent, DeviceStatus
from vgpu_stub.driver import DriverError, GuestChannel, GuestDriver
from vgpu_stub.harness.control import FaultControl
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.vfio_user import RegionIndex, VfioUserError

pytestmark = pytest.mark.device

ONES = 0xFFFF_FFFF
WaitUntil = Callable[[Callable[[], bool], str], None]


def config(driver: GuestDriver, offset: int = 0, count: int = 4) -> int:
    return int.from_bytes(driver.client.region_read(RegionIndex.CONFIG, offset, count), "little")


def signalled(driver: GuestDriver, vector: int, timeout_s: float = 5.0) -> int:
    return driver.wait_interrupt(vector, timeout_s)


# -- interrupts ---------------------------------------------------------------------------------


def test_lost_interrupt_of_the_device_is_one(driver: GuestDriver, faults: FaultControl) -> None:
    fault = faults.inject("msix-lost")
    for _ in range(2):
        driver.write(abi.REG_INTERRUPT_TEST, 7)
    assert signalled(driver, 7) == 1
    assert fault.fired == 1


def test_late_and_duplicate_interrupts(driver: GuestDriver, faults: FaultControl) -> None:
    faults.inject("msix-late", delay_ms=150)
    start = monotonic()
    driver.write(abi.REG_INTERRUPT_TEST, 9)
    assert signalled(driver, 9) == 1
    assert monotonic() - start >= 0.15
    faults.clear()
    faults.inject("msix-duplicate", count=4)
    driver.write(abi.REG_INTERRUPT_TEST, 9)
    assert signalled(driver, 9) == 5


@pytest.mark.parametrize(("kind", "signals"), [("msix-lost", 0), ("msix-duplicate", 2)])
def test_interrupts_of_a_worker(
    channel: GuestChannel, driver: GuestDriver, faults: FaultControl, kind: str, signals: int
) -> None:
    fault = faults.inject(kind, channel=1)
    channel.ask_for_interrupt()
    channel.poll_for(channel.submit(Opcode.NOP))
    fault.wait_fired()
    assert signalled(driver, 1, 0.1) == signals


def test_a_storm_lasts_until_it_is_cleared(
    driver: GuestDriver, faults: FaultControl, wait_until: WaitUntil
) -> None:
    fault = faults.inject("msix-spurious", vector=5, rate_hz=500)
    count = 0

    def enough() -> bool:
        nonlocal count
        count += signalled(driver, 5, 0.01)
        return count > 20

    wait_until(enough, "twenty interrupts for nothing")
    fault.clear()
    wait_until(lambda: signalled(driver, 5, 0.3) == 0, "the end of the storm")


# -- doorbells ----------------------------------------------------------------------------------


def test_lost_doorbell_leaves_the_admin_channel_asleep(
    driver: GuestDriver, faults: FaultControl, wait_until: WaitUntil
) -> None:
    wait_until(lambda: driver.admin.sleeping, "the admin channel sleeps")
    fault = faults.inject("doorbell-lost")
    sequence = driver.admin.submit(Opcode.NOP)
    with pytest.raises(DriverError):
        driver.admin.wait(sequence, 0.2)
    assert fault.fired == 1
    driver.doorbell(0)
    assert driver.admin.wait(sequence).status == 0


def test_late_doorbell(driver: GuestDriver, faults: FaultControl, wait_until: WaitUntil) -> None:
    wait_until(lambda: driver.admin.sleeping, "the admin channel sleeps")
    faults.inject("doorbell-late", delay_ms=200, channel=0)
    start = monotonic()
    assert driver.admin.wait(driver.admin.submit(Opcode.NOP)).status == 0
    assert monotonic() - start >= 0.2


# -- presence -----------------------------------------------------------------------------------


def test_a_lost_device_reads_ones_and_goes_on_where_it_was(
    channel: GuestChannel, driver: GuestDriver, faults: FaultControl
) -> None:
    driver.write(abi.REG_SCRATCH, 42)
    fault = faults.inject("device-lost")
    assert [driver.read(register) for register in (abi.REG_MAGIC, abi.REG_STATUS)] == [ONES] * 2
    assert config(driver) == ONES
    driver.write(abi.REG_SCRATCH, 43)
    driver.write(abi.REG_INTERRUPT_TEST, 3)
    assert signalled(driver, 3, 0.05) == 0
    assert fault.fired == 1
    fault.clear()
    assert driver.read(abi.REG_SCRATCH) == 42
    assert channel.call(Opcode.NOP) == (0,) * 6


def test_a_device_lost_at_the_third_access(driver: GuestDriver, faults: FaultControl) -> None:
    faults.inject("device-lost", nth=3)
    assert [driver.read(abi.REG_MAGIC) == ONES for _ in range(4)] == [False, False, True, True]


def test_a_link_that_comes_up_again_has_reset_the_device(
    channel: GuestChannel, driver: GuestDriver, faults: FaultControl, wait_until: WaitUntil
) -> None:
    driver.write(abi.REG_SCRATCH, 42)
    resets = driver.read(abi.REG_RESET_COUNT)
    faults.inject("link-down", down_ms=100)
    assert driver.read(abi.REG_STATUS) == ONES
    assert channel.state == ONES, "memory of the device reads ones as well"
    wait_until(lambda: driver.read(abi.REG_STATUS) != ONES, "the link is up")
    assert driver.read(abi.REG_STATUS) == abi.STATUS_READY
    assert driver.read(abi.REG_SCRATCH) == 0
    assert driver.read(abi.REG_RESET_COUNT) > resets
    assert channel.state == abi.CHANNEL_CLOSED
    driver.enable()
    driver.open_channel().call(Opcode.NOP)


def test_a_removed_device_is_plugged_in_as_after_power_on(
    server: DeviceServer, channel: GuestChannel, driver: GuestDriver, faults: FaultControl
) -> None:
    fault = faults.inject("surprise-removal")
    (device,) = server.snapshot()["devices"]
    assert device["channels"] == [], "nothing of it runs, though nobody has looked yet"
    assert config(driver) == ONES
    fault.clear()
    assert config(driver) == abi.PCI_DEVICE_ID << 16 | abi.PCI_VENDOR_ID
    assert config(driver, 4, 2) == 0, "the command register is reset"
    assert driver.info() != b"\xff" * abi.DEVICE_INFO.size
    driver.enable()
    driver.open_channel().call(Opcode.NOP)


# -- registers ----------------------------------------------------------------------------------


def test_config_and_registers_fail_apart(driver: GuestDriver, faults: FaultControl) -> None:
    fault = faults.inject("config-ones")
    assert (config(driver), driver.read(abi.REG_MAGIC)) == (ONES, abi.MAGIC)
    fault.clear()
    faults.inject("register-ones")
    assert config(driver) != ONES
    assert driver.read(abi.REG_MAGIC) == ONES


def test_one_register_is_stuck_or_wrong(driver: GuestDriver, faults: FaultControl) -> None:
    faults.inject("register-stuck", register="RESET_COUNT", value=7)
    faults.inject("magic-wrong", value=0x1234)
    faults.inject("version-wrong")
    registers = (abi.REG_RESET_COUNT, abi.REG_MAGIC, abi.REG_ABI_VERSION, abi.REG_STATUS)
    assert [driver.read(register) for register in registers] == [
        7,
        0x1234,
        0x63_0000,
        abi.STATUS_READY | abi.STATUS_ENABLED,
    ]
    driver.reset()
    assert driver.read(abi.REG_RESET_COUNT) == 7


# -- enable and reset ---------------------------------------------------------------------------


def test_a_device_that_never_starts(driver: GuestDriver, faults: FaultControl) -> None:
    driver.reset()
    fault = faults.inject("enable-never")
    with pytest.raises(DriverError):
        driver.enable()
    fault.clear()
    driver.enable()
    driver.open_channel().call(Opcode.NOP)


def test_a_device_that_starts_slowly(
    driver: GuestDriver, faults: FaultControl, wait_until: WaitUntil
) -> None:
    driver.reset()
    faults.inject("enable-late", delay_ms=150)
    start = monotonic()
    with pytest.raises(DriverError):
        driver.enable()
    wait_until(lambda: bool(driver.read(abi.REG_STATUS) & abi.STATUS_ENABLED), "it is enabled")
    assert monotonic() - start >= 0.15
    assert driver.admin.call(Opcode.NOP) == (0,) * 6


def test_a_failed_reset_changes_nothing(
    channel: GuestChannel, driver: GuestDriver, faults: FaultControl
) -> None:
    fault = faults.inject("reset-failed")
    resets = driver.read(abi.REG_RESET_COUNT)
    driver.reset()
    with pytest.raises(VfioUserError) as refusal:
        driver.client.reset()
    assert refusal.value.errno == errno.EIO
    assert driver.read(abi.REG_RESET_COUNT) == resets
    assert channel.call(Opcode.NOP) == (0,) * 6
    assert fault.fired == 2


def test_resets_that_end_late_or_never(
    driver: GuestDriver, faults: FaultControl, wait_until: WaitUntil
) -> None:
    faults.inject("reset-late", delay_ms=150)
    driver.reset()
    assert driver.read(abi.REG_STATUS) == 0
    wait_until(lambda: driver.read(abi.REG_STATUS) == abi.STATUS_READY, "the reset is done")
    fault = faults.inject("reset-incomplete")
    driver.reset()
    with pytest.raises(DriverError):
        driver.enable()
    fault.clear()
    driver.reset()
    driver.enable()


def test_what_a_client_left_is_released_though_resets_fail(
    server: DeviceServer, faults: FaultControl, wait_until: WaitUntil
) -> None:
    faults.inject("reset-failed")
    with GuestDriver.connect(server.device_socket) as driver:
        driver.open_channel()
    wait_until(lambda: not server.snapshot()["devices"], "the device is gone")


# -- admin commands -----------------------------------------------------------------------------


def test_admin_commands_are_refused_late_or_never_answered(
    driver: GuestDriver, faults: FaultControl
) -> None:
    faults.inject("admin-error", errno=errno.EBUSY, opcode="CHANNEL_CREATE")
    with pytest.raises(DriverError) as refusal:
        driver.open_channel()
    assert refusal.value.number == errno.EBUSY
    faults.inject("admin-late", delay_ms=150, channel=2)
    start = monotonic()
    driver.open_channel(2).call(Opcode.NOP)
    assert monotonic() - start >= 0.15
    faults.inject("admin-lost", opcode="CHANNEL_DESTROY")
    sequence = driver.admin.submit(Opcode.CHANNEL_DESTROY, 2, 0)
    with pytest.raises(DriverError):
        driver.admin.wait(sequence, 0.2)
    with pytest.raises(DriverError) as gone:
        driver.admin.call(Opcode.CHANNEL_DESTROY, 2, 0)
    assert gone.value.number == errno.ENOENT, "it was carried out"


# -- health -------------------------------------------------------------------------------------


@pytest.fixture
def status(driver: GuestDriver) -> Callable[[], DeviceStatus]:
    reply = driver.allocate(abi.STATUS_BYTES)

    def ask() -> DeviceStatus:
        driver.admin.call(Opcode.DEVICE_STATUS, reply.iova, abi.STATUS_BYTES, 0)
        return DeviceStatus.unpack(bytes(reply.memory))

    return ask


def test_ecc_errors_stay_until_they_are_cleared(
    status: Callable[[], DeviceStatus], faults: FaultControl
) -> None:
    before = status()
    assert "ecc_mode" not in before.measured
    single = faults.inject("ecc-single-bit", count=3)
    faults.inject("ecc-double-bit", count=2, location="sram")
    first, second = status(), status()
    for found in (first, second):
        assert found.measured["ecc_mode"] == 1
        assert found.measured["ecc_volatile_corrected"] == 3
        assert found.measured["ecc_memory_aggregate_corrected"] == 3
        assert found.measured["ecc_aggregate_uncorrected"] == 2
        assert found.measured["ecc_memory_volatile_uncorrected"] == 0
    assert second.event_count == before.event_count + 3
    assert second.events[-3:] == (DeviceEvent(1), DeviceEvent(2), DeviceEvent(8, 48))
    single.clear()
    assert status().measured["ecc_volatile_corrected"] == 0
    faults.clear()
    assert "ecc_mode" not in status().measured


def test_heat_throttled_clocks_and_an_xid(
    status: Callable[[], DeviceStatus], faults: FaultControl
) -> None:
    faults.inject("temperature-high", celsius=97)
    faults.inject("clocks-throttled", mhz=300, reason="hw-power-brake")
    faults.inject("xid", code=79)
    status()
    found = status()
    assert {name: found.measured[name] for name in sorted(found.measured) if "clock" in name} == {
        "clock_graphics_max_mhz": 1980,
        "clock_graphics_mhz": 300,
        "clock_sm_max_mhz": 1980,
        "clock_sm_mhz": 300,
    }
    assert found.measured["throttle_reasons"] == 0x80
    assert found.measured["temperature_c"] == 97
    assert set(found.events[-2:]) == {DeviceEvent(8, 79), DeviceEvent(0x10)}
    faults.clear()
    assert "temperature_c" not in status().measured
