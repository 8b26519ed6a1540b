"""Operations of the target `rings`, and how commands are packed.

A value may be a reference: ("memory", 2, 8) is eight bytes into what the third allocation
returned. So a sequence means the same however often it is cut down, whatever handles come out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.fuzz.operations import Operation, Value

_WIDTHS: Final = {"B": 1, "H": 2, "I": 4, "i": 4, "Q": 8, "q": 8}
#: The members of each command's fixed fields: bytes, and whether they are one `bytes` value.
_MEMBERS: Final = {
    opcode: [
        (int(count or 1), True) if letter == "s" else (_WIDTHS[letter], False)
        for count, letter in re.findall(r"(\d*)([a-zA-Z])", layout.fields.format.lstrip("<"))
        for _ in range(1 if letter == "s" else int(count or 1))
    ]
    for opcode, layout in abi.COMMANDS.items()
}

#: Gives the number that a reference stands for.
Resolve = Callable[[Value], int]


@dataclass(frozen=True, slots=True)
class Command(Operation):
    """The guest writes a command into the ring and publishes the tail.

    Attributes:
        opcode: As in the header.
        values: Fixed fields, numbers or references or bytes.
        tail: What follows them: bytes, or references that are packed as 64 bits.
        context: Context of the header.
        flags: Flags of the header.
        slots: Slots that the header claims; 0 for what the command takes.
    """

    opcode: int
    values: tuple[Value, ...] = ()
    tail: tuple[Value, ...] = ()
    context: int = 1
    flags: int = abi.COMMAND_COMPLETE
    slots: int = 0


@dataclass(frozen=True, slots=True)
class Step(Operation):
    """The worker drains what is there."""


@dataclass(frozen=True, slots=True)
class Skip(Operation):
    """The guest fills so many slots with NOPs."""

    slots: int


@dataclass(frozen=True, slots=True)
class SetWord(Operation):
    """The guest writes a member of `struct vgpu_channel_control`, whose ever it is."""

    member: str
    value: int


@dataclass(frozen=True, slots=True)
class WriteSlot(Operation):
    """The guest writes bytes anywhere into its channel's memory."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Put(Operation):
    """The guest writes into its registered memory: bytes, or the program of that name."""

    offset: int
    data: bytes = b""
    program: str = ""


@dataclass(frozen=True, slots=True)
class PutParts(Operation):
    """The guest writes parts for MODULE_LINK, of the programs named."""

    offset: int
    programs: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class PutNodes(Operation):
    """The guest writes nodes of a graph: (dependencies, opcode, values, tail) each."""

    offset: int
    nodes: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Register(Operation):
    """The guest registers its memory once more, or takes a registration away (`access` 0)."""

    number: int
    access: int


def pack_command(
    opcode: int, values: tuple[Value, ...], tail: tuple[Value, ...], resolve: Resolve
) -> bytes:
    """The command behind its header; what has no layout is packed as 64-bit words.

    The last field of a command with a tail says how long it is: -1 there is its true length.
    """
    packed_tail = b"".join(
        part if isinstance(part, bytes) else (resolve(part) & (1 << 64) - 1).to_bytes(8, "little")
        for part in tail
    )
    members = _MEMBERS.get(opcode, [(8, False)] * len(values))
    parts = []
    for (size, is_bytes), value in zip(members, values, strict=False):
        if is_bytes or isinstance(value, bytes):
            data = (
                value
                if isinstance(value, bytes)
                else (resolve(value) & (1 << 64) - 1).to_bytes(8, "little")
            )
            parts.append(data[:size].ljust(size, b"\0"))
        else:
            number = len(packed_tail) if value == TAIL_BYTES else resolve(value)
            parts.append((number & (1 << 8 * size) - 1).to_bytes(size, "little"))
    return b"".join(parts) + packed_tail


#: Stands for the length of the tail.
TAIL_BYTES: Final = ("tail",)


def pack_nodes(nodes: tuple[Value, ...], resolve: Resolve) -> bytes:
    """`struct vgpu_graph_node` for each of the nodes; what is no node is left out."""
    data = b""
    for node in nodes:
        if not isinstance(node, tuple) or len(node) != 4:
            continue
        dependencies, opcode, values, tail = node
        if not (
            isinstance(dependencies, tuple)
            and isinstance(opcode, int)
            and isinstance(values, tuple)
            and isinstance(tail, tuple)
        ):
            continue
        body = pack_command(opcode, values, tail, resolve)
        command = abi.COMMAND_HEADER.pack(opcode & 0xFFFF, 1, 0, 0, 0) + body
        words = b"".join((resolve(one) & 0xFFFF_FFFF).to_bytes(4, "little") for one in dependencies)
        head = abi.GRAPH_NODE.pack(len(dependencies), len(command)) + words
        data += head.ljust(-(-len(head) // 8) * 8, b"\0")
        data += command.ljust(-(-len(command) // 8) * 8, b"\0")
    return data


def pack_parts(images: list[tuple[bytes, bytes]]) -> bytes:
    """`struct vgpu_link_part` for each (name, image)."""
    data = b""
    for name, image in images:
        data += abi.LINK_PART.pack(abi.IMAGE_PTX, len(name), len(image)) + name + image
        data = data.ljust(-(-len(data) // 8) * 8, b"\0")
    return data
