"""The ABI's schema obeys its own rules, and everything that is generated from it is up to date."""

from __future__ import annotations

import inspect
import itertools
import struct
from collections import Counter
from pathlib import Path

import pytest

from vgpu_host.session import ChannelSession
from vgpu_stub.abi import generate, generated, schema
from vgpu_stub.abi.commands import COMMANDS
from vgpu_stub.abi.model import SCALARS, Command, Field, Structure

OUTPUTS = generate.outputs()


def number(name: str) -> int:
    return {constant.name: constant.value for constant in schema.CONSTANTS}[name]


@pytest.mark.parametrize("path", OUTPUTS, ids=lambda path: path.name)
def test_generated_file_is_up_to_date(path: Path) -> None:
    assert path.read_text() == OUTPUTS[path], "run `python -m vgpu_stub.abi.generate`"


def offsets_by_hand(fields: tuple[Field, ...]) -> list[tuple[str, int, int]]:
    """Name, offset and alignment of each field when fields follow each other without padding."""
    offset = 0
    result = []
    for field in fields:
        size = struct.calcsize("<" + SCALARS[field.ctype])
        result.append((field.name, offset, size))
        offset += size * field.count
    return result


@pytest.mark.parametrize("structure", schema.STRUCTURES, ids=lambda structure: structure.name)
def test_structure_is_naturally_aligned(structure: Structure) -> None:
    fields = offsets_by_hand(structure.fields)
    assert [name for name, offset, alignment in fields if offset % alignment] == []
    assert structure.offsets() == {name: offset for name, offset, _ in fields}
    # No padding at the end either: an array of it has the same layout in C.
    assert structure.size % max(alignment for _, _, alignment in fields) == 0


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_command_is_naturally_aligned_behind_its_header(command: Command) -> None:
    fields = offsets_by_hand(command.fields)
    assert schema.HEADER.size % 8 == 0
    assert [name for name, offset, alignment in fields if offset % alignment] == []


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_command_fits_the_ring(command: Command) -> None:
    fixed = schema.HEADER.size + struct.calcsize(command.format)
    assert fixed <= number("SLOT_BYTES") * number("COMMAND_MAX_SLOTS")
    assert len(command.results) <= 6
    assert command.admin == (command.opcode >= number("OPCODE_ADMIN_FIRST"))


def test_misaligned_member_is_refused() -> None:
    structure = Structure("bad", "", (Field("a", "__u8", ""), Field("b", "__u32", "")))
    with pytest.raises(ValueError, match=r"bad\.b is misaligned at 1"):
        structure.offsets()


@pytest.mark.parametrize(
    ("name", "size"),
    [("command_header", 16), ("completion", 64), ("guest_counters", 64), ("scatter_block", 16)],
)
def test_structure_has_the_size_that_both_sides_count_on(name: str, size: int) -> None:
    (structure,) = (known for known in schema.STRUCTURES if known.name == name)
    assert structure.size == size


def test_halves_of_the_control_page_share_no_cache_line() -> None:
    assert schema.CONTROL.offsets()["sq_head"] % 64 == 0


def test_names_and_opcodes_are_unique() -> None:
    for values in (
        [command.opcode for command in COMMANDS],
        [command.name for command in COMMANDS],
        [constant.name for constant in schema.CONSTANTS],
        [structure.name for structure in schema.STRUCTURES],
    ):
        assert [value for value, count in Counter(values).items() if count > 1] == []


def test_registers_do_not_overlap() -> None:
    registers = [c.value for c in schema.CONSTANTS if c.name.startswith("REG_")]
    assert len(set(registers)) == len(registers)
    assert [value for value in registers if value % 4] == []
    assert max(registers) == number("REG_DOORBELL")
    end_of_doorbells = number("REG_DOORBELL") + 4 * number("CHANNEL_COUNT")
    assert end_of_doorbells <= number("MSIX_TABLE_OFFSET")
    end_of_table = number("MSIX_TABLE_OFFSET") + 16 * number("VECTOR_COUNT")
    assert end_of_table <= number("MSIX_PBA_OFFSET") < number("BAR0_BYTES")


def test_parts_of_a_channel_do_not_overlap() -> None:
    parts = sorted(
        [
            (number("CONTROL_OFFSET"), schema.CONTROL.size),
            (number("GUEST_COUNTERS_OFFSET"), schema.GUEST_COUNTERS.size),
            (number("REFUSED_OFFSET"), 4 * number("REFUSED_ENTRIES")),
            (number("HOST_COUNTERS_OFFSET"), schema.HOST_COUNTERS.size),
            (number("CQ_OFFSET"), number("SLOT_BYTES") * number("CQ_ENTRIES")),
            (number("SQ_OFFSET"), number("SLOT_BYTES") * number("SQ_ENTRIES")),
            (number("CHANNEL_STRIDE"), 0),
        ]
    )
    overlaps = [(a, b) for a, b in itertools.pairwise(parts) if a[0] + a[1] > b[0]]
    assert overlaps == []
    last = number("CHANNEL_BASE") + number("CHANNEL_COUNT") * number("CHANNEL_STRIDE")
    assert last <= number("BAR2_BYTES")
    assert schema.DEVICE_INFO.size <= 4096


def test_ring_sizes_are_powers_of_two() -> None:
    for name in ("SQ_ENTRIES", "CQ_ENTRIES"):
        assert number(name).bit_count() == 1


def parameters(function: object) -> list[str]:
    assert callable(function)
    return list(inspect.signature(function).parameters)


def methods(protocol: type) -> dict[str, list[str]]:
    return {
        name: parameters(function)
        for name, function in vars(protocol).items()
        if inspect.isfunction(function) and not name.startswith("_")
    }


def test_every_command_has_its_handler() -> None:
    wanted = methods(generated.ChannelCommands)
    assert len(wanted) == sum(not command.admin for command in COMMANDS)
    assert {name: parameters(getattr(ChannelSession, name)) for name in wanted} == wanted


def test_dispatch_table_names_the_handlers() -> None:
    for command in COMMANDS:
        layout = generated.COMMANDS[command.opcode]
        protocol = generated.AdminCommands if command.admin else generated.ChannelCommands
        tail = ["tail"] if layout.has_tail else []
        expected = ["self", *layout.field_names, *tail]
        assert parameters(getattr(protocol, layout.handler)) == expected
