"""Faults of data on its way between guest memory and the device."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vgpu_stub.abi.generated import Opcode
from vgpu_stub.driver import GuestChannel, GuestDriver, GuestMemory
from vgpu_stub.harness.control import FaultControl

pytestmark = pytest.mark.device

SIZE = 4096
PATTERN = bytes(range(256)) * (SIZE // 256)
UNKNOWN = 999

Copy = Callable[..., int]


class Copies:
    """One device allocation and one registration, and copies between them."""

    def __init__(self, driver: GuestDriver) -> None:
        self.channel: GuestChannel = driver.open_channel()
        (self.context, *_) = self.channel.call(Opcode.CONTEXT_CREATE, 0, 0)
        self.pointer = self.channel.call(Opcode.MEMORY_ALLOCATE, SIZE, context=self.context)[0]
        self.memory: GuestMemory = driver.allocate(SIZE)
        driver.register(self.channel, 1, self.memory)
        self.memory.memory[:] = PATTERN
        assert self.to_device() == 0

    def _copy(self, opcode: int) -> int:
        fields = (self.pointer, 0, SIZE, 1, 0)
        sequence = self.channel.submit(opcode, *fields, context=self.context)
        return self.channel.wait(sequence).status

    def to_device(self) -> int:
        return self._copy(Opcode.COPY_HOST_TO_DEVICE)

    def to_host(self) -> int:
        return self._copy(Opcode.COPY_DEVICE_TO_HOST)

    def inline(self, data: bytes) -> int:
        sequence = self.channel.submit(
            Opcode.COPY_INLINE, self.pointer, 0, len(data), tail=data, context=self.context
        )
        return self.channel.wait(sequence).status

    def device_data(self) -> bytes:
        """What the device holds; reads it without faults of copies to the host."""
        assert self.to_host() == 0
        return bytes(self.memory.memory)


@pytest.fixture
def copies(driver: GuestDriver) -> Copies:
    return Copies(driver)


def flipped(a: bytes, b: bytes) -> int:
    return (int.from_bytes(a, "little") ^ int.from_bytes(b, "little")).bit_count()


def test_unreadable_guest_memory_fails_the_copy_and_changes_nothing(
    copies: Copies, faults: FaultControl
) -> None:
    faults.inject("dma-read-error")
    copies.memory.memory[:] = bytes(SIZE)
    assert copies.to_device() == UNKNOWN
    assert copies.device_data() == PATTERN


def test_unwritable_guest_memory_fails_the_copy_and_changes_nothing(
    copies: Copies, faults: FaultControl
) -> None:
    faults.inject("dma-write-error", error="ILLEGAL_ADDRESS")
    copies.memory.memory[:] = bytes(SIZE)
    assert copies.to_host() == 700
    assert bytes(copies.memory.memory) == bytes(SIZE)
    assert copies.device_data() == PATTERN


def test_short_copy_to_the_device_leaves_the_rest(copies: Copies, faults: FaultControl) -> None:
    faults.inject("dma-short", fraction=0.25)
    copies.memory.memory[:] = bytes(SIZE)
    assert copies.to_device() == UNKNOWN
    assert copies.device_data() == bytes(SIZE // 4) + PATTERN[SIZE // 4 :]


def test_short_copy_to_the_host_leaves_the_rest(copies: Copies, faults: FaultControl) -> None:
    faults.inject("dma-short", fraction=0.5)
    copies.memory.memory[:] = bytes(SIZE)
    assert copies.to_host() == UNKNOWN
    assert bytes(copies.memory.memory) == PATTERN[: SIZE // 2] + bytes(SIZE // 2)


def test_short_copy_in_the_ring_leaves_the_rest(copies: Copies, faults: FaultControl) -> None:
    faults.inject("dma-short", fraction=0.5)
    assert copies.inline(bytes(100)) == UNKNOWN
    assert copies.device_data() == bytes(50) + PATTERN[50:]


@pytest.mark.parametrize("bits", [1, 7])
def test_data_on_its_way_to_the_device_is_corrupted_silently(
    copies: Copies, faults: FaultControl, bits: int
) -> None:
    faults.inject("data-corrupted", direction="to_device", bits=bits, place_seed=3)
    assert copies.to_device() == 0
    assert bytes(copies.memory.memory) == PATTERN  # the guest's own memory is as it was
    assert flipped(copies.device_data(), PATTERN) == bits


def test_data_on_its_way_to_the_host_is_corrupted_silently(
    copies: Copies, faults: FaultControl
) -> None:
    fault = faults.inject("data-corrupted", direction="to_host", bits=3)
    assert copies.to_device() == 0
    assert flipped(copies.device_data(), PATTERN) == 3
    assert copies.device_data() == PATTERN
    assert fault.wait_fired() == 1


def test_data_in_the_ring_is_corrupted_silently(copies: Copies, faults: FaultControl) -> None:
    faults.inject("data-corrupted", opcode="COPY_INLINE", bits=2)
    assert copies.inline(PATTERN[:512]) == 0
    assert flipped(copies.device_data(), PATTERN) == 2


def test_copy_that_is_refused_changes_nothing_and_the_channel_goes_on(
    copies: Copies, faults: FaultControl
) -> None:
    fault = faults.inject("data-corrupted", direction="to_host", bits=9)
    no_stream = (copies.pointer, 0, SIZE, 1, 777)
    channel = copies.channel
    channel.submit(Opcode.COPY_DEVICE_TO_HOST, *no_stream, context=copies.context, flags=0)
    assert channel.wait(channel.submit(Opcode.NOP)).status == 400
    assert fault.wait_fired() == 1
    fault.clear()
    faults.inject("dma-short", opcode="COPY_DEVICE_TO_HOST")
    sequence = channel.submit(Opcode.COPY_DEVICE_TO_HOST, *no_stream, context=copies.context)
    assert channel.wait(sequence).status == 400
    assert channel.wait(channel.submit(Opcode.NOP)).status == 0


def test_same_seed_corrupts_the_same_bits(copies: Copies, faults: FaultControl) -> None:
    found = []
    for _ in range(2):
        faults.inject("data-corrupted", direction="to_host", bits=5, place_seed=11)
        found.append(copies.device_data())
    assert found[0] == found[1] != PATTERN


def test_rows_are_corrupted_and_not_what_lies_between(copies: Copies, faults: FaultControl) -> None:
    width, pitch, rows = 16, 256, 16
    faults.inject("data-corrupted", direction="to_host", bits=8 * width * rows)
    copies.memory.memory[:] = bytes(SIZE)
    fields = (0, pitch, copies.pointer, pitch, width, rows, 1, 0, 0, 0)
    sequence = copies.channel.submit(Opcode.COPY_2D, *fields, context=copies.context)
    assert copies.channel.wait(sequence).status == 0
    inverted = bytes(255 - byte for byte in range(width)) + bytes(pitch - width)
    assert bytes(copies.memory.memory) == inverted * rows
