"""Places a kernel's variables in shared, local, parameter and global memory, and fills globals."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping

from .arena import round_up
from .codegen.emitter import Layout
from .errors import UnsupportedError
from .ir import Address, Body, Instruction, Operand, Pair, Symbol, Variable, Vector, size_of
from .parser import parse_immediate, split_operands

_ADDRESS = re.compile(r"(?:generic\s*\(\s*)?([A-Za-z_$][\w$]*)\s*\)?\s*(?:\+\s*(-?\w+))?$")


def symbols_of(operands: Iterable[Operand]) -> set[str]:
    """Names of the variables that operands mention."""
    names: set[str] = set()
    for operand in operands:
        match operand:
            case Symbol(name) | Address(Symbol(name)):
                names.add(name)
            case Vector(items):
                names |= symbols_of(items)
            case Pair(first, second):
                names |= symbols_of((first, second))
    return names


def lay_out(
    body: Body, module_variables: Mapping[str, Variable], addresses: Mapping[str, int]
) -> Layout:
    """Lay out the variables that a kernel uses; `addresses` are those of module globals.

    Dynamic shared memory follows the static variables, at the largest alignment asked for.
    """
    used = symbols_of(
        operand
        for item in body.items
        if isinstance(item, Instruction) and item.opcode not in ("bra", "call")
        for operand in item.operands
    )
    known = {**module_variables, **body.variables}
    variables = [known[name] for name in known if name in used or name in body.variables]
    shared: dict[str, int] = {}
    local: dict[str, int] = {}
    sizes = {"shared": 0, "local": 0}
    dynamic: list[Variable] = []
    for variable in variables:
        if variable.space == "shared" and variable.external:
            dynamic.append(variable)
        elif variable.space in sizes:
            start = round_up(sizes[variable.space], variable.alignment)
            (shared if variable.space == "shared" else local)[variable.name] = start
            sizes[variable.space] = start + variable.size
    if dynamic:
        sizes["shared"] = round_up(sizes["shared"], max(v.alignment for v in dynamic))
        shared.update({variable.name: sizes["shared"] for variable in dynamic})
    parameters = {parameter.name: parameter.offset for parameter in body.parameters}
    end = max((p.offset + p.size for p in body.parameters), default=0)
    return Layout(
        shared=shared,
        shared_size=sizes["shared"],
        local=local,
        local_size=round_up(sizes["local"], 16),
        parameters=parameters,
        parameter_size=end,
        addresses={name: addresses[name] for name in used if name in addresses},
    )


def initial_bytes(variable: Variable, addresses: Mapping[str, int]) -> bytes:
    """The contents of a module variable at load time, zeros after its initialiser.

    Raises:
        UnsupportedError: an initialiser that is neither numbers nor addresses of module variables.
    """
    text = variable.initializer.replace("{", " ").replace("}", " ").strip()
    data = b"".join(
        _element(part, variable.type, addresses) for part in split_operands(text) if part
    )
    if len(data) > variable.size:
        raise UnsupportedError(f"too many initial values for {variable.name}")
    return data.ljust(variable.size, b"\0")


def _element(text: str, type_: str, addresses: Mapping[str, int]) -> bytes:
    size = size_of(type_)
    found = _ADDRESS.match(text)
    if found:
        if found[1] not in addresses or size != 8:
            raise UnsupportedError(f"unsupported initial value {text}")
        number = addresses[found[1]] + int(found[2] or "0", 0)
    else:
        literal = parse_immediate(text)
        number = literal.bits
        if type_ in ("f32", "f64") and literal.kind != type_:
            number = _convert(literal.bits, literal.kind, type_)
    return (number & ((1 << 8 * size) - 1)).to_bytes(size, "little")


def _convert(bits: int, kind: str, type_: str) -> int:
    """The bits of a literal in another floating-point format."""
    value = float(bits)
    if kind != "int":
        code = {"f32": ("<I", "<f"), "f64": ("<Q", "<d")}[kind]
        value = struct.unpack(code[1], struct.pack(code[0], bits))[0]
    code = {"f32": ("<f", "<I"), "f64": ("<d", "<Q")}[type_]
    return int(struct.unpack(code[1], struct.pack(code[0], value))[0])
