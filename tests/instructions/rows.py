"""Rows of the instruction table: what is executed, on which operands, and what must come out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .formats import FORMATS, decode, encode, unit_in_last_place

#: Words of two halves.
PACKED = {"f16x2": "f16", "bf16x2": "bf16"}
WIDTHS = {
    **dict.fromkeys(PACKED, 32),
    **dict.fromkeys(("b16", "s16", "u16", "f16", "bf16"), 16),
    **dict.fromkeys(("b32", "s32", "u32", "f32", "tf32"), 32),
    **dict.fromkeys(("b64", "s64", "u64", "f64"), 64),
}


@dataclass(frozen=True)
class Tolerance:
    """How far an approximate result may be from the true one: within any of the bounds.

    Attributes:
        text: The bound as the PTX manual words it.
        ulps: In units in the last place of the result's format.
        relative: Relative to the true result.
        absolute: Absolute.
    """

    text: str
    ulps: float = 0.0
    relative: float = 0.0
    absolute: float = 0.0

    def allows(self, got: float, true: float, kind: str) -> bool:
        """Whether a finite result is near enough to the true one."""
        unit = unit_in_last_place(true, kind)
        # Where numbers are subnormal a relative bound would ask for more digits than there are.
        least = unit if abs(true) < FORMATS[kind].least_normal else 0.0
        bound = max(self.ulps * unit, self.relative * abs(true), self.absolute, least)
        return abs(got - true) <= bound


@dataclass(frozen=True, eq=False)
class Row:
    """One instruction on one combination of types and modifiers.

    Attributes:
        name: The instruction as it is written, with a word on what is special.
        text: PTX that computes %d from %a, %b, %c.
        result: Type of %d; `f16x2` and `bf16x2` for words of two halves.
        types: Types of %a, %b, %c, as many as there are.
        operands: Tuples of bits, one for each thread.
        reference: From the operands as numbers to the result as a number, or for `warp` rows from
            a list of 32 values for each operand to a list of 32 results.
        tolerance: None where the result is exact.
        target: The least target that has the instruction.
        warp: Whether the lanes of a warp act together.
    """

    name: str
    text: str
    result: str
    types: tuple[str, ...]
    operands: Sequence[tuple[int, ...]]
    reference: Callable[..., Any]
    tolerance: Tolerance | None = None
    target: str = "sm_61"
    warp: bool = False

    @property
    def opcode(self) -> str:
        """The name of the instruction without modifiers."""
        return self.name.split(".")[0].split()[0]

    @property
    def flushes(self) -> bool:
        """Whether `.ftz` is asked for."""
        return ".ftz" in self.text

    @cached_property
    def expected(self) -> list[float | int]:
        """The reference's results: bits where exact, numbers where approximate."""
        columns = [
            [number(bits, kind) for bits in column]
            for column, kind in zip(zip(*self.operands, strict=True), self.types, strict=True)
        ]
        results: list[Any] = []
        if self.warp:
            for start in range(0, len(self.operands), 32):
                results += self.reference(*(column[start : start + 32] for column in columns))
        else:
            results = [self.reference(*values) for values in zip(*columns, strict=True)]
        if self.tolerance:
            return results
        return [bits_of(result, self.result) for result in results]


def number(bits: int, kind: str) -> Any:
    """Bits as a number of a PTX type: an int, or a float of a floating-point type."""
    if kind in FORMATS:
        return decode(bits, kind)
    width = WIDTHS[kind]
    return bits - (1 << width) if kind[0] == "s" and bits >> (width - 1) & 1 else bits


def bits_of(value: float | int, kind: str) -> int:
    """The bits of a number of a PTX type; integers wrap."""
    if kind in FORMATS:
        return encode(value, kind)
    return int(value) & (1 << WIDTHS[kind]) - 1


@dataclass(frozen=True)
class Difference:
    """A result that is not what was expected, all in bits (`true` a number if approximate)."""

    operands: tuple[int, ...]
    got: int
    true: float | int
    ulps: float

    def __str__(self) -> str:
        values = ", ".join(f"{value:#x}" for value in self.operands)
        true = f"{self.true:#x}" if isinstance(self.true, int) else f"{self.true!r}"
        return f"({values}) gives {self.got:#x}, not {true}"


@dataclass(frozen=True)
class Outcome:
    """How a row came out.

    Attributes:
        wrong: Results that are neither exact nor within the tolerance.
        ulps: The largest distance from the true result in units in the last place, of results that
            are finite where they should be.
        worst: Where that was.
    """

    row: Row
    wrong: tuple[Difference, ...]
    ulps: float
    worst: Difference | None


def judge(row: Row, got: Sequence[int]) -> Outcome:
    """Compare the results of a row, as bits, with its reference."""
    wrong: list[Difference] = []
    ulps, worst = 0.0, None
    for operands, bits, true in zip(row.operands, got, row.expected, strict=True):
        difference = compare(row, operands, bits, true)
        if difference is None:
            continue
        if math.isfinite(difference.ulps) and difference.ulps > ulps:
            ulps, worst = difference.ulps, difference
        if row.tolerance is None or not _is_near(row, bits, true):
            wrong.append(difference)
    return Outcome(row, tuple(wrong), ulps, worst)


def compare(row: Row, operands: tuple[int, ...], bits: int, true: float | int) -> Difference | None:
    """The difference of one result, None if there is none."""
    kind = row.result
    if bits >> WIDTHS[kind]:
        # Stored in a wider word: a result may not reach beyond its own bits.
        return Difference(operands, bits, true, math.inf)
    if kind in PACKED:
        same = all(
            _same_half(bits >> shift & 0xFFFF, int(true) >> shift & 0xFFFF, PACKED[kind])
            for shift in (0, 16)
        )
        return None if same else Difference(operands, bits, true, math.inf)
    if kind not in FORMATS:
        return None if bits == true else Difference(operands, bits, true, math.inf)
    value = decode(bits, kind)
    wanted = true if row.tolerance else decode(int(true), kind)
    if math.isnan(value) and math.isnan(wanted):
        return None
    if not row.tolerance and bits == true:
        return None
    if row.tolerance and value == wanted and math.copysign(1, value) == math.copysign(1, wanted):
        return None
    if not (math.isfinite(value) and math.isfinite(wanted)):
        return Difference(operands, bits, true, math.inf)
    distance = abs(value - wanted) / unit_in_last_place(wanted, kind)
    return Difference(operands, bits, true, distance)


def _same_half(got: int, true: int, kind: str) -> bool:
    return got == true or (math.isnan(decode(got, kind)) and math.isnan(decode(true, kind)))


def _is_near(row: Row, bits: int, true: float) -> bool:
    assert row.tolerance
    value, form = decode(bits, row.result), FORMATS[row.result]
    if math.isnan(true) or math.isnan(value):
        return math.isnan(true) and math.isnan(value)
    if math.isinf(true):
        return value == true
    if math.isinf(value):
        # An overflow where the true result lies about the end of the range.
        return abs(true) > form.largest * (1 - 2.0 ** (2 - form.digits)) and true * value > 0
    if value == 0 and true == 0:
        return math.copysign(1, value) == math.copysign(1, true)
    return row.tolerance.allows(value, true, row.result)
