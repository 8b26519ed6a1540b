"""Commands taken apart for people and tools."""

from __future__ import annotations

import pytest

from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.decode import (
    GuestRange,
    decode,
    memory_read,
    memory_written,
    pointer_fields,
    reply_written,
    result_text,
)
from vgpu_stub.abi.generated import Opcode


def command(opcode: int, *fields: int | bytes, tail: bytes = b"", flags: int = 0) -> bytes:
    header = abi.COMMAND_HEADER.pack(opcode, 1, flags, 2, 77)
    return (header + abi.COMMANDS[opcode].fields.pack(*fields) + tail).ljust(64, b"\0")


def test_a_launch_shows_shape_and_parameters() -> None:
    data = command(Opcode.LAUNCH_KERNEL, 18, 391, 1, 1, 256, 1, 1, 0, 0, 4, tail=b"\1\2\3\4")
    launch = decode(data)
    assert str(launch) == (
        "LAUNCH_KERNEL(function=18, grid=(391, 1, 1), block=(256, 1, 1), shared_bytes=0, stream=0,"
        " tail=01020304)"
    )
    assert (launch.context, launch.sequence, launch.completes) == (2, 77, False)


def test_names_are_text_and_pointers_hex() -> None:
    found = decode(command(Opcode.MODULE_GET_GLOBAL, 17, 5, tail=b"table"))
    assert str(found) == "MODULE_GET_GLOBAL(module=17, 'table')"
    free = decode(command(Opcode.MEMORY_FREE, 0x20000000))
    assert str(free) == "MEMORY_FREE(device_ptr=0x20000000)"
    create = decode(command(Opcode.CHANNEL_CREATE, 1, 2, 3, 0, b"python3"))
    assert str(create) == "CHANNEL_CREATE(channel=1, vector=2, pid=3, name='python3')"
    assert result_text(Opcode.MODULE_GET_GLOBAL, (64, 8, 0)) == "device_ptr=0x40, size=8"


def test_what_makes_no_sense_is_shown_as_what_it_is() -> None:
    assert str(decode(b"abc")) == "?(3 bytes are no command)"
    assert str(decode(abi.COMMAND_HEADER.pack(0xEE, 1, 0, 0, 1))) == "0xee(no such command)"
    short = abi.COMMAND_HEADER.pack(Opcode.MEMORY_FREE, 1, 0, 0, 1)
    assert str(decode(short)) == "MEMORY_FREE(shorter than its fields)"
    cut = decode(command(Opcode.COPY_INLINE, 0, 0, 1000, tail=b"x"))
    assert cut.problem == "tail cut short"


@pytest.mark.parametrize("opcode", sorted(abi.COMMANDS))
def test_every_command_can_be_shown(opcode: int) -> None:
    layout = abi.COMMANDS[opcode]
    data = abi.COMMAND_HEADER.pack(opcode, 1, 0, 0, 1) + bytes(layout.fields.size)
    assert str(decode(data)).startswith(layout.name + "(")


def test_guest_memory_of_copies() -> None:
    up = decode(command(Opcode.COPY_HOST_TO_DEVICE, 1 << 40, 16, 100, 3, 0))
    down = decode(command(Opcode.COPY_DEVICE_TO_HOST, 1 << 40, 16, 100, 3, 0))
    assert memory_read(up) == memory_written(down) == [GuestRange(3, 16, 100)]
    assert memory_written(up) == memory_read(down) == []
    rectangle = decode(command(Opcode.COPY_2D, 8, 64, 1 << 40, 32, 10, 5, 3, 0, 0, 0))
    assert memory_written(rectangle) == [GuestRange(3, 8, 10, 5, 64)]
    assert memory_written(rectangle)[0].span == 4 * 64 + 10
    assert pointer_fields(rectangle) == ["source"]


def test_replies_are_as_long_as_the_results_say() -> None:
    find = decode(command(Opcode.MODULE_GET_FUNCTION, 512, 3, 4096, 17, 1, tail=b"k"))
    assert reply_written(find, (18, 72)) == [GuestRange(3, 512, 72)]
    assert reply_written(find, (18, 1 << 40)) == [GuestRange(3, 512, 4096)]
