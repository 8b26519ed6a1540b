"""`mma.sync` against numpy: every shape and type, the fragments laid out as the PTX manual says."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vgpu_host.executors.software.gpu import SoftwareGpu
from vgpu_host.executors.software.profiles import PROFILES
from vgpu_host.executors.software.translation import Translation

from .conftest import Array, Device

HEADER = ".version 8.4\n.target sm_90\n.address_size 64\n"
LANES = range(32)
BITS = {"f16": 16, "bf16": 16, "tf32": 32, "f32": 32, "f64": 64, "s32": 32}
BITS |= {"s8": 8, "u8": 8, "s4": 4, "u4": 4, "b1": 1}
RANGES = {"s8": (-128, 128), "u8": (0, 256), "s4": (-8, 8), "u4": (0, 16), "b1": (0, 2)}


@dataclass(frozen=True)
class Case:
    """One `mma`: shape, types of D, A, B and C, layouts of A and B, what else it says."""

    m: int
    n: int
    k: int
    d: str
    a: str
    b: str
    c: str
    layouts: str = "row.col"
    before: str = ""
    after: str = ""

    @property
    def name(self) -> str:
        shape = f"m{self.m}n{self.n}k{self.k}"
        types = f"{self.d}.{self.a}.{self.b}.{self.c}"
        return f"mma.sync.aligned.{shape}.{self.layouts}{self.before}.{types}{self.after}"

    @property
    def quads(self) -> bool:
        return self.a == "f16" and self.k == 4


def a_place(case: Case, lane: int, i: int) -> tuple[int, int, int]:
    """Matrix, row and column of element `i` that a lane has of A."""
    if case.quads:
        half = 4 if lane >= 16 else 0
        if case.layouts.startswith("row"):
            return lane % 16 // 4, lane % 4 + half, i
        return lane % 16 // 4, i % 4 + half, lane % 4
    group, member = lane >> 2, lane % 4
    packed = max(1, 32 // BITS[case.a])
    if case.m == 8:
        return 0, group, member * packed + i
    register, rest = divmod(i, packed)
    return 0, group + 8 * (register % 2), member * packed + rest + 4 * packed * (register // 2)


def b_place(case: Case, lane: int, i: int) -> tuple[int, int, int]:
    if case.quads:
        half = 4 if lane >= 16 else 0
        if case.layouts.endswith("col"):
            return lane % 16 // 4, i, lane % 4 + half
        return lane % 16 // 4, lane % 4, i + half
    group, member = lane >> 2, lane % 4
    packed = max(1, 32 // BITS[case.b])
    register, rest = divmod(i, packed)
    return 0, member * packed + rest + 4 * packed * register, group


def c_place(case: Case, element: str, lane: int, i: int) -> tuple[int, int, int]:
    if case.quads:
        half = 4 if lane >= 16 else 0
        if element == "f16":
            return lane % 16 // 4, lane % 4 + half, i
        row = (lane & 1) + (i & 2) + half
        return lane % 16 // 4, row, (i & 4) + (lane & 2) + (i & 1)
    group, member = lane >> 2, lane % 4
    return 0, group + 8 * (i // 2), member * 2 + i % 2


def encode(values: Array, element: str) -> Array:
    """Numbers as the bits of an element type, in unsigned integers."""
    match element:
        case "f16":
            return values.astype(np.float16).view(np.uint16).astype(np.uint64)
        case "bf16":
            return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint64)
        case "tf32" | "f32":
            return values.astype(np.float32).view(np.uint32).astype(np.uint64)
        case "f64":
            return values.astype(np.float64).view(np.uint64)
    return values.astype(np.int64).view(np.uint64) & np.uint64((1 << BITS[element]) - 1)


def decode(bits: Array, element: str) -> Array:
    match element:
        case "f16":
            return bits.astype(np.uint16).view(np.float16).astype(np.float64)
        case "f32":
            return bits.astype(np.uint32).view(np.float32).astype(np.float64)
        case "f64":
            return bits.view(np.float64)
    return bits.astype(np.uint32).view(np.int32).astype(np.int64)


def numbers(rng: np.random.Generator, shape: tuple[int, ...], element: str) -> Array:
    """Random numbers that the element type has exactly."""
    if element in RANGES:
        return rng.integers(*RANGES[element], shape)
    if element == "s32":
        return rng.integers(-(1 << 31), 1 << 31, shape)
    values = rng.normal(0, 1, shape)
    if element == "f16":
        return values.astype(np.float16).astype(np.float64)
    if element == "f64":
        return values
    kept = {"bf16": 16, "tf32": 13, "f32": 0}[element]
    bits = values.astype(np.float32).view(np.uint32) >> kept << kept
    return bits.view(np.float32).astype(np.float64)


def to_registers(matrices: Array, element: str, place: Any) -> Array:
    """The fragment of a stack of matrices: registers by lanes."""
    bits = encode(matrices, element)
    width = max(32, BITS[element])
    packed = width // BITS[element]
    count = 0
    total = matrices.size // 32
    registers = np.zeros((total // packed, 32), np.uint64)
    for lane in LANES:
        for i in range(total):
            value = int(bits[place(lane, i)])
            registers[i // packed, lane] |= np.uint64(value << (i % packed * BITS[element]))
            count += 1
    assert count == matrices.size
    return registers.astype(np.uint64 if width == 64 else np.uint32)


def from_registers(registers: Array, shape: tuple[int, ...], element: str, place: Any) -> Array:
    width = 64 if element == "f64" else 32
    packed = width // BITS[element]
    bits = np.zeros(shape, np.uint64)
    for lane in LANES:
        for i in range(bits.size // 32):
            word = int(registers[i // packed, lane]) >> (i % packed * BITS[element])
            bits[place(lane, i)] = word & ((1 << BITS[element]) - 1)
    return decode(bits, element)


def program(
    name: str, counts: tuple[int, int, int, int], wide: bool = False, before: str = ""
) -> str:
    """A kernel that loads fragments, multiplies them once and stores the result.

    `before` stands before the product, where `%lane`, `%on` and the fragments are at hand.
    """
    kind, size = ("b64", 8) if wide else ("b32", 4)
    text = [HEADER, ".visible .entry f(.param .u64 pd, .param .u64 pa, .param .u64 pb,"]
    text.append(".param .u64 pc) { .reg .b32 %lane, %none; .reg .pred %on; .reg .b64 %at<5>;")
    register = "f64" if wide else "b32"
    for letter, count in zip("dabc", counts, strict=True):
        text.append(f".reg .{register} %{letter}<{count}>;")
    text.append("mov.u32 %lane, %tid.x;")
    for index, (letter, count) in enumerate(zip("dabc", counts, strict=True)):
        text.append(f"ld.param.u64 %at{index}, [p{letter}];")
        text.append(f"mad.wide.u32 %at{index}, %lane, {size}, %at{index};")
        if index:
            text += [
                f"ld.global.{kind} %{letter}{r}, [%at{index}+{32 * size * r}];"
                for r in range(count)
            ]
    lists = [
        "{" + ", ".join(f"%{letter}{r}" for r in range(count)) + "}"
        for letter, count in zip("dabc", counts, strict=True)
    ]
    text.append(before)
    text.append(f"{name} {', '.join(lists)};")
    text += [f"st.global.{kind} [%at0+{32 * size * r}], %d{r};" for r in range(counts[0])]
    text.append("ret; }")
    return "\n".join(text)


def run(device: Device, case: Case, a: Array, b: Array, c: Array, before: str = "") -> Array:
    """D for stacks of matrices, through fragments."""
    fragments = [
        to_registers(a, case.a, lambda lane, i: a_place(case, lane, i)),
        to_registers(b, case.b, lambda lane, i: b_place(case, lane, i)),
        to_registers(c, case.c, lambda lane, i: c_place(case, case.c, lane, i)),
    ]
    wide = case.a == "f64"
    results = c.size * BITS[case.d] // (32 * (64 if wide else 32))
    counts = (results, *(len(fragment) for fragment in fragments))
    text = program(case.name, counts, wide, before)
    function = device.gpu.load_module(text.encode()).get_function("f")
    pointers = [device.upload(fragment) for fragment in fragments]
    out = device.zeros(results * 32, np.uint64 if wide else np.uint32)
    function.launch((1, 1, 1), (32, 1, 1), 0, struct.pack("<4Q", out, *pointers))
    registers = device.download(out, (results, 32), np.uint64 if wide else np.uint32)
    for pointer in (out, *pointers):
        device.gpu.free(pointer)
    return from_registers(
        registers, c.shape, case.d, lambda lane, i: c_place(case, case.d, lane, i)
    )


def stacks(case: Case, seed: int = 0) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng([seed, case.m, case.n, case.k])
    count = 4 if case.quads else 1
    return (
        numbers(rng, (count, case.m, case.k), case.a),
        numbers(rng, (count, case.k, case.n), case.b),
        numbers(rng, (count, case.m, case.n), case.c),
    )


FLOATING = [
    *(
        Case(8, 8, 4, d, "f16", "f16", c, f"{a}.{b}")
        for d, c in (("f16", "f16"), ("f32", "f32"), ("f32", "f16"))
        for a in ("row", "col")
        for b in ("row", "col")
    ),
    *(Case(16, 8, k, d, "f16", "f16", d) for k in (8, 16) for d in ("f16", "f32")),
    *(Case(16, 8, k, "f32", "bf16", "bf16", "f32") for k in (8, 16)),
    *(Case(16, 8, k, "f32", "tf32", "tf32", "f32") for k in (4, 8)),
    Case(8, 8, 4, "f64", "f64", "f64", "f64"),
    *(Case(16, 8, k, "f64", "f64", "f64", "f64", before=".rn") for k in (4, 8, 16)),
]
INTEGER = [
    Case(*shape, "s32", a, b, "s32", before=saturate)
    for shapes, types in (
        (((8, 8, 16), (16, 8, 16), (16, 8, 32)), ("s8", "u8")),
        (((8, 8, 32), (16, 8, 32), (16, 8, 64)), ("s4", "u4")),
    )
    for shape in shapes
    for a in types
    for b in types
    for saturate in ("", ".satfinite")
]
BINARY = [
    Case(*shape, "s32", "b1", "b1", "s32", after=f".{operation}.popc")
    for shape in ((8, 8, 128), (16, 8, 128), (16, 8, 256))
    for operation in ("and", "xor")
]


@pytest.mark.parametrize("case", FLOATING, ids=lambda case: case.name)
def test_product_of_floats(hopper: Device, case: Case) -> None:
    a, b, c = stacks(case)
    got = run(hopper, case, a, b, c)
    exact = a @ b + c
    # Every step rounds once to the precision of the sum, the end once to that of the result.
    unit = {"f64": 2.0**-53}.get(case.a, 2.0**-24)
    bound = (case.k + 1) * unit * (np.abs(a) @ np.abs(b) + np.abs(c))
    bound += {"f16": 2.0**-11, "f32": 2.0**-24, "f64": 2.0**-53}[case.d] * np.abs(exact)
    assert (np.abs(got - exact) <= bound).all()


@pytest.mark.parametrize(
    "case", [c for c in FLOATING if c.d == "f32" and c.c == "f32"], ids=lambda case: case.name
)
def test_steps_are_fused_and_in_order(hopper: Device, case: Case) -> None:
    a, b, c = stacks(case, seed=1)
    total = c.astype(np.float32)
    for step in range(case.k):
        # Products have at most 22 digits, so that double precision is exact here.
        product = a[:, :, step, None] * b[:, step, None, :]
        total = (product + total.astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(run(hopper, case, a, b, c).astype(np.float32), total)


@pytest.mark.parametrize("case", INTEGER, ids=lambda case: case.name)
def test_product_of_integers(hopper: Device, case: Case) -> None:
    a, b, c = stacks(case)
    exact = a @ b + c
    c.flat[:4] = [(1 << 31) - 1, -(1 << 31), 0, 7]
    exact = a @ b + c
    if case.before:
        expected = np.clip(exact, -(1 << 31), (1 << 31) - 1)
    else:
        expected = exact.astype(np.uint64).astype(np.uint32).view(np.int32).astype(np.int64)
    np.testing.assert_array_equal(run(hopper, case, a, b, c), expected)


@pytest.mark.parametrize("level", ["x86-64-v2", "x86-64-v3"])
@pytest.mark.parametrize(
    "case", [case for case in INTEGER if case.m == 16 and "8" in case.a], ids=lambda case: case.name
)
def test_product_of_bytes_on_processors_that_lack_it(
    case: Case, level: str, tmp_path: Path
) -> None:
    gpu = SoftwareGpu(
        total_memory=1 << 24,
        threads=1,
        cache_dir=tmp_path,
        translation=Translation(PROFILES["sm_90"]),
        processor=level,
    )
    a, b, c = stacks(case)
    c //= 1 << 10
    np.testing.assert_array_equal(run(Device(gpu), case, a, b, c), a @ b + c)
    gpu.close()


@pytest.mark.parametrize(
    "case",
    [
        Case(8, 8, 16, "s32", "s8", "s8", "s32"),
        Case(16, 8, 32, "s32", "s8", "s8", "s32"),
        Case(16, 8, 16, "f32", "f16", "f16", "f32"),
        Case(16, 8, 4, "f64", "f64", "f64", "f64"),
    ],
    ids=lambda case: case.name,
)
@pytest.mark.parametrize("threads", [5, 32])
def test_product_that_starts_from_zero_or_not(hopper: Device, case: Case, threads: int) -> None:
    """C is zero in all lanes, or only after a move that not all of them do."""
    a, b, c = stacks(case)
    wide = case.a == "f64"
    registers = c.size // 32
    kind = "b64" if wide else "b32"
    zeros = [f"mov.{kind} %c{r}, 0;" for r in range(registers)]
    some = f"mov.u32 %none, {threads}; setp.lt.u32 %on, %lane, %none; " + " ".join(
        f"@%on mov.{kind} %c{r}, 0;" for r in range(registers)
    )
    assert case.d == case.c
    for before, left in ((" ".join(zeros), 0), (some, 32 - threads)):
        kept = to_registers(c, case.c, lambda lane, i: c_place(case, case.c, lane, i))
        kept[:, : 32 - left] = 0
        start = from_registers(
            kept, c.shape, case.c, lambda lane, i: c_place(case, case.c, lane, i)
        )
        got = run(hopper, case, a, b, c, before)
        if case.d == "s32":
            expected = (a @ b + start).astype(np.int64).astype(np.int32)
            np.testing.assert_array_equal(got, expected)
        else:
            np.testing.assert_allclose(got, a @ b + start, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", BINARY, ids=lambda case: case.name)
def test_product_of_bits(hopper: Device, case: Case) -> None:
    a, b, c = stacks(case)
    c %= 1000
    both = a[:, :, :, None] ^ b[:, None] if "xor" in case.after else a[:, :, :, None] & b[:, None]
    np.testing.assert_array_equal(run(hopper, case, a, b, c), both.sum(axis=2) + c)
