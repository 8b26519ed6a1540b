"""A channel reaches its own registrations and allocations, and nothing else, by any command."""

from __future__ import annotations

import errno

import pytest

from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.generated import Opcode
from vgpu_stub.driver import DriverError, GuestChannel, GuestDriver

pytestmark = pytest.mark.device

INVALID_VALUE = 1
ILLEGAL_ADDRESS = 700
READ_WRITE = abi.REGISTER_READ | abi.REGISTER_WRITE
SIZE = 1 << 16


class Process:
    """A guest process: a channel with a context, registered memory and device memory."""

    def __init__(self, driver: GuestDriver, number: int, fill: int) -> None:
        self.channel: GuestChannel = driver.open_channel(number)
        self.memory = driver.allocate(SIZE)
        self.memory.memory[:] = bytes([fill]) * SIZE
        driver.register(self.channel, 1, self.memory)
        (self.context, *_) = self.channel.call(Opcode.CONTEXT_CREATE, 0, 0)
        (self.pointer, *_) = self.call(Opcode.MEMORY_ALLOCATE, SIZE)
        self.call(Opcode.COPY_HOST_TO_DEVICE, self.pointer, 0, SIZE, 1, 0)

    def call(self, opcode: int, *fields: int, tail: bytes = b"") -> tuple[int, ...]:
        return self.channel.call(opcode, *fields, tail=tail, context=self.context)

    def refuse(self, opcode: int, *fields: int, tail: bytes = b"") -> int:
        with pytest.raises(DriverError) as refused:
            self.call(opcode, *fields, tail=tail)
        return refused.value.number

    def read(self, pointer: int) -> bytes:
        self.call(Opcode.COPY_DEVICE_TO_HOST, pointer, 0, SIZE, 1, 0)
        return self.memory.memory[:]


@pytest.fixture
def attacker(driver: GuestDriver) -> Process:
    return Process(driver, 1, 0xAA)


@pytest.fixture
def victim(driver: GuestDriver) -> Process:
    return Process(driver, 2, 0x55)


@pytest.mark.parametrize(
    ("offset", "size"),
    [(0, SIZE + 1), (SIZE, 1), (1, SIZE), ((1 << 64) - 1, 2), (0, (1 << 64) - 1), (1 << 63, 4096)],
)
def test_copies_stay_within_the_registration(attacker: Process, offset: int, size: int) -> None:
    for opcode in (Opcode.COPY_HOST_TO_DEVICE, Opcode.COPY_DEVICE_TO_HOST):
        assert attacker.refuse(opcode, attacker.pointer, offset, size, 1, 0) == INVALID_VALUE


def test_registration_of_another_channel_is_unknown(
    driver: GuestDriver, attacker: Process, victim: Process
) -> None:
    driver.register(victim.channel, 2, driver.allocate(SIZE))
    for number in (0, 2, 3, 0xFFFF_FFFF):
        status = attacker.refuse(Opcode.COPY_DEVICE_TO_HOST, attacker.pointer, 0, SIZE, number, 0)
        assert status == INVALID_VALUE


def test_device_memory_of_another_channel_is_out_of_reach(
    attacker: Process, victim: Process
) -> None:
    before = victim.read(victim.pointer)
    if attacker.pointer != victim.pointer:
        assert attacker.refuse(Opcode.COPY_DEVICE_TO_HOST, victim.pointer, 0, SIZE, 1, 0) in (
            INVALID_VALUE,
            ILLEGAL_ADDRESS,
        )
    else:
        # Each worker has an address space of its own: the same pointer names other memory.
        assert attacker.read(attacker.pointer) == b"\xaa" * SIZE
    attacker.call(Opcode.MEMSET, attacker.pointer, SIZE, 0, 1, 0, 0)
    assert victim.read(victim.pointer) == before == b"\x55" * SIZE


@pytest.mark.parametrize("pointer", [0, 1, 4096, 0x7FFF_FFFF_F000, (1 << 64) - 4096, 1 << 47])
def test_wild_device_pointers_are_refused(attacker: Process, pointer: int) -> None:
    wild = (INVALID_VALUE, ILLEGAL_ADDRESS)
    assert attacker.refuse(Opcode.COPY_DEVICE_TO_HOST, pointer, 0, 64, 1, 0) in wild


def test_host_addresses_are_no_device_pointers(attacker: Process) -> None:
    # The worker's own heap and code lie somewhere here; none of it is device memory.
    wild = (INVALID_VALUE, ILLEGAL_ADDRESS)
    for pointer in range(0x5500_0000_0000, 0x5700_0000_0000, 0x0100_0000_0000 // 8):
        assert attacker.refuse(Opcode.COPY_INLINE, pointer, 0, 8, tail=b"attacked") in wild


def test_copy_beyond_an_allocation_is_refused(attacker: Process) -> None:
    assert attacker.refuse(
        Opcode.COPY_DEVICE_TO_HOST, attacker.pointer + SIZE - 1, 0, 4096, 1, 0
    ) in (INVALID_VALUE, ILLEGAL_ADDRESS)
    assert attacker.refuse(Opcode.MEMSET, attacker.pointer, 1 << 40, 0, 4, 0, 0) in (
        INVALID_VALUE,
        ILLEGAL_ADDRESS,
    )


def test_2d_copies_stay_within_the_registration(attacker: Process) -> None:
    pitches = [(1 << 63, 64, 2), (SIZE // 2 + 1, 64, 3), (64, 65, 2), (4096, 4096, 17)]
    for pitch, width, height in pitches:
        status = attacker.refuse(
            Opcode.COPY_2D, 0, pitch, attacker.pointer, 1 << 20, width, height, 1, 0, 0, 0
        )
        assert status in (INVALID_VALUE, ILLEGAL_ADDRESS)


def test_read_only_registration_is_not_written(driver: GuestDriver, attacker: Process) -> None:
    driver.register(attacker.channel, 2, driver.allocate(SIZE), abi.REGISTER_READ)
    assert (
        attacker.refuse(Opcode.COPY_DEVICE_TO_HOST, attacker.pointer, 0, SIZE, 2, 0)
        == INVALID_VALUE
    )


@pytest.mark.parametrize(
    ("extents", "size", "expected"),
    [
        ([(0x0, 4096)], 4096, errno.EFAULT),
        ([(1 << 40, 4096)], 4096, errno.EFAULT),
        ([((1 << 64) - 4096, 4096)], 4096, errno.EFAULT),
        ([("memory", 1 << 40)], 1 << 40, errno.EFAULT),
        ([("memory", 4096)], 8192, errno.EINVAL),
        ([("memory", 4096)], 4095, errno.EINVAL),
        ([("memory", 100)], 100, errno.EINVAL),
        ([("memory", 0)], 0, errno.EINVAL),
    ],
)
def test_only_guest_memory_can_be_registered(
    driver: GuestDriver,
    attacker: Process,
    extents: list[tuple[int | str, int]],
    size: int,
    expected: int,
) -> None:
    places = [
        (attacker.memory.iova if iova == "memory" else int(iova), length)
        for iova, length in extents
    ]
    first = driver.scatter_list(places)
    with pytest.raises(DriverError) as refused:
        driver.admin.call(Opcode.MEMORY_REGISTER, first, size, 1, 9, READ_WRITE, len(places))
    assert refused.value.number == expected


def test_scatter_list_that_loops_is_refused(driver: GuestDriver, attacker: Process) -> None:
    block = driver.allocate(4096)
    data = abi.SCATTER_BLOCK.pack(block.iova, 1, 0)
    data += abi.SCATTER_ENTRY.pack(attacker.memory.iova, 4096)
    block.memory[: len(data)] = data
    with pytest.raises(DriverError) as refused:
        driver.admin.call(Opcode.MEMORY_REGISTER, block.iova, 1 << 30, 1, 9, READ_WRITE, 1000)
    assert refused.value.number == errno.EINVAL


def test_scattered_memory_is_one_range(driver: GuestDriver, attacker: Process) -> None:
    memory = driver.allocate(16 * 4096)
    order = [(index * 7) % 16 for index in range(16)]
    for place, page in enumerate(order):
        memory.memory[page * 4096 : (page + 1) * 4096] = bytes([place]) * 4096
    first = driver.scatter_list([(memory.iova + page * 4096, 4096) for page in order])
    driver.admin.call(Opcode.MEMORY_REGISTER, first, SIZE, 1, 5, READ_WRITE, 16)
    attacker.call(Opcode.COPY_HOST_TO_DEVICE, attacker.pointer, 0, SIZE, 5, 0)
    expected = b"".join(bytes([place]) * 4096 for place in range(16))
    assert attacker.read(attacker.pointer) == expected


def test_unmapped_dma_window_ends_the_channels_that_use_it(
    driver: GuestDriver, attacker: Process, victim: Process
) -> None:
    driver.client.unmap_dma(attacker.memory.iova, SIZE)
    with pytest.raises(DriverError, match="failed"):
        attacker.call(Opcode.COPY_HOST_TO_DEVICE, attacker.pointer, 0, SIZE, 1, 0)
    assert driver.read(abi.REG_ERROR) == abi.DEVICE_ERROR_DMA_REMOVED
    assert victim.read(victim.pointer) == b"\x55" * SIZE
