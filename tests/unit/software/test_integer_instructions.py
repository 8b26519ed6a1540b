"""Each integer instruction against Python's own arithmetic, edge operands included."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from .conftest import Device

M32 = 0xFFFFFFFF
EDGES32 = [0, 1, 2, 3, 7, 31, 32, 33, 0xFF, 0x8000, 0xFFFF, 0x12345678, 0x7FFFFFFF, 0x80000000, M32]
EDGES64 = [0, 1, 5, 63, 64, M32, 1 << 32, 0x123456789ABCDEF0, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]


def signed(number: int, bits: int = 32) -> int:
    return number - (1 << bits) if number >> (bits - 1) & 1 else number


def divide(a: int, b: int) -> int:
    if b == 0:
        return -1
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def clamp(number: int, low: int, high: int) -> int:
    return max(low, min(high, number))


def bfe(a: int, b: int, c: int, bits: int, is_signed: bool) -> int:
    position, length = b & 255, c & 255
    top = bits - 1
    sign = 0 if not is_signed or length == 0 else a >> min(position + length - 1, top) & 1
    result = 0
    for i in range(bits):
        inside = i < length and position + i <= top
        result |= (a >> (position + i) & 1 if inside else sign) << i
    return result


def bfi(a: int, b: int, c: int, d: int) -> int:
    position, length = c & 255, d & 255
    result = b
    for i in range(length):
        if position + i < 32:
            result = result & ~(1 << (position + i)) | (a >> i & 1) << (position + i)
    return result


def prmt(a: int, b: int, c: int) -> int:
    pair = (a | b << 32).to_bytes(8, "little")
    result = []
    for i in range(4):
        selector = c >> 4 * i & 15
        byte = pair[selector & 7]
        result.append((255 if byte & 128 else 0) if selector & 8 else byte)
    return int.from_bytes(bytes(result), "little")


def dp4a(a: int, b: int, c: int, a_signed: bool, b_signed: bool) -> int:
    for i in range(4):
        x, y = a >> 8 * i & 255, b >> 8 * i & 255
        c += (signed(x, 8) if a_signed else x) * (signed(y, 8) if b_signed else y)
    return c


BINARY: dict[str, Callable[[int, int], int]] = {
    "add.s32": lambda a, b: a + b,
    "add.sat.s32": lambda a, b: clamp(signed(a) + signed(b), -(1 << 31), (1 << 31) - 1),
    "sub.u32": lambda a, b: a - b,
    "sub.sat.s32": lambda a, b: clamp(signed(a) - signed(b), -(1 << 31), (1 << 31) - 1),
    "mul.lo.s32": lambda a, b: a * b,
    "mul.hi.s32": lambda a, b: signed(a) * signed(b) >> 32,
    "mul.hi.u32": lambda a, b: a * b >> 32,
    "mul24.lo.u32": lambda a, b: (a & 0xFFFFFF) * (b & 0xFFFFFF),
    "mul24.lo.s32": lambda a, b: signed(a & 0xFFFFFF, 24) * signed(b & 0xFFFFFF, 24),
    "div.s32": lambda a, b: divide(signed(a), signed(b)),
    "div.u32": lambda a, b: a // b if b else -1,
    "rem.s32": lambda a, b: signed(a) - divide(signed(a), signed(b)) * signed(b) if b else -1,
    "rem.u32": lambda a, b: a % b if b else -1,
    "min.s32": lambda a, b: min(signed(a), signed(b)),
    "min.u32": min,
    "max.s32": lambda a, b: max(signed(a), signed(b)),
    "max.u32": max,
    "and.b32": lambda a, b: a & b,
    "or.b32": lambda a, b: a | b,
    "xor.b32": lambda a, b: a ^ b,
    "shl.b32": lambda a, b: a << b if b < 32 else 0,
    "shr.u32": lambda a, b: a >> b if b < 32 else 0,
    "shr.s32": lambda a, b: signed(a) >> min(b, 31),
}


@pytest.mark.parametrize("name", BINARY)
def test_binary_32(device: Device, name: str) -> None:
    pairs = np.array(list(product(EDGES32, EDGES32)), np.uint32)
    got = device.run_lanes(f"{name} %d, %a, %b;", [pairs[:, 0], pairs[:, 1]], np.uint32)
    assert got.tolist() == [BINARY[name](int(a), int(b)) & M32 for a, b in pairs]


BINARY64: dict[str, Callable[[int, int], int]] = {
    "add.s64": lambda a, b: a + b,
    "sub.s64": lambda a, b: a - b,
    "mul.lo.u64": lambda a, b: a * b,
    "mul.hi.u64": lambda a, b: a * b >> 64,
    "mul.hi.s64": lambda a, b: signed(a, 64) * signed(b, 64) >> 64,
    "div.s64": lambda a, b: divide(signed(a, 64), signed(b, 64)),
    "div.u64": lambda a, b: a // b if b else -1,
    "rem.s64": lambda a, b: (
        signed(a, 64) - divide(signed(a, 64), signed(b, 64)) * signed(b, 64) if b else -1
    ),
    "rem.u64": lambda a, b: a % b if b else -1,
    "max.s64": lambda a, b: max(signed(a, 64), signed(b, 64)),
    "min.u64": min,
    "xor.b64": lambda a, b: a ^ b,
}


@pytest.mark.parametrize("name", BINARY64)
def test_binary_64(device: Device, name: str) -> None:
    pairs = np.array(list(product(EDGES64, EDGES64)), np.uint64)
    got = device.run_lanes(f"{name} %d, %a, %b;", [pairs[:, 0], pairs[:, 1]], np.uint64)
    assert got.tolist() == [BINARY64[name](int(a), int(b)) % (1 << 64) for a, b in pairs]


BINARY16: dict[str, Callable[[int, int], int]] = {
    "add.s16": lambda a, b: a + b,
    "mul.lo.u16": lambda a, b: a * b,
    "div.s16": lambda a, b: divide(signed(a, 16), signed(b, 16)),
    "shr.s16": lambda a, b: signed(a, 16) >> min(b, 15),
    "min.s16": lambda a, b: min(signed(a, 16), signed(b, 16)),
}


@pytest.mark.parametrize("name", BINARY16)
def test_binary_16(device: Device, name: str) -> None:
    edges = [0, 1, 2, 9, 15, 16, 0x7FFF, 0x8000, 0xFFFF]
    pairs = np.array(list(product(edges, edges)), np.uint16)
    second = "cvt.u32.u16 %r1, %b; shr.s16 %d, %a, %r1;" if name == "shr.s16" else ""
    body = second or f"{name} %d, %a, %b;"
    got = device.run_lanes(body, [pairs[:, 0], pairs[:, 1]], np.uint16)
    assert got.tolist() == [BINARY16[name](int(a), int(b)) & 0xFFFF for a, b in pairs]


UNARY: dict[str, Callable[[int], int]] = {
    "neg.s32": lambda a: -a,
    "abs.s32": lambda a: abs(signed(a)),
    "not.b32": lambda a: ~a,
    "cnot.b32": lambda a: int(a == 0),
    "popc.b32": lambda a: a.bit_count(),
    "clz.b32": lambda a: 32 - a.bit_length(),
    "brev.b32": lambda a: int(f"{a:032b}"[::-1], 2),
    "bfind.u32": lambda a: a.bit_length() - 1,
    "bfind.s32": lambda a: (a if signed(a) >= 0 else ~a & M32).bit_length() - 1,
    "bfind.shiftamt.u32": lambda a: 32 - a.bit_length() if a else -1,
    "cvt.s32.s8": lambda a: signed(a & 255, 8),
    "cvt.u32.u8": lambda a: a & 255,
    "cvt.s32.s16": lambda a: signed(a & 0xFFFF, 16),
    "cvt.sat.u8.s32": lambda a: clamp(signed(a), 0, 255),
    "cvt.sat.s8.u32": lambda a: clamp(a, 0, 127),
    "cvt.sat.s16.s32": lambda a: clamp(signed(a), -32768, 32767),
    "cvt.sat.u32.s32": lambda a: max(0, signed(a)),
}


@pytest.mark.parametrize("name", UNARY)
def test_unary_32(device: Device, name: str) -> None:
    values = np.array(EDGES32, np.uint32)
    got = device.run_lanes(f"{name} %d, %a;", [values], np.uint32)
    assert got.tolist() == [UNARY[name](int(a)) & M32 for a in values]


def test_unary_64_counts(device: Device) -> None:
    values = np.array(EDGES64, np.uint64)
    body = "popc.b64 %r1, %a; clz.b64 %r2, %a; shl.b32 %r2, %r2, 8; or.b32 %d, %r1, %r2;"
    got = device.run_lanes(body, [values], np.uint32)
    assert got.tolist() == [int(a).bit_count() | (64 - int(a).bit_length()) << 8 for a in values]


TERNARY: dict[str, Callable[[int, int, int], int]] = {
    "mad.lo.s32": lambda a, b, c: a * b + c,
    "mad.hi.u32": lambda a, b, c: (a * b >> 32) + c,
    "mad.hi.s32": lambda a, b, c: (signed(a) * signed(b) >> 32) + c,
    "sad.s32": lambda a, b, c: abs(signed(a) - signed(b)) + c,
    "sad.u32": lambda a, b, c: abs(a - b) + c,
    "bfe.u32": lambda a, b, c: bfe(a, b, c, 32, False),
    "bfe.s32": lambda a, b, c: bfe(a, b, c, 32, True),
    "prmt.b32": prmt,
    "shf.l.wrap.b32": lambda a, b, c: (a | b << 32) << (c & 31) >> 32,
    "shf.r.wrap.b32": lambda a, b, c: (a | b << 32) >> (c & 31),
    "shf.l.clamp.b32": lambda a, b, c: (a | b << 32) << min(c, 32) >> 32,
    "shf.r.clamp.b32": lambda a, b, c: (a | b << 32) >> min(c, 32),
    "dp4a.s32.s32": lambda a, b, c: dp4a(a, b, c, True, True),
    "dp4a.u32.u32": lambda a, b, c: dp4a(a, b, c, False, False),
    "dp4a.s32.u32": lambda a, b, c: dp4a(a, b, c, True, False),
}


@pytest.mark.parametrize("name", TERNARY)
def test_ternary_32(device: Device, name: str) -> None:
    triples = np.array(list(product(EDGES32, EDGES32, EDGES32)), np.uint32)
    columns = [triples[:, i] for i in range(3)]
    got = device.run_lanes(f"{name} %d, %a, %b, %c;", columns, np.uint32)
    assert got.tolist() == [TERNARY[name](int(a), int(b), int(c)) & M32 for a, b, c in triples]


def test_bit_field_insert_with_variable_position_and_length(device: Device) -> None:
    triples = np.array(list(product([0x12345678, M32], [0, 5, 31, 32, 300], [0, 1, 8, 32, 255])))
    columns = [triples[:, i].astype(np.uint32) for i in range(3)]
    got = device.run_lanes("bfi.b32 %d, %a, 0xABCDEF01, %b, %c;", columns, np.uint32)
    assert got.tolist() == [bfi(int(a), 0xABCDEF01, int(b), int(c)) for a, b, c in triples]


@pytest.mark.parametrize("table", [0x96, 0xE8, 0x80, 0xFE, 0xF8, 0x00])
def test_lop3_follows_its_truth_table(device: Device, table: int) -> None:
    triples = np.array(list(product(EDGES32[:6], EDGES32[9:], EDGES32[:4])), np.uint32)
    got = device.run_lanes(
        f"lop3.b32 %d, %a, %b, %c, {table};", [triples[:, i] for i in range(3)], np.uint32
    )
    expected = []
    for a, b, c in triples.tolist():
        bits = [(a >> i & 1) << 2 | (b >> i & 1) << 1 | (c >> i & 1) for i in range(32)]
        expected.append(sum((table >> index & 1) << i for i, index in enumerate(bits)))
    assert got.tolist() == expected


def test_wide_products(device: Device) -> None:
    pairs = np.array(list(product(EDGES32, EDGES32)), np.uint32)
    columns = [pairs[:, 0], pairs[:, 1]]
    got = device.run_lanes("mul.wide.s32 %d, %a, %b;", columns, np.int64)
    assert got.tolist() == [signed(int(a)) * signed(int(b)) for a, b in pairs]
    got = device.run_lanes("mad.wide.u32 %d, %a, %b, 7;", columns, np.uint64)
    assert got.tolist() == [int(a) * int(b) + 7 for a, b in pairs]


@pytest.mark.parametrize(
    ("condition", "type_", "expected"),
    [
        ("lt", "s32", lambda a, b: signed(a) < signed(b)),
        ("lt", "u32", lambda a, b: a < b),
        ("ge", "s32", lambda a, b: signed(a) >= signed(b)),
        ("hi", "u32", lambda a, b: a > b),
        ("ls", "u32", lambda a, b: a <= b),
        ("eq", "b32", lambda a, b: a == b),
        ("ne", "s32", lambda a, b: a != b),
    ],
)
def test_integer_comparison(
    device: Device, condition: str, type_: str, expected: Callable[[int, int], bool]
) -> None:
    pairs = np.array(list(product(EDGES32, EDGES32)), np.uint32)
    columns = [pairs[:, 0], pairs[:, 1]]
    body = f"setp.{condition}.{type_} %p, %a, %b; selp.u32 %d, 1, 0, %p;"
    want = [int(expected(int(a), int(b))) for a, b in pairs]
    assert device.run_lanes(body, columns, np.uint32).tolist() == want
    body = f"set.{condition}.u32.{type_} %d, %a, %b;"
    assert device.run_lanes(body, columns, np.uint32).tolist() == [w * M32 for w in want]


def test_setp_with_complement_and_combination(device: Device) -> None:
    pairs = np.array(list(product(EDGES32, EDGES32)), np.uint32)
    body = (
        "setp.gt.u32 %q, %a, 100; setp.lt.and.u32 %p|%q, %a, %b, %q;"
        "selp.u32 %r1, 1, 0, %p; selp.u32 %r2, 2, 0, %q; or.b32 %d, %r1, %r2;"
    )
    got = device.run_lanes(body, [pairs[:, 0], pairs[:, 1]], np.uint32)
    want = [(a < b and a > 100) | (not a < b and a > 100) << 1 for a, b in pairs.tolist()]
    assert got.tolist() == [int(w) for w in want]


def test_divide_in_lanes_that_are_off_does_not_trap(device: Device) -> None:
    values = np.arange(64, dtype=np.uint64) % 5
    body = (
        "mov.b64 %d, 0; setp.eq.u64 %p, %a, 0; @%p bra SKIP;"
        "div.s64 %d, 1000, %a; SKIP: add.s64 %d, %d, 1;"
    )
    got = device.run_lanes(body, [values], np.int64)
    assert got.tolist() == [1 + (1000 // int(v) if v else 0) for v in values]


def test_moves_pack_and_unpack(device: Device) -> None:
    values = np.array(EDGES32, np.uint32)
    body = (
        "mov.b32 {%h1, %h2}, %a; mov.b32 %r1, {%h2, %h1}; mov.b64 %w1, {%r1, %a};"
        "mov.b64 {%r2, %r3}, %w1; xor.b32 %d, %r2, %r3;"
    )
    got = device.run_lanes(body, [values], np.uint32)
    assert got.tolist() == [(a >> 16 | a << 16 & M32) ^ a for a in values.tolist()]


def test_mixed_width_writes_extend_by_their_type(device: Device) -> None:
    values = np.array([-1, -128, 127, 0, 5], np.int8)
    assert device.run_lanes("cvt.s32.s8 %d, %a;", [values], np.int32).tolist() == values.tolist()
    unsigned = values.view(np.uint8)
    got = device.run_lanes("cvt.u32.u16 %d, %a;", [unsigned], np.uint32)
    assert got.tolist() == unsigned.tolist()
