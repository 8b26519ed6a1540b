"""Conversions between floats of 8 bits, halves and floats, against tables of all their values."""

from __future__ import annotations

import numpy as np
import pytest

from .conftest import Array, Device

#: Digits of the fraction, bias of the exponent, largest finite number and its bits.
FORMATS = {"e4m3x2": (3, 7, 448.0, 0x7E), "e5m2x2": (2, 15, 57344.0, 0x7B)}


def values(name: str) -> Array:
    """What each of the 128 bytes without a sign stands for."""
    fraction, bias, largest, _ = FORMATS[name]
    found = np.full(128, np.nan)
    for bits in range(128):
        exponent, digits = bits >> fraction, bits & ((1 << fraction) - 1)
        scale = 2.0 ** (max(exponent, 1) - bias - fraction)
        number = (digits + ((1 << fraction) if exponent else 0)) * scale
        if number <= largest:
            found[bits] = number
    if name == "e5m2x2":
        found[0x7C] = np.inf
    return found


def nearest(number: float, name: str) -> int:
    """The byte nearest to a number, of two equally near the even one; too large ones clamped."""
    largest, top = FORMATS[name][2:]
    if np.isnan(number):
        return 0x7F
    sign = 0x80 if np.signbit(number) else 0
    magnitude = abs(number)
    if magnitude >= largest:
        return sign | top
    table = values(name)[: top + 1]
    distances = np.abs(table - magnitude)
    candidates = np.flatnonzero(distances == distances.min())
    return sign | int(next(bits for bits in candidates if len(candidates) == 1 or bits % 2 == 0))


def numbers(name: str) -> Array:
    """Every value, what lies between two of them, just beside that, and the unusual."""
    table = values(name)
    table = table[np.isfinite(table)]
    between = (table[1:] + table[:-1]) / 2
    every = np.concatenate([table, between, between * 1.001, between * 0.999])
    rest = [FORMATS[name][2] * 1.01, 1e30, np.inf, np.nan, 1e-30, 1e-40]
    every = np.concatenate([every, rest])
    return np.concatenate([every, -every]).astype(np.float32)


@pytest.mark.parametrize("relu", ["", ".relu"])
@pytest.mark.parametrize("name", FORMATS)
def test_floats_to_pairs(hopper: Device, name: str, relu: str) -> None:
    high = numbers(name)
    low = high[::-1].copy()
    body = f"cvt.rn.satfinite{relu}.{name}.f32 %h1, %a, %b; cvt.u32.u16 %d, %h1;"
    got = hopper.run_lanes(body, [high, low], np.uint32)

    def byte(number: float) -> int:
        return nearest(0.0 if relu and number <= 0 else float(number), name)

    expected = [byte(a) << 8 | byte(b) for a, b in zip(high, low, strict=True)]
    assert [hex(pair) for pair in got.tolist()] == [hex(pair) for pair in expected]


@pytest.mark.parametrize("name", FORMATS)
def test_halves_to_pairs(hopper: Device, name: str) -> None:
    with np.errstate(over="ignore"):
        halves = numbers(name).astype(np.float16)
    pairs = np.stack([halves, halves[::-1]], axis=1).copy().view(np.uint32).reshape(-1)
    body = f"cvt.rn.satfinite.{name}.f16x2 %h1, %a; cvt.u32.u16 %d, %h1;"
    got = hopper.run_lanes(body, [pairs], np.uint32)
    expected = [
        nearest(float(high), name) << 8 | nearest(float(low), name)
        for low, high in zip(halves, halves[::-1], strict=True)
    ]
    assert got.tolist() == expected


@pytest.mark.parametrize("relu", ["", ".relu"])
@pytest.mark.parametrize("name", FORMATS)
def test_pairs_to_halves(hopper: Device, name: str, relu: str) -> None:
    low = np.arange(256)
    pairs = (low | (255 - low) << 8).astype(np.uint32)
    body = f"cvt.u16.u32 %h1, %a; cvt.rn{relu}.f16x2.{name} %d, %h1;"
    got = hopper.run_lanes(body, [pairs], np.uint32).view(np.float16).reshape(-1, 2)
    table = np.concatenate([values(name), -values(name)])
    table[128 + np.flatnonzero(np.isnan(values(name)))] = np.nan
    if relu:
        table[128:] = np.where(np.isnan(table[128:]), np.nan, 0.0)
    expected = np.stack([table[low], table[255 - low]], axis=1).astype(np.float16)
    assert np.array_equal(got, expected, equal_nan=True)
    numeric = ~np.isnan(expected)
    assert set(got.view(np.uint16)[~numeric].tolist()) == {0x7FFF}
    assert np.array_equal(np.signbit(got[numeric]), np.signbit(expected[numeric]))


SATURATED = [0.0, -1.5, 65504.0, 65520.0, -1e9, np.inf, -np.inf, 3.3e38, -3.4e38]


@pytest.mark.parametrize(
    ("body", "largest"),
    [
        ("cvt.rn.satfinite.f16.f32 %h1, %a; cvt.f32.f16 %d, %h1;", 65504.0),
        (
            "cvt.rn.satfinite.f16x2.f32 %r1, %a, %a; mov.b32 {%h1, %h2}, %r1; cvt.f32.f16 %d, %h2;",
            65504.0,
        ),
        ("cvt.rn.satfinite.bf16.f32 %h1, %a; cvt.f32.bf16 %d, %h1;", 2.0**128 - 2.0**120),
        ("cvt.rna.satfinite.tf32.f32 %r1, %a; mov.b32 %d, %r1;", 2.0**128 - 2.0**117),
    ],
)
def test_infinities_become_the_largest_number(hopper: Device, body: str, largest: float) -> None:
    given = np.array([*SATURATED, np.nan], np.float32)
    got = hopper.run_lanes(body, [given], np.float32)
    assert np.isnan(got[-1])
    beyond = np.abs(given[:-1]) > largest
    assert np.array_equal(got[:-1][beyond], np.copysign(np.float32(largest), given[:-1][beyond]))
    assert np.all(np.isfinite(got[:-1]))
    within = np.abs(given[:-1]) <= 2
    assert got[:-1][within].tolist() == given[:-1][within].tolist()


@pytest.mark.parametrize("kind", ["u16", "s16", "u8", "s8", "u4", "s4", "u2", "s2"])
def test_packed_integers_are_saturated(hopper: Device, kind: str) -> None:
    edges = [0, 1, -1, 2, -2, 7, 8, -8, -9, 127, 128, -128, -129, 255, 256, 1 << 30, -(1 << 31)]
    first = np.array([a for a in edges for _ in edges], np.int32)
    second = np.array([b for _ in edges for b in edges], np.int32)
    third = np.arange(len(first), dtype=np.uint32) * 0x01234567
    bits = int(kind[1:])
    least, most = (
        (-(1 << bits - 1), (1 << bits - 1) - 1) if kind[0] == "s" else (0, (1 << bits) - 1)
    )
    if bits == 16:
        body = f"cvt.pack.sat.{kind}.s32 %d, %a, %b;"
    else:
        body = f"cvt.pack.sat.{kind}.s32.b32 %d, %a, %b, %c;"
    inputs = [first, second] if bits == 16 else [first, second, third]
    got = hopper.run_lanes(body, inputs, np.uint32)
    mask = (1 << bits) - 1
    high = np.clip(first.astype(np.int64), least, most) & mask
    low = np.clip(second.astype(np.int64), least, most) & mask
    expected = high << bits | low
    if bits < 16:
        expected |= third.astype(np.int64) << 2 * bits
    assert got.tolist() == (expected & 0xFFFFFFFF).tolist()
