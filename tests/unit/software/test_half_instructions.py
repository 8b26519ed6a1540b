"""Half precision (f16, bf16) and conversions, against exact arithmetic rounded once."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest

from .conftest import Device


@pytest.fixture
def device(hopper: Device) -> Device:
    """A device that takes every instruction."""
    return hopper


#: Digits of the significand (the hidden one included) and least exponent of a subnormal.
FORMATS = {"f16": (11, -24), "bf16": (8, -133), "f32": (24, -149), "f64": (53, -1074)}
LARGEST = {"f16": 65504.0, "bf16": 3.3895313892515355e38, "f32": 3.4028234663852886e38}

#: Zero, subnormals, one and its neighbours, large, infinite.
HALVES = {
    "f16": [0, 0x8000, 1, 0x3FF, 0x400, 0x8001, 0x3C00, 0x3C01, 0xBBFF, 0x7BFF, 0x7C00, 0x1234],
    "bf16": [0, 0x8000, 0x80, 0x8081, 0x3F80, 0x3F81, 0xBF7F, 0x7F7F, 0x7F80, 0x1234, 0x4049],
}


def value_of(bits: int, kind: str) -> float:
    if kind == "f16":
        return float(struct.unpack("<e", struct.pack("<H", bits))[0])
    return float(struct.unpack("<f", struct.pack("<I", bits << 16))[0])


def bits_of(value: float, kind: str) -> int:
    if kind == "f16":
        return int(struct.unpack("<H", struct.pack("<e", value))[0])
    return int(struct.unpack("<I", struct.pack("<f", value))[0]) >> 16


def rounded(exact: Fraction | float, kind: str, mode: str = "rn") -> float:
    """An exact number rounded once to a format; infinities and NaN pass."""
    if isinstance(exact, float):
        if not np.isfinite(exact):
            return exact
        exact = Fraction(exact)
    if exact == 0:
        return 0.0
    digits, least = FORMATS[kind]
    magnitude, negative = abs(exact), exact < 0
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if Fraction(2) ** exponent > magnitude:
        exponent -= 1
    unit = Fraction(2) ** max(exponent - digits + 1, least)
    count, rest = divmod(magnitude, unit)
    outward = {"rz": False, "rm": negative, "rp": not negative}.get(mode)
    if outward is None:
        count += rest * 2 > unit or (rest * 2 == unit and count % 2 == 1)
    elif outward and rest:
        count += 1
    result = float(count * unit)
    if result > LARGEST.get(kind, float("inf")):
        result = float("inf") if outward in (None, True) else LARGEST[kind]
    return -result if negative else result


def same(got: int, expected: float, kind: str) -> bool:
    if np.isnan(expected):
        return bool(np.isnan(value_of(got, kind)))
    if expected == 0:
        return got & 0x7FFF == 0
    return got == bits_of(expected, kind)


def exactly(function: Callable[..., Any], *values: float) -> Fraction | float:
    """A function of exact numbers, or of floats where one is not finite."""
    if all(np.isfinite(value) for value in values):
        return Fraction(function(*(Fraction(value) for value in values)))
    with np.errstate(all="ignore"):
        return float(function(*(np.float64(value) for value in values)))


def operands(kind: str, count: int, number: int = 400) -> list[np.ndarray[Any, Any]]:
    generator = np.random.default_rng(7)
    edges = list(product(HALVES[kind], repeat=min(count, 2)))
    columns = [list(column) for column in zip(*edges, strict=True)]
    if count == 3:
        columns.append([HALVES[kind][(3 * i) % len(HALVES[kind])] for i in range(len(edges))])
    return [
        np.array([*column, *generator.integers(0, 1 << 16, number)], np.uint16)
        for column in columns
    ]


BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
}


@pytest.mark.parametrize("kind", ["f16", "bf16"])
@pytest.mark.parametrize("name", BINARY)
def test_arithmetic(device: Device, name: str, kind: str) -> None:
    a, b = operands(kind, 2)
    got = device.run_lanes(f"{name}.rn.{kind} %d, %a, %b;", [a, b], np.uint16)
    for x, y, result in zip(a.tolist(), b.tolist(), got.tolist(), strict=True):
        exact = exactly(BINARY[name], value_of(x, kind), value_of(y, kind))
        assert same(result, rounded(exact, kind), kind), (x, y, result)


@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_fused_multiply_add_rounds_once(device: Device, kind: str) -> None:
    columns = operands(kind, 3, 2000)
    got = device.run_lanes(f"fma.rn.{kind} %d, %a, %b, %c;", columns, np.uint16)
    for x, y, z, result in zip(*(c.tolist() for c in columns), got.tolist(), strict=True):
        values = [value_of(bits, kind) for bits in (x, y, z)]
        exact = exactly(lambda a, b, c: a * b + c, *values)
        assert same(result, rounded(exact, kind), kind), (x, y, z, result)


@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_fused_ties_that_two_roundings_get_wrong(device: Device, kind: str) -> None:
    """1 + half a unit + something far below what single or double precision keeps."""
    half_unit = 2.0 ** -FORMATS[kind][0]
    tiny = {"f16": 2.0**-24, "bf16": 2.0**-120}[kind]
    up, down = bits_of(half_unit, kind), bits_of(-tiny, kind)
    one = bits_of(1.0, kind)
    a = np.array([bits_of(tiny, kind), down, up, up], np.uint16)
    b = np.array([one, one, one, one], np.uint16)
    c = np.array([one, one, one, bits_of(1.0 + 2 * half_unit, kind)], np.uint16)
    got = device.run_lanes(f"fma.rn.{kind} %d, %a, %b, %c;", [a, b, c], np.uint16)
    assert got.tolist() == [one, one, one, one + 2]


def test_packed_halves_are_independent(device: Device) -> None:
    a, b = operands("f16", 2)
    pairs = (a.astype(np.uint32) | b.astype(np.uint32) << 16).astype(np.uint32)
    swapped = (b.astype(np.uint32) | a.astype(np.uint32) << 16).astype(np.uint32)
    got = device.run_lanes("mul.f16x2 %d, %a, %b;", [pairs, swapped], np.uint32)
    single = device.run_lanes("mul.f16 %d, %a, %b;", [a, b], np.uint16).tolist()
    assert [g & 0xFFFF for g in got.tolist()] == single
    assert [g >> 16 for g in got.tolist()] == device.run_lanes(
        "mul.f16 %d, %a, %b;", [b, a], np.uint16
    ).tolist()


def test_flushing_of_halves(device: Device) -> None:
    a = np.array([1, 0x8001, 0x3FF, 0x400, 0x3C00], np.uint16)
    got = device.run_lanes("add.ftz.f16 %d, %a, %a;", [a], np.uint16)
    assert got.tolist() == [0, 0x8000, 0, 0x800, 0x4000]
    got = device.run_lanes("mul.ftz.f16 %d, %a, %b;", [a, np.full(5, 0x3800, np.uint16)], np.uint16)
    assert got.tolist() == [0, 0x8000, 0, 0, 0x3800]


def test_saturation_relu_and_extremes_of_halves(device: Device) -> None:
    a = np.array([bits_of(x, "f16") for x in (-2.0, 0.5, 3.0)] + [0x7E00], np.uint16)
    one = np.full(4, 0x3C00, np.uint16)
    got = device.run_lanes("mov.b16 %h1, 0; fma.rn.sat.f16 %d, %a, %b, %h1;", [a, one], np.uint16)
    assert got.tolist() == [0, 0x3800, 0x3C00, 0]
    got = device.run_lanes("mov.b16 %h1, 0; fma.rn.relu.f16 %d, %a, %b, %h1;", [a, one], np.uint16)
    assert got.tolist()[:3] == [0, 0x3800, 0x4200]
    assert np.isnan(value_of(int(got[3]), "f16"))
    got = device.run_lanes("max.f16 %d, %a, %b;", [a, one], np.uint16)
    assert got.tolist() == [0x3C00, 0x3C00, 0x4200, 0x3C00]
    got = device.run_lanes("min.NaN.f16 %d, %a, %b;", [a, one], np.uint16)
    assert got.tolist()[:3] == [0xC000, 0x3800, 0x3C00]
    assert np.isnan(value_of(int(got[3]), "f16"))


def test_comparisons_of_packed_halves(device: Device) -> None:
    a, b = operands("f16", 2)
    pairs = (a.astype(np.uint32) | b.astype(np.uint32) << 16).astype(np.uint32)
    swapped = (b.astype(np.uint32) | a.astype(np.uint32) << 16).astype(np.uint32)
    body = "setp.lt.f16x2 %p|%q, %a, %b; selp.u32 %r1, 1, 0, %p; selp.u32 %r2, 2, 0, %q;"
    got = device.run_lanes(body + "or.b32 %d, %r1, %r2;", [pairs, swapped], np.uint32)
    x, y = a.view(np.float16), b.view(np.float16)
    assert got.tolist() == ((x < y) + 2 * (y < x)).tolist()
    got = device.run_lanes("set.lt.f16x2.f16x2 %d, %a, %b;", [pairs, swapped], np.uint32)
    assert got.tolist() == (0x3C00 * (x < y) + (0x3C000000 * (y < x))).tolist()


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
@pytest.mark.parametrize(
    ("target", "source"),
    [("f16", "f32"), ("f16", "f64"), ("bf16", "f32"), ("bf16", "f64"), ("f32", "f64")],
)
def test_narrowing(device: Device, target: str, source: str, mode: str) -> None:
    generator = np.random.default_rng(8)
    dtype = np.float32 if source == "f32" else np.float64
    scales = 2.0 ** generator.integers(-30, 20, 500)
    ties = [1 + 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-11 + 2.0**-40, 1 + 2.0**-8 - 2.0**-45]
    edges = [*ties, 65504.0, 65519.0, 65520.0, 1e6, -1e6, 5e-8, 1e-9, 0.0, np.inf, -np.inf]
    values = np.array([*edges, *(generator.standard_normal(500) * scales)]).astype(dtype)
    width = np.uint32 if target == "f32" else np.uint16
    got = device.run_lanes(f"cvt.{mode}.{target}.{source} %d, %a;", [values], width)
    for value, bits in zip(values.tolist(), got.tolist(), strict=True):
        expected = rounded(value, target, mode)
        if target == "f32":
            assert struct.unpack("<f", struct.pack("<I", bits))[0] == expected, value
        else:
            assert same(bits, expected, target), (value, bits)


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
@pytest.mark.parametrize("target", ["f16", "bf16", "f32", "f64"])
@pytest.mark.parametrize("source", ["s64", "u64", "s32", "u16"])
def test_integers_to_floats(device: Device, target: str, source: str, mode: str) -> None:
    bits = int(source[1:])
    signed = source[0] == "s"
    top = (1 << (bits - signed)) - 1
    numbers = [0, 1, 3, 2047, 2049, 4097, 65519, 65520, 65535, (1 << 24) + 1, (1 << 53) + 1, top]
    numbers += [top - 1, top - 512, (top >> 1) + 1, (1 << 62) + 1, (1 << 40) + (1 << 15) + 1]
    if signed:
        numbers += [-n for n in numbers] + [-top - 1]
    numbers = [n for n in numbers if -(top + 1) * signed <= n <= top]
    dtype = np.dtype(f"{'i' if signed else 'u'}{bits // 8}")
    width = {"f16": np.uint16, "bf16": np.uint16, "f32": np.float32, "f64": np.float64}[target]
    array = np.array(numbers, dtype)
    got = device.run_lanes(f"cvt.{mode}.{target}.{source} %d, %a;", [array], width)
    for number, result in zip(numbers, got.tolist(), strict=True):
        expected = rounded(Fraction(number), target, mode)
        if target in ("f16", "bf16"):
            assert same(result, expected, target), (number, result)
        else:
            assert result == expected, number


def test_halves_to_integers(device: Device) -> None:
    values = np.array([0.5, 1.5, -2.5, 65504, -65504, np.inf, -np.inf, np.nan], np.float16)
    got = device.run_lanes("cvt.rni.s32.f16 %d, %a;", [values], np.int32)
    assert got.tolist() == [0, 2, -2, 65504, -65504, 2**31 - 1, -(2**31), 0]
    got = device.run_lanes("cvt.rzi.u8.f16 %d, %a;", [values], np.uint16)
    assert got.tolist() == [0, 1, 0, 255, 0, 255, 0, 0]
    got = device.run_lanes("cvt.rpi.f16.f16 %d, %a;", [values], np.float16)
    assert got.tolist()[:7] == [1, 2, -2, 65504, -65504, np.inf, -np.inf]


def test_packing_conversions(device: Device) -> None:
    a = np.array([1.0, -3.0, 1e-8, np.nan], np.float32)
    b = np.array([0.1, 70000.0, -2.0, 5.0], np.float32)
    with np.errstate(over="ignore"):
        halves = [x.astype(np.float16).view(np.uint16).astype(np.uint32) for x in (a, b)]
    got = device.run_lanes("cvt.rn.f16x2.f32 %d, %a, %b;", [a, b], np.uint32)
    assert (got[:3] == (halves[0] << 16 | halves[1])[:3]).all()
    got = device.run_lanes("cvt.rn.relu.bf16x2.f32 %d, %a, %b;", [a, b], np.uint32)
    assert [hex(x) for x in got.tolist()] == ["0x3f803dcd", "0x4789", "0x322c0000", "0x7fff40a0"]


def test_tensor_floats(device: Device) -> None:
    a = np.array([1 + 2.0**-11, 1 + 2.0**-12, -1 - 3 * 2.0**-11, 3.5], np.float32)
    got = device.run_lanes("cvt.rna.tf32.f32 %d, %a;", [a], np.uint32).view(np.float32)
    assert got.tolist() == [1 + 2.0**-10, 1.0, -1 - 2.0**-9, 3.5]


def test_flushing_where_only_some_instructions_flush(device: Device) -> None:
    """A kernel of both kinds keeps subnormals where `.ftz` is not said, doubles included."""
    tiny = np.array([1e-39, -3e-39, 0.5], np.float32)
    body = "add.f32 %d, %a, %a; add.ftz.f32 %f1, %a, %a; setp.eq.f32 %p, %f1, 0f00000000;"
    got = device.run_lanes(body + "@!%p mov.f32 %d, 0f40E00000;", [tiny], np.float32)
    assert got.tolist() == [2 * float(tiny[0]), 2 * float(tiny[1]), 7.0]
    double = np.array([5e-310, 1.0])
    body = "mov.f32 %f1, 0f00000001; mul.ftz.f32 %f1, %f1, 0f3F800000; cvt.f64.f32 %g1, %f1;"
    got = device.run_lanes(body + "add.f64 %d, %a, %g1;", [double], np.float64)
    assert got.tolist() == double.tolist()


def test_extremes_with_the_sign_of_the_product(device: Device) -> None:
    a = np.array([1.0, -2.0, -3.0, 4.0], np.float32)
    b = np.array([-2.0, -1.0, 5.0, 3.0], np.float32)
    got = device.run_lanes("min.xorsign.abs.f32 %d, %a, %b;", [a, b], np.float32)
    assert got.tolist() == [-1.0, 1.0, -3.0, 3.0]
