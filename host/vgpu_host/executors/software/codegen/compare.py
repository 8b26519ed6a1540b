"""Comparisons and selections."""

from __future__ import annotations

from vgpu_host.executors.software.ir import Instruction, Pair, Register

from .emitter import Emitter, Value, integer, real
from .registry import BITS, INTEGERS, handles

_CONDITIONS = "eq ne lt le gt ge lo ls hi hs equ neu ltu leu gtu geu num nan"
_ALL_TYPES = f"{BITS} {INTEGERS} f16 f16x2 f32 f64"
_UNSIGNED = {"lo": "ult", "ls": "ule", "hi": "ugt", "hs": "uge"}


def compare_values(emitter: Emitter, instruction: Instruction, ptx_type: str) -> Value:
    """The comparison that the modifiers of `setp` or `set` ask for."""
    condition = next(name for name in instruction.modifiers if name in _CONDITIONS.split())
    a = emitter.read(instruction.operands[1], ptx_type)
    b = emitter.read(instruction.operands[2], ptx_type)
    if ptx_type == "f16x2":
        raise emitter.refuse("comparison of packed halves is not supported")
    if ptx_type[0] == "f":
        if ptx_type == "f16":
            a, b = emitter.bits(a, "half"), emitter.bits(b, "half")
        if condition in ("num", "nan"):
            return emitter.compare("fcmp ord" if condition == "num" else "fcmp uno", a, b)
        if condition == "ne":
            return emitter.compare("fcmp one", a, b)
        prefix = "u" if condition.endswith("u") else "o"
        return emitter.compare(f"fcmp {prefix}{condition.removesuffix('u')}", a, b)
    if condition in ("eq", "ne"):
        return emitter.compare(f"icmp {condition}", a, b)
    if condition in _UNSIGNED:
        return emitter.compare(f"icmp {_UNSIGNED[condition]}", a, b)
    if condition not in ("lt", "le", "gt", "ge"):
        raise emitter.refuse(f"condition {condition} needs floating-point operands")
    sign = "s" if ptx_type[0] == "s" else "u"
    return emitter.compare(f"icmp {sign}{condition}", a, b)


def _combine(emitter: Emitter, instruction: Instruction, value: Value) -> Value:
    for name in ("and", "or", "xor"):
        if name in instruction.modifiers:
            return emitter.op(name, value, emitter.read(instruction.operands[3], "pred"))
    return value


@handles("setp", f"{_CONDITIONS} and or xor ftz {_ALL_TYPES}")
def emit_set_predicate(emitter: Emitter, instruction: Instruction) -> None:
    """`setp`: one predicate, or one and its complement."""
    target = instruction.operands[0]
    value = compare_values(emitter, instruction, instruction.type)
    result = _combine(emitter, instruction, value)
    if isinstance(target, Pair):
        complement = _combine(emitter, instruction, emitter.invert(value))
        emitter.write(target.first, result)
        emitter.write(target.second, complement)
    else:
        emitter.write(target, result)


@handles("set", f"{_CONDITIONS} and or xor ftz {_ALL_TYPES}")
def emit_set(emitter: Emitter, instruction: Instruction) -> None:
    """`set`: all ones (or 1.0) where the condition holds."""
    result_type, source_type = instruction.modifiers[-2:]
    value = _combine(emitter, instruction, compare_values(emitter, instruction, source_type))
    if result_type == "f32":
        result = emitter.select(value, real(1.0), real(0.0))
    elif result_type in ("u32", "s32"):
        result = emitter.select(value, integer(-1, "i32"), integer(0, "i32"))
    else:
        raise emitter.refuse(f"set to .{result_type} is not supported")
    emitter.write(instruction.operands[0], result)


@handles("selp", f"{_ALL_TYPES}")
def emit_select(emitter: Emitter, instruction: Instruction) -> None:
    """`selp`: choose by a predicate."""
    target, first, second, condition = instruction.operands
    a, b = emitter.read(first, instruction.type), emitter.read(second, instruction.type)
    if not isinstance(condition, Register):
        raise emitter.refuse("selp needs a predicate register")
    emitter.write(target, emitter.select(emitter.read(condition, "pred"), a, b))


@handles("slct", f"{_ALL_TYPES} ftz")
def emit_select_by_sign(emitter: Emitter, instruction: Instruction) -> None:
    """`slct`: the first operand where the third is not negative."""
    result_type, sign_type = instruction.modifiers[-2:]
    target, first, second, sign = instruction.operands
    a, b = emitter.read(first, result_type), emitter.read(second, result_type)
    number = emitter.read(sign, sign_type)
    if sign_type == "f32":
        condition = emitter.compare("fcmp oge", number, real(0.0))
    else:
        condition = emitter.compare("icmp sge", number, integer(0, number.type))
    emitter.write(target, emitter.select(condition, a, b))
