"""Inlines device functions, so that later passes see one flat body.

Each call gets a copy of the callee with fresh register, label and variable names; the formal
parameters become the caller's own parameter variables, which live in local memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .errors import UnsupportedError
from .ir import (
    CARRY,
    Address,
    Body,
    Instruction,
    Label,
    Operand,
    Pair,
    Register,
    Symbol,
    Vector,
)

#: Functions that the device provides; a call becomes an instruction of that name.
SYSTEM_CALLS = frozenset(("vprintf", "__assertfail"))


def inline_calls(
    body: Body, load: Callable[[str], Body | None], active: tuple[str, ...] = ()
) -> Body:
    """Replace every call in `body`; `load` parses a function of the module, None if it has none.

    Raises:
        UnsupportedError: recursion, or a call to a function that the module does not define.
    """
    if not any(isinstance(item, Instruction) and item.opcode == "call" for item in body.items):
        return body
    items = body.items
    body.items = []
    for item in items:
        if isinstance(item, Label) or item.opcode != "call":
            body.items.append(item)
        else:
            _inline(body, item, load, (*active, body.name))
    return body


def _inline(
    body: Body, call: Instruction, load: Callable[[str], Body | None], active: tuple[str, ...]
) -> None:
    callee_name, returned, arguments = call.operands
    assert isinstance(callee_name, Symbol)
    assert isinstance(returned, Vector) and isinstance(arguments, Vector)
    if callee_name.name in active:
        raise UnsupportedError(
            "recursive device functions are not supported", call.position, call.text
        )
    callee = load(callee_name.name)
    if callee is None and callee_name.name in SYSTEM_CALLS:
        body.items.append(
            replace(
                call,
                opcode=callee_name.name,
                modifiers=(),
                operands=(*arguments.items, *returned.items),
            )
        )
        return
    if callee is None:
        raise UnsupportedError(
            f"the module does not define the function {callee_name.name}", call.position, call.text
        )
    inline_calls(callee, load, active)
    suffix = f"@{len(body.items)}"
    names: dict[str, str] = {}
    formals = callee.returns + callee.parameters
    actuals = returned.items + arguments.items
    if len(formals) != len(actuals):
        raise UnsupportedError("wrong number of call arguments", call.position, call.text)
    for formal, actual in zip(formals, actuals, strict=True):
        if not isinstance(actual, Symbol):
            raise UnsupportedError(
                "call arguments must be .param variables", call.position, call.text
            )
        names[formal.name] = actual.name
    for name, variable in callee.variables.items():
        if variable.space == "local":
            names[name] = name + suffix
            body.variables[name + suffix] = replace(variable, name=name + suffix)
        else:
            body.variables[name] = variable
    for name, storage in callee.registers.items():
        if name != CARRY:
            body.registers[name + suffix] = storage
    for item in callee.items:
        if isinstance(item, Label):
            names[item.name] = item.name + suffix
    end = f"return{suffix}"
    if call.predicate:
        skip = Register(call.predicate.name, not call.predicate.negated)
        body.items.append(_branch(end, skip, call))
    for item in callee.items:
        if isinstance(item, Label):
            body.items.append(Label(item.name + suffix))
            continue
        copy = _renamed(item, suffix, names)
        body.items.append(_branch(end, copy.predicate, copy) if item.opcode == "ret" else copy)
    body.items.append(Label(end))


def _branch(target: str, predicate: Register | None, origin: Instruction) -> Instruction:
    return Instruction("bra", (), (Symbol(target),), predicate, origin.position, origin.text)


def _renamed(instruction: Instruction, suffix: str, names: dict[str, str]) -> Instruction:
    def rename(operand: Operand) -> Operand:
        match operand:
            case Register(name, negated):
                return operand if name == "_" else Register(name + suffix, negated)
            case Symbol(name, offset):
                return Symbol(names.get(name, name), offset)
            case Address(base, offset):
                inner = rename(base)
                assert not isinstance(inner, Vector | Pair | Address)
                return Address(inner, offset)  # type: ignore[arg-type]
            case Vector(items):
                return Vector(tuple(rename(item) for item in items))
            case Pair(first, second):
                return Pair(rename(first), rename(second))
        return operand

    predicate = instruction.predicate
    return replace(
        instruction,
        operands=tuple(rename(operand) for operand in instruction.operands),
        predicate=Register(predicate.name + suffix, predicate.negated) if predicate else None,
    )
