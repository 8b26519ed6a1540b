"""Rows of floating-point arithmetic and of the functions that are approximate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from . import reference
from .formats import FORMATS, MODES, decode, encode, flushed
from .operands import Operands, operands_of, padded, selected
from .rows import PACKED, Row, Tolerance

Function = Callable[..., Any]

#: Random operands of each approximate function.
MANY = 1500

#: Since which target halves can be added and multiplied.
HALF_TARGETS = {"f16": "sm_61", "bf16": "sm_90"}


def row(
    name: str, types: tuple[str, ...], function: Function, result: str = "", **options: Any
) -> Row:
    """A row whose text is the instruction with all its operands."""
    text = f"{name} %d, {', '.join('%' + r for r in 'abc'[: len(types)])};"
    return Row(name, text, result or types[0], types, operands_of(*types), function, **options)


def packed(function: Function, half: str) -> Function:
    """A function of halves applied to both halves of words."""

    def on_words(*words: int) -> int:
        low = function(*(decode(word & 0xFFFF, half) for word in words))
        high = function(*(decode(word >> 16, half) for word in words))
        return encode(low, half) | encode(high, half) << 16

    return on_words


def variants(
    name: str, kind: str, count: int, function: Function, target: str = "sm_61", **options: Any
) -> Iterator[Row]:
    """An instruction on one format; halves also packed."""
    yield row(f"{name}.{kind}", (kind,) * count, function, target=target, **options)
    if kind not in PACKED.values():
        return
    pair = f"{kind}x2"
    operands = pairs_of(kind, count)
    text = f"{name}.{pair} %d, {', '.join('%' + r for r in 'abc'[:count])};"
    types = ("b32",) * count
    yield Row(f"{name}.{pair}", text, pair, types, operands, packed(function, kind), target=target)


def pairs_of(kind: str, count: int) -> Operands:
    """Words of two halves: each with one from the other end of the list."""
    singles = operands_of(*(kind,) * count)
    half = len(singles) // 2
    return padded(
        tuple(low | high << 16 for low, high in zip(singles[i], singles[-1 - i], strict=True))
        for i in range(half)
    )


def flush_variants(kind: str) -> tuple[str, ...]:
    """The flushing modifiers of a format."""
    return ("", ".ftz") if kind in ("f32", "f16") else ("",)


def adapted(function: Function, kind: str, flush: str, sat: str) -> Function:
    """A function with `.ftz`, `.sat` and `.relu`."""
    after: Function | None = {".sat": reference.saturated, ".relu": reference.rectified}.get(sat)

    def inner(*operands: float) -> float:
        result = function(*operands)
        return float(after(result) if after else result)

    return reference.flushing(inner, kind) if flush else inner


BASIC: dict[str, Function] = {
    "add": reference.add,
    "sub": reference.sub,
    "mul": reference.mul,
}


def arithmetic() -> Iterator[Row]:
    """`add sub mul mad fma div rcp sqrt` in all rounding modes."""
    for kind in ("f32", "f64"):
        for flush in flush_variants(kind):
            for sat in ("", ".sat") if kind == "f32" else ("",):
                for mode in ("", *MODES):
                    for name, function in BASIC.items():
                        yield from _rounded(name, kind, 2, function, mode, flush, sat)
                    if mode:
                        yield from _rounded("fma", kind, 3, reference.fma, mode, flush, sat)
                        if mode == "rz":
                            yield from _rounded("mad", kind, 3, reference.fma, mode, flush, sat)
            for mode in MODES:
                yield from _rounded("div", kind, 2, reference.div, mode, flush, "")
                yield from _rounded("sqrt", kind, 1, reference.sqrt, mode, flush, "")
                yield from _rounded("rcp", kind, 1, reciprocal, mode, flush, "")


def reciprocal(a: float, kind: str, mode: str = "rn") -> float:
    """1 / a."""
    return reference.div(1.0, a, kind, mode)


def _rounded(
    name: str, kind: str, count: int, function: Function, mode: str, flush: str, sat: str
) -> Iterator[Row]:
    def exact(*operands: float) -> float:
        return float(function(*operands, kind, mode or "rn"))

    full = f"{name}.{mode}" if mode else name
    yield row(f"{full}{flush}{sat}.{kind}", (kind,) * count, adapted(exact, kind, flush, sat))


def halves() -> Iterator[Row]:
    """`add sub mul fma` of halves."""
    for kind in ("f16", "bf16"):
        least = HALF_TARGETS[kind]
        for flush in flush_variants(kind):
            for mode in ("", ".rn"):
                for sat in ("", ".sat") if kind == "f16" else ("",):
                    for name, function in BASIC.items():
                        full = f"{name}{mode}{flush}{sat}"
                        whole = adapted(lambda *x, f=function, k=kind: f(*x, k), kind, flush, sat)
                        yield from variants(full, kind, 2, whole, least)
            for sat in ("", ".sat", ".relu") if kind == "f16" else ("", ".relu"):
                newer = "sm_80" if kind == "bf16" or sat == ".relu" else "sm_61"
                whole = adapted(lambda *x, k=kind: reference.fma(*x, k), kind, flush, sat)
                yield from variants(f"fma.rn{flush}{sat}", kind, 3, whole, newer)


def signs() -> Iterator[Row]:
    """`abs neg copysign testp min max`."""
    for kind in ("f32", "f64", "f16", "bf16"):
        target = {"f16": "sm_61", "bf16": "sm_80"}.get(kind, "sm_61")
        for flush in flush_variants(kind):
            function = adapted(abs, kind, flush, "")
            yield from variants(f"abs{flush}", kind, 1, function, target)
            function = adapted(lambda a: -a, kind, flush, "")
            yield from variants(f"neg{flush}", kind, 1, function, target)
        halves_target = "sm_80" if kind in ("f16", "bf16") else "sm_61"
        for flush in flush_variants(kind):
            for name, extreme in (("min", reference.minimum), ("max", reference.maximum)):
                function = adapted(lambda a, b, f=extreme: f(a, b), kind, flush, "")
                yield from variants(f"{name}{flush}", kind, 2, function, halves_target)
                if kind == "f64":
                    continue
                function = adapted(lambda a, b, f=extreme: f(a, b, True), kind, flush, "")
                yield from variants(f"{name}{flush}.NaN", kind, 2, function, "sm_80")
                for nan in ("", ".NaN"):
                    function = adapted(
                        lambda a, b, f=extreme, n=bool(nan): xorsign(f, a, b, n), kind, flush, ""
                    )
                    full = f"{name}{flush}{nan}.xorsign.abs"
                    yield from variants(full, kind, 2, function, "sm_90")
    for kind in ("f32", "f64"):
        yield row(f"copysign.{kind}", (kind, kind), lambda a, b: copy_sign(a, b))
        for name, function in CLASSES.items():
            text = f"testp.{name}.{kind} %p, %a; selp.u32 %d, 1, 0, %p;"
            yield Row(
                f"testp.{name}.{kind}",
                text,
                "u32",
                (kind,),
                operands_of(kind),
                lambda a, f=function, k=kind: int(f(a, k)),
            )


def xorsign(function: Function, a: float, b: float, propagates: bool) -> float:
    """An extreme of magnitudes with the product of the signs."""
    result = float(function(abs(a), abs(b), propagates))
    return math.copysign(result, math.copysign(1, a) * math.copysign(1, b))


def copy_sign(a: float, b: float) -> float:
    """`copysign`: the magnitude of the second with the sign of the first."""
    return math.copysign(b, a)


def _is_normal(a: float, kind: str) -> bool:
    return math.isfinite(a) and abs(a) >= FORMATS[kind].least_normal


CLASSES: dict[str, Callable[[float, str], bool]] = {
    "finite": lambda a, k: math.isfinite(a),
    "infinite": lambda a, k: math.isinf(a),
    "number": lambda a, k: not math.isnan(a),
    "notanumber": lambda a, k: math.isnan(a),
    "normal": _is_normal,
    "subnormal": lambda a, k: a != 0 and math.isfinite(a) and not _is_normal(a, k),
}


def approximation(
    name: str, kind: str, function: Function, bound: Tolerance, target: str = "sm_61"
) -> Row:
    """A row of a function of one operand, with more operands than exact ones need."""
    operands = operands_of(kind, extra=MANY)
    text = f"{name} %d, %a;"
    return Row(name, text, kind, (kind,), operands, function, tolerance=bound, target=target)


def approximate() -> Iterator[Row]:
    """`div.approx div.full rcp sqrt rsqrt sin cos lg2 ex2 tanh`: the true value and its bound."""
    two = Tolerance("2 ulp", ulps=2)
    for flush in ("", ".ftz"):
        operands = operands_of("f32", "f32", extra=MANY)
        usual = selected(operands, ("f32", "f32"), lambda a, b: 2.0**-126 <= abs(b) <= 2.0**126)
        for mode, chosen, text in (
            ("approx", usual, "2 ulp for b of 2^-126 to 2^126"),
            ("full", operands, "2 ulp"),
        ):
            name = f"div.{mode}{flush}.f32"
            bound = Tolerance(text, ulps=2)
            true = approximating(true_quotient, flush)
            yield Row(
                name, f"{name} %d, %a, %b;", "f32", ("f32", "f32"), chosen, true, tolerance=bound
            )
        for name, function, bound in (
            ("rcp", true_reciprocal, Tolerance("1 ulp", ulps=1)),
            ("sqrt", true_root, Tolerance("2^-23 relative", relative=2.0**-23)),
            ("rsqrt", true_reverse_root, Tolerance("2^-22.9 relative", relative=2.0**-22.9)),
            (
                "lg2",
                true_logarithm,
                Tolerance(
                    "2^-22 absolute for 0.5 < a < 2, else relative",
                    relative=2.0**-22,
                    absolute=2.0**-22,
                ),
            ),
            ("ex2", true_power, two),
        ):
            true = approximating(function, flush)
            yield approximation(f"{name}.approx{flush}.f32", "f32", true, bound)
        for turns, bits in ((2, 20.5), (100, 14.7)):
            limit = turns * math.pi
            inside = selected(operands_of("f32", extra=MANY), ("f32",), within(limit))
            for name, wave in (("sin", math.sin), ("cos", math.cos)):
                true = approximating(
                    lambda a, f=wave: f(a) if math.isfinite(a) else math.nan, flush
                )
                title = f"{name}.approx{flush}.f32"
                bound = Tolerance(f"2^-{bits} absolute to {turns} pi", absolute=2.0**-bits)
                text = f"{title} %d, %a;"
                note = f"{title} to {turns} pi"
                yield Row(note, text, "f32", ("f32",), inside, true, tolerance=bound)
    tanh = Tolerance("2^-11 relative", relative=2.0**-11)
    yield approximation("tanh.approx.f32", "f32", math.tanh, tanh, "sm_75")
    for kind, flush, target, bits in (
        ("f16", "", "sm_75", 9.9),
        ("bf16", ".ftz", "sm_90", 7.0),
    ):
        bound = Tolerance(f"2^-{bits} relative", relative=2.0**-bits)
        name = f"ex2.approx{flush}.{kind}"
        yield approximation(name, kind, true_power, bound, target)
    for kind, target, bits in (("f16", "sm_75", 10.987), ("bf16", "sm_90", 8.0)):
        bound = Tolerance(f"2^-{bits} absolute", absolute=2.0**-bits)
        yield approximation(f"tanh.approx.{kind}", kind, math.tanh, bound, target)
    gross = Tolerance("20 bits", relative=2.0**-19)
    plain = selected(operands_of("f64", extra=MANY), ("f64",), ordinary)
    for name, function in (("rcp", true_reciprocal), ("rsqrt", true_reverse_root)):
        title = f"{name}.approx.ftz.f64"
        text = f"{title} %d, %a;"
        yield Row(title, text, "f64", ("f64",), plain, function, tolerance=gross)


def boundary() -> Iterator[Row]:
    """Flushing of a result that is subnormal before it is rounded and normal after.

    The manual leaves open which of them counts.
    """
    least = 2.0**-126
    bound = Tolerance("open: 0, or the least normal number", absolute=least)
    below = padded([(0x3F7FFFFF, 0x00800000), (0x00FFFFFF, 0x3F000000)])
    types = ("f32", "f32")
    for name, text in (
        ("mul.ftz.f32", "mul.ftz.f32 %d, %a, %b;"),
        ("fma.rn.ftz.f32", "fma.rn.ftz.f32 %d, %a, %b, 0f00000000;"),
    ):
        title = f"{name} just below the least normal number"
        yield Row(title, text, "f32", types, below, lambda a, b: least, tolerance=bound)


def ordinary(a: float) -> bool:
    """Whether a double is neither subnormal nor has a subnormal reciprocal."""
    return not math.isfinite(a) or 2.0**-1000 < abs(a) < 2.0**1000


def within(limit: float) -> Callable[[float], bool]:
    """Whether a number is NaN, infinite or at most as large as a limit."""
    return lambda a: not math.isfinite(a) or abs(a) <= limit


def approximating(function: Callable[..., float], flush: str) -> Callable[..., float]:
    """The true function of operands that are flushed, with results that `.ftz` flushes."""

    def true(*operands: float) -> float:
        if flush:
            operands = tuple(flushed(x, "f32") for x in operands)
        result = function(*operands)
        return flushed(result, "f32") if flush else result

    return true


def true_quotient(a: float, b: float) -> float:
    """a / b, nearly unrounded."""
    return reference.div(a, b, "f64")


def true_reciprocal(a: float) -> float:
    """1 / a."""
    return reference.div(1.0, a, "f64")


def true_root(a: float) -> float:
    """The square root."""
    return reference.sqrt(a, "f64")


def true_reverse_root(a: float) -> float:
    """1 / sqrt(a)."""
    return reference.div(1.0, reference.sqrt(a, "f64"), "f64")


def true_logarithm(a: float) -> float:
    """The binary logarithm."""
    if math.isnan(a) or a < 0:
        return math.nan
    return -math.inf if a == 0 else math.log2(a)


def true_power(a: float) -> float:
    """2 to the power of a."""
    if math.isnan(a):
        return a
    return 2.0 ** max(-1000.0, min(a, 1000.0))


def rows() -> Iterator[Row]:
    """All rows of floating-point arithmetic."""
    for family in (arithmetic, halves, signs, approximate, boundary):
        yield from family()
