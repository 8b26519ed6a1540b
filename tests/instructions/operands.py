"""Operands of the instruction table: edge values, crossed, and random ones from a fixed seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import product

from .formats import FORMATS, encode, rounded
from .rows import WIDTHS, number

Operands = Sequence[tuple[int, ...]]

_FLOATS = (
    *(0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.0, 1 / 3, -7.25, 0.1, 255.5, -128.5),
    *(32767.5, 65504.0, 65519.0, 65520.0, -65536.0, 16777217.0, 2147483648.0, -2147483649.0),
    *(4294967296.0, 9.2e18, -9.3e18, 1.8446744073709552e19, 1e-5, 6e-8, 3e38, -3e38, 1e300, 1e-300),
    *(float("inf"), float("-inf"), float("nan")),
)
_FEW_FLOATS = (0.0, -0.0, 1.0, -1.0, 1.5, -3.0, float("inf"), float("-inf"), float("nan"))


def _special(kind: str) -> list[int]:
    """Zero's neighbours, the least normal's and the largest number, with both signs."""
    form = FORMATS[kind]
    subnormals = 1 << form.digits - 1
    largest = encode(form.largest, kind)
    one = encode(1.0, kind)
    numbers = [1, subnormals - 1, subnormals, subnormals + 1, largest, one + 1, one - 1]
    return [*numbers, *(value | 1 << form.bits - 1 for value in numbers)]


@cache
def edges(kind: str) -> tuple[int, ...]:
    """All edge values of a type."""
    if kind in FORMATS:
        values = [encode(rounded(value, kind), kind) for value in _FLOATS]
        return tuple(dict.fromkeys(values + _special(kind)))
    bits = WIDTHS[kind]
    top = (1 << bits) - 1
    numbers = [0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 33, 63, 64, 127, 128, 255, 256, 0x7FFF, 0x8000]
    numbers += [0xFFFF, 0x10000, 0x12345678, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32, 1 << 53]
    numbers += [(1 << 53) + 1, (1 << 24) + 1, 0x123456789ABCDEF0]
    numbers += [top, top - 1, top - 127, top - 128, top - 255, top >> 1, (top >> 1) + 1, top // 3]
    return tuple(dict.fromkeys(value for value in numbers if value <= top))


@cache
def few(kind: str) -> tuple[int, ...]:
    """The most telling edge values of a type, to cross three of them."""
    if kind in FORMATS:
        values = [encode(value, kind) for value in _FEW_FLOATS]
        special = _special(kind)
        return tuple(dict.fromkeys([*values, special[0], special[2], special[4]]))
    bits = WIDTHS[kind]
    top = (1 << bits) - 1
    return tuple(
        value
        for value in (0, 1, 8, 31, 0x80, 0x1234567, top >> 1, (top >> 1) + 1, top - 1, top)
        if value <= top
    )


def random_bits(kind: str, generator: random.Random) -> int:
    """A random value: of floats every other one is of middling size, of integers short."""
    bits = WIDTHS[kind]
    value = generator.getrandbits(bits)
    if generator.random() < 0.5:
        return value
    if kind in FORMATS:
        number = generator.uniform(-4, 4) * 2.0 ** generator.randint(-12, 12)
        return encode(rounded(number, kind), kind)
    return value >> generator.randrange(bits)


def padded(operands: Iterable[tuple[int, ...]]) -> Operands:
    """Operands for whole blocks: the first ones are repeated."""
    values = list(operands)
    missing = -len(values) % 64
    return tuple(values + (values * missing)[:missing])


@cache
def operands_of(*kinds: str, extra: int = 192) -> Operands:
    """Edge values crossed and random ones, for operands of some types."""
    pick = few if len(kinds) == 3 else edges
    choices = [pick(kind) for kind in kinds]
    if len(kinds) == 2 and len(choices[0]) * len(choices[1]) > 1200:
        choices = [few_and_special(kind) for kind in kinds]
    generator = random.Random(",".join(kinds))
    drawn = [tuple(random_bits(kind, generator) for kind in kinds) for _ in range(extra)]
    return padded([*product(*choices), *drawn, *_near(kinds, generator)])


@cache
def few_and_special(kind: str) -> tuple[int, ...]:
    """Edge values to cross two of them."""
    values = [*few(kind), *edges(kind)]
    return tuple(dict.fromkeys(values))[:30]


def _near(kinds: tuple[str, ...], generator: random.Random) -> list[tuple[int, ...]]:
    """Sums that nearly or wholly cancel, of numbers of one format."""
    if len(set(kinds)) != 1 or kinds[0] not in FORMATS or len(kinds) == 1:
        return []
    kind = kinds[0]
    sign = 1 << WIDTHS[kind] - 1
    result: list[tuple[int, ...]] = []
    for _ in range(48):
        value = random_bits(kind, generator)
        other = (value ^ sign) + generator.choice((-1, 0, 0, 1))
        if 0 <= other < 2 * sign:
            result.append((value, other) if len(kinds) == 2 else (value, encode(1.0, kind), other))
    return result


def selected(operands: Operands, kinds: tuple[str, ...], wanted: Callable[..., bool]) -> Operands:
    """The operands whose numbers satisfy a condition."""
    return padded(
        values
        for values in operands
        if wanted(*(number(bits, kind) for bits, kind in zip(values, kinds, strict=True)))
    )
