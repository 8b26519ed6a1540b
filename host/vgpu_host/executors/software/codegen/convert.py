"""`cvt`: conversions between integer and floating-point types."""

from __future__ import annotations

from vgpu_host.executors.software.ir import BITS as WIDTH
from vgpu_host.executors.software.ir import STORAGE, Instruction

from .emitter import Emitter, Value, integer
from .registry import handles
from .rounding import adjust

_TYPES = "u8 s8 u16 s16 u32 s32 u64 s64 f16 f32 f64"
_TO_INTEGER = {"rni": "roundeven", "rzi": "trunc", "rmi": "floor", "rpi": "ceil"}
_DIRECTED = ("rz", "rm", "rp")


@handles("cvt", f"rn rz rm rp rni rzi rmi rpi ftz sat {_TYPES} f16x2")
def emit_convert(emitter: Emitter, instruction: Instruction) -> None:
    """`cvt`: between all integer and floating-point types."""
    types = [name for name in instruction.modifiers if name in STORAGE]
    if len(types) != 2:
        raise emitter.refuse("cvt needs two types")
    target_type, source_type = types
    if target_type == "f16x2":
        _pack_halves(emitter, instruction)
        return
    value = emitter.read(instruction.operands[1], source_type)
    if source_type[0] == "f" and target_type[0] == "f":
        result = _float_to_float(emitter, instruction, value, source_type, target_type)
    elif source_type[0] == "f":
        result = _float_to_integer(emitter, instruction, value, source_type, target_type)
    elif target_type[0] == "f":
        result = _integer_to_float(emitter, instruction, value, source_type, target_type)
    else:
        result = _integer_to_integer(emitter, instruction, value, source_type, target_type)
    emitter.write(instruction.operands[0], result, target_type[0] == "s")


def _mode(instruction: Instruction, modes: tuple[str, ...]) -> str | None:
    return next((name for name in modes if name in instruction.modifiers), None)


def _as_float(emitter: Emitter, value: Value, ptx_type: str) -> Value:
    return emitter.bits(value, "half") if ptx_type == "f16" else value


def _clamp_unit(emitter: Emitter, instruction: Instruction, value: Value) -> Value:
    if "sat" not in instruction.modifiers:
        return value
    above = emitter.intrinsic("maximumnum", value, Value("0.0", value.type))
    return emitter.intrinsic("minimumnum", above, Value("1.0", value.type))


def _float_to_float(
    emitter: Emitter, instruction: Instruction, value: Value, source: str, target: str
) -> Value:
    value = _as_float(emitter, value, source)
    whole = _mode(instruction, tuple(_TO_INTEGER))
    if whole:
        value = emitter.intrinsic(_TO_INTEGER[whole], value)
    kind = "half" if target == "f16" else STORAGE[target]
    mode = _mode(instruction, _DIRECTED)
    if WIDTH[kind] > WIDTH[value.type]:
        value = emitter.cast("fpext", value, kind)
    elif WIDTH[kind] < WIDTH[value.type]:
        value = _narrow(emitter, value, kind, mode)
    value = _clamp_unit(emitter, instruction, value)
    return emitter.bits(value, "i16") if target == "f16" else value


def _narrow(emitter: Emitter, value: Value, kind: str, mode: str | None) -> Value:
    if kind == "half" and value.type == "double":
        raise emitter.refuse("cvt.f16.f64 is not supported")
    narrow = emitter.cast("fptrunc", value, kind)
    if mode is None:
        return narrow
    error = emitter.op("fsub", value, emitter.cast("fpext", narrow, value.type))
    return adjust(emitter, mode, narrow, error)


def _float_to_integer(
    emitter: Emitter, instruction: Instruction, value: Value, source: str, target: str
) -> Value:
    """Round, then clamp to the range of the target; NaN becomes 0 or, for 64 bits, the top bit."""
    value = _as_float(emitter, value, source)
    if value.type == "half":
        value = emitter.cast("fpext", value, "float")
    whole = _mode(instruction, tuple(_TO_INTEGER)) or "rzi"
    rounded = value if whole == "rzi" else emitter.intrinsic(_TO_INTEGER[whole], value)
    kind = STORAGE[target]
    result = emitter.intrinsic(
        "fptosi.sat" if target[0] == "s" else "fptoui.sat", rounded, type_=kind
    )
    if source == "f64" or WIDTH[kind] == 64:
        is_nan = emitter.compare("fcmp uno", value, value)
        result = emitter.select(is_nan, integer(1 << (WIDTH[kind] - 1), kind), result)
    return result


def _integer_to_float(
    emitter: Emitter, instruction: Instruction, value: Value, source: str, target: str
) -> Value:
    operation = "sitofp" if source[0] == "s" else "uitofp"
    mode = _mode(instruction, _DIRECTED)
    kind = STORAGE[target]
    if target == "f16":
        if mode:
            raise emitter.refuse("directed rounding of integers to half precision")
        if WIDTH[value.type] > 32:
            raise emitter.refuse("64-bit integer to half precision is not supported")
        result = emitter.cast("fptrunc", emitter.cast(operation, value, "float"), "half")
        return emitter.bits(_clamp_unit(emitter, instruction, result), "i16")
    if mode is None:
        return _clamp_unit(emitter, instruction, emitter.cast(operation, value, kind))
    if WIDTH[value.type] == 64:
        raise emitter.refuse("directed rounding of 64-bit integers is not supported")
    exact = emitter.cast(operation, value, "double")
    return exact if kind == "double" else _narrow(emitter, exact, kind, mode)


def _integer_to_integer(
    emitter: Emitter, instruction: Instruction, value: Value, source: str, target: str
) -> Value:
    signed_source, signed_target = source[0] == "s", target[0] == "s"
    bits = WIDTH[STORAGE[target]]
    if "sat" in instruction.modifiers:
        top = (1 << (bits - 1 if signed_target else bits)) - 1
        bottom = -(1 << (bits - 1)) if signed_target else 0
        have = WIDTH[value.type]
        if signed_source:
            if bottom > -(1 << (have - 1)):
                value = emitter.intrinsic("smax", value, integer(bottom, value.type))
            if top < (1 << (have - 1)) - 1:
                value = emitter.intrinsic("smin", value, integer(top, value.type))
        elif top < (1 << have) - 1:
            value = emitter.intrinsic("umin", value, integer(top, value.type))
    return emitter.resize(value, STORAGE[target], signed_source)


def _pack_halves(emitter: Emitter, instruction: Instruction) -> None:
    """`cvt.rn.f16x2.f32 d, a, b`: a becomes the high half, b the low half."""
    target, high, low = instruction.operands
    halves = []
    for operand in (low, high):
        value = emitter.read(operand, "f32")
        narrow = _narrow(emitter, value, "half", _mode(instruction, _DIRECTED))
        halves.append(emitter.cast("zext", emitter.bits(narrow, "i16"), "i32"))
    shifted = emitter.op("shl", halves[1], integer(16, "i32"))
    emitter.write(target, emitter.op("or", halves[0], shifted))
