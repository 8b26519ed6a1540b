"""Register attributes: RO, RW and RW1C bits, under accesses of any size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vgpu_stub.pci import PciError, RegisterFile

u32 = st.integers(0, 0xFFFFFFFF)


@given(initial=u32, writeable=u32, clearable=u32, written=u32)
def test_each_bit_follows_its_attribute(
    initial: int, writeable: int, clearable: int, written: int
) -> None:
    clearable &= ~writeable
    registers = RegisterFile(8)
    registers.define(4, 4, initial, writeable=writeable, clearable=clearable)
    registers.write(4, written.to_bytes(4, "little"))
    for bit in range(32):
        before, written_bit = initial >> bit & 1, written >> bit & 1
        if writeable >> bit & 1:
            expected = written_bit
        elif clearable >> bit & 1:
            expected = before & ~written_bit
        else:
            expected = before
        assert registers.get(4, 4) >> bit & 1 == expected


@given(value=u32, split=st.integers(0, 4))
def test_split_write_is_whole_write(value: int, split: int) -> None:
    data = value.to_bytes(4, "little")
    whole, parts = RegisterFile(4), RegisterFile(4)
    for registers in (whole, parts):
        registers.define(0, 4, 0x55AA55AA, writeable=0x0FF00FF0, clearable=0xF000000F)
    whole.write(0, data)
    parts.write(split, data[split:])
    parts.write(0, data[:split])
    assert parts.read(0, 4) == whole.read(0, 4)


def test_undefined_bytes_are_read_only_zeros() -> None:
    registers = RegisterFile(4)
    registers.write(0, b"\xff\xff\xff\xff")
    assert registers.read(0, 4) == bytes(4)


def test_reset_returns_to_the_defined_values() -> None:
    registers = RegisterFile(4)
    registers.define(0, 2, 0x1234, writeable=0xFFFF)
    registers.write(0, b"\xff\xff")
    registers.put(2, 2, 0x5678)
    registers.reset()
    assert registers.read(0, 4) == b"\x34\x12\0\0"


@pytest.mark.parametrize(("offset", "size"), [(-1, 1), (4, 1), (3, 2), (0, 5)])
def test_access_outside_the_block_is_refused(offset: int, size: int) -> None:
    registers = RegisterFile(4)
    with pytest.raises(PciError):
        registers.read(offset, size)
    with pytest.raises(PciError):
        registers.write(offset, bytes(size))


def test_bit_cannot_be_writeable_and_clearable() -> None:
    with pytest.raises(PciError, match="RW and RW1C"):
        RegisterFile(4).define(0, 1, writeable=3, clearable=2)
