"""Video instructions: saturating arithmetic on words, and on all their halves or bytes at once."""

from __future__ import annotations

from vgpu_host.executors.software.ir import Instruction

from .emitter import Emitter, Value, integer
from .registry import handles

_OPERATIONS = ("add", "sub", "absdiff", "min", "max", "avrg", "shl", "shr")


def _opcodes(lanes: str, names: tuple[str, ...]) -> str:
    return " ".join(f"v{name}{lanes}" for name in names)


@handles(_opcodes("", (*_OPERATIONS[:5], "shl", "shr")), "u32 s32 sat clamp wrap add min max")
def emit_scalar(emitter: Emitter, instruction: Instruction) -> None:
    """`vadd vsub vabsdiff vmin vmax vshl vshr` on whole words, then `.add`, `.min` or `.max`."""
    result_type, *types = [name for name in instruction.modifiers if name in ("u32", "s32")]
    a, b = (
        emitter.resize(emitter.read(operand, type_), "i64", type_ == "s32")
        for operand, type_ in zip(instruction.operands[1:3], types, strict=True)
    )
    value = _compute(emitter, instruction, instruction.opcode[1:], a, b)
    if "sat" in instruction.modifiers:
        value = _clamp(emitter, value, 32, result_type == "s32")
    value = emitter.cast("trunc", value, "i32")
    second = next((name for name in ("add", "min", "max") if name in instruction.modifiers), None)
    if second:
        c = emitter.read(instruction.operands[3], result_type)
        sign = "s" if result_type == "s32" else "u"
        if second == "add":
            value = emitter.op("add", value, c)
        else:
            value = emitter.intrinsic(sign + second, value, c)
    emitter.write(instruction.operands[0], value)


@handles(_opcodes("2", _OPERATIONS[:6]) + " " + _opcodes("4", _OPERATIONS[:6]), "u32 s32 sat add")
def emit_packed(emitter: Emitter, instruction: Instruction) -> None:
    """`vadd2` to `vavrg4`: on each half or byte; `.add` sums the results and the fourth operand."""
    result_type, *types = [name for name in instruction.modifiers if name in ("u32", "s32")]
    bits = 16 if instruction.opcode.endswith("2") else 8
    words = [emitter.read(operand, "b32") for operand in instruction.operands[1:4]]
    total = words[2] if "add" in instruction.modifiers else integer(0, "i32")
    for start in range(0, 32, bits):
        a, b = (
            _part(emitter, word, start, bits, type_ == "s32")
            for word, type_ in zip(words, types, strict=False)
        )
        value = _compute(emitter, instruction, instruction.opcode[1:-1], a, b)
        if "sat" in instruction.modifiers:
            value = _clamp(emitter, value, bits, result_type == "s32")
        value = emitter.cast("trunc", value, "i32")
        if "add" not in instruction.modifiers:
            value = emitter.op("and", value, integer((1 << bits) - 1, "i32"))
            value = emitter.op("shl", value, integer(start, "i32"))
        total = emitter.op("add", total, value)
    emitter.write(instruction.operands[0], total)


def _part(emitter: Emitter, word: Value, start: int, bits: int, signed: bool) -> Value:
    """Some bits of a word as an i64 of their value."""
    lifted = emitter.op("shl", word, integer(32 - start - bits, "i32"))
    part = emitter.op("ashr" if signed else "lshr", lifted, integer(32 - bits, "i32"))
    return emitter.resize(part, "i64", signed)


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


def _clamp(emitter: Emitter, value: Value, bits: int, signed: bool) -> Value:
    low = -(1 << (bits - 1)) if signed else 0
    high = (1 << (bits - 1 if signed else bits)) - 1
    value = emitter.intrinsic("smax", value, integer(low, "i64"))
    return emitter.intrinsic("smin", value, integer(high, "i64"))
