"""Rows of `cvt`: between all pairs of types, in all modes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import reference
from .formats import FORMATS, MODES, encode, flushed, rounded
from .integers import ALL
from .operands import operands_of
from .rows import Row

INTEGERS = ("s8", "u8", *ALL)
FLOATS = ("f16", "bf16", "f32", "f64")
WHOLE = ("rni", "rzi", "rmi", "rpi")


def carrier(kind: str) -> str:
    """The register type that holds a type: 8-bit numbers are held in words."""
    return {"s8": "s32", "u8": "u32"}.get(kind, kind)


def range_of(kind: str) -> tuple[int, int]:
    """The least and the largest integer of a type."""
    bits = int(kind[1:])
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if kind[0] == "s" else (0, (1 << bits) - 1)


def contains(kind: str, other: str) -> bool:
    """Whether a type holds all numbers of another one."""
    return min(range_of(kind)) <= min(range_of(other)) and max(range_of(other)) <= max(
        range_of(kind)
    )


def has_conversion(*kinds: str) -> bool:
    """Whether there is a conversion between two types, one of them an integer."""
    return "bf16" not in kinds or not {"s8", "u8"} & set(kinds)


def part(value: int, kind: str) -> int:
    """The low bits of an integer as a number of a type."""
    low, high = range_of(kind)
    value &= high - low
    return value - (high - low + 1) if value > high else value


def target_of(*kinds: str) -> str:
    """The least target that converts between types."""
    if "bf16" in kinds:
        return "sm_90"
    return "sm_61"


def row(name: str, result: str, source: str, function: Any, target: str = "") -> Row:
    """A row that converts %a to %d."""
    held = carrier(source)
    operands = operands_of(held if held in FORMATS else f"u{held[1:]}")
    least = target or target_of(result, source)
    text = f"{name} %d, %a;"
    return Row(name, text, carrier(result), (held,), operands, function, target=least)


def between_integers() -> Iterator[Row]:
    """Truncation, extension and saturation."""
    for source in INTEGERS:
        for target in INTEGERS:
            if source == target:
                continue

            def cut(a: int, s: str = source, t: str = target) -> int:
                return part(part(a, s), t)

            def clamped(a: int, s: str = source, t: str = target) -> int:
                low, high = range_of(t)
                return max(low, min(high, part(a, s)))

            yield row(f"cvt.{target}.{source}", target, source, cut)
            if not contains(target, source):
                yield row(f"cvt.sat.{target}.{source}", target, source, clamped)


def to_integers() -> Iterator[Row]:
    """Rounding to an integer and clamping."""
    for source in FLOATS:
        for target in INTEGERS:
            if not has_conversion(source, target):
                continue
            low, high = range_of(target)
            for mode in WHOLE:
                for flush in ("", ".ftz") if source == "f32" else ("",):

                    def convert(
                        a: float,
                        s: str = source,
                        m: str = mode,
                        f: str = flush,
                        limits: tuple[int, int] = (low, high),
                    ) -> int:
                        if f:
                            a = flushed(a, s)
                        return reference.to_integer(reference.whole(a, m), s, *limits)

                    name = f"cvt.{mode}{flush}.{target}.{source}"
                    yield row(name, target, source, convert)


def from_integers() -> Iterator[Row]:
    """Rounding to a floating-point format."""
    for source in INTEGERS:
        for target in FLOATS:
            if not has_conversion(source, target):
                continue
            for mode in MODES:
                for sat in ("", ".sat") if mode == "rn" and target in ("f32", "f16") else ("",):

                    def convert(
                        a: int, s: str = source, t: str = target, m: str = mode, c: str = sat
                    ) -> float:
                        value = reference.from_integer(part(a, s), t, m)
                        return reference.saturated(value) if c else value

                    yield row(f"cvt.{mode}{sat}.{target}.{source}", target, source, convert)


def between_floats() -> Iterator[Row]:
    """Widening, narrowing in all modes, rounding to integers, saturation."""
    for source in FLOATS:
        for target in FLOATS:
            wider = FORMATS[target].digits >= FORMATS[source].digits
            wider = wider and FORMATS[target].least <= FORMATS[source].least
            single = "f32" in (source, target)
            if source == target:
                modes: tuple[str, ...] = WHOLE
            elif wider:
                modes = ("",)
            else:
                modes = MODES
            if source == target == "bf16":
                modes = ()
            for mode in modes:
                for flush in ("", ".ftz") if single and "bf16" not in (source, target) else ("",):
                    for sat in ("", ".sat") if "bf16" not in (source, target) else ("",):
                        yield _float(source, target, mode, flush, sat)
    for flush in ("", ".ftz"):
        yield row(
            f"cvt{flush}.sat.f32.f32",
            "f32",
            "f32",
            _float_function("f32", "f32", "", flush, ".sat"),
        )


def _float_function(source: str, target: str, mode: str, flush: str, sat: str) -> Any:
    def convert(a: float) -> float:
        if flush and source == "f32":
            a = flushed(a, "f32")
        a = reference.whole(a, mode) if mode in WHOLE else rounded(a, target, mode or "rn")
        if sat:
            a = reference.saturated(a)
        return flushed(a, "f32") if flush and target == "f32" else a

    return convert


def _float(source: str, target: str, mode: str, flush: str, sat: str) -> Row:
    name = f"cvt.{mode}{flush}{sat}.{target}.{source}".replace("..", ".")
    if not mode:
        name = f"cvt{flush}{sat}.{target}.{source}"
    return row(name, target, source, _float_function(source, target, mode, flush, sat))


def packed() -> Iterator[Row]:
    """`cvt` of two numbers to a pair, to tensor-core floats, and halves with `.relu`."""
    for half in ("f16", "bf16"):
        for mode in ("rn", "rz"):
            for relu in ("", ".relu"):
                name = f"cvt.{mode}{relu}.{half}x2.f32"

                def pair(a: float, b: float, h: str = half, m: str = mode, r: str = relu) -> int:
                    values = [rounded(x, h, m) for x in (a, b)]
                    if r:
                        values = [reference.rectified(x) for x in values]
                    high, low = (encode(x, h) for x in values)
                    return high << 16 | low

                text = f"{name} %d, %a, %b;"
                operands = operands_of("f32", "f32")
                types = ("f32", "f32")
                yield Row(name, text, f"{half}x2", types, operands, pair, target="sm_80")

                def single(a: float, h: str = half, m: str = mode) -> float:
                    return reference.rectified(rounded(a, h, m))

                if relu:
                    title = f"cvt.{mode}.relu.{half}.f32"
                    yield row(title, half, "f32", single, target="sm_80")
    for mode, relu, target in (
        *(("rna", "", "sm_80"), ("rn", "", "sm_90"), ("rz", "", "sm_90")),
        *(("rn", ".relu", "sm_90"), ("rz", ".relu", "sm_90")),
    ):

        def tensor(a: float, m: str = mode, r: str = relu) -> float:
            value = rounded(a, "tf32", m)
            return reference.rectified(value) if r else value

        name = f"cvt.{mode}{relu}.tf32.f32"
        text = f"{name} %d, %a;"
        yield Row(name, text, "tf32", ("f32",), operands_of("f32"), tensor, target=target)


def rows() -> Iterator[Row]:
    """All conversions."""
    for family in (between_integers, to_integers, from_integers, between_floats, packed):
        yield from family()
