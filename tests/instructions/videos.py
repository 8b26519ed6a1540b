"""Rows of video instructions, by the pseudocode of the PTX manual."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .comparisons import ORDERED
from .integers import field
from .operands import operands_of
from .rows import Row

TYPES = ("u32", "s32")
M32 = 0xFFFFFFFF

OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "absdiff": lambda a, b: abs(a - b),
    "min": min,
    "max": max,
    "avrg": lambda a, b: a + b + (a + b >= 0) >> 1,
}
SECOND: dict[str, Callable[[int, int], int]] = {
    "add": lambda value, c: value + c,
    "min": min,
    "max": max,
}


def select(word: int, selector: str, kind: str) -> int:
    """A part of a word as a number: `b0` to `b3`, `h0`, `h1`, or all of it."""
    bits = {"b": 8, "h": 16, "": 32}[selector[:1]]
    return field(word, int(selector[1:] or "0"), bits, kind == "s32")


def clamp(value: int, bits: int, kind: str) -> int:
    """A number clamped to a signed or unsigned range of some bits."""
    low = -(1 << bits - 1) if kind == "s32" else 0
    return max(low, min((1 << bits - (kind == "s32")) - 1, value))


def merge(value: int, c: int, selector: str) -> int:
    """A word with a part replaced."""
    bits = 8 if selector[0] == "b" else 16
    start = bits * int(selector[1:])
    ones = (1 << bits) - 1 << start
    return value << start & ones | c & ~ones


def finish(value: int, c: int, second: str, selector: str, kind: str) -> int:
    """The secondary operation, or the merge."""
    if selector:
        return merge(value, c, selector)
    if not second:
        return value
    value &= M32
    return SECOND[second](field(value, 0, 32, kind == "s32"), field(c, 0, 32, kind == "s32"))


def dotted(name: str) -> str:
    """A selector as it is written."""
    return f".{name}" if name else ""


#: Selectors of result and operands, and the secondary operation.
SHAPES = (
    *(("", "", "", ""), ("", "b3", "h1", ""), ("", "b1", "", "add"), ("", "h0", "b2", "min")),
    *(("", "", "h1", "max"), ("b0", "", "b1", ""), ("b3", "h1", "", ""), ("h1", "b2", "h0", "")),
)


def row(name: str, shape: tuple[str, str, str], function: Any, c: bool = True) -> Row:
    """A row of words with selectors."""
    d, a, b = (dotted(selector) for selector in shape)
    third = ", %c" if c else ""
    text = f"{name} %d{d}, %a{a}, %b{b}{third};"
    title = f"{name} d{d}, a{a}, b{b}{third and ', c'}"
    types = ("u32", "u32", "u32")
    return Row(title, text, "u32", types, operands_of(*types), function)


def scalar() -> Iterator[Row]:
    """`vadd vsub vabsdiff vmin vmax vshl vshr vset`."""
    for name in ("add", "sub", "absdiff", "min", "max"):
        for number, (result, a_type, b_type) in enumerate(
            (("u32", "u32", "u32"), ("s32", "s32", "s32"), ("s32", "u32", "s32"))
        ):
            for sat in ("", ".sat"):
                for d, a, b, second in SHAPES[number % 2 :: 2] if sat else SHAPES:

                    def function(
                        x: int,
                        y: int,
                        z: int,
                        *,
                        f: Callable[[int, int], int] = OPERATIONS[name],
                        kinds: tuple[str, str, str] = (result, a_type, b_type),
                        s: str = sat,
                        shape: tuple[str, str, str, str] = (d, a, b, second),
                    ) -> int:
                        value = f(select(x, shape[1], kinds[1]), select(y, shape[2], kinds[2]))
                        if s:
                            bits = {"b": 8, "h": 16, "": 32}[shape[0][:1]]
                            value = clamp(value, bits, kinds[0])
                        return finish(value, z, shape[3], shape[0], kinds[0])

                    full = f"v{name}.{result}.{a_type}.{b_type}{sat}{dotted(second)}"
                    yield row(full, (d, a, b), function, bool(d or second))
    for name in ("shl", "shr"):
        for kind in TYPES:
            for mode in ("clamp", "wrap"):
                for d, a, b, second in SHAPES:

                    def shift(
                        x: int,
                        y: int,
                        z: int,
                        *,
                        left: bool = name == "shl",
                        k: str = kind,
                        wraps: bool = mode == "wrap",
                        shape: tuple[str, str, str, str] = (d, a, b, second),
                    ) -> int:
                        value, count = select(x, shape[1], k), select(y, shape[2], "u32")
                        count = count & 31 if wraps else min(count, 32)
                        value = value << count if left else value >> count
                        return finish(value, z, shape[3], shape[0], k)

                    full = f"v{name}.{kind}.{kind}.u32.{mode}{dotted(second)}"
                    yield row(full, (d, a, b), shift, bool(d or second))
    for condition, compare in ORDERED.items():
        for a_type, b_type in (("u32", "u32"), ("s32", "s32"), ("u32", "s32")):
            for d, a, b, second in SHAPES:

                def holds(
                    x: int,
                    y: int,
                    z: int,
                    *,
                    f: Callable[[int, int], bool] = compare,
                    kinds: tuple[str, str] = (a_type, b_type),
                    shape: tuple[str, str, str, str] = (d, a, b, second),
                ) -> int:
                    value = f(select(x, shape[1], kinds[0]), select(y, shape[2], kinds[1]))
                    return finish(int(value), z, shape[3], shape[0], "u32")

                full = f"vset.{a_type}.{b_type}.{condition}{dotted(second)}"
                yield row(full, (d, a, b), holds, bool(d or second))


def multiply_add() -> Iterator[Row]:
    """`vmad` with selectors, negation, plus one, scaling and saturation."""
    cases = (
        *(("u32", "u32", "", "", "u32"), ("s32", "s32", "", "", "s32")),
        *(("u32", "s32", "", "", "s32"), ("u32", "u32", "-a", "", "s32")),
        *(("s32", "s32", "-b", "", "s32"), ("u32", "u32", "-c", "", "s32")),
        *(("s32", "s32", "-c", "", "s32"), ("u32", "u32", "", ".po", "u32")),
        ("s32", "u32", "", ".po", "s32"),
    )
    for a_type, b_type, negated, po, result in cases:
        for sat in ("", ".sat"):
            for scale in ("", ".shr7", ".shr15"):
                for a, b in (("", ""), ("b1", "h1")):

                    def function(
                        x: int,
                        y: int,
                        z: int,
                        *,
                        kinds: tuple[str, str] = (a_type, b_type),
                        parts: tuple[str, str] = (a, b),
                        n: str = negated,
                        one: bool = bool(po),
                        s: str = sat,
                        shift: int = int(scale[4:] or "0"),
                        kind: str = result,
                    ) -> int:
                        value = select(x, parts[0], kinds[0]) * select(y, parts[1], kinds[1])
                        third = z
                        if n in ("-a", "-b"):
                            value = -value
                        elif n == "-c":
                            third = ~z & M32
                        value += field(third, 0, 32, kind == "s32") + (one or n == "-c")
                        value >>= shift
                        return clamp(value, 32, kind) if s else value

                    name = f"vmad.{result}.{a_type}.{b_type}{po}{sat}{scale}"
                    signs = ["-" if n == negated else "" for n in ("-a", "-b", "-c")]
                    text = f"{signs[0]}%a{dotted(a)}, {signs[1]}%b{dotted(b)}, {signs[2]}%c"
                    types = ("u32", "u32", "u32")
                    yield Row(
                        f"{name} {text.replace('%', '')}",
                        f"{name} %d, {text};",
                        *("u32", types, operands_of(*types), function),
                    )


def packed() -> Iterator[Row]:
    """`vadd2` to `vset4`: all parts at once."""
    for count, shapes in (
        (2, (("", "", ""), ("h1", "", ""), ("h0", "h31", "h02"), ("", "h13", "h20"))),
        (4, (("", "", ""), ("b2", "", ""), ("b310", "b7531", "b0246"), ("", "b0000", "b4567"))),
    ):
        for name in OPERATIONS:
            for kind in TYPES:
                for sat in ("", ".sat"):
                    for summed in ("", ".add"):
                        if sat and summed:
                            continue
                        full = f"v{name}{count}.{kind}.{kind}.{kind}{sat}{summed}"
                        for shape in shapes[:: 1 if kind == "s32" else 3]:
                            function = _packed(OPERATIONS[name], count, kind, sat, summed, shape)
                            yield row(full, shape, function)
        for condition, compare in ORDERED.items():
            for kind in TYPES:
                for summed in ("", ".add"):
                    full = f"vset{count}.{kind}.{kind}.{condition}{summed}"
                    shape = shapes[2] if kind == "s32" else shapes[0]
                    yield row(full, shape, _packed(compare, count, kind, "", summed, shape))


def _packed(
    function: Callable[[int, int], int],
    count: int,
    kind: str,
    sat: str,
    summed: str,
    shape: tuple[str, str, str],
) -> Callable[[int, int, int], int]:
    bits = 32 // count
    mask, *selectors = shape
    chosen: Sequence[int] = [int(digit) for digit in mask[1:]] if mask else range(count)

    def on_words(a: int, b: int, c: int) -> int:
        pair = a | b << 32
        columns = []
        for index, selector in enumerate(selectors):
            own = range(index * count, (index + 1) * count)
            picks = [int(digit) for digit in reversed(selector[1:])] if selector else own
            columns.append([field(pair, pick, bits, kind == "s32") for pick in picks])
        values = [int(function(x, y)) for x, y in zip(*columns, strict=True)]
        if sat:
            values = [clamp(value, bits, kind) for value in values]
        if summed:
            return c + sum(values[index] for index in chosen)
        ones = (1 << bits) - 1
        for index in chosen:
            c = c & ~(ones << bits * index) | (values[index] & ones) << bits * index
        return c

    return on_words


def rows() -> Iterator[Row]:
    """All rows of video instructions."""
    for family in (scalar, multiply_add, packed):
        yield from family()
