"""Rows of comparisons, selections and moves."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from typing import Any

from .formats import encode, flushed
from .integers import ALL, BITS, LOGIC
from .operands import operands_of
from .rows import PACKED, WIDTHS, Row

ORDERED: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}
#: The other names of unsigned comparisons.
UNSIGNED = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}
FLOATS = {"f32": "sm_61", "f64": "sm_61", "f16": "sm_61", "bf16": "sm_90"}
FLOAT_CONDITIONS = (*ORDERED, *(f"{name}u" for name in ORDERED), "num", "nan")


def holds(condition: str, a: float, b: float) -> bool:
    """A comparison; of floats false where one is NaN, but for those that end in `u`."""
    unordered = math.isnan(a) or math.isnan(b)
    if condition in ("num", "nan"):
        return unordered == (condition == "nan")
    if condition.endswith("u") and unordered:
        return True
    return not unordered and ORDERED[condition.removesuffix("u")](a, b)


def conditions() -> Iterator[tuple[str, str, Callable[[Any, Any], bool], str]]:
    """Condition with flushing, type, meaning and target of all comparisons."""
    for kind in ALL:
        for name, function in ORDERED.items():
            yield name, kind, function, "sm_61"
        if kind[0] == "u":
            for name, plain in UNSIGNED.items():
                yield name, kind, ORDERED[plain], "sm_61"
    for kind in BITS:
        for name in ("eq", "ne"):
            yield name, kind, ORDERED[name], "sm_61"
    for kind, target in FLOATS.items():
        for name in FLOAT_CONDITIONS:
            for flush in ("", ".ftz") if kind in ("f32", "f16") else ("",):

                def compare(
                    a: float, b: float, n: str = name, k: str = kind, f: str = flush
                ) -> bool:
                    return holds(n, flushed(a, k), flushed(b, k)) if f else holds(n, a, b)

                yield name + flush, kind, compare, target


def held(kind: str) -> str:
    """The type that operands of a comparison have."""
    return f"u{WIDTHS[kind]}" if kind[0] == "b" and kind != "bf16" else kind


def pairs(kind: str) -> Any:
    """Operands of a comparison."""
    return operands_of(kind, kind) if kind in FLOATS else operands_of(*[f"u{WIDTHS[kind]}"] * 2)


def predicates() -> Iterator[Row]:
    """`setp`, alone, with a complement, and combined with a predicate."""
    for condition, kind, function, target in conditions():
        types = (held(kind), held(kind))
        text = f"setp.{condition}.{kind} %p, %a, %b; selp.u32 %d, 1, 0, %p;"
        name = f"setp.{condition}.{kind}"
        operands = pairs(kind)
        yield Row(name, text, "u32", types, operands, function, target=target)
    both = "selp.u32 %r1, 1, 0, %p; selp.u32 %r2, 2, 0, %q; or.b32 %d, %r1, %r2;"
    two = ("u32", "u32")
    for name, combine in LOGIC.items():
        text = f"setp.gt.u32 %q, %a, 100; setp.lt.{name}.u32 %p|%q, %a, %b, %q; {both}"

        def function(a: int, b: int, f: Callable[[int, int], int] = combine) -> int:
            third, less = int(a > 100), int(a < b)
            return f(less, third) | f(1 - less, third) << 1

        title = f"setp.lt.{name}.u32 with complement"
        yield Row(title, text, "u32", two, operands_of(*two), function)
        text = f"setp.gt.u32 %q, %a, 100; setp.lt.{name}.u32 %p, %a, %b, !%q; "
        text += "selp.u32 %d, 1, 0, %p;"

        def negated(a: int, b: int, f: Callable[[int, int], int] = combine) -> int:
            return f(int(a < b), int(a <= 100))

        yield Row(f"setp.lt.{name}.u32 of !p", text, "u32", two, operands_of(*two), negated)
    for pair, half in PACKED.items():
        target = FLOATS[half]
        types = ("b32", "b32")
        for condition in FLOAT_CONDITIONS:
            text = f"setp.{condition}.{pair} %p|%q, %a, %b; {both}"

            def halves(a: int, b: int, c: str = condition, h: str = half) -> int:
                low, high = packed_holds(c, a, b, h)
                return low | high << 1

            name = f"setp.{condition}.{pair}"
            operands = operands_of("u32", "u32")
            yield Row(name, text, "u32", types, operands, halves, target=target)


def packed_holds(condition: str, a: int, b: int, half: str) -> tuple[bool, bool]:
    """A comparison of the low and the high halves of words."""
    from .formats import decode

    low = holds(condition, decode(a & 0xFFFF, half), decode(b & 0xFFFF, half))
    return low, holds(condition, decode(a >> 16, half), decode(b >> 16, half))


def sets() -> Iterator[Row]:
    """`set` to all ones or 1.0."""
    chosen = {"lt", "ge", "ne", "neu", "gtu", "num", "nan", "hi", "ls", "lt.ftz", "eq.ftz"}
    for condition, kind, function, target in conditions():
        if condition not in chosen or (WIDTHS[kind] == 16 and kind not in ("f16", "bf16")):
            continue
        results = ("u32", "s32", "f32") if kind not in ("f16", "bf16") else ("u32", "u16", kind)
        for result in results:
            if result == "u16" and kind == "bf16":
                continue
            types = (held(kind), held(kind))
            text = f"set.{condition}.{result}.{kind} %d, %a, %b;"
            one = -1 if result[0] in "us" else 1.0
            zero = 0 if result[0] in "us" else 0.0

            def choose(
                a: Any,
                b: Any,
                f: Callable[[Any, Any], bool] = function,
                values: tuple[float, float] = (one, zero),
            ) -> float:
                return values[0] if f(a, b) else values[1]

            name = f"set.{condition}.{result}.{kind}"
            yield Row(name, text, result, types, pairs(kind), choose, target=target)
    two = ("u32", "u32")
    for name, combine in LOGIC.items():
        text = f"setp.gt.u32 %q, %a, 100; set.lt.{name}.u32.u32 %d, %a, %b, %q;"

        def combined(a: int, b: int, f: Callable[[int, int], int] = combine) -> int:
            return -f(int(a < b), int(a > 100))

        yield Row(f"set.lt.{name}.u32.u32", text, "u32", two, operands_of(*two), combined)
    types = ("b32", "b32")
    for condition in ("lt", "neu", "num"):
        text = f"set.{condition}.f16x2.f16x2 %d, %a, %b;"

        def halves(a: int, b: int, c: str = condition) -> int:
            low, high = packed_holds(c, a, b, "f16")
            one = encode(1.0, "f16")
            return low * one | (high * one) << 16

        name = f"set.{condition}.f16x2.f16x2"
        yield Row(name, text, "b32", types, operands_of("u32", "u32"), halves)


def selections() -> Iterator[Row]:
    """`selp`, `slct`."""
    for kind in (*BITS, *ALL, "f32", "f64"):
        plain = held(kind) if kind in FLOATS else f"u{WIDTHS[kind]}"
        types = (plain, plain, "u32")
        operands = operands_of(*types)
        text = f"and.b32 %r0, %c, 1; setp.ne.u32 %p, %r0, 0; selp.{kind} %d, %a, %b, %p;"
        result = plain
        name = f"selp.{kind}"
        yield Row(name, text, result, types, operands, lambda a, b, c: a if c & 1 else b)
        for sign in ("s32", "f32", "ftz.f32"):
            third = sign.removeprefix("ftz.")
            full = f"slct.{kind}.{sign}" if third == sign else f"slct.ftz.{kind}.f32"
            types = (plain, plain, third)

            def select(a: Any, b: Any, c: float, f: bool = third != sign) -> Any:
                return a if (flushed(c, "f32") if f else c) >= 0 else b

            text = f"{full} %d, %a, %b, %c;"
            yield Row(full, text, result, types, operands_of(*types), select)


def moves() -> Iterator[Row]:
    """`mov` that packs and unpacks."""
    words = ("u32", "u32")
    operands = operands_of(*words)
    text = "mov.b64 %d, {%a, %b};"
    yield Row("mov.b64 packs", text, "b64", words, operands, lambda a, b: a | b << 32)
    text = "mov.b64 %w0, {%a, %b}; mov.b64 {%r0, %d}, %w0;"
    yield Row("mov.b64 unpacks", text, "u32", words, operands, lambda a, b: b)
    text = "mov.b32 {%h0, %h1}, %a; mov.b32 %d, {%h1, %h0};"
    one = operands_of("u32")

    def swap(a: int) -> int:
        return a >> 16 | a << 16

    yield Row("mov.b32 swaps halves", text, "u32", ("u32",), one, swap)
    text = "mov.b64 {%h0, %h1, %h2, %h3}, %a; mov.b64 %d, {%h3, %h2, %h1, %h0};"

    def reverse(a: int) -> int:
        return sum((a >> 16 * i & 0xFFFF) << 16 * (3 - i) for i in range(4))

    yield Row("mov.b64 reverses halves", text, "u64", ("u64",), operands_of("u64"), reverse)


def rows() -> Iterator[Row]:
    """All rows of comparisons."""
    for family in (predicates, sets, selections, moves):
        yield from family()
