"""`cvt`: conversions between integer and floating-point types."""

from __future__ import annotations

from vgpu_host.executors.software.ir import BITS as WIDTH
from vgpu_host.executors.software.ir import STORAGE, Instruction

from .emitter import Emitter, Value, integer, real
from .halves import HALVES, PACKED, from_double, from_single, to_odd, to_single
from .quarters import FORMATS, halves_from_pair, pair_from_singles
from .registry import handles
from .rounding import adjust
from .saturation import saturate

_TYPES = "u8 s8 u16 s16 u32 s32 u64 s64 f16 bf16 f32 f64 tf32"
_TO_INTEGER = {"rni": "roundeven", "rzi": "trunc", "rmi": "floor", "rpi": "ceil"}
_DIRECTED = ("rz", "rm", "rp")
_FLOATING = frozenset(("f16", "bf16", "f32", "f64"))


#: Largest finite number of a floating-point type, to which `.satfinite` takes infinities.
_LARGEST = {"f16": 0x7BFF, "bf16": 0x7F7F, "tf32": 0x7F7FE000}
_INFINITY = {"f16": 0x7C00, "bf16": 0x7F80, "tf32": 0x7F800000}


@handles(
    "cvt",
    f"rn rz rm rp rna rni rzi rmi rpi ftz sat satfinite relu pack {_TYPES} f16x2 bf16x2 b32 "
    f"s4 u4 s2 u2 {' '.join(FORMATS)}",
)
def emit_convert(emitter: Emitter, instruction: Instruction) -> None:
    """`cvt`: between all integer and floating-point types."""
    if "pack" in instruction.modifiers:
        _pack_integers(emitter, instruction)
        return
    known = (*STORAGE, "tf32", *FORMATS)
    types = [name for name in instruction.modifiers if name in known]
    if len(types) != 2:
        raise emitter.refuse("cvt needs two types")
    target, source = types
    if target in FORMATS:
        result = _to_quarters(emitter, instruction, target, source)
    elif source in FORMATS:
        relu = "relu" in instruction.modifiers
        value = emitter.read(instruction.operands[1], "b16")
        result = halves_from_pair(emitter, value, source, relu)
    elif target in PACKED:
        result = _pack_halves(emitter, instruction, PACKED[target])
    elif target == "tf32":
        result = _to_tensor_float(emitter, instruction)
    else:
        value = emitter.read(instruction.operands[1], source)
        if source in HALVES:
            value = to_single(emitter, value, source)
        if source in _FLOATING and target in _FLOATING:
            result = _float_to_float(emitter, instruction, value, source, target)
        elif source in _FLOATING:
            result = _float_to_integer(emitter, instruction, value, source, target)
        elif target in _FLOATING:
            result = _integer_to_float(emitter, instruction, value, source, target)
        else:
            result = _integer_to_integer(emitter, instruction, value, source, target)
        if target in HALVES:
            result = _finite(emitter, instruction, result, target)
    emitter.write(instruction.operands[0], result, target[0] == "s")


def _mode(instruction: Instruction, modes: tuple[str, ...]) -> str | None:
    return next((name for name in modes if name in instruction.modifiers), None)


def _float_to_float(
    emitter: Emitter, instruction: Instruction, value: Value, source: str, target: str
) -> Value:
    whole = _mode(instruction, tuple(_TO_INTEGER))
    if whole:
        value = emitter.intrinsic(_TO_INTEGER[whole], value)
    value = saturate(emitter, instruction, value)
    return _narrow(emitter, value, target, _mode(instruction, _DIRECTED))


def _narrow(emitter: Emitter, value: Value, target: str, mode: str | None) -> Value:
    """A float or double as a floating-point type of any width, as it is stored."""
    if target in HALVES:
        rounding = from_single if value.type == "float" else from_double
        return rounding(emitter, value, target, mode)
    kind = STORAGE[target]
    if WIDTH[kind] >= WIDTH[value.type]:
        return emitter.cast("fpext", value, kind)
    narrow = emitter.cast("fptrunc", value, kind)
    if mode is None:
        return narrow
    error = emitter.op("fsub", value, emitter.cast("fpext", narrow, value.type))
    return adjust(emitter, mode, narrow, error)


def _float_to_integer(
    emitter: Emitter, instruction: Instruction, value: Value, source: str, target: str
) -> Value:
    """Round, then clamp to the range of the target; NaN becomes 0 or, for 64 bits, the top bit."""
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
    signed = source[0] == "s"
    operation = "sitofp" if signed else "uitofp"
    mode = _mode(instruction, _DIRECTED)
    if mode is None and target in ("f32", "f64"):
        result = emitter.cast(operation, value, STORAGE[target])
        return saturate(emitter, instruction, result)
    exact = emitter.cast(operation, value, "double")
    if WIDTH[value.type] == 64:
        error = _integer_error(emitter, value, exact, signed)
        if target == "f64":
            return adjust(emitter, mode, exact, error) if mode else exact
        exact = to_odd(emitter, exact, error)
    return _narrow(emitter, saturate(emitter, instruction, exact), target, mode)


def _integer_error(emitter: Emitter, value: Value, nearest: Value, signed: bool) -> Value:
    """A double with the sign of (a 64-bit integer - the double nearest to it)."""
    back = emitter.intrinsic("fptosi.sat" if signed else "fptoui.sat", nearest, type_="i64")
    rest = emitter.cast("sitofp", emitter.op("sub", value, back), "double")
    beyond = emitter.compare("fcmp oge", nearest, real(2.0 ** (63 if signed else 64), "double"))
    return emitter.select(beyond, real(-1.0, "double"), rest)


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


def _pack_halves(emitter: Emitter, instruction: Instruction, half: str) -> Value:
    """`cvt.rn.f16x2.f32 d, a, b`: a becomes the high half, b the low half."""
    _, high, low = instruction.operands
    halves = []
    for operand in (low, high):
        value = saturate(emitter, instruction, emitter.read(operand, "f32"))
        narrow = from_single(emitter, value, half, _mode(instruction, _DIRECTED))
        narrow = _finite(emitter, instruction, narrow, half)
        halves.append(emitter.cast("zext", narrow, "i32"))
    return emitter.op("or", halves[0], emitter.op("shl", halves[1], integer(16, "i32")))


def _to_tensor_float(emitter: Emitter, instruction: Instruction) -> Value:
    """`cvt.rna.tf32.f32`: keep 10 bits of the fraction, ties away from zero."""
    value = emitter.read(instruction.operands[1], "f32")
    bits = emitter.bits(value, "i32")
    bias = integer(0x1000, "i32")
    if "rn" in instruction.modifiers:
        odd = emitter.op("and", emitter.op("lshr", bits, integer(13, "i32")), integer(1, "i32"))
        bias = emitter.op("add", odd, integer(0xFFF, "i32"))
    elif "rz" in instruction.modifiers:
        bias = integer(0, "i32")
    rounded = emitter.op("and", emitter.op("add", bits, bias), integer(~0x1FFF, "i32"))
    is_nan = emitter.compare("fcmp uno", value, value)
    result = emitter.bits(emitter.select(is_nan, integer(0x7FFFFFFF, "i32"), rounded), "float")
    if "relu" in instruction.modifiers:
        result = emitter.intrinsic("maximum", result, Value("0.0", "float"))
    return _finite(emitter, instruction, emitter.bits(result, "i32"), "tf32")


def _finite(emitter: Emitter, instruction: Instruction, value: Value, kind: str) -> Value:
    """With `.satfinite` the largest number instead of an infinity (bits in an integer)."""
    if "satfinite" not in instruction.modifiers:
        return value
    top = integer(-(1 << (WIDTH[value.type] - 1)), value.type)
    sign = emitter.op("and", value, top)
    magnitude = emitter.op("xor", value, sign)
    infinite = emitter.compare("icmp eq", magnitude, integer(_INFINITY[kind], value.type))
    largest = emitter.op("or", sign, integer(_LARGEST[kind], value.type))
    return emitter.select(infinite, largest, value)


def _to_quarters(emitter: Emitter, instruction: Instruction, target: str, source: str) -> Value:
    """`cvt.rn.satfinite.e4m3x2`: of two floats, the first one high, or of two halves."""
    relu = "relu" in instruction.modifiers
    if source == "f32":
        high, low = (emitter.read(operand, "f32") for operand in instruction.operands[1:])
    elif source == "f16x2":
        pair = emitter.read(instruction.operands[1], "b32")
        upper = emitter.op("lshr", pair, integer(16, "i32"))
        high, low = (
            to_single(emitter, emitter.cast("trunc", half, "i16"), "f16") for half in (upper, pair)
        )
    else:
        raise emitter.refuse(f"cvt from .{source} to .{target} is not supported")
    return pair_from_singles(emitter, high, low, target, relu)


def _pack_integers(emitter: Emitter, instruction: Instruction) -> None:
    """`cvt.pack.sat`: two integers saturated, side by side, and the low bits of a third above."""
    target, first, second, *rest = instruction.operands
    kind = next(name for name in instruction.modifiers if name not in ("pack", "sat"))
    bits, signed = int(kind[1:]), kind[0] == "s"
    low = -(1 << (bits - 1)) if signed else 0
    high = (1 << (bits - 1 if signed else bits)) - 1
    result: Value = integer(0, "i32")
    for place, operand in ((bits, first), (0, second)):
        value = emitter.intrinsic("smax", emitter.read(operand, "s32"), integer(low, "i32"))
        value = emitter.intrinsic("smin", value, integer(high, "i32"))
        value = emitter.op("and", value, integer((1 << bits) - 1, "i32"))
        result = emitter.op("or", result, emitter.op("shl", value, integer(place, "i32")))
    if rest:
        above = emitter.op("shl", emitter.read(rest[0], "b32"), integer(2 * bits, "i32"))
        result = emitter.op("or", result, above)
    emitter.write(target, result)
