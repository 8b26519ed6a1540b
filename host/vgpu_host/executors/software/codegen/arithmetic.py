"""Integer arithmetic, and moves."""

from __future__ import annotations

from vgpu_host.executors.software.host_functions import dot_name
from vgpu_host.executors.software.ir import BITS as WIDTH
from vgpu_host.executors.software.ir import STORAGE, Instruction, Vector

from .carry import add_with_carry, multiply_with_carry
from .emitter import Emitter, Value, integer
from .floating import emit_float
from .halves import for_each_half
from .registry import BITS, FLOATS, INTEGERS, handles

_ROUNDING = "rn rz rm rp ftz sat"
#: Pairs of 16-bit integers in a word.
_PAIRS = "u16x2 s16x2"
_FLOATING = frozenset(FLOATS.split())


def sources(emitter: Emitter, instruction: Instruction) -> list[Value]:
    """All source operands, read as the type of the instruction."""
    return [emitter.read(operand, instruction.type) for operand in instruction.operands[1:]]


def is_signed(instruction: Instruction) -> bool:
    """Whether the operation is on signed integers."""
    return instruction.type[0] == "s"


@handles("add sub", f"cc {INTEGERS} {_PAIRS} {FLOATS} {_ROUNDING}")
def emit_add(emitter: Emitter, instruction: Instruction) -> None:
    """`add`, `sub`; `.sat` clamps s32 instead of wrapping."""
    if instruction.type in _FLOATING:
        emit_float(emitter, instruction)
        return
    if instruction.type in _PAIRS.split():
        if instruction.opcode != "add" or "sat" in instruction.modifiers:
            raise emitter.refuse("of pairs of integers there are only add, min and max")
        pairs = sources(emitter, instruction)
        total = for_each_half(emitter, pairs, lambda pair: emitter.op("add", *pair))
        emitter.write(instruction.operands[0], total)
        return
    if "cc" in instruction.modifiers:
        add_with_carry(emitter, instruction)
        return
    a, b = sources(emitter, instruction)
    if "sat" in instruction.modifiers:
        result = emitter.intrinsic(f"s{instruction.opcode}.sat", a, b)
    else:
        result = emitter.op(instruction.opcode, a, b)
    emitter.write(instruction.operands[0], result, is_signed(instruction))


@handles("mul", f"lo hi wide {INTEGERS} {FLOATS} {_ROUNDING}")
def emit_multiply(emitter: Emitter, instruction: Instruction) -> None:
    """`mul.lo`, `mul.hi`, `mul.wide` and the floating-point `mul`."""
    if instruction.type in _FLOATING:
        emit_float(emitter, instruction)
        return
    a, b = sources(emitter, instruction)
    emitter.write(instruction.operands[0], multiply(emitter, instruction, a, b))


def multiply(emitter: Emitter, instruction: Instruction, a: Value, b: Value) -> Value:
    """The `.lo`, `.hi` or `.wide` part of a product of integers."""
    if "lo" in instruction.modifiers:
        return emitter.op("mul", a, b)
    bits = WIDTH[a.type]
    extend = "sext" if is_signed(instruction) else "zext"
    wide = emitter.op(
        "mul", emitter.cast(extend, a, f"i{2 * bits}"), emitter.cast(extend, b, f"i{2 * bits}")
    )
    if "wide" in instruction.modifiers:
        return wide
    shift = Value(str(bits), wide.type)
    return emitter.cast("trunc", emitter.op("lshr", wide, shift), a.type)


@handles("mad", f"cc lo hi wide {INTEGERS} f32 f64 {_ROUNDING}")
def emit_multiply_add(emitter: Emitter, instruction: Instruction) -> None:
    """`mad.lo`, `mad.hi`, `mad.wide`; the floating-point `mad` is a fused `fma`."""
    if instruction.type in _FLOATING:
        emit_float(emitter, instruction)
        return
    if "cc" in instruction.modifiers:
        multiply_with_carry(emitter, instruction)
        return
    target, first, second, third = instruction.operands
    a, b = emitter.read(first, instruction.type), emitter.read(second, instruction.type)
    product = multiply(emitter, instruction, a, b)
    c = emitter.read(third, f"b{WIDTH[product.type]}")
    if "sat" in instruction.modifiers:
        total = emitter.intrinsic("sadd.sat", product, c)
    else:
        total = emitter.op("add", product, c)
    emitter.write(target, total)


@handles("mul24 mad24", "lo hi sat u32 s32")
def emit_multiply24(emitter: Emitter, instruction: Instruction) -> None:
    """`mul24`, `mad24`: bits 0 to 31 or 16 to 47 of a product of 24-bit numbers."""
    operands = sources(emitter, instruction)
    shift = integer(8, "i32")
    signed = is_signed(instruction)
    down = "ashr" if signed else "lshr"
    a, b = (emitter.op(down, emitter.op("shl", value, shift), shift) for value in operands[:2])
    if "hi" in instruction.modifiers:
        a, b = (emitter.resize(value, "i64", signed) for value in (a, b))
        product = emitter.op("lshr", emitter.op("mul", a, b), integer(16, "i64"))
        result = emitter.cast("trunc", product, "i32")
    else:
        result = emitter.op("mul", a, b)
    if instruction.opcode == "mad24":
        if "sat" in instruction.modifiers:
            result = emitter.intrinsic("sadd.sat", result, operands[2])
        else:
            result = emitter.op("add", result, operands[2])
    emitter.write(instruction.operands[0], result)


@handles("div rem", f"{INTEGERS} f32 f64 approx full {_ROUNDING}")
def emit_divide(emitter: Emitter, instruction: Instruction) -> None:
    """`div`, `rem`: by zero both yield all ones, as measured on an H200."""
    if instruction.type in _FLOATING:
        emit_float(emitter, instruction)
        return
    a, b = emitter.unify(*sources(emitter, instruction))
    quotient, remainder = divide(emitter, a, b, is_signed(instruction))
    result = quotient if instruction.opcode == "div" else remainder
    emitter.write(instruction.operands[0], result, is_signed(instruction))


def divide(emitter: Emitter, a: Value, b: Value, signed: bool) -> tuple[Value, Value]:
    """Quotient and remainder without ever trapping, whatever the operands of any lane."""
    zero = emitter.compare("icmp eq", b, integer(0, b.type))
    if WIDTH[a.type] <= 32:
        # Exact: the quotient of 32-bit integers is at least 2**-32 away from the next integer,
        # which is far more than the rounding error of a double.
        to_float, to_int = ("sitofp", "fptosi") if signed else ("uitofp", "fptoui")
        safe = emitter.select(zero, integer(1, b.type), b)
        real_quotient = emitter.op(
            "fdiv", emitter.cast(to_float, a, "double"), emitter.cast(to_float, safe, "double")
        )
        quotient = emitter.cast("trunc", emitter.cast(to_int, real_quotient, "i64"), a.type)
    else:
        unsafe = zero
        if signed:
            lowest = emitter.compare("icmp eq", a, integer(1 << (WIDTH[a.type] - 1), a.type))
            negates = emitter.compare("icmp eq", b, integer(-1, b.type))
            overflow = emitter.op("and", lowest, negates)
            unsafe = emitter.op("or", zero, overflow)
        safe = emitter.select(unsafe, integer(1, b.type), b)
        quotient = emitter.op("sdiv" if signed else "udiv", a, safe)
    remainder = emitter.op("sub", a, emitter.op("mul", quotient, b))
    ones = integer(-1, a.type)
    return emitter.select(zero, ones, quotient), emitter.select(zero, ones, remainder)


@handles("neg abs", f"{INTEGERS} {FLOATS} ftz")
def emit_sign(emitter: Emitter, instruction: Instruction) -> None:
    """`neg`, `abs`."""
    if instruction.type in _FLOATING:
        emit_float(emitter, instruction)
        return
    (value,) = sources(emitter, instruction)
    if instruction.opcode == "neg":
        result = emitter.op("sub", integer(0, value.type), value)
    else:
        result = emitter.intrinsic("abs", value, extra="i1 false")
    emitter.write(instruction.operands[0], result, is_signed(instruction))


@handles("min max", f"{INTEGERS} {_PAIRS} {FLOATS} ftz NaN xorsign abs relu")
def emit_minimum(emitter: Emitter, instruction: Instruction) -> None:
    """`min`, `max`; `.relu` of signed integers also with 0."""
    if instruction.type in _FLOATING:
        emit_float(emitter, instruction)
        return
    sign = "s" if is_signed(instruction) else "u"
    relu = "relu" in instruction.modifiers
    if relu and instruction.type not in ("s32", "s16x2"):
        raise emitter.refuse(f"{instruction.opcode}.relu is of s32 and s16x2")

    def extreme(values: list[Value]) -> Value:
        a, b = values
        found = emitter.intrinsic(sign + instruction.opcode, a, b)
        return emitter.intrinsic("smax", found, integer(0, found.type)) if relu else found

    values = sources(emitter, instruction)
    if instruction.type in _PAIRS.split():
        emitter.write(instruction.operands[0], for_each_half(emitter, values, extreme))
    else:
        emitter.write(instruction.operands[0], extreme(values), is_signed(instruction))


@handles("sad", INTEGERS)
def emit_absolute_difference(emitter: Emitter, instruction: Instruction) -> None:
    """`sad`: |a - b| + c."""
    a, b, c = sources(emitter, instruction)
    condition = "icmp slt" if is_signed(instruction) else "icmp ult"
    less = emitter.compare(condition, a, b)
    distance = emitter.select(less, emitter.op("sub", b, a), emitter.op("sub", a, b))
    emitter.write(instruction.operands[0], emitter.op("add", distance, c))


@handles("dp4a dp2a", "u32 s32 lo hi")
def emit_dot_product(emitter: Emitter, instruction: Instruction) -> None:
    """`dp4a`: four byte products and a sum; `dp2a`: two 16-bit by 8-bit products."""
    target, first, second, third = instruction.operands
    types = [name for name in instruction.modifiers if name in ("u32", "s32")]
    a, b = emitter.read(first, "b32"), emitter.read(second, "b32")
    total = emitter.read(third, "b32")
    signs = types[0] == "s32", types[-1] == "s32"
    if instruction.opcode == "dp4a":
        emitter.write(target, _dot(emitter, a, b, total, *signs))
        return
    start = 16 if "hi" in instruction.modifiers else 0
    pairs = [(0, 16, start), (16, 16, start + 8)]
    for a_start, a_bits, b_start in pairs:
        x = _field(emitter, a, a_start, a_bits, signs[0])
        y = _field(emitter, b, b_start, 8, signs[1])
        total = emitter.op("add", total, emitter.op("mul", x, y))
    emitter.write(target, total)


def _dot(
    emitter: Emitter, a: Value, b: Value, total: Value, a_signed: bool, b_signed: bool
) -> Value:
    """Four byte products and a sum, in each lane."""
    name = dot_name(a_signed, b_signed)
    operands = [emitter.widen(value) for value in (a, b, total)]
    result = emitter.define(
        f"call {operands[0].llvm_type} @{name}({', '.join(map(str, operands))})", "i32", True
    )
    if any(value.vector for value in (a, b, total)):
        return result
    return emitter.define(f"extractelement {result}, i32 0", "i32")


def _field(emitter: Emitter, value: Value, start: int, bits: int, signed: bool) -> Value:
    lifted = emitter.op("shl", value, integer(32 - start - bits, "i32"))
    return emitter.op("ashr" if signed else "lshr", lifted, integer(32 - bits, "i32"))


@handles("mov", f"pred {BITS} {INTEGERS} f32 f64")
def emit_move(emitter: Emitter, instruction: Instruction) -> None:
    """`mov`: a register, constant, address, or packing and unpacking of a brace list."""
    target, source = instruction.operands
    if isinstance(source, Vector):
        emitter.write(target, _pack(emitter, source, instruction.type))
    elif isinstance(target, Vector):
        value = emitter.read(source, instruction.type)
        value = emitter.resize(value, f"i{WIDTH[value.type]}")
        part = WIDTH[value.type] // len(target.items)
        for index, item in enumerate(target.items):
            shift = Value(str(part * index), value.type)
            emitter.write(item, emitter.resize(emitter.op("lshr", value, shift), f"i{part}"))
    else:
        emitter.write(target, emitter.read(source, instruction.type))


def _pack(emitter: Emitter, source: Vector, ptx_type: str) -> Value:
    whole = f"i{WIDTH[STORAGE[ptx_type]]}"
    part = WIDTH[whole] // len(source.items)
    result: Value = integer(0, whole)
    for index, item in enumerate(source.items):
        piece = emitter.resize(emitter.read(item, f"b{part}"), whole)
        result = emitter.op("or", result, emitter.op("shl", piece, Value(str(part * index), whole)))
    return result
