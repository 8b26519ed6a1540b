"""Flushing of subnormal single-precision numbers (`.ftz`).

Where all single-precision arithmetic of a kernel flushes, as under `--use_fast_math`, flushing is a
mode of the host thread, which costs nothing. Where only some does, or where there is
double-precision arithmetic, which never flushes, each flushing instruction does it for itself.
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
        elif item.opcode in _ARITHMETIC and "f32" in item.modifiers:
            keeps = True
        if item.opcode in _ARITHMETIC and _UNFLUSHED & set(item.modifiers):
            keeps = True
    if not flushes:
        return Flushing.NEVER
    return Flushing.INSTRUCTION if keeps else Flushing.THREAD
