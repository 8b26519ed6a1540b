"""Places a kernel's variables in shared, local and parameter memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from .arena import round_up
from .ir import Address, Body, Instruction, Operand, Pair, Symbol, Variable, Vector


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a kernel's variables live: byte offsets in shared, local and parameter space.

    `globals` are the module variables that it uses, in the order of the table of their addresses
    that a launch brings along; `shared_variables` are name, offset and size of each that has one.
    """

    shared: dict[str, int]
    shared_size: int
    local: dict[str, int]
    local_size: int
    parameters: dict[str, int]
    parameter_size: int
    globals: tuple[str, ...]
    shared_variables: tuple[tuple[str, int, int], ...]


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
    body: Body,
    module_variables: Mapping[str, Variable],
    placed: Collection[str],
    gap: int = 0,
) -> Layout:
    """Lay out the variables that a kernel uses; `placed` are the module variables with an address.

    Variables in shared memory have `gap` unused bytes behind them. Dynamic shared memory follows
    the static variables, at the largest alignment asked for.
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
            sizes[variable.space] = start + variable.size
            if variable.space == "shared":
                shared[variable.name] = start
                sizes["shared"] += gap
            else:
                local[variable.name] = start
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
        globals=tuple(sorted(name for name in used if name in placed)),
        shared_variables=tuple((name, shared[name], known[name].size) for name in shared),
    )
