"""Comparisons and selections."""

from __future__ import annotations

from vgpu_host.executors.software.ir import STORAGE, Instruction, Pair, Register, size_of

from .emitter import Emitter, Value, integer, real
from .halves import HALVES, PACKED, flush, to_single
from .registry import BITS, FLOATS, INTEGERS, handles

_CONDITIONS = "eq ne lt le gt ge lo ls hi hs equ neu ltu leu gtu geu num nan"
_ALL_TYPES = f"{BITS} {INTEGERS} {FLOATS}"
#: What `set` writes for true: all ones, or 1.0.
_TRUE = {"u32": -1, "s32": -1, "u16": -1, "s16": -1, "f16": 0x3C00, "bf16": 0x3F80}
_UNSIGNED = {"lo": "ult", "ls": "ule", "hi": "ugt", "hs": "uge"}


def compare_values(emitter: Emitter, instruction: Instruction, ptx_type: str) -> Value:
    """The comparison that the modifiers of `setp` or `set` ask for."""
    a = emitter.read(instruction.operands[1], ptx_type)
    b = emitter.read(instruction.operands[2], ptx_type)
    return _compare(emitter, instruction, ptx_type, a, b)


def _compare_packed(emitter: Emitter, instruction: Instruction, ptx_type: str) -> list[Value]:
    """The comparisons of the low and of the high halves."""
    a = emitter.read(instruction.operands[1], ptx_type)
    b = emitter.read(instruction.operands[2], ptx_type)
    shift = integer(16, "i32")
    return [
        _compare(
            emitter,
            instruction,
            PACKED[ptx_type],
            *(emitter.cast("trunc", value, "i16") for value in pair),
        )
        for pair in ((a, b), (emitter.op("lshr", a, shift), emitter.op("lshr", b, shift)))
    ]


def _compare(
    emitter: Emitter, instruction: Instruction, ptx_type: str, a: Value, b: Value
) -> Value:
    condition = next(name for name in instruction.modifiers if name in _CONDITIONS.split())
    if ptx_type in HALVES:
        if "ftz" in instruction.modifiers:
            a, b = flush(emitter, a, ptx_type), flush(emitter, b, ptx_type)
        a, b = to_single(emitter, a, ptx_type), to_single(emitter, b, ptx_type)
    if ptx_type in FLOATS.split():
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
    if instruction.type in PACKED:
        _set_two_predicates(emitter, instruction)
        return
    value = compare_values(emitter, instruction, instruction.type)
    result = _combine(emitter, instruction, value)
    if isinstance(target, Pair):
        complement = _combine(emitter, instruction, emitter.invert(value))
        emitter.write(target.first, result)
        emitter.write(target.second, complement)
    else:
        emitter.write(target, result)


def _set_two_predicates(emitter: Emitter, instruction: Instruction) -> None:
    """`setp` of packed halves: one predicate for each half."""
    target = instruction.operands[0]
    low, high = _compare_packed(emitter, instruction, instruction.type)
    if not isinstance(target, Pair):
        raise emitter.refuse("setp of packed halves needs two predicates")
    first, second = _combine(emitter, instruction, low), _combine(emitter, instruction, high)
    emitter.write(target.first, first)
    emitter.write(target.second, second)


@handles("set", f"{_CONDITIONS} and or xor ftz {_ALL_TYPES}")
def emit_set(emitter: Emitter, instruction: Instruction) -> None:
    """`set`: all ones (or 1.0) where the condition holds; packed halves each on their own."""
    result_type, source_type = instruction.modifiers[-2:]
    if source_type in PACKED:
        emitter.write(instruction.operands[0], _set_packed(emitter, instruction, result_type))
        return
    value = _combine(emitter, instruction, compare_values(emitter, instruction, source_type))
    if result_type == "f32":
        result = emitter.select(value, real(1.0), real(0.0))
    else:
        one, zero = _truth(emitter, result_type)
        result = emitter.select(value, one, zero)
    emitter.write(instruction.operands[0], result)


def _truth(emitter: Emitter, result_type: str) -> tuple[Value, Value]:
    """What `set` writes where the condition holds, and where not."""
    if result_type not in _TRUE:
        raise emitter.refuse(f"set to .{result_type} is not supported")
    storage = STORAGE[result_type]
    return integer(_TRUE[result_type], storage), integer(0, storage)


def _set_packed(emitter: Emitter, instruction: Instruction, result_type: str) -> Value:
    half = {"u32": "u16", "s32": "s16"}.get(result_type) or PACKED.get(result_type, "")
    one, zero = _truth(emitter, half)
    low, high = (
        emitter.cast(
            "zext", emitter.select(_combine(emitter, instruction, value), one, zero), "i32"
        )
        for value in _compare_packed(emitter, instruction, instruction.type)
    )
    return emitter.op("or", low, emitter.op("shl", high, integer(16, "i32")))


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
    # As bits: `.ftz` flushes what is compared, not what is chosen.
    bits = f"b{8 * size_of(result_type)}"
    a, b = emitter.read(first, bits), emitter.read(second, bits)
    number = emitter.read(sign, sign_type)
    if sign_type == "f32":
        condition = emitter.compare("fcmp oge", number, real(0.0))
    else:
        condition = emitter.compare("icmp sge", number, integer(0, number.type))
    emitter.write(target, emitter.select(condition, a, b))
