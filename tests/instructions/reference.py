"""What instructions do, on Python's integers and exact fractions of two: floating point.

Every function takes numbers of one format and yields a number of that format, rounded once. NaN
means any NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from .formats import flushed, parts, round_parts

NAN, INF = math.nan, math.inf


def _zero(signs: list[float], mode: str) -> float:
    """The sign of an exact sum of zero."""
    if all(math.copysign(1, sign) < 0 for sign in signs):
        return -0.0
    if all(math.copysign(1, sign) > 0 for sign in signs):
        return 0.0
    return -0.0 if mode == "rm" else 0.0


def _total(terms: list[tuple[int, int]], kind: str, mode: str, signs: list[float]) -> float:
    least = min(exponent for _, exponent in terms)
    total = sum(integer << exponent - least for integer, exponent in terms)
    return round_parts(total, least, False, kind, mode) if total else _zero(signs, mode)


def add(a: float, b: float, kind: str, mode: str = "rn") -> float:
    """a + b."""
    if not (math.isfinite(a) and math.isfinite(b)):
        return a + b
    return _total([parts(a), parts(b)], kind, mode, [a, b])


def sub(a: float, b: float, kind: str, mode: str = "rn") -> float:
    """a - b."""
    return add(a, -b, kind, mode)


def mul(a: float, b: float, kind: str, mode: str = "rn") -> float:
    """a * b."""
    if not (math.isfinite(a) and math.isfinite(b)) or a == 0 or b == 0:
        return a * b
    (x, p), (y, q) = parts(a), parts(b)
    return round_parts(x * y, p + q, False, kind, mode)


def fma(a: float, b: float, c: float, kind: str, mode: str = "rn") -> float:
    """a * b + c, rounded once."""
    if not (math.isfinite(a) and math.isfinite(b)):
        return a * b + c
    if not math.isfinite(c):
        return c
    (x, p), (y, q) = parts(a), parts(b)
    sign = math.copysign(1, a) * math.copysign(1, b)
    return _total([(x * y, p + q), parts(c)], kind, mode, [sign, c])


def div(a: float, b: float, kind: str, mode: str = "rn") -> float:
    """a / b."""
    if math.isnan(a) or math.isnan(b) or (math.isinf(a) and math.isinf(b)) or a == b == 0:
        return NAN
    sign = math.copysign(1, a) * math.copysign(1, b)
    if math.isinf(a) or b == 0:
        return math.copysign(INF, sign)
    if math.isinf(b) or a == 0:
        return math.copysign(0.0, sign)
    (x, p), (y, q) = parts(a), parts(b)
    quotient, rest = divmod(abs(x) << 120, abs(y))
    return round_parts(int(sign) * quotient, p - q - 120, rest != 0, kind, mode)


def sqrt(a: float, kind: str, mode: str = "rn") -> float:
    """The square root."""
    if not a > 0 or math.isinf(a):
        return a if a == 0 or a == INF else NAN
    x, p = parts(a)
    shift = 130 + (p & 1)
    root = math.isqrt(x << shift)
    return round_parts(root, (p - shift) // 2, root * root != x << shift, kind, mode)


def minimum(a: float, b: float, propagates: bool = False) -> float:
    """The lesser one, -0 below +0; of a number and a NaN the number, unless NaN propagates."""
    if math.isnan(a) or math.isnan(b):
        if propagates:
            return NAN
        return b if math.isnan(a) else a
    return a if (a, math.copysign(1, a)) < (b, math.copysign(1, b)) else b


def maximum(a: float, b: float, propagates: bool = False) -> float:
    """The greater one."""
    return -minimum(-a, -b, propagates)


def saturated(a: float) -> float:
    """Clamped to [0, 1]; NaN becomes +0."""
    return min(a, 1.0) if a > 0 else 0.0


def rectified(a: float) -> float:
    """`.relu`: negative numbers become +0, NaN stays."""
    return a if a > 0 or math.isnan(a) else 0.0


def flushing(function: Callable[..., float], kind: str) -> Callable[..., float]:
    """The function with subnormal operands and results flushed."""
    return lambda *operands: flushed(function(*(flushed(x, kind) for x in operands)), kind)


def whole(a: float, mode: str) -> float:
    """The integer next to a number: `rni` to nearest even, `rzi`, `rmi`, `rpi`."""
    if not math.isfinite(a) or abs(a) >= 2.0**53:
        return a
    number = {"rni": round, "rzi": math.trunc, "rmi": math.floor, "rpi": math.ceil}[mode](a)
    return math.copysign(float(abs(number)), a)


def to_integer(a: float, kind: str, low: int, high: int) -> int:
    """A whole number clamped to a range; what becomes of NaN depends on the formats."""
    bits = (high - low).bit_length()
    if math.isnan(a):
        # As measured on an H200.
        top = low if low else 1 << (bits - 1)
        return top if kind == "f64" or bits == 64 else 0
    if math.isinf(a):
        return high if a > 0 else low
    return max(low, min(high, int(a)))


def from_integer(number: int, kind: str, mode: str = "rn") -> float:
    """An integer rounded to a format."""
    return round_parts(number, 0, False, kind, mode) if number else 0.0
