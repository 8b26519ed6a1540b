"""Floating-point arithmetic with PTX rounding, saturation and NaN rules.

Half precision is computed by LLVM's `half`; packed halves are handled as two separate halves.
Flushing of subnormal numbers (`.ftz`) is a mode of the host thread that the driver loop sets.
"""

from __future__ import annotations

from collections.abc import Callable

from vgpu_host.executors.software.ir import Instruction

from .approximate import approximate
from .emitter import Emitter, Value, integer, real
from .registry import handles
from .rounding import round_directed

DIRECTED = ("rz", "rm", "rp")
_OPERATION = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}


def emit_float(emitter: Emitter, instruction: Instruction) -> None:
    """Any floating-point operation of `add sub mul mad fma div min max neg abs`."""
    if instruction.type in ("f16", "f16x2"):
        _emit_half(emitter, instruction)
        return
    operands = [emitter.read(operand, instruction.type) for operand in instruction.operands[1:]]
    result = _compute(emitter, instruction, operands)
    emitter.write(instruction.operands[0], _saturate(emitter, instruction, result))


def _saturate(emitter: Emitter, instruction: Instruction, value: Value) -> Value:
    if "sat" not in instruction.modifiers:
        return value
    zero = Value("0.0", value.type)
    one = Value("1.0", value.type)
    above = emitter.intrinsic("maximumnum", value, zero)
    return emitter.intrinsic("minimumnum", above, one)


def _compute(emitter: Emitter, instruction: Instruction, operands: list[Value]) -> Value:
    opcode = instruction.opcode
    if opcode == "neg":
        return emitter.op("fneg", operands[0])
    if opcode == "abs":
        return emitter.intrinsic("fabs", operands[0])
    if opcode in ("min", "max"):
        stem = "minimum" if opcode == "min" else "maximum"
        suffix = "" if "NaN" in instruction.modifiers else "num"
        return emitter.intrinsic(stem + suffix, *operands)
    if opcode in ("fma", "mad"):
        result = emitter.intrinsic("fma", *operands)
        opcode = "fma"
    else:
        result = emitter.op(_OPERATION[opcode], *operands)
    for mode in DIRECTED:
        if mode in instruction.modifiers:
            return round_directed(emitter, opcode, mode, operands, result)
    return result


def _emit_half(emitter: Emitter, instruction: Instruction) -> None:
    if any(mode in instruction.modifiers for mode in DIRECTED):
        raise emitter.refuse("directed rounding of half precision is not supported")
    packed = instruction.type == "f16x2"
    operands = [emitter.read(o, instruction.type) for o in instruction.operands[1:]]

    def on_halves(values: list[Value]) -> Value:
        halves = [emitter.bits(value, "half") for value in values]
        result = _saturate(emitter, instruction, _compute(emitter, instruction, halves))
        return emitter.bits(result, "i16")

    result = for_each_half(emitter, operands, on_halves) if packed else on_halves(operands)
    emitter.write(instruction.operands[0], result)


def for_each_half(
    emitter: Emitter, operands: list[Value], function: Callable[[list[Value]], Value]
) -> Value:
    """Apply a function of i16 values to the low and the high halves of i32 values."""
    shift = integer(16, "i32")
    low = function([emitter.cast("trunc", value, "i16") for value in operands])
    high = function([emitter.cast("trunc", emitter.op("lshr", v, shift), "i16") for v in operands])
    high = emitter.op("shl", emitter.cast("zext", high, "i32"), shift)
    return emitter.op("or", emitter.cast("zext", low, "i32"), high)


@handles("fma", "rn rz rm rp ftz sat relu f16 f16x2 f32 f64")
def emit_fused(emitter: Emitter, instruction: Instruction) -> None:
    """`fma`: one rounding."""
    if "relu" in instruction.modifiers:
        raise emitter.refuse("fma.relu is not supported")
    emit_float(emitter, instruction)


@handles("copysign", "f32 f64")
def emit_copysign(emitter: Emitter, instruction: Instruction) -> None:
    """`copysign a, b`: the magnitude of b with the sign of a."""
    sign, magnitude = (emitter.read(o, instruction.type) for o in instruction.operands[1:])
    emitter.write(instruction.operands[0], emitter.intrinsic("copysign", magnitude, sign))


@handles("testp", "finite infinite number notanumber normal subnormal f32 f64")
def emit_test(emitter: Emitter, instruction: Instruction) -> None:
    """`testp`: the class of a number, from its bits."""
    value = emitter.read(instruction.operands[1], instruction.type)
    classes = {
        "finite": 0x1F8,
        "infinite": 0x204,
        "number": 0x3FC,
        "notanumber": 0x003,
        "normal": 0x108,
        "subnormal": 0x090,
    }
    wanted = next(bits for name, bits in classes.items() if name in instruction.modifiers)
    emitter.declarations.add(
        f"declare {Value('', 'i1', value.vector).llvm_type} "
        f"@llvm.is.fpclass.{_suffix(value)}({value.llvm_type}, i32 immarg)"
    )
    result = emitter.define(
        f"call {Value('', 'i1', value.vector).llvm_type} "
        f"@llvm.is.fpclass.{_suffix(value)}({value}, i32 {wanted})",
        "i1",
        value.vector,
    )
    emitter.write(instruction.operands[0], result)


def _suffix(value: Value) -> str:
    scalar = "f32" if value.type == "float" else "f64"
    return f"v32{scalar}" if value.vector else scalar


@handles("rcp sqrt rsqrt ex2 lg2 sin cos tanh", "approx rn rz rm rp ftz f16 f32 f64")
def emit_unary_function(emitter: Emitter, instruction: Instruction) -> None:
    """`rcp sqrt rsqrt ex2 lg2 sin cos tanh`, approximate or correctly rounded."""
    value = emitter.read(instruction.operands[1], instruction.type)
    half = instruction.type == "f16"
    if half:
        value = emitter.cast("fpext", emitter.bits(value, "half"), "float")
    one = real(1.0, value.type)
    mode = next((name for name in DIRECTED if name in instruction.modifiers), None)
    match instruction.opcode:
        case "rcp":
            result = emitter.op("fdiv", one, value)
            if mode:
                result = round_directed(emitter, "div", mode, [one, value], result)
        case "sqrt":
            result = emitter.intrinsic("sqrt", value)
            if mode:
                result = round_directed(emitter, "sqrt", mode, [value], result)
        case "rsqrt":
            result = emitter.op("fdiv", one, emitter.intrinsic("sqrt", value))
        case _:
            result = approximate(emitter, instruction.opcode, value)
    if half:
        result = emitter.bits(emitter.cast("fptrunc", result, "half"), "i16")
    emitter.write(instruction.operands[0], result)
