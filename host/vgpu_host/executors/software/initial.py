"""What module variables contain when a module has been loaded."""

from __future__ import annotations

import ctypes
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from .errors import UnsupportedError
from .ir import Variable, size_of
from .operands import parse_immediate
from .ptx_text import split_operands

_ADDRESS = re.compile(r"(?:generic\s*\(\s*)?([A-Za-z_$][\w$]*)\s*\)?\s*(?:\+\s*(-?\w+))?$")


@dataclass(frozen=True, slots=True)
class Initial:
    """The initial value of a variable; zeros follow the data.

    Attributes:
        data: Bytes from the start on.
        pointers: Where in it the address of which variable stands, and what is added to it.
    """

    data: bytes
    pointers: tuple[tuple[int, str, int], ...] = ()

    def write(self, address: int, size: int, addresses: Mapping[str, int]) -> None:
        """Fill a variable of `size` bytes at `address`."""
        ctypes.memmove(address, self.data, len(self.data))
        ctypes.memset(address + len(self.data), 0, size - len(self.data))
        for offset, name, addend in self.pointers:
            value = struct.pack("<Q", addresses[name] + addend & (1 << 64) - 1)
            ctypes.memmove(address + offset, value, len(value))


def initial_value(
    variable: Variable, variables: Mapping[str, Variable], functions: Mapping[str, int]
) -> Initial:
    """Evaluate the initialiser of a module variable.

    Args:
        variable: the variable.
        variables: those that have an address.
        functions: what stands for the addresses of functions.

    Raises:
        UnsupportedError: it is neither numbers nor addresses, or too long.
    """
    text = variable.initializer.replace("{", " ").replace("}", " ").strip()
    size = size_of(variable.type)
    data = bytearray()
    pointers: list[tuple[int, str, int]] = []
    for part in split_operands(text):
        if not part:
            continue
        found = _ADDRESS.match(part)
        if found and found[1] in functions and size == 8:
            data += (functions[found[1]] + int(found[2] or "0", 0)).to_bytes(8, "little")
        elif found:
            if found[1] not in variables or size != 8:
                raise UnsupportedError(f"unsupported initial value {part}")
            pointers.append((len(data), found[1], int(found[2] or "0", 0)))
            data += bytes(size)
        else:
            data += (_number(part, variable.type) & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    if len(data) > variable.size:
        raise UnsupportedError(f"too many initial values for {variable.name}")
    return Initial(bytes(data), tuple(pointers))


def _number(text: str, type_: str) -> int:
    literal = parse_immediate(text)
    if type_ in ("f32", "f64") and literal.kind != type_:
        return _convert(literal.bits, literal.kind, type_)
    return literal.bits


def _convert(bits: int, kind: str, type_: str) -> int:
    """The bits of a literal in another floating-point format."""
    value = float(bits)
    if kind != "int":
        code = {"f32": ("<I", "<f"), "f64": ("<Q", "<d")}[kind]
        value = struct.unpack(code[1], struct.pack(code[0], bits))[0]
    code = {"f32": ("<f", "<I"), "f64": ("<d", "<Q")}[type_]
    return int(struct.unpack(code[1], struct.pack(code[0], value))[0])
