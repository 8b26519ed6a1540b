"""Floating-point arithmetic with PTX rounding, saturation and NaN rules.

Packed halves are handled as two separate halves. How subnormal numbers are flushed (`.ftz`) is said
in `subnormals`.
"""

from __future__ import annotations

from vgpu_host.executors.software.ir import BITS, Instruction

from .approximate import approximate
from .emitter import Emitter, Value, integer, real
from .halves import HALVES, PACKED, flush, for_each_half, from_single, fuse, to_single
from .registry import handles
from .rounding import round_directed
from .saturation import saturate

DIRECTED = ("rz", "rm", "rp")
_OPERATION = {
    "add": "fadd",
    "sub": "fsub",
    "mul": "fmul",
    "div": "fdiv",
    "fma": "fma",
    "mad": "fma",
}


def emit_float(emitter: Emitter, instruction: Instruction) -> None:
    """Any floating-point operation of `add sub mul mad fma div min max neg abs`."""
    operands = [emitter.read(operand, instruction.type) for operand in instruction.operands[1:]]
    if instruction.type in PACKED:
        half = PACKED[instruction.type]
        result = for_each_half(
            emitter, operands, lambda values: _compute_half(emitter, instruction, values, half)
        )
    elif instruction.type in HALVES:
        result = _compute_half(emitter, instruction, operands, instruction.type)
    else:
        result = saturate(emitter, instruction, _compute(emitter, instruction, operands))
    emitter.write(instruction.operands[0], result)


def _compute(emitter: Emitter, instruction: Instruction, operands: list[Value]) -> Value:
    opcode = instruction.opcode
    if opcode == "neg":
        return emitter.op("fneg", operands[0])
    if opcode == "abs":
        return emitter.intrinsic("fabs", operands[0])
    if opcode in ("min", "max"):
        return _extreme(emitter, instruction, operands)
    mode = next((name for name in DIRECTED if name in instruction.modifiers), None)
    operation = _OPERATION[opcode]
    if mode:
        return round_directed(emitter, operation, mode, operands)
    if operation == "fma":
        return emitter.intrinsic("fma", *operands)
    return emitter.op(operation, *operands)


def _extreme(emitter: Emitter, instruction: Instruction, operands: list[Value]) -> Value:
    """`min`, `max`; with `.xorsign.abs` of magnitudes, with the sign of the product."""
    if len(operands) != 2:
        raise emitter.refuse(f"{instruction.opcode} of three needs sm_100: no profile has it")
    stem = "minimum" if instruction.opcode == "min" else "maximum"
    suffix = "" if "NaN" in instruction.modifiers else "num"
    if "xorsign" not in instruction.modifiers:
        return emitter.intrinsic(stem + suffix, *operands)
    magnitudes = [emitter.intrinsic("fabs", value) for value in operands]
    kind = f"i{BITS[operands[0].type]}"
    signs = emitter.op("xor", *(emitter.bits(value, kind) for value in operands))
    return emitter.intrinsic(
        "copysign",
        emitter.intrinsic(stem + suffix, *magnitudes),
        emitter.bits(signs, operands[0].type),
    )


def _compute_half(
    emitter: Emitter, instruction: Instruction, operands: list[Value], half: str
) -> Value:
    """The operation on halves (i16)."""
    if any(mode in instruction.modifiers for mode in DIRECTED):
        raise emitter.refuse("directed rounding of half precision is not supported")
    if instruction.opcode == "neg":
        result = emitter.op("xor", operands[0], integer(0x8000, "i16"))
    elif instruction.opcode == "abs":
        result = emitter.op("and", operands[0], integer(0x7FFF, "i16"))
    else:
        if "ftz" in instruction.modifiers:
            operands = [flush(emitter, value, half) for value in operands]
        if instruction.opcode == "fma":
            result = fuse(emitter, operands, half)
        else:
            singles = [to_single(emitter, value, half) for value in operands]
            result = from_single(emitter, _compute(emitter, instruction, singles), half)
        if {"sat", "relu"} & set(instruction.modifiers):
            single = saturate(emitter, instruction, to_single(emitter, result, half))
            result = from_single(emitter, single, half)
    return flush(emitter, result, half) if "ftz" in instruction.modifiers else result


@handles("fma", "rn rz rm rp ftz sat relu f16 f16x2 bf16 bf16x2 f32 f64")
def emit_fused(emitter: Emitter, instruction: Instruction) -> None:
    """`fma`: one rounding."""
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


@handles(
    "rcp sqrt rsqrt ex2 lg2 sin cos tanh", "approx rn rz rm rp ftz f32 f64 f16 f16x2 bf16 bf16x2"
)
def emit_unary_function(emitter: Emitter, instruction: Instruction) -> None:
    """`rcp sqrt rsqrt ex2 lg2 sin cos tanh`, approximate or correctly rounded."""
    value = emitter.read(instruction.operands[1], instruction.type)
    half = PACKED.get(instruction.type, instruction.type)

    def on_half(values: list[Value]) -> Value:
        single = _function(emitter, instruction, to_single(emitter, values[0], half))
        return from_single(emitter, single, half)

    if instruction.type in PACKED:
        result = for_each_half(emitter, [value], on_half)
    elif instruction.type in HALVES:
        result = on_half([value])
    else:
        result = _function(emitter, instruction, value)
    emitter.write(instruction.operands[0], result)


def _function(emitter: Emitter, instruction: Instruction, value: Value) -> Value:
    one = real(1.0, value.type)
    mode = next((name for name in DIRECTED if name in instruction.modifiers), None)
    match instruction.opcode:
        case "rcp":
            if mode:
                return round_directed(emitter, "fdiv", mode, [one, value])
            return emitter.op("fdiv", one, value)
        case "sqrt":
            if mode:
                return round_directed(emitter, "sqrt", mode, [value])
            return emitter.intrinsic("sqrt", value)
        case "rsqrt":
            return emitter.op("fdiv", one, emitter.intrinsic("sqrt", value))
    return approximate(emitter, instruction.opcode, value)
