"""Flushing of subnormal single-precision numbers (`.ftz`).

Where all single-precision arithmetic of a kernel flushes, as under `--use_fast_math`, flushing is a
mode of the host thread, which costs nothing. Where only some does, or where there is
double-precision arithmetic, which never flushes, each flushing instruction does it for itself. So
do the few that the mode does not reach, because they are no arithmetic of the host.
"""

from __future__ import annotations

from enum import Enum

from vgpu_host.executors.software.ir import Body, Instruction

#: Instructions whose result depends on the mode of the thread.
_ARITHMETIC = {
    *("add", "sub", "mul", "mad", "fma", "div", "min", "max", "setp", "set"),
    *("rcp", "sqrt", "rsqrt", "ex2", "lg2", "sin", "cos", "tanh"),
}
#: Types that are computed in single precision or wider and never flush as a mode.
_UNFLUSHED = frozenset(("f64", "bf16", "bf16x2"))
#: Instructions that the host does not compute by arithmetic, or not by it alone.
_BEYOND_THE_MODE = frozenset(("abs", "neg", "min", "max", "lg2", "sin", "cos", "tanh", "cvt"))
#: Roundings that turn any subnormal number into zero, whether it is flushed or not.
_TO_ZERO = frozenset(("rni", "rzi"))


class Flushing(Enum):
    """How a kernel flushes."""

    #: Nothing is flushed.
    NEVER = 0
    #: The host thread flushes everything.
    THREAD = 1
    #: Instructions flush their operands and results.
    INSTRUCTION = 2


def flushing_of(body: Body) -> Flushing:
    """Choose how a kernel flushes."""
    flushes = keeps = False
    for item in body.items:
        if not isinstance(item, Instruction):
            continue
        if "ftz" in item.modifiers:
            flushes = True
        elif _keeps(item):
            keeps = True
        if item.opcode in _ARITHMETIC and _UNFLUSHED & set(item.modifiers):
            keeps = True
    if not flushes:
        return Flushing.NEVER
    return Flushing.INSTRUCTION if keeps else Flushing.THREAD


def _keeps(instruction: Instruction) -> bool:
    """Whether the mode would change what an instruction without `.ftz` does."""
    if "f32" not in instruction.modifiers:
        return False
    if instruction.opcode == "cvt":
        return _conversion_keeps(instruction)
    if instruction.opcode in ("atom", "red"):
        return "shared" in instruction.modifiers
    return instruction.opcode in _ARITHMETIC or instruction.opcode == "slct"


def _conversion_keeps(instruction: Instruction) -> bool:
    modifiers = instruction.modifiers
    target, source = modifiers[-2:]
    if _TO_ZERO & set(modifiers):
        return False
    if target == "f16":
        return "rm" in modifiers or "rp" in modifiers
    # Of other types than double precision no single-precision number is subnormal.
    return source in ("f32", "f64")


def is_flushed_by_instruction(instruction: Instruction, flushing: Flushing) -> bool:
    """Whether an instruction with `.ftz` has to flush its operands and result itself."""
    if "ftz" not in instruction.modifiers:
        return False
    return flushing is Flushing.INSTRUCTION or instruction.opcode in _BEYOND_THE_MODE
