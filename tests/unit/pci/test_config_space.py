"""Config space of a device with two BARs and three capabilities, against bytes that lspci decoded.

`golden/config_space.txt` is a dump that `lspci -F` reads; `lspci -vvv` 3.9.0 shows it as a 3D
controller with MSI-X of 32 vectors, power management 3 and an Express endpoint with FLReset+.
"""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from vgpu_stub.pci import (
    Bar,
    BarKind,
    ConfigSpace,
    MsixCapability,
    PciError,
    PciExpressCapability,
    PciIdentity,
    PowerManagementCapability,
)

GOLDEN = Path(__file__).parent / "golden" / "config_space.txt"
COMMAND, STATUS = 0x04, 0x06
MSIX_CONTROL, PMCSR, DEVICE_CONTROL = 0x42, 0x50, 0x5C


class Function:
    """A function and the resets that software asked it for."""

    def __init__(self, *, no_soft_reset: bool = True) -> None:
        self.resets: list[str] = []
        self.msix = MsixCapability(
            32, table_bar=0, table_offset=0x8000, pba_bar=0, pba_offset=0xC000
        )
        self.power = PowerManagementCapability(
            no_soft_reset=no_soft_reset, on_reset=lambda: self.reset("pm")
        )
        self.express = PciExpressCapability(lambda: self.reset("flr"))
        self.config = ConfigSpace(
            PciIdentity(),
            [Bar(0, 64 << 10), Bar(2, 16 << 20, BarKind.MEMORY_64_PREFETCHABLE)],
            [self.msix, self.power, self.express],
        )

    def reset(self, reason: str) -> None:
        self.resets.append(reason)
        self.config.reset()

    def read(self, offset: int, size: int) -> int:
        return int.from_bytes(self.config.read(offset, size), "little")

    def write(self, offset: int, size: int, value: int) -> None:
        self.config.write(offset, value.to_bytes(size, "little"))


@pytest.fixture
def function() -> Function:
    return Function()


def golden_bytes() -> bytes:
    rows = GOLDEN.read_text().splitlines()[1:]
    return b"".join(bytes.fromhex(row.split(":")[1]) for row in rows)


def test_first_256_bytes_are_the_golden_ones(function: Function) -> None:
    assert function.config.read(0, 256).hex(" ") == golden_bytes().hex(" ")


def test_header_is_what_software_identifies_the_device_by(function: Function) -> None:
    head = struct.unpack("<HHHHB3s", function.config.read(0, 12))
    assert head == (0x1234, 0x5055, 0, 0x10, 1, b"\x00\x02\x03")
    assert struct.unpack("<HH", function.config.read(0x2C, 4)) == (0x1234, 0x5055)


def test_capability_list_is_linked_to_its_end(function: Function) -> None:
    found = []
    offset = function.read(0x34, 1)
    while offset:
        found.append((offset, function.read(offset, 1)))
        offset = function.read(offset + 1, 1)
    assert found == [(0x40, 0x11), (0x4C, 0x01), (0x54, 0x10)]
    assert function.config.offset_of(function.express) == 0x54


def test_extended_space_reads_as_zeros(function: Function) -> None:
    assert function.config.read(0x100, 4096 - 0x100) == bytes(4096 - 0x100)
    function.write(0x100, 4, 0xFFFFFFFF)
    assert function.read(0x100, 4) == 0


def test_identity_is_read_only(function: Function) -> None:
    function.write(0, 4, 0xFFFFFFFF)
    assert function.read(0, 4) == 0x50551234


def test_identity_can_be_another(function: Function) -> None:
    identity = PciIdentity(0x10DE, 0x2331, 0x030000, 0xA1, 0x1458, 0)
    config = ConfigSpace(identity)
    assert config.read(0, 4) == b"\xde\x10\x31\x23"
    assert config.read(8, 4) == b"\xa1\x00\x00\x03"
    assert config.read(0x2C, 4) == b"\x58\x14\x00\x00"


def test_without_capabilities_the_list_is_absent() -> None:
    config = ConfigSpace(PciIdentity())
    assert config.read(STATUS, 2) == b"\0\0"
    assert config.read(0x34, 1) == b"\0"


def test_command_bits_enable_memory_and_bus_master(function: Function) -> None:
    assert not function.config.memory_enabled
    function.write(COMMAND, 2, 0xFFFF)
    assert function.read(COMMAND, 2) == 0x0547
    assert function.config.memory_enabled
    assert function.config.bus_master_enabled
    function.write(COMMAND, 2, 0x0002)
    assert not function.config.bus_master_enabled


def test_status_error_bits_are_cleared_by_ones(function: Function) -> None:
    function.config.registers.put(STATUS, 2, 0xF910)
    function.write(STATUS, 2, 0x8000)
    assert function.read(STATUS, 2) == 0x7910
    function.write(STATUS, 2, 0xFFFF)
    assert function.read(STATUS, 2) == 0x0010


def test_interrupt_line_is_scratch_and_there_is_no_pin(function: Function) -> None:
    function.write(0x3C, 2, 0xFF0B)
    assert function.read(0x3C, 2) == 0x000B


def test_bar_is_sized_by_writing_ones(function: Function) -> None:
    function.write(0x10, 4, 0xFFFFFFFF)
    assert function.read(0x10, 4) == 0xFFFF0000
    function.write(0x18, 4, 0xFFFFFFFF)
    function.write(0x1C, 4, 0xFFFFFFFF)
    assert function.read(0x18, 8) == 0xFFFFFFFF_FF00000C


def test_bar_holds_the_address_that_software_writes(function: Function) -> None:
    function.write(0x10, 4, 0xFE001234)
    function.write(0x18, 4, 0xE0000000)
    function.write(0x1C, 4, 0x00000008)
    addresses = [bar.address(function.config.registers) for bar in function.config.bars]
    assert addresses == [0xFE000000, 0x8_E0000000]


def test_unused_bar_and_rom_read_as_zero_after_sizing(function: Function) -> None:
    for offset in (0x14, 0x20, 0x24, 0x30):
        function.write(offset, 4, 0xFFFFFFFF)
        assert function.read(offset, 4) == 0


def test_msix_is_enabled_and_masked_by_its_control_word(function: Function) -> None:
    registers = function.config.registers
    function.write(MSIX_CONTROL, 2, 0xC01F)
    assert function.msix.is_enabled(registers)
    assert function.msix.is_masked(registers)
    function.write(MSIX_CONTROL, 2, 0x8000)
    assert function.read(MSIX_CONTROL, 2) == 0x801F
    assert not function.msix.is_masked(registers)
    function.write(0x44, 8, 0)
    assert function.read(0x44, 8) == 0x0000C000_00008000


@pytest.mark.parametrize(("offset", "size"), [(DEVICE_CONTROL, 2), (DEVICE_CONTROL + 1, 1)])
def test_function_level_reset_is_done_once_and_reads_as_zero(
    function: Function, offset: int, size: int
) -> None:
    function.write(COMMAND, 2, 0x0006)
    function.write(0x10, 4, 0xFE000000)
    function.write(offset, size, 0x8000 >> 8 * (2 - size))
    assert function.resets == ["flr"]
    assert function.config.read(0, 256) == golden_bytes()


def test_other_device_control_bits_do_not_reset(function: Function) -> None:
    function.write(DEVICE_CONTROL, 2, 0x7FFF)
    assert function.resets == []
    assert function.read(DEVICE_CONTROL, 2) == 0x79FF
    function.write(DEVICE_CONTROL, 1, 0x80)
    assert function.resets == []


def test_device_status_errors_are_cleared_by_ones(function: Function) -> None:
    function.config.registers.put(DEVICE_CONTROL + 2, 2, 0x000F)
    function.write(DEVICE_CONTROL + 2, 2, 0x0005)
    assert function.read(DEVICE_CONTROL + 2, 2) == 0x000A


def test_power_state_follows_software(function: Function) -> None:
    function.write(PMCSR, 2, 0x0003)
    assert function.power.power_state == 3
    assert function.read(PMCSR, 2) == 0x000B
    function.write(PMCSR, 2, 0x0000)
    assert function.power.power_state == 0
    assert function.resets == []


def test_return_from_d3hot_resets_without_no_soft_reset() -> None:
    function = Function(no_soft_reset=False)
    function.write(COMMAND, 2, 0x0006)
    function.write(PMCSR, 2, 0x0003)
    assert function.resets == []
    function.write(PMCSR, 2, 0x0000)
    assert function.resets == ["pm"]
    assert function.read(COMMAND, 2) == 0
    assert function.power.power_state == 0


def test_write_of_d0_in_d0_does_not_reset() -> None:
    function = Function(no_soft_reset=False)
    function.write(PMCSR, 2, 0x0000)
    assert function.resets == []


@pytest.mark.parametrize("state", [1, 2])
def test_unsupported_power_states_are_ignored(function: Function, state: int) -> None:
    function.write(PMCSR, 2, state)
    assert function.power.power_state == 0
    assert function.read(PMCSR, 2) == 0x0008


def test_reset_returns_to_d0_without_being_called_a_wake(function: Function) -> None:
    function.write(PMCSR, 2, 0x0003)
    function.config.reset()
    assert function.power.power_state == 0


@pytest.mark.parametrize(
    ("index", "size", "kind"),
    [
        (6, 4096, BarKind.MEMORY_32),
        (5, 4096, BarKind.MEMORY_64),
        (-1, 4096, BarKind.MEMORY_32),
        (0, 0x3000, BarKind.MEMORY_32),
        (0, 8, BarKind.MEMORY_32),
        (0, 1 << 32, BarKind.MEMORY_32),
    ],
    ids=["no_register", "no_upper_half", "negative", "no_power_of_two", "too_small", "too_large"],
)
def test_impossible_bar_is_refused(index: int, size: int, kind: BarKind) -> None:
    with pytest.raises(PciError):
        Bar(index, size, kind)


def test_bars_that_share_a_register_are_refused() -> None:
    bars = [Bar(3, 4096), Bar(2, 4096, BarKind.MEMORY_64)]
    with pytest.raises(PciError, match="BAR2 and BAR3"):
        ConfigSpace(PciIdentity(), bars)


def test_capabilities_that_do_not_fit_are_refused() -> None:
    express = [PciExpressCapability(lambda: None) for _ in range(4)]
    with pytest.raises(PciError, match="exceed"):
        ConfigSpace(PciIdentity(), capabilities=express)


@pytest.mark.parametrize(
    ("vectors", "table", "pba"),
    [
        (0, (0, 0), (0, 0x8000)),
        (2049, (0, 0), (0, 0x10000)),
        (32, (6, 0), (0, 0x8000)),
        (32, (0, 4), (0, 0x8000)),
        (32, (0, 0), (0, 1 << 32)),
        (32, (0, 0), (0, 32 * 16 - 8)),
        (65, (0, 8), (0, 0)),
    ],
    ids=["none", "too_many", "no_bar", "unaligned", "too_far", "pba_in_table", "table_in_pba"],
)
def test_impossible_msix_is_refused(
    vectors: int, table: tuple[int, int], pba: tuple[int, int]
) -> None:
    with pytest.raises(PciError):
        MsixCapability(
            vectors, table_bar=table[0], table_offset=table[1], pba_bar=pba[0], pba_offset=pba[1]
        )


def test_msix_structures_may_touch() -> None:
    msix = MsixCapability(65, table_bar=0, table_offset=16, pba_bar=0, pba_offset=0)
    assert (msix.table_bytes, msix.pba_bytes) == (65 * 16, 16)


@pytest.mark.parametrize(
    "identity",
    [{"vendor_id": 1 << 16}, {"device_id": -1}, {"class_code": 1 << 24}, {"revision_id": 256}],
)
def test_identity_that_does_not_fit_is_refused(identity: dict[str, int]) -> None:
    with pytest.raises(PciError, match="does not fit"):
        PciIdentity(**identity)


def test_access_beyond_config_space_is_refused(function: Function) -> None:
    with pytest.raises(PciError):
        function.config.read(4094, 4)
    with pytest.raises(PciError):
        function.config.write(4096, b"\0")
