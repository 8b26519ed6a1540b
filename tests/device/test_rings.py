"""Rings of a channel: order, wrap-around, full rings, and what a guest may not do."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.generated import Opcode
from vgpu_stub.driver import DriverError, GuestChannel, GuestDriver

pytestmark = pytest.mark.device

WaitUntil = Callable[[Callable[[], bool], str], None]

INVALID_VALUE = 1
INVALID_CONTEXT = 201
RING_BROKEN = 401
NOT_SUPPORTED = 801


@pytest.fixture
def channel(driver: GuestDriver) -> GuestChannel:
    return driver.open_channel()


def test_nop_completes_with_its_sequence_number(channel: GuestChannel) -> None:
    sequence = channel.submit(Opcode.NOP)
    completion = channel.wait(sequence)
    assert (completion.sequence, completion.status, completion.flags) == (sequence, 0, 0)


def test_commands_complete_across_the_end_of_the_ring(channel: GuestChannel) -> None:
    for _ in range(3 * abi.SQ_ENTRIES // 500):
        sequences = [channel.submit(Opcode.NOP) for _ in range(500)]
        for sequence in sequences:
            assert channel.wait(sequence).status == 0


def test_long_command_before_the_end_of_the_ring_is_padded(
    channel: GuestChannel, wait_until: WaitUntil
) -> None:
    (context, *_) = channel.call(Opcode.CONTEXT_CREATE, 0, 0)
    (pointer, *_) = channel.call(Opcode.MEMORY_ALLOCATE, 40000, context=context)
    data = bytes(range(256)) * 125
    for _ in range(12):
        channel.call(Opcode.COPY_INLINE, pointer, 0, len(data), tail=data, context=context)
    wait_until(
        lambda: channel.host_counter("bytes_to_device") == 12 * len(data), "12 copies counted"
    )


def test_completions_are_held_back_while_their_ring_is_full(channel: GuestChannel) -> None:
    count = 2 * abi.CQ_ENTRIES
    sequences = [channel.submit(Opcode.NOP) for _ in range(count)]
    assert [channel.wait(sequence).sequence for sequence in sequences] == sequences


def test_idle_worker_is_woken_by_the_doorbell(driver: GuestDriver, channel: GuestChannel) -> None:
    driver.wait_interrupt(5, 0.05)  # nobody signals vector 5: only time passes
    while not channel.sleeping:
        driver.wait_interrupt(5, 0.01)
    channel.call(Opcode.NOP)
    assert channel.host_counter("sleeps") >= 1


def test_unknown_opcode_is_not_supported(channel: GuestChannel) -> None:
    sequence, command = channel.encode(Opcode.NOP)
    channel.write_slots(b"\xee\x00" + command[2:])
    channel.publish()
    assert channel.wait(sequence).status == NOT_SUPPORTED


def test_admin_opcode_on_an_ordinary_channel_is_not_supported(channel: GuestChannel) -> None:
    with pytest.raises(DriverError) as refused:
        channel.call(Opcode.CHANNEL_DESTROY, 1, 0)
    assert refused.value.number == NOT_SUPPORTED


def test_command_in_no_context_is_refused(channel: GuestChannel) -> None:
    with pytest.raises(DriverError) as refused:
        channel.call(Opcode.MEMORY_ALLOCATE, 4096, context=7)
    assert refused.value.number == INVALID_CONTEXT


def test_tail_longer_than_the_command_is_refused(channel: GuestChannel) -> None:
    (context, *_) = channel.call(Opcode.CONTEXT_CREATE, 0, 0)
    (pointer, *_) = channel.call(Opcode.MEMORY_ALLOCATE, 4096, context=context)
    with pytest.raises(DriverError) as refused:
        channel.call(Opcode.COPY_INLINE, pointer, 0, 4096, tail=b"short", context=context)
    assert refused.value.number == INVALID_VALUE


def test_asynchronous_error_is_reported_once_by_the_next_completion(
    channel: GuestChannel,
) -> None:
    (context, *_) = channel.call(Opcode.CONTEXT_CREATE, 0, 0)
    channel.submit(Opcode.MEMORY_FREE, 12345, context=context, flags=0)
    completion = channel.wait(channel.submit(Opcode.NOP))
    assert (completion.status, completion.flags) == (INVALID_VALUE, abi.COMPLETION_ASYNC_ERROR)
    assert channel.wait(channel.submit(Opcode.NOP)).status == 0


@pytest.mark.parametrize("tail", [abi.SQ_ENTRIES + 1, (1 << 64) - 1, 1 << 63])
def test_impossible_tail_fails_the_channel_only(
    driver: GuestDriver, channel: GuestChannel, tail: int
) -> None:
    other = driver.open_channel(2)
    channel.call(Opcode.NOP)
    channel.publish(tail)
    with pytest.raises(DriverError) as failed:
        channel.wait(10_000)
    assert failed.value.number == RING_BROKEN
    assert driver.read(abi.REG_ERROR) == abi.DEVICE_ERROR_RING
    assert driver.read(abi.REG_ERROR_CHANNEL) == channel.number
    other.call(Opcode.NOP)


@pytest.mark.parametrize("slots", [0, 2, abi.COMMAND_MAX_SLOTS + 1, 0xFFFF])
def test_impossible_length_fails_the_channel(channel: GuestChannel, slots: int) -> None:
    _, command = channel.encode(Opcode.NOP)
    channel.write_slots(command[:2] + slots.to_bytes(2, "little") + command[4:])
    channel.publish()
    with pytest.raises(DriverError) as failed:
        channel.wait(10_000)
    assert failed.value.number == RING_BROKEN


def test_failed_channel_can_be_destroyed_and_made_again(
    driver: GuestDriver, channel: GuestChannel
) -> None:
    channel.publish(1 << 40)
    with pytest.raises(DriverError):
        channel.wait(1)
    driver.close_channel(channel)
    driver.write(abi.REG_ERROR, 0xFFFF_FFFF)
    assert driver.read(abi.REG_STATUS) == abi.STATUS_READY | abi.STATUS_ENABLED
    driver.open_channel().call(Opcode.NOP)


def test_completion_interrupts_a_guest_that_waits(
    driver: GuestDriver, channel: GuestChannel
) -> None:
    channel.call(Opcode.NOP)
    while driver.wait_interrupt(channel.number, 0):
        pass
    channel.ask_for_interrupt()
    channel.submit(Opcode.NOP)
    assert driver.wait_interrupt(channel.number, 10.0) >= 1


def test_no_interrupt_for_a_guest_that_polls(driver: GuestDriver, channel: GuestChannel) -> None:
    for _ in range(100):
        sequence = channel.submit(Opcode.NOP)
        channel.poll_for(sequence)
    assert driver.wait_interrupt(channel.number, 0) == 0
    assert channel.host_counter("interrupts") == 0


def test_admin_command_of_unknown_opcode(driver: GuestDriver) -> None:
    sequence, command = driver.admin.encode(Opcode.NOP)
    driver.admin.write_slots(b"\xff\x01" + command[2:])
    driver.admin.publish()
    assert driver.admin.wait(sequence).status == errno.EOPNOTSUPP
