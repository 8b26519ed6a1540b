"""BAR0 registers alone: access widths, write-one-to-clear, and which write has an effect."""

from __future__ import annotations

import pytest

from vgpu_stub.abi import generated as abi
from vgpu_stub.device.registers import RegisterFile


class Effects:
    """Records what register writes cause."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    def enable(self) -> bool:
        self.seen.append(("enable", 0))
        return True

    def control_reset(self) -> None:
        self.seen.append(("reset", 0))

    def doorbell(self, channel: int) -> None:
        self.seen.append(("doorbell", channel))

    def interrupt_test(self, vector: int) -> None:
        self.seen.append(("interrupt", vector))


@pytest.fixture
def effects() -> Effects:
    return Effects()


@pytest.fixture
def registers(effects: Effects) -> RegisterFile:
    return RegisterFile(effects, abi.FEATURE_SCATTER_LIST)


def read(registers: RegisterFile, offset: int) -> int:
    return int.from_bytes(registers.read(offset, 4), "little")


def write(registers: RegisterFile, offset: int, value: int) -> None:
    registers.write(offset, value.to_bytes(4, "little"))


def test_a_64_bit_read_is_two_registers(registers: RegisterFile) -> None:
    assert registers.read(abi.REG_MAGIC, 8) == b"VGPU" + abi.ABI_VERSION.to_bytes(4, "little")


@pytest.mark.parametrize(("offset", "count"), [(1, 4), (2, 2), (0, 1), (0, 2), (0, 3), (0, 16)])
def test_other_widths_and_unaligned_accesses_read_zero(
    registers: RegisterFile, offset: int, count: int
) -> None:
    assert registers.read(offset, count) == bytes(count)


@pytest.mark.parametrize("offset", [0x50, 0xFFC, 0x1000 + 4 * abi.CHANNEL_COUNT, 0x7FFC])
def test_unlisted_offsets_read_zero_and_ignore_writes(
    registers: RegisterFile, effects: Effects, offset: int
) -> None:
    write(registers, offset, 0xFFFF_FFFF)
    assert read(registers, offset) == 0
    assert effects.seen == []


def test_read_only_registers_keep_their_value(registers: RegisterFile) -> None:
    write(registers, abi.REG_MAGIC, 0)
    assert read(registers, abi.REG_MAGIC) == abi.MAGIC


def test_each_doorbell_names_its_channel(registers: RegisterFile, effects: Effects) -> None:
    for channel in (0, 1, abi.CHANNEL_COUNT - 1):
        write(registers, abi.REG_DOORBELL + 4 * channel, 1)
    assert effects.seen == [("doorbell", 0), ("doorbell", 1), ("doorbell", 126)]


def test_error_keeps_the_first_and_is_cleared_by_writing_ones(registers: RegisterFile) -> None:
    registers.latch_error(abi.DEVICE_ERROR_RING, 5)
    registers.latch_error(abi.DEVICE_ERROR_WORKER_LOST, 6)
    assert read(registers, abi.REG_ERROR) == abi.DEVICE_ERROR_RING
    assert read(registers, abi.REG_ERROR_CHANNEL) == 5
    assert read(registers, abi.REG_STATUS) & abi.STATUS_ERROR
    write(registers, abi.REG_ERROR, 0)
    assert read(registers, abi.REG_ERROR) == abi.DEVICE_ERROR_RING
    write(registers, abi.REG_ERROR, 0xFFFF_FFFF)
    assert read(registers, abi.REG_ERROR) == 0
    assert read(registers, abi.REG_STATUS) == abi.STATUS_READY


def test_enabling_twice_has_one_effect(registers: RegisterFile, effects: Effects) -> None:
    write(registers, abi.REG_GUEST_ABI_VERSION, abi.ABI_VERSION)
    write(registers, abi.REG_CONTROL, abi.CONTROL_ENABLE)
    write(registers, abi.REG_CONTROL, abi.CONTROL_ENABLE)
    assert effects.seen == [("enable", 0)]
    assert read(registers, abi.REG_CONTROL) == abi.CONTROL_ENABLE


def test_enabling_without_an_abi_version_is_refused(
    registers: RegisterFile, effects: Effects
) -> None:
    write(registers, abi.REG_CONTROL, abi.CONTROL_ENABLE)
    assert effects.seen == []
    assert read(registers, abi.REG_STATUS) == abi.STATUS_READY | abi.STATUS_ABI_REFUSED


def test_reset_bit_wins_over_enable(registers: RegisterFile, effects: Effects) -> None:
    write(registers, abi.REG_CONTROL, abi.CONTROL_RESET | abi.CONTROL_ENABLE)
    assert effects.seen == [("reset", 0)]


def test_reset_counts_and_clears(registers: RegisterFile) -> None:
    write(registers, abi.REG_SCRATCH, 7)
    registers.latch_error(abi.DEVICE_ERROR_RING, 1)
    registers.reset()
    values = [read(registers, r) for r in (abi.REG_SCRATCH, abi.REG_ERROR, abi.REG_RESET_COUNT)]
    assert values == [0, 0, 1]


def test_accesses_are_counted_including_the_one_that_reads(registers: RegisterFile) -> None:
    read(registers, abi.REG_MAGIC)
    write(registers, abi.REG_SCRATCH, 1)
    assert read(registers, abi.REG_ACCESS_COUNT) == 3
