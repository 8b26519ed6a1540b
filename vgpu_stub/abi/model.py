"""What the ABI is written in: constants, structures with their layout, commands."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

#: C scalar type -> `struct` format character.
SCALARS: Final = {
    "__u8": "B",
    "__u16": "H",
    "__u32": "I",
    "__s32": "i",
    "__u64": "Q",
    "__s64": "q",
}


@dataclass(frozen=True)
class Constant:
    """A named number; `group` is the heading under which it is printed."""

    name: str
    value: int
    doc: str
    group: str


@dataclass(frozen=True)
class Field:
    """A member of a structure; `count` > 1 makes it an array, of bytes when the type is `__u8`."""

    name: str
    ctype: str
    doc: str
    count: int = 1

    @property
    def format(self) -> str:
        """The member as a `struct` format; byte arrays are one `bytes` value."""
        if self.count == 1:
            return SCALARS[self.ctype]
        return f"{self.count}s" if self.ctype == "__u8" else f"{self.count}{SCALARS[self.ctype]}"


@dataclass(frozen=True)
class Structure:
    """A structure shared by guest and host, without implicit padding."""

    name: str
    doc: str
    fields: tuple[Field, ...]

    @property
    def format(self) -> str:
        """The whole structure as a `struct` format string."""
        return "<" + "".join(member.format for member in self.fields)

    @property
    def size(self) -> int:
        """Size in bytes."""
        return struct.calcsize(self.format)

    def offsets(self) -> dict[str, int]:
        """Byte offset of each member; raises ValueError where one is not naturally aligned."""
        offset = 0
        result = {}
        for member in self.fields:
            alignment = struct.calcsize("<" + SCALARS[member.ctype])
            if offset % alignment:
                raise ValueError(f"{self.name}.{member.name} is misaligned at {offset}")
            result[member.name] = offset
            offset += struct.calcsize("<" + member.format)
        return result


@dataclass(frozen=True)
class Command:
    """One opcode of the submission ring.

    `cuda` names the driver API functions that it carries, `tail` what the variable part after the
    fixed fields holds, `results` the words of `vgpu_completion.result` that a completion fills.
    """

    opcode: int
    name: str
    doc: str
    fields: tuple[Field, ...] = ()
    tail: str = ""
    results: tuple[str, ...] = ()
    cuda: tuple[str, ...] = ()
    admin: bool = field(default=False)

    @property
    def format(self) -> str:
        """The fixed fields after the command header, as a `struct` format string."""
        return "<" + "".join(member.format for member in self.fields)


def u8(name: str, doc: str, count: int = 1) -> Field:
    """An unsigned 8-bit member, or a byte array."""
    return Field(name, "__u8", doc, count)


def u16(name: str, doc: str) -> Field:
    """An unsigned 16-bit member."""
    return Field(name, "__u16", doc)


def u32(name: str, doc: str, count: int = 1) -> Field:
    """An unsigned 32-bit member."""
    return Field(name, "__u32", doc, count)


def s32(name: str, doc: str, count: int = 1) -> Field:
    """A signed 32-bit member."""
    return Field(name, "__s32", doc, count)


def u64(name: str, doc: str, count: int = 1) -> Field:
    """An unsigned 64-bit member."""
    return Field(name, "__u64", doc, count)


def s64(name: str, doc: str) -> Field:
    """A signed 64-bit member."""
    return Field(name, "__s64", doc)


def constants(group: str, *rows: tuple[str, int, str]) -> tuple[Constant, ...]:
    """Constants of one group, from (name, value, meaning)."""
    return tuple(Constant(name, value, doc, group) for name, value, doc in rows)
