"""Video instructions: saturating arithmetic on words or parts of them, one or all at once.

Scalar ones take a word, half or byte of each operand and put the result into a part of the third,
or combine it with that. Packed ones (`vadd2`, `vadd4`) do the same in all halves or bytes, chosen
from those of both operands.
"""

from __future__ import annotations

from vgpu_host.executors.software.ir import Instruction, Operand, Part

from .emitter import Emitter, Value, integer
from .registry import handles

_OPERATIONS = ("add", "sub", "absdiff", "min", "max", "avrg", "shl", "shr")
_CONDITIONS = ("eq", "ne", "lt", "le", "gt", "ge")
_SECOND = ("add", "min", "max")
_TYPES = ("u32", "s32")


def _opcodes(lanes: str, names: tuple[str, ...]) -> str:
    return " ".join(f"v{name}{lanes}" for name in names)


def _types(instruction: Instruction) -> list[str]:
    return [name for name in instruction.modifiers if name in _TYPES]


def _selector(operand: Operand) -> tuple[Operand, str]:
    """A word and which parts of it are meant, "" for all."""
    if isinstance(operand, Part):
        return operand.operand, operand.selector
    return operand, ""


def _place(selector: str) -> tuple[int, int]:
    """First bit and width of one part of a word."""
    if not selector:
        return 0, 32
    bits = 8 if selector[0] == "b" else 16
    return bits * int(selector[1:]), bits


def _read_part(emitter: Emitter, operand: Operand, is_signed: bool) -> Value:
    """A part of a word as an i64 of its value."""
    inner, selector = _selector(operand)
    return _part(emitter, emitter.read(inner, "b32"), *_place(selector), is_signed)


def _part(emitter: Emitter, word: Value, start: int, bits: int, is_signed: bool) -> Value:
    lifted = emitter.op("shl", word, integer(32 - start - bits, "i32"))
    part = emitter.op("ashr" if is_signed else "lshr", lifted, integer(32 - bits, "i32"))
    return emitter.resize(part, "i64", is_signed)


@handles(_opcodes("", (*_OPERATIONS[:5], "shl", "shr")), "u32 s32 sat clamp wrap add min max")
def emit_scalar(emitter: Emitter, instruction: Instruction) -> None:
    """`vadd vsub vabsdiff vmin vmax vshl vshr`: a result, clamped, then combined or merged."""
    result_type, *types = _types(instruction)
    a, b = (
        _read_part(emitter, operand, type_ == "s32")
        for operand, type_ in zip(instruction.operands[1:3], types, strict=True)
    )
    value = _compute(emitter, instruction, instruction.opcode[1:], a, b)
    if "sat" in instruction.modifiers:
        _, bits = _place(_selector(instruction.operands[0])[1])
        value = _clamp(emitter, value, bits, result_type == "s32")
    _finish(emitter, instruction, emitter.cast("trunc", value, "i32"), result_type == "s32")


def _finish(emitter: Emitter, instruction: Instruction, value: Value, is_signed: bool) -> None:
    """Combine the result with the third operand, or put it into a part of that; write it."""
    target, selector = _selector(instruction.operands[0])
    second = next((name for name in _SECOND if name in instruction.modifiers), None)
    if second or selector:
        c = emitter.read(instruction.operands[3], "b32")
        if second == "add":
            value = emitter.op("add", value, c)
        elif second:
            value = emitter.intrinsic(("s" if is_signed else "u") + second, value, c)
        else:
            start, bits = _place(selector)
            ones = ((1 << bits) - 1) << start
            moved = emitter.op("shl", value, integer(start, "i32"))
            moved = emitter.op("and", moved, integer(ones, "i32"))
            value = emitter.op("or", moved, emitter.op("and", c, integer(~ones, "i32")))
    emitter.write(target, value)


@handles("vset", f"u32 s32 add min max {' '.join(_CONDITIONS)}")
def emit_compare(emitter: Emitter, instruction: Instruction) -> None:
    """`vset`: 1 where a comparison holds, then combined or merged."""
    types = _types(instruction)
    a, b = (
        _read_part(emitter, operand, type_ == "s32")
        for operand, type_ in zip(instruction.operands[1:3], types, strict=True)
    )
    holds = _compare(emitter, instruction, a, b)
    _finish(emitter, instruction, emitter.cast("zext", holds, "i32"), False)


def _compare(emitter: Emitter, instruction: Instruction, a: Value, b: Value) -> Value:
    condition = next(name for name in instruction.modifiers if name in _CONDITIONS)
    sign = "" if condition in ("eq", "ne") else "s"
    return emitter.compare(f"icmp {sign}{condition}", a, b)


@handles("vmad", "u32 s32 sat po shr7 shr15")
def emit_multiply_add(emitter: Emitter, instruction: Instruction) -> None:
    """`vmad`: a product and a sum of up to 66 bits, shifted right, clamped."""
    _, *types = _types(instruction)
    first, second, third = instruction.operands[1:]
    negated = [isinstance(o, Part) and o.negated for o in (first, second, third)]
    product_negated = negated[0] != negated[1]
    is_signed = "s32" in types or product_negated or negated[2]
    a, b = (
        emitter.cast("sext", _read_part(emitter, operand, type_ == "s32"), "i128")
        for operand, type_ in zip((first, second), types, strict=True)
    )
    total = emitter.op("mul", a, b)
    c = emitter.read(_selector(third)[0], "b32")
    one = Value("1", "i128")
    if product_negated:
        total = emitter.op("sub", Value("0", "i128"), total)
    elif negated[2]:
        c = emitter.invert(c)
    total = emitter.op("add", total, emitter.cast("sext" if is_signed else "zext", c, "i128"))
    if "po" in instruction.modifiers or (negated[2] and not product_negated):
        total = emitter.op("add", total, one)
    for name, amount in (("shr7", 7), ("shr15", 15)):
        if name in instruction.modifiers:
            total = emitter.op("ashr", total, Value(str(amount), "i128"))
    if "sat" in instruction.modifiers:
        total = _clamp(emitter, total, 32, is_signed)
    emitter.write(instruction.operands[0], emitter.cast("trunc", total, "i32"))


@handles(_opcodes("2", _OPERATIONS[:6]) + " " + _opcodes("4", _OPERATIONS[:6]), "u32 s32 sat add")
def emit_packed(emitter: Emitter, instruction: Instruction) -> None:
    """`vadd2` to `vavrg4`: on halves or bytes, each clamped; merged, or summed by `.add`."""
    result_type, *types = _types(instruction)
    bits = _packed_width(instruction)
    results = []
    for a, b in _read_packed(emitter, instruction, types):
        value = _compute(emitter, instruction, instruction.opcode[1:-1], a, b)
        if "sat" in instruction.modifiers:
            value = _clamp(emitter, value, bits, result_type == "s32")
        results.append(emitter.cast("trunc", value, "i32"))
    _finish_packed(emitter, instruction, results)


@handles("vset2 vset4", f"u32 s32 add {' '.join(_CONDITIONS)}")
def emit_packed_compare(emitter: Emitter, instruction: Instruction) -> None:
    """`vset2`, `vset4`: 1 in each half or byte where a comparison holds; merged, or summed."""
    results = [
        emitter.cast("zext", _compare(emitter, instruction, a, b), "i32")
        for a, b in _read_packed(emitter, instruction, _types(instruction))
    ]
    _finish_packed(emitter, instruction, results)


def _packed_width(instruction: Instruction) -> int:
    return 16 if instruction.opcode.endswith("2") else 8


def _read_packed(
    emitter: Emitter, instruction: Instruction, types: list[str]
) -> list[tuple[Value, Value]]:
    """The parts of both operands that meet, the lowest first; any may come from either word."""
    bits = _packed_width(instruction)
    count = 32 // bits
    operands = [_selector(operand) for operand in instruction.operands[1:3]]
    words = [emitter.read(operand, "b32") for operand, _ in operands]
    columns = []
    for index, ((_, selector), type_) in enumerate(zip(operands, types, strict=True)):
        own = range(index * count, (index + 1) * count)
        picks = [int(digit) for digit in reversed(selector[1:])] if selector else list(own)
        columns.append(
            [
                _part(emitter, words[pick // count], pick % count * bits, bits, type_ == "s32")
                for pick in picks
            ]
        )
    return list(zip(*columns, strict=True))


def _finish_packed(emitter: Emitter, instruction: Instruction, results: list[Value]) -> None:
    """Sum the results and the third operand, or put them into their places in that."""
    bits = _packed_width(instruction)
    target, mask = _selector(instruction.operands[0])
    chosen = [int(digit) for digit in mask[1:]] if mask else range(len(results))
    sums = "add" in instruction.modifiers
    ones = (1 << bits) - 1
    replaced = sum(ones << bits * index for index in chosen)
    total: Value = integer(0, "i32")
    if sums or replaced != 0xFFFFFFFF:
        total = emitter.read(instruction.operands[3], "b32")
        if not sums:
            total = emitter.op("and", total, integer(~replaced, "i32"))
    for index in chosen:
        value = results[index]
        if not sums:
            value = emitter.op("and", value, integer(ones, "i32"))
            value = emitter.op("shl", value, integer(bits * index, "i32"))
        total = emitter.op("add", total, value)
    emitter.write(target, total)


def _compute(
    emitter: Emitter, instruction: Instruction, operation: str, a: Value, b: Value
) -> Value:
    """The operation on i64 values that hold any input without loss."""
    match operation:
        case "add" | "sub":
            return emitter.op(operation, a, b)
        case "absdiff":
            return emitter.intrinsic("abs", emitter.op("sub", a, b), extra="i1 false")
        case "min" | "max":
            return emitter.intrinsic(f"s{operation}", a, b)
        case "avrg":
            total = emitter.op("add", a, b)
            negative = emitter.compare("icmp slt", total, integer(0, "i64"))
            bias = emitter.select(negative, integer(0, "i64"), integer(1, "i64"))
            return emitter.op("ashr", emitter.op("add", total, bias), integer(1, "i64"))
    if "wrap" in instruction.modifiers:
        count = emitter.op("and", b, integer(31, "i64"))
    else:
        count = emitter.intrinsic("umin", b, integer(32, "i64"))
    return emitter.op("shl" if operation == "shl" else "ashr", a, count)


def _clamp(emitter: Emitter, value: Value, bits: int, is_signed: bool) -> Value:
    low = -(1 << (bits - 1)) if is_signed else 0
    high = (1 << (bits - 1 if is_signed else bits)) - 1
    value = emitter.intrinsic("smax", value, Value(str(low), value.type))
    return emitter.intrinsic("smin", value, Value(str(high), value.type))
