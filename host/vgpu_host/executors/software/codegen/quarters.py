"""Floating-point numbers of 8 bits (`e4m3`, `e5m2`), of which there are only conversions."""

from __future__ import annotations

from dataclasses import dataclass

from .emitter import Emitter, Value, integer, real
from .halves import from_single, to_single


@dataclass(frozen=True, slots=True)
class _Format:
    """An 8-bit format.

    Attributes:
        fraction: Bits of the fraction.
        bias: Of the exponent.
        largest: Bits of the largest finite number.
        infinite: Bits of the largest number, which may be infinity.
    """

    fraction: int
    bias: int
    largest: int
    infinite: int


#: By the name of a pair of them. `e4m3` has no infinities, and one NaN of each sign.
FORMATS = {"e4m3x2": _Format(3, 7, 0x7E, 0x7E), "e5m2x2": _Format(2, 15, 0x7B, 0x7C)}
_NAN = 0x7F


def pair_from_singles(emitter: Emitter, high: Value, low: Value, name: str, relu: bool) -> Value:
    """Two floats as a pair (an i16), rounded to nearest, too large ones as the largest."""
    bytes_ = [_from_single(emitter, value, FORMATS[name], relu) for value in (low, high)]
    upper = emitter.op("shl", bytes_[1], integer(8, "i32"))
    return emitter.cast("trunc", emitter.op("or", bytes_[0], upper), "i16")


def _from_single(emitter: Emitter, value: Value, kind: _Format, relu: bool) -> Value:
    """A float as a byte, in an i32."""
    if relu:
        value = emitter.intrinsic("maximum", value, Value("0.0", "float"))
    bits = emitter.bits(value, "i32")
    magnitude = emitter.op("and", bits, integer(0x7FFFFFFF, "i32"))
    # Normal numbers: to nearest even in the bits, then another bias.
    spare = 23 - kind.fraction
    odd = emitter.op("and", emitter.op("lshr", magnitude, integer(spare, "i32")), _one())
    half = emitter.op("add", odd, integer((1 << (spare - 1)) - 1, "i32"))
    normal = emitter.op("lshr", emitter.op("add", magnitude, half), integer(spare, "i32"))
    normal = emitter.op("sub", normal, integer((127 - kind.bias) << kind.fraction, "i32"))
    # Subnormal numbers are whole multiples of their unit.
    unit = 2.0 ** (1 - kind.bias - kind.fraction)
    scaled = emitter.op("fmul", emitter.bits(magnitude, "float"), real(1 / unit))
    count = emitter.intrinsic("roundeven", scaled)
    subnormal = emitter.intrinsic("fptosi.sat", count, type_="i32")
    least = integer((128 - kind.bias) << 23, "i32")
    is_small = emitter.compare("icmp ult", magnitude, least)
    result = emitter.select(is_small, subnormal, normal)
    result = emitter.intrinsic("umin", result, integer(kind.largest, "i32"))
    sign = emitter.op("and", emitter.op("lshr", bits, integer(24, "i32")), integer(0x80, "i32"))
    result = emitter.op("or", result, sign)
    is_nan = emitter.compare("icmp ugt", magnitude, integer(0x7F800000, "i32"))
    return emitter.select(is_nan, integer(_NAN, "i32"), result)


def _one() -> Value:
    return integer(1, "i32")


def halves_from_pair(emitter: Emitter, pair: Value, name: str, relu: bool) -> Value:
    """A pair (an i16) as two halves (an i32), which hold any such number exactly."""
    wide = emitter.cast("zext", pair, "i32")
    low = _to_half(emitter, emitter.op("and", wide, integer(0xFF, "i32")), name, relu)
    high = _to_half(emitter, emitter.op("lshr", wide, integer(8, "i32")), name, relu)
    return emitter.op("or", low, emitter.op("shl", high, integer(16, "i32")))


def _to_half(emitter: Emitter, byte: Value, name: str, relu: bool) -> Value:
    """A byte as a half, both in an i32."""
    kind = FORMATS[name]
    sign = emitter.op("and", byte, integer(0x80, "i32"))
    magnitude = emitter.op("and", byte, integer(0x7F, "i32"))
    # In the place of a half's exponent and fraction it is too small by the difference of biases.
    placed = emitter.op("shl", magnitude, integer(10 - kind.fraction, "i32"))
    single = to_single(emitter, emitter.cast("trunc", placed, "i16"), "f16")
    single = emitter.op("fmul", single, real(2.0 ** (15 - kind.bias)))
    half = emitter.cast("zext", from_single(emitter, single, "f16"), "i32")
    signed = emitter.op("or", half, emitter.op("shl", sign, integer(8, "i32")))
    if relu:
        below = emitter.compare("icmp ne", sign, integer(0, "i32"))
        signed = emitter.select(below, integer(0, "i32"), half)
    # Every NaN becomes the one that a GPU writes.
    is_nan = emitter.compare("icmp ugt", magnitude, integer(kind.infinite, "i32"))
    return emitter.select(is_nan, integer(0x7FFF, "i32"), signed)
