"""Extended precision, byte permutation modes and bit masks against Python's integers."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from .conftest import Device
from .test_integer_instructions import EDGES32, M32, clamp, prmt, signed


@pytest.fixture
def device(hopper: Device) -> Device:
    """A device that takes every instruction."""
    return hopper


M64 = (1 << 64) - 1
WIDE_EDGES = [0, 1, M32, M32 + 1, (1 << 63) - 1, 1 << 63, M64, 0x0123456789ABCDEF]

SPLIT = "mov.b64 {%r1, %r2}, %a; mov.b64 {%r3, %r4}, %b;"


def run_wide(device: Device, body: str, result: str = "uint64") -> list[tuple[int, int, int]]:
    pairs = list(product(WIDE_EDGES, WIDE_EDGES))
    columns = [np.array(column, np.uint64) for column in zip(*pairs, strict=True)]
    got = device.run_lanes(body, columns, np.dtype(result)).tolist()
    return [(a, b, value) for (a, b), value in zip(pairs, got, strict=True)]


def test_addition_in_two_words(device: Device) -> None:
    body = SPLIT + "add.cc.u32 %r5, %r1, %r3; addc.u32 %r6, %r2, %r4; mov.b64 %d, {%r5, %r6};"
    for a, b, got in run_wide(device, body):
        assert got == (a + b) & M64


def test_addition_yields_the_carry(device: Device) -> None:
    body = SPLIT + "add.cc.u32 %r5, %r1, %r3; addc.cc.u32 %r6, %r2, %r4; addc.u32 %r7, 0, 0;"
    for a, b, got in run_wide(device, body + "cvt.u64.u32 %d, %r7;"):
        assert got == a + b >> 64


def test_subtraction_in_two_words(device: Device) -> None:
    body = SPLIT + "sub.cc.u32 %r5, %r1, %r3; subc.cc.u32 %r6, %r2, %r4; mov.b64 %d, {%r5, %r6};"
    for a, b, got in run_wide(device, body):
        assert got == (a - b) & M64


def test_subtraction_yields_the_borrow(device: Device) -> None:
    body = "sub.cc.u64 %w1, %a, %b; subc.cc.u64 %w1, 0, 0; subc.u64 %d, 0, 0;"
    for a, b, got in run_wide(device, body):
        assert got == (M64 if a < b else 0)


def test_multiplication_in_two_words(device: Device) -> None:
    """A full product of 64-bit numbers by 32-bit parts, its upper half as the result."""
    body = (
        SPLIT
        + """
        mul.lo.u32 %r5, %r1, %r3; mul.hi.u32 %r6, %r1, %r3;
        mad.lo.cc.u32 %r6, %r1, %r4, %r6; madc.hi.u32 %r7, %r1, %r4, 0;
        mad.lo.cc.u32 %r6, %r2, %r3, %r6; madc.hi.cc.u32 %r7, %r2, %r3, %r7; addc.u32 %r8, 0, 0;
        mad.lo.cc.u32 %r7, %r2, %r4, %r7; madc.hi.u32 %r8, %r2, %r4, %r8;
        mov.b64 %d, {%r7, %r8};"""
    )
    for a, b, got in run_wide(device, body):
        assert got == a * b >> 64


def test_the_carry_of_each_thread_is_its_own(device: Device) -> None:
    numbers = np.array([0xFFFFFFF0 + (i % 16) * 2 & M32 for i in range(64)], np.uint32)
    body = "add.cc.u32 %r1, %a, 16; @%p add.cc.u32 %r1, 0, 0; addc.u32 %d, 0, 0;"
    got = device.run_lanes("setp.eq.u32 %p, %a, 0xfffffff2;" + body, [numbers], np.uint32)
    expected = [int(int(n) + 16 > M32 and n != 0xFFFFFFF2) for n in numbers]
    assert got.tolist() == expected


def modes() -> dict[str, list[list[int]]]:
    """Byte picked for each result byte, by mode and selector, as the PTX manual tables them."""
    return {
        "f4e": [[s, s + 1, s + 2, s + 3] for s in range(4)],
        "b4e": [[(s - i) % 8 for i in range(4)] for s in range(4)],
        "rc8": [[s] * 4 for s in range(4)],
        "ecl": [[max(i, s) for i in range(4)] for s in range(4)],
        "ecr": [[min(i, s) for i in range(4)] for s in range(4)],
        "rc16": [[s % 2 * 2 + i % 2 for i in range(4)] for s in range(4)],
    }


@pytest.mark.parametrize("mode", modes())
def test_permutation_modes(device: Device, mode: str) -> None:
    a, b = 0x83A2C1E0, 0x77665544
    selectors = np.arange(8, dtype=np.uint32)
    body = f"prmt.b32.{mode} %d, {a}, {b}, %a;"
    got = device.run_lanes(body, [selectors], np.uint32)
    for selector, value in zip(selectors.tolist(), got.tolist(), strict=True):
        picks = modes()[mode][selector & 3]
        assert value == prmt(a, b, sum(pick << 4 * i for i, pick in enumerate(picks)))


def mask(start: int, width: int, wraps: bool) -> int:
    if wraps:
        start, width = start % 32, width % 32
    return ((1 << min(width, 32)) - 1) << min(start, 32) & M32


def extend(value: int, width: int, wraps: bool, is_signed: bool) -> int:
    width = width % 32 if wraps else min(width, 32)
    low = value & (1 << width) - 1
    return signed(low, width) & M32 if is_signed and width else low


PAIRS = [(a, b) for a in EDGES32 for b in (*EDGES32, 5, 16, 24)]


@pytest.mark.parametrize("mode", ["clamp", "wrap"])
def test_bit_masks(device: Device, mode: str) -> None:
    a, b = (np.array(column, np.uint32) for column in zip(*PAIRS, strict=True))
    got = device.run_lanes(f"bmsk.{mode}.b32 %d, %a, %b;", [a, b], np.uint32)
    assert got.tolist() == [mask(x, y, mode == "wrap") for x, y in PAIRS]


@pytest.mark.parametrize("mode", ["clamp", "wrap"])
@pytest.mark.parametrize("kind", ["u32", "s32"])
def test_sign_extension(device: Device, mode: str, kind: str) -> None:
    a, b = (np.array(column, np.uint32) for column in zip(*PAIRS, strict=True))
    got = device.run_lanes(f"szext.{mode}.{kind} %d, %a, %b;", [a, b], np.uint32)
    assert got.tolist() == [extend(x, y, mode == "wrap", kind == "s32") for x, y in PAIRS]


def nth_set(bits: int, base: int, offset: int) -> int:
    """The pseudocode of the PTX manual."""
    step, count, position = (1, offset - 1, base) if offset > 0 else (-1, -offset - 1, base)
    if offset == 0:
        return base if bits >> base & 1 else M32
    while 0 <= position < 32:
        if bits >> position & 1:
            if count == 0:
                return position
            count -= 1
        position += step
    return M32


def test_nth_set_bit(device: Device) -> None:
    cases = list(product([0, 1, M32, 0x80000001, 0x12345678], [0, 3, 30, 31], range(-34, 35, 4)))
    cases += [(0x12345678, base, offset) for base in range(32) for offset in (-2, -1, 0, 1, 2)]
    a, b, c = (np.array(column, np.int64).astype(np.uint32) for column in zip(*cases, strict=True))
    got = device.run_lanes("fns.b32 %d, %a, %b, %c;", [a, b, c], np.uint32)
    assert got.tolist() == [nth_set(*case) for case in cases]


def test_products_of_24_bits_upper_part(device: Device) -> None:
    a, b = (np.array(column, np.uint32) for column in zip(*product(EDGES32, EDGES32), strict=True))
    low = (1 << 24) - 1
    got = device.run_lanes("mul24.hi.u32 %d, %a, %b;", [a, b], np.uint32)
    pairs = list(product(EDGES32, EDGES32))
    assert got.tolist() == [(x & low) * (y & low) >> 16 & M32 for x, y in pairs]
    got = device.run_lanes("mul24.hi.s32 %d, %a, %b;", [a, b], np.uint32)
    expected = [signed(x & low, 24) * signed(y & low, 24) >> 16 & M32 for x, y in pairs]
    assert got.tolist() == expected
    got = device.run_lanes("mad24.hi.sat.s32 %d, %a, %b, %b;", [a, b], np.uint32)
    totals = [
        clamp(signed(z) + signed(y), -(1 << 31), (1 << 31) - 1) & M32
        for z, (_, y) in zip(expected, pairs, strict=True)
    ]
    assert got.tolist() == totals


def test_saturating_multiply_add(device: Device) -> None:
    triples = list(product(EDGES32, EDGES32, [0, 1, 0x7FFFFFFF, 0x80000000, M32]))
    columns = [np.array(column, np.uint32) for column in zip(*triples, strict=True)]
    got = device.run_lanes("mad.hi.sat.s32 %d, %a, %b, %c;", columns, np.int32)
    assert got.tolist() == [
        clamp((signed(a) * signed(b) >> 32) + signed(c), -(1 << 31), (1 << 31) - 1)
        for a, b, c in triples
    ]


def test_lop3_with_a_predicate(device: Device) -> None:
    numbers = np.array(EDGES32, np.uint32)
    body = (
        "setp.gt.u32 %q, %a, 100; lop3.{0}.b32 %r1|%p, %a, 12, 3, 0x80, %q; selp.u32 %d, 1, 0, %p;"
    )
    for operation in ("or", "and"):
        got = device.run_lanes(body.replace("{0}", operation), [numbers], np.uint32)
        expected = [
            (n & 12 & 3 != 0) or n > 100 if operation == "or" else (n & 12 & 3 != 0) and n > 100
            for n in EDGES32
        ]
        assert got.tolist() == [int(flag) for flag in expected]
