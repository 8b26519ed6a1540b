"""Floating-point formats in exact arithmetic: decode, encode and round once.

Numbers are Python floats, which hold every number of every format here; whatever lies between is a
triple of integer, exponent of two, and whether anything was lost below.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

MODES = ("rn", "rz", "rm", "rp")


@dataclass(frozen=True)
class Format:
    """A binary format.

    Attributes:
        bits: Width as it is stored.
        digits: Digits of the significand, the hidden one included.
        least: Exponent of the least subnormal number.
        top: Exponent of the largest power of two.
    """

    name: str
    bits: int
    digits: int
    least: int
    top: int

    @property
    def largest(self) -> float:
        """The largest finite number."""
        return math.ldexp((1 << self.digits) - 1, self.top - self.digits + 1)

    @property
    def least_normal(self) -> float:
        """The least normal number."""
        return math.ldexp(1, self.least + self.digits - 1)


FORMATS = {
    item.name: item
    for item in (
        Format("f16", 16, 11, -24, 15),
        Format("bf16", 16, 8, -133, 127),
        Format("tf32", 32, 11, -136, 127),
        Format("f32", 32, 24, -149, 127),
        Format("f64", 64, 53, -1074, 1023),
    )
}
_CODES = {"f16": ("<e", "<H"), "f32": ("<f", "<I"), "tf32": ("<f", "<I"), "f64": ("<d", "<Q")}


def decode(bits: int, kind: str) -> float:
    """The number that some bits stand for."""
    if kind == "bf16":
        bits, kind = bits << 16, "f32"
    floating, integer = _CODES[kind]
    return float(struct.unpack(floating, struct.pack(integer, bits))[0])


def encode(number: float, kind: str) -> int:
    """The bits of a number of the format."""
    if kind == "bf16":
        return encode(number, "f32") >> 16
    floating, integer = _CODES[kind]
    return int(struct.unpack(integer, struct.pack(floating, number))[0])


def parts(number: float) -> tuple[int, int]:
    """A finite number as integer and exponent of two."""
    fraction, exponent = math.frexp(number)
    return int(math.ldexp(fraction, 53)), exponent - 53


def round_parts(integer: int, exponent: int, lost: bool, kind: str, mode: str = "rn") -> float:
    """Round integer * 2**exponent to a format; `lost` when a little of its magnitude is missing.

    `mode` is one of `MODES`, or `rna`: to nearest, ties away from zero. Of zero the sign is +.
    """
    form = FORMATS[kind]
    negative, magnitude = integer < 0, abs(integer)
    if lost:
        # Room for the digits that decide.
        magnitude, exponent = magnitude << 64 | 1, exponent - 64
    unit = max(exponent + magnitude.bit_length() - form.digits, form.least)
    shift = unit - exponent
    if shift <= 0:
        count, rest, half = magnitude << -shift, 0, 1
    else:
        count, rest, half = magnitude >> shift, magnitude & (1 << shift) - 1, 1 << (shift - 1)
    outward = {"rz": False, "rm": negative, "rp": not negative}.get(mode)
    if outward is not None:
        count += outward and rest != 0
    elif mode == "rna":
        count += rest >= half
    else:
        count += rest > half or (rest == half and count & 1)
    if count and count.bit_length() + unit - 1 > form.top:
        result = math.inf if outward in (None, True) else form.largest
    else:
        result = math.ldexp(count, unit)
    return -result if negative else result


def rounded(number: float, kind: str, mode: str = "rn") -> float:
    """A number rounded to a format; zeros, infinities and NaN stay."""
    if number == 0 or not math.isfinite(number):
        return number
    return round_parts(*parts(number), False, kind, mode)


def flushed(number: float, kind: str) -> float:
    """Subnormal numbers of a format become zeros of their sign."""
    return math.copysign(0.0, number) if abs(number) < FORMATS[kind].least_normal else number


def unit_in_last_place(number: float, kind: str) -> float:
    """The distance of neighbours of a format around a finite number."""
    form = FORMATS[kind]
    exponent = math.frexp(number)[1] if number else form.least
    return math.ldexp(1, max(exponent - form.digits, form.least))
