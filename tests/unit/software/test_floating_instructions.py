"""Each floating-point instruction against exact arithmetic or numpy, edge operands included."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from .conftest import Array, Device


@pytest.fixture
def device(hopper: Device) -> Device:
    """A device that takes every instruction."""
    return hopper


NAN, INF = float("nan"), float("inf")
EDGES = [0.0, -0.0, 1.0, -1.0, 1.5, 3.0, -7.25, 0.1, 1e-30, 3e38, -3e38, 16777217.0, INF, -INF, NAN]
FINITE = [x for x in EDGES if np.isfinite(x)]


def same(got: Array, expected: Array) -> None:
    """Equal bits, any NaN equal to any NaN."""
    kind = {2: np.uint16, 4: np.uint32, 8: np.uint64}[got.dtype.itemsize]
    both_nan = np.isnan(got) & np.isnan(expected)
    wrong = (got.view(kind) != expected.view(kind)) & ~both_nan
    assert not wrong.any(), list(zip(got[wrong], expected[wrong], strict=True))[:5]


def pairs(values: list[float], dtype: type) -> list[Array]:
    table = np.array(list(product(values, values)), dtype)
    return [np.ascontiguousarray(table[:, 0]), np.ascontiguousarray(table[:, 1])]


def minimum(a: Array, b: Array) -> Array:
    signs = np.where(np.signbit(a), a, b)
    return np.where((a == 0) & (b == 0), signs, np.fmin(a, b))


def maximum(a: Array, b: Array) -> Array:
    signs = np.where(np.signbit(a), b, a)
    return np.where((a == 0) & (b == 0), signs, np.fmax(a, b))


BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "add": lambda a, b: a + b,
    "add.rn": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div.rn": lambda a, b: a / b,
    "min": minimum,
    "max": maximum,
}


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize(("type_", "dtype"), [("f32", np.float32), ("f64", np.float64)])
def test_binary(device: Device, name: str, type_: str, dtype: type) -> None:
    a, b = pairs(EDGES, dtype)
    got = device.run_lanes(f"{name}.{type_} %d, %a, %b;", [a, b], dtype)
    with np.errstate(all="ignore"):
        same(got, BINARY[name](a, b).astype(dtype))


@pytest.mark.parametrize("name", ["add", "sub", "mul", "min", "max"])
def test_half(device: Device, name: str) -> None:
    a, b = pairs([0.0, 1.0, -2.5, 0.1, 60000.0, 6e-8, INF, NAN], np.float16)
    got = device.run_lanes(f"{name}.f16 %d, %a, %b;", [a, b], np.float16)
    with np.errstate(all="ignore"):
        expected = BINARY[name](a, b).astype(np.float16)
        same(got, expected)
    packed = [np.stack([x, x[::-1]], 1).view(np.uint32).reshape(-1) for x in (a, b)]
    got = device.run_lanes(f"{name}.f16x2 %d, %a, %b;", packed, np.uint32)
    halves = got.view(np.float16).reshape(-1, 2)
    same(np.ascontiguousarray(halves[:, 0]), expected)
    same(np.ascontiguousarray(halves[:, 1]), np.ascontiguousarray(expected[::-1]))


def exact(operation: str, a: float, b: float) -> Fraction:
    x, y = Fraction(a), Fraction(b)
    return {"add": x + y, "sub": x - y, "mul": x * y, "div": x / y if y else Fraction(0)}[operation]


def round_exact(value: Fraction, mode: str, dtype: type = np.float32) -> float:
    """The number of `dtype` next to an exact value in the direction of a rounding mode."""
    near = dtype(float(value)) if abs(value) < 3e38 else None
    assert near is not None
    below = near if Fraction(float(near)) <= value else np.nextafter(near, dtype(-INF))
    above = near if Fraction(float(near)) >= value else np.nextafter(near, dtype(INF))
    if mode == "rm" or (mode == "rz" and value > 0):
        return float(below)
    return float(above)


@pytest.mark.parametrize("operation", ["add", "sub", "mul", "div"])
@pytest.mark.parametrize("mode", ["rz", "rm", "rp"])
def test_directed_rounding(device: Device, operation: str, mode: str) -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.standard_normal((2, 500)) * 10.0 ** rng.integers(-9, 9, (2, 500))).astype("f4")
    got = device.run_lanes(f"{operation}.{mode}.f32 %d, %a, %b;", [a, b], np.float32)
    expected = [
        round_exact(exact(operation, x, y), mode)
        for x, y in zip(a.tolist(), b.tolist(), strict=True)
    ]
    same(got, np.array(expected, np.float32))


TINY, SMALLEST, LARGEST = 2.0**-1022, 2.0**-1074, float(np.finfo(np.float64).max)
TINY_F, SMALLEST_F, LARGEST_F = 2.0**-126, 2.0**-149, float(np.finfo(np.float32).max)


@pytest.mark.parametrize(
    ("instruction", "operands", "expected"),
    [
        ("mul.rz.f64", (1.75 * TINY, 0.5 + 2**-52), 0.875 * TINY + SMALLEST),
        ("mul.rp.f64", (SMALLEST, SMALLEST), SMALLEST),
        ("mul.rm.f64", (-SMALLEST, SMALLEST), -SMALLEST),
        ("mul.rz.f64", (LARGEST, 2.0), LARGEST),
        ("mul.rm.f64", (INF, 2.0), INF),
        ("div.rp.f64", (SMALLEST, 3.0), SMALLEST),
        ("div.rz.f64", (2.0**-960, 3.0), float.fromhex("0x1.5555555555555p-962")),
        ("div.rp.f64", (2.0**-960, 3.0), float.fromhex("0x1.5555555555556p-962")),
        ("div.rm.f64", (1.0, 0.0), INF),
        ("sqrt.rz.f64", (3 * SMALLEST,), float.fromhex("0x1.bb67ae8584caap-537")),
        ("sqrt.rp.f64", (3 * SMALLEST,), float.fromhex("0x1.bb67ae8584cabp-537")),
        ("add.rz.f64", (LARGEST, LARGEST), LARGEST),
        ("add.rm.f64", (-LARGEST, -1.0), -INF),
        ("add.rm.f64", (1.0, -1.0), -0.0),
        ("sub.rm.f64", (0.0, 0.0), -0.0),
        ("add.rm.f64", (0.0, 0.0), 0.0),
        ("mul.rz.f32", (1.75 * TINY_F, 0.5 + 2**-23), 0.875 * TINY_F + SMALLEST_F),
        ("mul.rp.f32", (SMALLEST_F, SMALLEST_F), SMALLEST_F),
        ("div.rm.f32", (-SMALLEST_F, 3.0), -SMALLEST_F),
        ("sqrt.rp.f32", (3 * SMALLEST_F,), float.fromhex("0x1.3988e2p-74")),
        ("add.rz.f32", (LARGEST_F, LARGEST_F), LARGEST_F),
        ("sub.rm.f32", (2.0, 2.0), -0.0),
        ("fma.rm.f32", (2.0, 3.0, -6.0), -0.0),
    ],
)
def test_directed_rounding_at_the_limits(
    device: Device, instruction: str, operands: tuple[float, ...], expected: float
) -> None:
    dtype = np.float64 if instruction.endswith("f64") else np.float32
    sources = ", ".join(f"%{name}" for name, _ in zip("abc", operands, strict=False))
    inputs = [np.array([value], dtype) for value in operands]
    got = device.run_lanes(f"{instruction} %d, {sources};", inputs, dtype)
    same(got, np.array([expected], dtype))


def test_flushed_results_of_directed_rounding(device: Device) -> None:
    tiny, half = np.array([TINY_F], np.float32), np.array([0.3], np.float32)
    got = device.run_lanes("mul.rp.ftz.f32 %d, %a, %b;", [tiny, half], np.float32)
    assert got.tolist() == [0.0]


def test_select_by_sign_flushes_only_what_it_compares(device: Device) -> None:
    small, sign = np.array([SMALLEST_F], np.float32), np.array([-SMALLEST_F], np.float32)
    text = "slct.ftz.f32.f32 %d, %a, 0f00000000, %b; add.f32 %f0, %d, %d;"
    assert device.run_lanes(text, [small, sign], np.float32).tolist() == [SMALLEST_F]


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
def test_fused_multiply_add(device: Device, mode: str) -> None:
    rng = np.random.default_rng(4)
    a, b = rng.standard_normal((2, 400)).astype(np.float32)
    c = (-(a * b) * rng.choice([1.0, 0.3, 1e5, 1e-6], 400)).astype(np.float32)
    got = device.run_lanes(f"fma.{mode}.f32 %d, %a, %b, %c;", [a, b, c], np.float32)
    sums = [
        Fraction(x) * Fraction(y) + Fraction(z)
        for x, y, z in zip(a.tolist(), b.tolist(), c.tolist(), strict=True)
    ]
    if mode == "rn":
        expected = [nearest(value) for value in sums]
    else:
        expected = [round_exact(value, mode) for value in sums]
    same(got, np.array(expected, np.float32))


def nearest(value: Fraction) -> float:
    below, above = round_exact(value, "rm"), round_exact(value, "rp")
    low, high = value - Fraction(below), Fraction(above) - value
    if low != high:
        return below if low < high else above
    return below if not np.float32(below).view(np.uint32) & 1 else above


def test_double_fused_multiply_add(device: Device) -> None:
    one = np.full(40, 1 + 2**-30)
    got = device.run_lanes("fma.rn.f64 %d, %a, %a, %b;", [one, -one * one], np.float64)
    assert got.tolist() == [2.0**-60] * 40


UNARY: dict[str, Callable[[Array], Array]] = {
    "neg.f32": np.negative,
    "abs.f32": np.abs,
    "sqrt.rn.f32": np.sqrt,
    "rcp.rn.f32": lambda a: np.float32(1) / a,
}


@pytest.mark.parametrize("name", UNARY)
def test_exact_unary(device: Device, name: str) -> None:
    values = np.array(EDGES, np.float32)
    got = device.run_lanes(f"{name} %d, %a;", [values], np.float32)
    with np.errstate(all="ignore"):
        same(got, UNARY[name](values))


APPROXIMATE: dict[str, tuple[Callable[[Array], Array], float, float, float]] = {
    "ex2": (np.exp2, -140.0, 127.9, 3e-7),
    "lg2": (np.log2, 1e-30, 1e30, 1e-6),
    "sin": (np.sin, -3.1, 3.1, 2e-6),
    "cos": (np.cos, -3.1, 3.1, 2e-6),
    "rcp": (lambda a: 1 / a, 0.01, 1e6, 3e-7),
    "sqrt": (np.sqrt, 0.0, 1e30, 3e-7),
    "rsqrt": (lambda a: 1 / np.sqrt(a), 1e-20, 1e20, 3e-7),
    "tanh": (np.tanh, -20.0, 20.0, 1e-5),
}


@pytest.mark.parametrize("name", APPROXIMATE)
def test_approximate_functions(device: Device, name: str) -> None:
    function, low, high, error = APPROXIMATE[name]
    values = np.linspace(low, high, 1000).astype(np.float32)
    got = device.run_lanes(f"{name}.approx.f32 %d, %a;", [values], np.float32)
    expected = function(values.astype(np.float64))
    assert np.allclose(got, expected, rtol=error, atol=error if name in ("sin", "cos") else 1e-45)


def test_exponential_at_its_limits(device: Device) -> None:
    values = np.array([INF, -INF, NAN, 128.0, 127.0, -126.0, -149.0, -200.0, 0.0], np.float32)
    got = device.run_lanes("ex2.approx.f32 %d, %a;", [values], np.float32)
    with np.errstate(all="ignore"):
        same(got, np.exp2(values.astype(np.float64)).astype(np.float32))


def test_saturation_and_flushing(device: Device) -> None:
    values = np.array([-1.0, 0.25, 3.0, NAN, -0.0], np.float32)
    got = device.run_lanes("add.sat.f32 %d, %a, 0f00000000;", [values], np.float32)
    assert got.tolist() == [0.0, 0.25, 1.0, 0.0, 0.0]
    tiny = np.array([1e-39, -1e-39, 1e-20], np.float32)
    kept = device.run_lanes("mul.f32 %d, %a, 0f40000000;", [tiny], np.float32)
    assert kept.tolist() == (2 * tiny).tolist()
    flushed = device.run_lanes("mul.ftz.f32 %d, %a, 0f40000000;", [tiny], np.float32)
    assert flushed.tolist() == [0.0, -0.0, 2 * tiny[2]]


@pytest.mark.parametrize(
    "condition", ["eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu"]
)
def test_comparison_with_nan(device: Device, condition: str) -> None:
    a, b = pairs(EDGES, np.float32)
    body = f"setp.{condition}.f32 %p, %a, %b; selp.u32 %d, 1, 0, %p;"
    got = device.run_lanes(body, [a, b], np.uint32)
    plain = condition.removesuffix("u")
    ordered = {"eq": a == b, "ne": a != b, "lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b}
    unordered = np.isnan(a) | np.isnan(b)
    expected = ordered[plain] & ~unordered
    if condition.endswith("u"):
        expected = ordered[plain] | unordered
    assert got.tolist() == expected.astype(int).tolist()


def test_num_and_nan_conditions(device: Device) -> None:
    a, b = pairs(EDGES, np.float64)
    body = "setp.num.f64 %p, %a, %b; setp.nan.f64 %q, %a, %b; selp.u32 %r1, 1, 0, %p;"
    got = device.run_lanes(body + "selp.u32 %r2, 2, 0, %q; or.b32 %d, %r1, %r2;", [a, b], np.uint32)
    assert got.tolist() == np.where(np.isnan(a) | np.isnan(b), 2, 1).tolist()


@pytest.mark.parametrize(
    ("mode", "function"),
    [("rni", np.rint), ("rzi", np.trunc), ("rmi", np.floor), ("rpi", np.ceil)],
)
def test_float_to_integer_rounds_and_clamps(
    device: Device, mode: str, function: Callable[[Array], Array]
) -> None:
    values = np.array([*EDGES, 0.5, 1.5, 2.5, -0.5, -1.5, 2147483648.0, 4294967296.0, -5.7])
    single = values.astype(np.float32)
    with np.errstate(all="ignore"):
        rounded = np.nan_to_num(function(single).astype(np.float64), nan=0.0)
    for type_, low, high, dtype in [
        ("s32", -(2**31), 2**31 - 1, np.int32),
        ("u32", 0, 2**32 - 1, np.uint32),
        ("s16", -(2**15), 2**15 - 1, np.int16),
        ("u8", 0, 255, np.uint16),
    ]:
        got = device.run_lanes(f"cvt.{mode}.{type_}.f32 %d, %a;", [single], dtype)
        assert got.tolist() == np.clip(rounded, low, high).astype(np.int64).tolist(), type_
    got = device.run_lanes(f"cvt.{mode}.f32.f32 %d, %a;", [single], np.float32)
    same(got, function(single))


def test_nan_to_wide_integers_is_the_top_bit(device: Device) -> None:
    values = np.array([NAN, 1e300, -1e300, 2.5], np.float64)
    got = device.run_lanes("cvt.rzi.s64.f64 %d, %a;", [values], np.int64)
    assert got.tolist() == [-(2**63), 2**63 - 1, -(2**63), 2]
    got = device.run_lanes("cvt.rzi.u64.f64 %d, %a;", [values], np.uint64)
    assert got.tolist() == [2**63, 2**64 - 1, 0, 2]


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
def test_integer_to_float(device: Device, mode: str) -> None:
    values = np.array([0, 1, -1, 16777217, -16777219, 2**31 - 1, -(2**31)], np.int32)
    got = device.run_lanes(f"cvt.{mode}.f32.s32 %d, %a;", [values], np.float32)
    if mode == "rn":
        expected = values.astype(np.float32)
    else:
        expected = np.array([round_exact(Fraction(int(v)), mode) for v in values], np.float32)
    assert got.tolist() == expected.tolist()
    got = device.run_lanes("cvt.rn.f64.u32 %d, %a;", [values.view(np.uint32)], np.float64)
    assert got.tolist() == values.view(np.uint32).astype(np.float64).tolist()


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
def test_double_to_single(device: Device, mode: str) -> None:
    values = np.random.default_rng(6).standard_normal(200) * 1e3
    got = device.run_lanes(f"cvt.{mode}.f32.f64 %d, %a;", [values], np.float32)
    if mode == "rn":
        expected = values.astype(np.float32)
    else:
        expected = np.array([round_exact(Fraction(v), mode) for v in values.tolist()], np.float32)
    same(got, expected)


def test_half_conversions(device: Device) -> None:
    with np.errstate(all="ignore"):
        values = np.array([*EDGES, 65504.0, 65520.0, 6e-8, 0.333], np.float32)
        half = values.astype(np.float16)
        same(device.run_lanes("cvt.rn.f16.f32 %d, %a;", [values], np.float16), half)
        wide = half.astype(np.float32)
        same(device.run_lanes("cvt.f32.f16 %d, %a;", [half], np.float32), wide)
    integers = np.array([0, 1, -5, 2048, 30000], np.int32)
    got = device.run_lanes("cvt.rn.f16.s32 %d, %a;", [integers], np.float16)
    assert got.tolist() == integers.astype(np.float16).tolist()


def test_test_property_and_copysign(device: Device) -> None:
    values = np.array(EDGES, np.float32)
    body = (
        "testp.finite.f32 %p, %a; testp.notanumber.f32 %q, %a;"
        "selp.u32 %r1, 1, 0, %p; selp.u32 %r2, 2, 0, %q; or.b32 %d, %r1, %r2;"
    )
    got = device.run_lanes(body, [values], np.uint32)
    assert got.tolist() == (np.isfinite(values) + 2 * np.isnan(values)).tolist()
    got = device.run_lanes("copysign.f32 %d, %a, 0f40000000;", [values], np.float32)
    same(got, np.copysign(np.float32(2), values))
