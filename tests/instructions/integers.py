"""Rows of integer arithmetic, carries, dot products, bits and shifts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .operands import few, operands_of, padded
from .rows import WIDTHS, Row, bits_of, number

SIGNED = ("s16", "s32", "s64")
UNSIGNED = ("u16", "u32", "u64")
ALL = SIGNED + UNSIGNED
BITS = ("b16", "b32", "b64")


def wrap(value: int, kind: str) -> int:
    """An integer taken modulo the width of its type."""
    return int(number(bits_of(value, kind), kind))


def bounds(kind: str) -> tuple[int, int]:
    """The least and the largest integer of a type."""
    bits = WIDTHS[kind]
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if kind[0] == "s" else (0, (1 << bits) - 1)


def clamp(value: int, kind: str) -> int:
    """An integer clamped to the range of a type."""
    low, high = bounds(kind)
    return max(low, min(high, value))


def wide(kind: str) -> str:
    """The type of twice the width."""
    return f"{kind[0]}{2 * WIDTHS[kind]}"


def quotient(a: int, b: int) -> int:
    """Division as hardware does it: toward zero, all ones for a divisor of zero."""
    if b == 0:
        return -1
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def remainder(a: int, b: int) -> int:
    """The rest of a division; all ones for a divisor of zero."""
    return -1 if b == 0 else a - quotient(a, b) * b


def row(name: str, types: tuple[str, ...], result: str, function: Any, **options: Any) -> Row:
    """A row whose text is the instruction with all its operands."""
    text = f"{name} %d, {', '.join('%' + r for r in 'abc'[: len(types)])};"
    operands = operands_of(*(f"u{WIDTHS[kind]}" for kind in types))
    return Row(name, text, result, types, operands, function, **options)


def arithmetic() -> Iterator[Row]:
    """`add sub mul mad div rem min max abs neg sad` of all types."""
    for kind in ALL:
        two, three, bits = (kind, kind), (kind, kind, kind), WIDTHS[kind]
        yield row(f"add.{kind}", two, kind, lambda a, b: a + b)
        yield row(f"sub.{kind}", two, kind, lambda a, b: a - b)
        yield row(f"mul.lo.{kind}", two, kind, lambda a, b: a * b)
        yield row(f"mul.hi.{kind}", two, kind, lambda a, b, n=bits: a * b >> n)
        yield row(f"mad.lo.{kind}", three, kind, lambda a, b, c: a * b + c)
        yield row(f"mad.hi.{kind}", three, kind, lambda a, b, c, n=bits: (a * b >> n) + c)
        yield row(f"div.{kind}", two, kind, quotient)
        yield row(f"rem.{kind}", two, kind, remainder)
        yield row(f"min.{kind}", two, kind, min)
        yield row(f"max.{kind}", two, kind, max)
        yield row(f"sad.{kind}", three, kind, lambda a, b, c: abs(a - b) + c)
        if bits < 64:
            double = wide(kind)
            yield row(f"mul.wide.{kind}", two, double, lambda a, b: a * b)
            types = (kind, kind, double)
            yield row(f"mad.wide.{kind}", types, double, lambda a, b, c: a * b + c)
    for kind in SIGNED:
        yield row(f"abs.{kind}", (kind,), kind, abs)
        yield row(f"neg.{kind}", (kind,), kind, lambda a: -a)
    two, three = ("s32", "s32"), ("s32", "s32", "s32")
    yield row("add.sat.s32", two, "s32", lambda a, b: clamp(a + b, "s32"))
    yield row("sub.sat.s32", two, "s32", lambda a, b: clamp(a - b, "s32"))
    yield row("mad.hi.sat.s32", three, "s32", lambda a, b, c: clamp((a * b >> 32) + c, "s32"))
    for kind in ("u32", "s32"):
        two, three = (kind, kind), (kind, kind, kind)

        def product(a: int, b: int, kind: str = kind) -> int:
            return low24(a, kind) * low24(b, kind)

        def high(a: int, b: int, kind: str = kind) -> int:
            return wrap(low24(a, kind) * low24(b, kind) >> 16, kind)

        yield row(f"mul24.lo.{kind}", two, kind, product)
        yield row(f"mul24.hi.{kind}", two, kind, high)
        yield row(f"mad24.lo.{kind}", three, kind, lambda a, b, c, f=product: f(a, b) + c)
        yield row(f"mad24.hi.{kind}", three, kind, lambda a, b, c, f=high: f(a, b) + c)
        if kind == "s32":
            yield row(
                "mad24.hi.sat.s32", three, kind, lambda a, b, c, f=high: clamp(f(a, b) + c, "s32")
            )


def low24(value: int, kind: str) -> int:
    """The low 24 bits as a number."""
    value &= 0xFFFFFF
    return value - (1 << 24) if kind == "s32" and value >> 23 else value


def carries() -> Iterator[Row]:
    """`.cc` of sums, differences and products: the result and the carry that it leaves."""
    for kind in ("u32", "s32", "u64", "s64"):
        plain = f"u{WIDTHS[kind]}"
        reg = "%r0" if plain == "u32" else "%w0"
        one = "%r1" if plain == "u32" else "%w1"
        limit = 1 << WIDTHS[kind]
        two, three = (plain, plain), (plain, plain, plain)
        # The carry of a row before shall not matter.
        ones = (1 << WIDTHS[kind]) - 1
        for carry in (0, 1):
            start = f"mov.b{plain[1:]} {one}, {ones}; add.cc.{plain} {one}, {one}, {carry};"
            borrow = f"mov.b{plain[1:]} {one}, 0; sub.cc.{plain} {one}, {one}, {carry};"
            finish = f"addc.{plain} {reg}, 0, 0;"
            deduct = f"subc.{plain} {reg}, 0, 0;"
            note = f" with carry {carry}"

            def both(
                name: str, text: str, types: tuple[str, ...], function: Any, kind: str = plain
            ) -> Iterator[Row]:
                operands = operands_of(*types)
                keep = text.replace("@", "%d")
                yield Row(name, keep, kind, types, operands, function)

            yield from both(
                f"addc.{kind}{note}",
                f"{start} addc.{kind} @, %a, %b;",
                two,
                lambda a, b, c=carry: a + b + c,
            )
            text = f"{start} addc.cc.{kind} {one}, %a, %b; {finish} mov.b{plain[1:]} @, {reg};"
            yield from both(
                f"addc.cc.{kind}{note}, the carry",
                text,
                two,
                lambda a, b, c=carry, n=limit: (a + b + c) // n,
            )
            yield from both(
                f"subc.{kind}{note}",
                f"{borrow} subc.{kind} @, %a, %b;",
                two,
                lambda a, b, c=carry: a - b - c,
            )
            text = f"{borrow} subc.cc.{kind} {one}, %a, %b; {deduct} mov.b{plain[1:]} @, {reg};"
            yield from both(
                f"subc.cc.{kind}{note}, the borrow",
                text,
                two,
                lambda a, b, c=carry: -(a - b - c < 0),
            )
            for part in ("lo", "hi"):

                def half(a: int, b: int, part: str = part, kind: str = kind) -> int:
                    x, y = wrap(a, kind), wrap(b, kind)
                    return x * y % limit_of(kind) if part == "lo" else high_half(x, y, kind)

                text = f"{start} madc.{part}.{kind} @, %a, %b, %c;"
                yield from both(
                    f"madc.{part}.{kind}{note}",
                    text,
                    three,
                    lambda a, b, c, f=half, k=carry: f(a, b) + c + k,
                )
                text = f"{start} madc.{part}.cc.{kind} {one}, %a, %b, %c; {finish}"
                text += f" mov.b{plain[1:]} @, {reg};"
                yield from both(
                    f"madc.{part}.cc.{kind}{note}, the carry",
                    text,
                    three,
                    lambda a, b, c, f=half, k=carry, n=limit: (f(a, b) + c + k) // n,
                )
        text = f"add.cc.{kind} {one}, %a, %b; addc.{plain} %d, 0, 0;"
        yield Row(
            f"add.cc.{kind}, the carry",
            text,
            plain,
            two,
            operands_of(*two),
            lambda a, b, n=limit: (a + b) // n,
        )
        text = f"sub.cc.{kind} {one}, %a, %b; subc.{plain} %d, 0, 0;"
        yield Row(
            f"sub.cc.{kind}, the borrow", text, plain, two, operands_of(*two), lambda a, b: -(a < b)
        )


def limit_of(kind: str) -> int:
    """The number of values of a type."""
    return 1 << WIDTHS[kind]


def high_half(a: int, b: int, kind: str) -> int:
    """The upper half of a product, as bits."""
    return (a * b >> WIDTHS[kind]) % limit_of(kind)


def field(word: int, index: int, bits: int, signed: bool) -> int:
    """A part of a word."""
    value = word >> bits * index & (1 << bits) - 1
    return value - (1 << bits) if signed and value >> bits - 1 else value


def dot_products() -> Iterator[Row]:
    """`dp4a`, `dp2a`."""
    for a in ("u32", "s32"):
        for b in ("u32", "s32"):
            signs = a == "s32", b == "s32"
            result = "s32" if any(signs) else "u32"

            def four(x: int, y: int, z: int, s: tuple[bool, bool] = signs) -> int:
                return z + sum(field(x, i, 8, s[0]) * field(y, i, 8, s[1]) for i in range(4))

            types = ("u32", "u32", result)
            yield row(f"dp4a.{a}.{b}", types, result, four)
            for part, first in (("lo", 0), ("hi", 2)):

                def two(
                    x: int, y: int, z: int, s: tuple[bool, bool] = signs, f: int = first
                ) -> int:
                    return z + sum(
                        field(x, i, 16, s[0]) * field(y, f + i, 8, s[1]) for i in range(2)
                    )

                yield row(f"dp2a.{part}.{a}.{b}", types, result, two)


LOGIC: dict[str, Callable[[int, int], int]] = {
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
}


def logic() -> Iterator[Row]:
    """`and or xor not cnot` of words and predicates, `lop3`."""
    for kind in BITS:
        for name, function in LOGIC.items():
            yield row(f"{name}.{kind}", (kind, kind), kind, function)
        yield row(f"not.{kind}", (kind,), kind, lambda a: ~a)
        yield row(f"cnot.{kind}", (kind,), kind, lambda a: int(a == 0))
    odd = "and.b32 %r0, %a, 1; setp.ne.u32 %p, %r0, 0; and.b32 %r0, %b, 1; setp.ne.u32 %q, %r0, 0;"
    for name, function in LOGIC.items():
        text = f"{odd} {name}.pred %p, %p, %q; selp.u32 %d, 1, 0, %p;"
        yield Row(
            f"{name}.pred",
            text,
            "u32",
            ("u32", "u32"),
            operands_of("u32", "u32"),
            lambda a, b, f=function: f(a & 1, b & 1),
        )
    text = f"{odd} not.pred %p, %p; selp.u32 %d, 1, 0, %p;"
    two = ("u32", "u32")
    yield Row("not.pred", text, "u32", two, operands_of(*two), lambda a, b: 1 - (a & 1))
    three = ("b32", "b32", "b32")
    operands = operands_of("u32", "u32", "u32")
    for table in (
        0x00,
        0x01,
        0x1E,
        0x2D,
        0x6A,
        0x80,
        0x96,
        0xB1,
        0xC6,
        0xD8,
        0xE8,
        0xF8,
        0xFE,
        0xFF,
    ):
        text = f"lop3.b32 %d, %a, %b, %c, {table};"
        yield Row(
            f"lop3.b32 {table:#04x}",
            text,
            "b32",
            three,
            operands,
            lambda a, b, c, t=table: look_up(a, b, c, t),
        )
    for name in ("or", "and"):
        text = "setp.gt.u32 %q, %a, 100;"
        text += f"lop3.{name}.b32 %r0|%p, %a, %b, %c, 0x68, %q; selp.u32 %d, 1, 0, %p;"

        def combined(a: int, b: int, c: int, name: str = name) -> int:
            return LOGIC[name](int(look_up(a, b, c, 0x68) != 0), int(a > 100))

        title = f"lop3.{name}.b32 with a predicate"
        yield Row(title, text, "u32", three, operands, combined, target="sm_70")


def look_up(a: int, b: int, c: int, table: int) -> int:
    """`lop3` by its truth table."""
    result = 0
    for index in range(8):
        if table >> index & 1:
            terms = (v if index >> 2 - i & 1 else ~v for i, v in enumerate((a, b, c)))
            x, y, z = terms
            result |= x & y & z
    return result & 0xFFFFFFFF


def shifts() -> Iterator[Row]:
    """`shl`, `shr`, `shf`: amounts beyond the width too."""
    for kind in (*BITS, *ALL):
        bits = WIDTHS[kind]
        types = (kind, "u32")
        if kind[0] == "b":
            yield row(f"shl.{kind}", types, kind, lambda a, b, n=bits: a << b if b < n else 0)
        yield row(f"shr.{kind}", types, kind, lambda a, b, n=bits: a >> min(b, n))
    for mode in ("clamp", "wrap"):
        count = (lambda c: min(c, 32)) if mode == "clamp" else (lambda c: c & 31)
        three = ("b32", "b32", "u32")
        yield row(
            f"shf.l.{mode}.b32", three, "b32", lambda a, b, c, f=count: (a | b << 32) << f(c) >> 32
        )
        yield row(f"shf.r.{mode}.b32", three, "b32", lambda a, b, c, f=count: (a | b << 32) >> f(c))


def fields() -> Iterator[Row]:
    """`bfe bfi bmsk szext`."""
    for kind in ("u32", "s32", "u64", "s64"):
        operands = padded(
            (value, start, count)
            for value in few(f"u{WIDTHS[kind]}")
            for start in (0, 1, 7, 31, 32, 33, 63, 64, 200, 255, 256, 0xFFFFFFFF)
            for count in (0, 1, 5, 31, 32, 33, 63, 64, 224, 255, 256, 257, 0xFFFFFF20)
        )
        text = f"bfe.{kind} %d, %a, %b, %c;"
        yield Row(
            f"bfe.{kind}",
            text,
            kind,
            (kind, "u32", "u32"),
            operands,
            lambda a, b, c, k=kind: extract(a, b, c, k),
        )
        if kind[0] == "u":
            bits = f"b{WIDTHS[kind]}"
            base = 0xABCDEF0123456789 & (1 << WIDTHS[kind]) - 1
            text = f"bfi.{bits} %d, %a, {base:#x}, %b, %c;"
            yield Row(
                f"bfi.{bits}",
                text,
                bits,
                (bits, "u32", "u32"),
                operands,
                lambda a, b, c, k=bits, d=base: inserted(a, d, b, c, k),
            )
    for mode in ("clamp", "wrap"):
        wraps = mode == "wrap"
        yield row(
            f"bmsk.{mode}.b32",
            ("u32", "u32"),
            "b32",
            lambda a, b, w=wraps: bit_mask(a, b, w),
            target="sm_70",
        )
        for kind in ("u32", "s32"):
            yield row(
                f"szext.{mode}.{kind}",
                ("u32", "u32"),
                kind,
                lambda a, b, w=wraps, k=kind: extended(a, b, w, k),
                target="sm_70",
            )


def extract(value: int, start: int, count: int, kind: str) -> int:
    """`bfe` by the pseudocode of the PTX manual."""
    bits = WIDTHS[kind]
    value &= (1 << bits) - 1
    position, length, top = start & 255, count & 255, bits - 1
    sign = 0
    if kind[0] == "s" and length:
        sign = value >> min(position + length - 1, top) & 1
    result = 0
    for i in range(bits):
        inside = i < length and position + i <= top
        result |= (value >> position + i & 1 if inside else sign) << i
    return result


def inserted(value: int, base: int, start: int, count: int, kind: str) -> int:
    """`bfi` by the pseudocode of the PTX manual."""
    position, length = start & 255, count & 255
    for i in range(length):
        if position + i < WIDTHS[kind]:
            place = position + i
            base = base & ~(1 << place) | (value >> i & 1) << place
    return base


def bit_mask(start: int, count: int, wraps: bool) -> int:
    """`bmsk`."""
    if wraps:
        start, count = start % 32, count % 32
    return ((1 << min(count, 32)) - 1) << min(start, 32)


def extended(value: int, count: int, wraps: bool, kind: str) -> int:
    """`szext`."""
    count = count % 32 if wraps else min(count, 32)
    low = value & (1 << count) - 1
    return low - (1 << count) if kind == "s32" and count and low >> count - 1 else low


def counts() -> Iterator[Row]:
    """`popc clz brev bfind fns`."""
    for kind in ("b32", "b64"):
        bits = WIDTHS[kind]
        yield row(f"popc.{kind}", (kind,), "u32", lambda a: a.bit_count())
        yield row(f"clz.{kind}", (kind,), "u32", lambda a, n=bits: n - a.bit_length())
        yield row(f"brev.{kind}", (kind,), kind, lambda a, n=bits: int(f"{a:0{n}b}"[::-1], 2))
    for kind in ("u32", "s32", "u64", "s64"):
        bits = WIDTHS[kind]
        yield row(f"bfind.{kind}", (kind,), "u32", leading)
        yield row(f"bfind.shiftamt.{kind}", (kind,), "u32", lambda a, n=bits: shift_amount(a, n))
    operands = padded(
        (mask, base, offset & 0xFFFFFFFF)
        for mask in (0, 1, 0xFFFFFFFF, 0x80000001, 0x12345678)
        for base in (0, 1, 3, 16, 30, 31)
        for offset in (-33, -32, -31, -5, -2, -1, 0, 1, 2, 3, 12, 31, 32, 33)
    )
    types = ("b32", "b32", "s32")
    yield Row("fns.b32", "fns.b32 %d, %a, %b, %c;", "b32", types, operands, nth_set)


def leading(value: int) -> int:
    """`bfind`: the place of the highest bit that is not a sign bit, -1 if there is none."""
    return (value if value >= 0 else ~value).bit_length() - 1


def shift_amount(value: int, bits: int) -> int:
    """`bfind.shiftamt`: how far to shift that bit to the top."""
    return bits - 1 - leading(value) if leading(value) >= 0 else -1


def nth_set(bits: int, base: int, offset: int) -> int:
    """`fns` by the pseudocode of the PTX manual."""
    if offset == 0:
        return base if bits >> base & 1 else -1
    step, count, position = (1, offset - 1, base) if offset > 0 else (-1, -offset - 1, base)
    while 0 <= position < 32:
        if bits >> position & 1:
            if count == 0:
                return position
            count -= 1
        position += step
    return -1


PERMUTATIONS: dict[str, Callable[[int, int], int]] = {
    "f4e": lambda s, i: s + i,
    "b4e": lambda s, i: (s - i) % 8,
    "rc8": lambda s, i: s,
    "ecl": lambda s, i: max(i, s),
    "ecr": lambda s, i: min(i, s),
    "rc16": lambda s, i: s % 2 * 2 + i % 2,
}


def permutations() -> Iterator[Row]:
    """`prmt`, all modes."""
    types = ("b32", "b32", "u32")
    words = (0, 0xFFFFFFFF, 0x80FF7F01, 0x12B4C678)
    chosen = (0x3210, 0x7654, 0xFEDC, 0x0123, 0x8888, 0x4B1F, 0xFFFF3210, 0xA5C3, 5, 6, 7)
    operands = padded((a, b, c) for a in words for b in words for c in chosen)
    for mode in ("", *PERMUTATIONS):
        name = f"prmt.b32.{mode}".rstrip(".")

        def function(a: int, b: int, c: int, mode: str = mode) -> int:
            if mode:
                c = sum(PERMUTATIONS[mode](c & 3, i) << 4 * i for i in range(4))
            return permuted(a, b, c)

        yield Row(name, f"{name} %d, %a, %b, %c;", "b32", types, operands, function)


def permuted(a: int, b: int, selector: int) -> int:
    """`prmt` without a mode."""
    pair, result = a | b << 32, 0
    for i in range(4):
        nibble = selector >> 4 * i & 15
        byte = pair >> 8 * (nibble & 7) & 255
        if nibble & 8:
            byte = 255 if byte & 128 else 0
        result |= byte << 8 * i
    return result


def rows() -> Iterator[Row]:
    """All rows of integers."""
    for family in (
        *(arithmetic, carries, dot_products, logic, shifts, fields, counts, permutations),
    ):
        yield from family()
