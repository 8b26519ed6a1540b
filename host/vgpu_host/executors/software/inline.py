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
    Part,
    Register,
    Symbol,
    Vector,
)

#: Functions that the device provides; a call becomes an instruction of that name.
SYSTEM_CALLS = frozenset(("vprintf", "__assertfail"))
#: How the functions begin by which kernels launch kernels.
LAUNCHES = ("cudaGetParameterBuffer", "cudaLaunchDevice", "__cudaCDP")


class NeedsStackError(Exception):
    """A call cannot be inlined: it is recursive, or its target is a pointer (see `subroutines`)."""


def inline_calls(
    body: Body,
    load: Callable[[str], Body | None],
    apart: frozenset[str] | None = None,
    active: tuple[str, ...] = (),
) -> Body:
    """Replace the calls in `body`.

    Args:
        body: the kernel, or a function.
        load: parses a function of the module, None if it has none.
        apart: functions of which calls stay calls, as do those by pointers; None for nowhere.
        active: functions that are being inlined.

    Raises:
        NeedsStackError: a call that cannot be inlined, where `apart` is None.
        UnsupportedError: a call to a function that the module does not define.
    """
    if not any(isinstance(item, Instruction) and item.opcode == "call" for item in body.items):
        return body
    items = body.items
    body.items = []
    for item in items:
        if isinstance(item, Label) or item.opcode != "call":
            body.items.append(item)
        else:
            _inline(body, item, load, apart, (*active, body.name))
    return body


def _inline(
    body: Body,
    call: Instruction,
    load: Callable[[str], Body | None],
    apart: frozenset[str] | None,
    active: tuple[str, ...],
) -> None:
    callee_name, returned, arguments = call.operands
    assert isinstance(returned, Vector) and isinstance(arguments, Vector)
    if apart is None and (not isinstance(callee_name, Symbol) or callee_name.name in active):
        raise NeedsStackError
    if not isinstance(callee_name, Symbol) or callee_name.name in (apart or ()):
        body.items.append(call)
        return
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
    if callee is None and callee_name.name.startswith(LAUNCHES):
        raise UnsupportedError(
            "kernels that launch kernels (dynamic parallelism) are not supported",
            call.position,
            call.text,
        )
    if callee is None:
        raise UnsupportedError(
            f"the module does not define the function {callee_name.name}", call.position, call.text
        )
    inline_calls(callee, load, apart, active)
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
        copy = renamed(item, suffix, names)
        body.items.append(_branch(end, copy.predicate, copy) if item.opcode == "ret" else copy)
    body.items.append(Label(end))


def _branch(target: str, predicate: Register | None, origin: Instruction) -> Instruction:
    return Instruction("bra", (), (Symbol(target),), predicate, origin.position, origin.text)


def renamed(instruction: Instruction, suffix: str, names: dict[str, str]) -> Instruction:
    """An instruction with a suffix to its registers, and other names for symbols."""

    def rename(operand: Operand) -> Operand:
        match operand:
            case Register(name, negated):
                return operand if name == "_" else Register(name + suffix, negated)
            case Symbol(name, offset):
                return Symbol(names.get(name, name), offset)
            case Address(base, offset):
                inner = rename(base)
                assert not isinstance(inner, Vector | Pair | Part | Address)
                return Address(inner, offset)  # type: ignore[arg-type]
            case Vector(items):
                return Vector(tuple(rename(item) for item in items))
            case Pair(first, second):
                return Pair(rename(first), rename(second))
            case Part(inner, selector, negated):
                return Part(rename(inner), selector, negated)
        return operand

    predicate = instruction.predicate
    return replace(
        instruction,
        operands=tuple(rename(operand) for operand in instruction.operands),
        predicate=Register(predicate.name + suffix, predicate.negated) if predicate else None,
    )
