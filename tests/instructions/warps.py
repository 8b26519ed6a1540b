"""Rows in which the lanes of a warp exchange values: the reference sees all 32 of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache, reduce
from typing import Any

from .integers import LOGIC
from .operands import Operands
from .rows import Row, bits_of, number

LANES = range(32)
#: Instructions that every other lane skips; its result is then 7.
HALF = "mov.u32 %d, 7; mov.u32 %r0, %laneid; and.b32 %r0, %r0, 1; setp.eq.u32 %p, %r0, 0; @%p bra "
ODD = 0xAAAAAAAA


@cache
def warp_operands(limit: int, count: int = 1) -> Operands:
    """Random words below a limit, and warps in which all lanes have the same one."""
    generator = random.Random(limit)
    values = [tuple(generator.randrange(limit) for _ in range(count)) for _ in range(192)]
    return tuple(values + [values[0]] * 32 + [values[1]] * 32)


def shuffles() -> Iterator[Row]:
    """`shfl.sync` in all modes, by constants and by registers, with and without segments."""
    cases = [
        *(("bfly", 16, 31), ("bfly", 3, 0x1C1F), ("bfly", 1, 15), ("down", 5, 31)),
        *(("down", 1, 0x181F), ("down", 40, 31), ("up", 4, 0), ("up", 1, 0x1800), ("up", 9, 5)),
        *(("idx", 9, 31), ("idx", 2, 0x181F), ("idx", 7, 3), ("idx", 63, 31)),
    ]
    operands = warp_operands(1 << 32)
    for mode, b, c in cases:
        for constant in (True, False):
            sources = f"{b}, {c:#x}" if constant else "%r2, %r3"
            text = f"and.b32 %r1, %a, 0; add.u32 %r2, %r1, {b}; add.u32 %r3, %r1, {c:#x};"
            text += f"shfl.sync.{mode}.b32 %r4|%p, %a, {sources}, -1;"
            text += "selp.u32 %r5, 0x1000, 0, %p; xor.b32 %d, %r4, %r5;"

            def function(values: list[int], m: str = mode, b: int = b, c: int = c) -> list[int]:
                picks = [shuffle(m, lane, b, c) for lane in LANES]
                return [values[source] ^ valid << 12 for source, valid in picks]

            how = "constants" if constant else "registers"
            name = f"shfl.sync.{mode}.b32 {b}, {c:#x} by {how}"
            yield Row(name, text, "u32", ("u32",), operands, function, warp=True)
    pair = warp_operands(1 << 32, 2)

    def own(values: list[int], lanes: list[int]) -> list[int]:
        return [values[lane & 31] for lane in lanes]

    text = "shfl.sync.idx.b32 %d, %a, %b, 31, -1;"
    name = "shfl.sync.idx.b32 by a lane of its own"
    yield Row(name, text, "u32", ("u32", "u32"), pair, own, warp=True)


def shuffle(mode: str, lane: int, b: int, c: int) -> tuple[int, bool]:
    """Source lane and predicate, by the pseudocode of the PTX manual."""
    bound, segment, b = c & 31, c >> 8 & 31, b & 31
    highest = (lane & segment) | (bound & ~segment & 31)
    lowest = lane & segment
    if mode == "up":
        source, valid = lane - b, lane - b >= highest
    elif mode == "down":
        source, valid = lane + b, lane + b <= highest
    elif mode == "bfly":
        source, valid = lane ^ b, lane ^ b <= highest
    else:
        source = lowest | (b & ~segment & 31)
        valid = source <= highest
    return (source if valid else lane), valid


def ballot(flags: list[bool], mask: int = 0xFFFFFFFF) -> int:
    """One bit for each lane of a mask whose flag is set."""
    return sum(1 << lane for lane in LANES if flags[lane] and mask >> lane & 1)


def votes() -> Iterator[Row]:
    """`vote.sync`, `activemask`, of whole warps and of odd lanes."""
    operands = warp_operands(5)
    for threshold in (0, 2, 5):
        start = f"setp.lt.u32 %p, %a, {threshold};"
        for mode in ("all", "any", "uni"):
            text = f"{start} vote.sync.{mode}.pred %q, %p, -1; selp.u32 %d, 1, 0, %q;"

            def function(values: list[int], m: str = mode, t: int = threshold) -> list[int]:
                flags = {value < t for value in values}
                result = {"all": flags == {True}, "any": True in flags, "uni": len(flags) == 1}
                return [int(result[m])] * 32

            name = f"vote.sync.{mode}.pred below {threshold}"
            yield Row(name, text, "u32", ("u32",), operands, function, warp=True)
        text = f"{start} vote.sync.ballot.b32 %d, %p, -1;"

        def bits(values: list[int], t: int = threshold) -> list[int]:
            return [ballot([value < t for value in values])] * 32

        name = f"vote.sync.ballot.b32 below {threshold}"
        yield Row(name, text, "u32", ("u32",), operands, bits, warp=True)
    text = f"{HALF} SKIP; setp.lt.u32 %q, %a, 2; vote.sync.ballot.b32 %d, %q, {ODD:#x}; SKIP:"

    def odd(values: list[int]) -> list[int]:
        return only_odd(ballot([value < 2 for value in values], ODD))

    yield Row("vote.sync.ballot.b32 of odd lanes", text, "u32", ("u32",), operands, odd, warp=True)
    text = f"{HALF} SKIP; activemask.b32 %d; SKIP:"

    def active(values: list[int]) -> list[int]:
        return only_odd(ODD)

    yield Row("activemask.b32 of odd lanes", text, "u32", ("u32",), operands, active, warp=True)


def only_odd(value: int) -> list[int]:
    """A result of the odd lanes; the others keep 7."""
    return [value if lane & 1 else 7 for lane in LANES]


def matches() -> Iterator[Row]:
    """`match.sync`."""
    for bits in (32, 64):
        operands = warp_operands(3)
        wide = "" if bits == 32 else "cvt.u64.u32 %w0, %a; shl.b64 %w0, %w0, 33;"
        value = "%a" if bits == 32 else "%w0"
        options: dict[str, Any] = {"target": "sm_70", "warp": True}

        def same(values: list[int]) -> list[int]:
            return [ballot([other == value for other in values]) for value in values]

        text = f"{wide} match.any.sync.b{bits} %d, {value}, -1;"
        yield Row(f"match.any.sync.b{bits}", text, "u32", ("u32",), operands, same, **options)
        text = f"{wide} match.all.sync.b{bits} %r0|%p, {value}, -1; selp.u32 %d, %r0, 5, %p;"

        def every(values: list[int]) -> list[int]:
            return [0xFFFFFFFF if len(set(values)) == 1 else 5] * 32

        yield Row(f"match.all.sync.b{bits}", text, "u32", ("u32",), operands, every, **options)


def reductions() -> Iterator[Row]:
    """`redux.sync` of whole warps and of odd lanes."""
    operands = warp_operands(1 << 32)
    for kind in ("u32", "s32", "b32"):
        for name in ("add", "min", "max") if kind != "b32" else LOGIC:

            def combine(values: list[int], n: str = name, k: str = kind) -> int:
                numbers = [number(value, k) for value in values]
                if n == "add":
                    return bits_of(sum(numbers), k)
                if n in LOGIC:
                    return reduce(LOGIC[n], numbers)
                return bits_of((min if n == "min" else max)(numbers), k)

            def whole(values: list[int], f: Any = combine) -> list[int]:
                return [f(values)] * 32

            def odd(values: list[int], f: Any = combine) -> list[int]:
                return only_odd(f(values[1::2]))

            title = f"redux.sync.{name}.{kind}"
            options: dict[str, Any] = {"target": "sm_80", "warp": True}
            text = f"{title} %d, %a, -1;"
            yield Row(title, text, "u32", ("u32",), operands, whole, **options)
            text = f"{HALF} SKIP; {title} %d, %a, {ODD:#x}; SKIP:"
            yield Row(f"{title} of odd lanes", text, "u32", ("u32",), operands, odd, **options)


def rows() -> Iterator[Row]:
    """All rows of warps."""
    for family in (shuffles, votes, matches, reductions):
        yield from family()
