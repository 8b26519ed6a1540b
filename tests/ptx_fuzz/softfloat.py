"""IEEE 754 arithmetic on bit patterns, in Python integers, for the reference interpreter.

Every operation makes the exact result first and rounds it once, in any format and rounding mode, so
there is nothing in it that could be right for one width and wrong for another. A NaN has one bit
pattern here; PTX leaves the payload open.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt


@dataclass(frozen=True, slots=True)
class Format:
    """A binary interchange format: widths of the exponent and of the stored fraction in bits."""

    exponent: int
    fraction: int

    @property
    def sign(self) -> int:
        """The sign bit."""
        return 1 << (self.exponent + self.fraction)

    @property
    def infinity(self) -> int:
        """The bits of +infinity."""
        return ((1 << self.exponent) - 1) << self.fraction

    @property
    def nan(self) -> int:
        """The bits of the one NaN that operations return."""
        return self.infinity | ((1 << self.fraction) - 1)

    @property
    def one(self) -> int:
        """The bits of 1.0."""
        return ((1 << (self.exponent - 1)) - 1) << self.fraction

    @property
    def least(self) -> int:
        """Exponent of the unit in the last place of subnormal numbers."""
        return 2 - (1 << (self.exponent - 1)) - self.fraction


F16, BF16, F32, F64 = Format(5, 10), Format(8, 7), Format(8, 23), Format(11, 52)
FORMATS = {"f16": F16, "bf16": BF16, "f32": F32, "f64": F64}

#: sign, integer mantissa, exponent of its last place.
Exact = tuple[int, int, int]


def is_nan(bits: int, form: Format) -> bool:
    """Whether the bits are a NaN."""
    return bits & ~form.sign > form.infinity


def is_infinite(bits: int, form: Format) -> bool:
    """Whether the bits are an infinity of either sign."""
    return bits & ~form.sign == form.infinity


def is_zero(bits: int, form: Format) -> bool:
    """Whether the bits are a zero of either sign."""
    return bits & ~form.sign == 0


def flush(bits: int, form: Format) -> int:
    """Subnormal numbers become zero of the same sign."""
    return bits if bits & form.infinity else bits & form.sign


def unpack(bits: int, form: Format) -> Exact:
    """The exact value of a finite number."""
    sign = int(bits & form.sign != 0)
    stored = (bits & form.infinity) >> form.fraction
    fraction = bits & ((1 << form.fraction) - 1)
    if stored == 0:
        return sign, fraction, form.least
    return sign, fraction | 1 << form.fraction, form.least + stored - 1


def pack(value: Exact, form: Format, mode: str = "rn") -> int:
    """Round an exact value once; overflow gives an infinity or the largest number, by the mode."""
    sign, mantissa, exponent = value
    top = form.sign if sign else 0
    if mantissa == 0:
        return top
    precision = form.fraction + 1
    place = max(mantissa.bit_length() + exponent - precision, form.least)
    shift = place - exponent
    if shift <= 0:
        kept, rest, half = mantissa << -shift, 0, 1
    else:
        kept, rest, half = mantissa >> shift, mantissa & ((1 << shift) - 1), 1 << (shift - 1)
    if mode == "rn":
        up = rest > half or (rest == half and kept & 1 == 1)
    else:
        up = rest != 0 and mode == ("rm" if sign else "rp")
    kept += up
    if kept.bit_length() > precision:
        kept >>= 1
        place += 1
    largest = form.infinity - 1
    bits = kept if kept < 1 << form.fraction else kept + ((place - form.least) << form.fraction)
    if bits > largest:
        away = mode == "rn" or mode == ("rm" if sign else "rp")
        bits = form.infinity if away else largest
    return top | bits


def _sum(a: Exact, b: Exact, mode: str) -> Exact:
    exponent = min(a[2], b[2])
    total = sum(
        (-mantissa if sign else mantissa) << (place - exponent) for sign, mantissa, place in (a, b)
    )
    if total == 0:
        both = a[0] and b[0]
        return int(bool(both) or (a[0] != b[0] and mode == "rm")), 0, 0
    return int(total < 0), abs(total), exponent


def add(a: int, b: int, form: Format, mode: str = "rn") -> int:
    """a + b."""
    return fma(a, form.one, b, form, mode)


def subtract(a: int, b: int, form: Format, mode: str = "rn") -> int:
    """a - b."""
    return add(a, b if is_nan(b, form) else b ^ form.sign, form, mode)


def multiply(a: int, b: int, form: Format, mode: str = "rn") -> int:
    """a * b."""
    if is_nan(a, form) or is_nan(b, form):
        return form.nan
    sign = (a ^ b) & form.sign
    if is_infinite(a, form) or is_infinite(b, form):
        return form.nan if is_zero(a, form) or is_zero(b, form) else sign | form.infinity
    x, y = unpack(a, form), unpack(b, form)
    return pack((x[0] ^ y[0], x[1] * y[1], x[2] + y[2]), form, mode)


def fma(a: int, b: int, c: int, form: Format, mode: str = "rn") -> int:
    """a * b + c, rounded once."""
    if any(is_nan(value, form) for value in (a, b, c)):
        return form.nan
    sign = (a ^ b) & form.sign
    if is_infinite(a, form) or is_infinite(b, form):
        if is_zero(a, form) or is_zero(b, form):
            return form.nan
        if is_infinite(c, form) and (c & form.sign) != sign:
            return form.nan
        return sign | form.infinity
    if is_infinite(c, form):
        return c
    x, y = unpack(a, form), unpack(b, form)
    product = (x[0] ^ y[0], x[1] * y[1], x[2] + y[2])
    return pack(_sum(product, unpack(c, form), mode), form, mode)


def divide(a: int, b: int, form: Format, mode: str = "rn") -> int:
    """a / b."""
    if is_nan(a, form) or is_nan(b, form):
        return form.nan
    sign = (a ^ b) & form.sign
    if is_infinite(a, form):
        return form.nan if is_infinite(b, form) else sign | form.infinity
    if is_infinite(b, form):
        return sign
    if is_zero(b, form):
        return form.nan if is_zero(a, form) else sign | form.infinity
    x, y = unpack(a, form), unpack(b, form)
    # Enough places that what is left over only matters for being there: one sticky bit.
    quotient, rest = divmod(x[1] << 160, y[1])
    return pack((x[0] ^ y[0], quotient << 1 | (rest != 0), x[2] - y[2] - 161), form, mode)


def square_root(a: int, form: Format, mode: str = "rn") -> int:
    """The square root of a."""
    if is_nan(a, form) or is_zero(a, form):
        return form.nan if is_nan(a, form) else a
    if a & form.sign:
        return form.nan
    if is_infinite(a, form):
        return a
    _, mantissa, exponent = unpack(a, form)
    widened = mantissa << (160 + (exponent & 1))
    root = isqrt(widened)
    place = (exponent - 160 - (exponent & 1)) // 2
    return pack((0, root << 1 | (root * root != widened), place - 1), form, mode)


def _ordered(bits: int, form: Format) -> int:
    magnitude = bits & ~form.sign
    return -magnitude if bits & form.sign else magnitude


def compare(a: int, b: int, form: Format) -> int | None:
    """-1, 0 or 1; None when one of them is a NaN."""
    if is_nan(a, form) or is_nan(b, form):
        return None
    x, y = _ordered(a, form), _ordered(b, form)
    return (x > y) - (x < y)


def extreme(a: int, b: int, form: Format, largest: bool, keep_nan: bool = False) -> int:
    """The smaller or the larger; of a NaN and a number the number, and -0 is less than +0."""
    if is_nan(a, form) or is_nan(b, form):
        if keep_nan or (is_nan(a, form) and is_nan(b, form)):
            return form.nan
        return b if is_nan(a, form) else a
    keys = [(_ordered(v, form), not v & form.sign, v) for v in (a, b)]
    return (max if largest else min)(keys)[2]


def saturate(bits: int, form: Format) -> int:
    """Clamp to [0, 1]; a NaN becomes +0."""
    if is_nan(bits, form) or bits & form.sign:
        return 0
    return min(bits, form.one)


def convert(bits: int, source: Format, target: Format, mode: str = "rn") -> int:
    """Another format's nearest number, by the mode."""
    sign = target.sign if bits & source.sign else 0
    if is_nan(bits, source):
        return target.nan
    if is_infinite(bits, source):
        return sign | target.infinity
    return pack(unpack(bits, source), target, mode)


def from_integer(value: int, form: Format, mode: str = "rn") -> int:
    """The number nearest to an integer."""
    return pack((int(value < 0), abs(value), 0), form, mode)


def to_integer(bits: int, form: Format, mode: str) -> int:
    """A finite number rounded to an integer; `mode` is rni, rzi, rmi or rpi."""
    sign, mantissa, exponent = unpack(bits, form)
    if exponent >= 0:
        whole = mantissa << exponent
    else:
        whole, rest = mantissa >> -exponent, mantissa & ((1 << -exponent) - 1)
        half = 1 << (-exponent - 1)
        if mode == "rni":
            whole += rest > half or (rest == half and whole & 1 == 1)
        elif rest and mode == ("rmi" if sign else "rpi"):
            whole += 1
    return -whole if sign else whole


def round_to_integral(bits: int, form: Format, mode: str) -> int:
    """A number rounded to an integer in its own format, with the sign of its zero kept."""
    if is_nan(bits, form):
        return form.nan
    if is_infinite(bits, form):
        return bits
    return (bits & form.sign) | pack((0, abs(to_integer(bits, form, mode)), 0), form)
