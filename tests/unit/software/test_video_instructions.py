"""Video instructions, warp reductions, address spaces and copies from global to shared memory."""

from __future__ import annotations

import struct
from itertools import product

import numpy as np
import pytest

from .conftest import Device
from .test_integer_instructions import EDGES32, M32, clamp, signed


@pytest.fixture
def device(hopper: Device) -> Device:
    """A device that takes every instruction."""
    return hopper


PAIRS = list(product(EDGES32, [*EDGES32, 0x80FF7F01]))
COLUMNS = [np.array(column, np.uint32) for column in zip(*PAIRS, strict=True)]


def parts(word: int, bits: int, is_signed: bool) -> list[int]:
    numbers = [word >> start & (1 << bits) - 1 for start in range(0, 32, bits)]
    return [signed(number, bits) if is_signed else number for number in numbers]


def compute(name: str, a: int, b: int) -> int:
    total = a + b
    return {
        "add": total,
        "sub": a - b,
        "absdiff": abs(a - b),
        "min": min(a, b),
        "max": max(a, b),
        "avrg": total + (total >= 0) >> 1,
    }[name]


def bounded(value: int, bits: int, is_signed: bool, saturates: bool) -> int:
    if saturates:
        low = -(1 << (bits - 1)) if is_signed else 0
        value = clamp(value, low, (1 << (bits - is_signed)) - 1)
    return value


@pytest.mark.parametrize("saturation", ["", ".sat"])
@pytest.mark.parametrize("kind", ["u32", "s32"])
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("name", ["add", "sub", "absdiff", "min", "max", "avrg"])
def test_packed(device: Device, name: str, count: int, kind: str, saturation: str) -> None:
    body = f"mov.u32 %r1, 0; v{name}{count}.{kind}.{kind}.{kind}{saturation} %d, %a, %b, %r1;"
    got = device.run_lanes(body, COLUMNS, np.uint32)
    bits, is_signed = 32 // count, kind == "s32"
    for (a, b), result in zip(PAIRS, got.tolist(), strict=True):
        values = [
            bounded(compute(name, x, y), bits, is_signed, bool(saturation))
            for x, y in zip(parts(a, bits, is_signed), parts(b, bits, is_signed), strict=True)
        ]
        expected = sum((value & (1 << bits) - 1) << bits * i for i, value in enumerate(values))
        assert result == expected, (hex(a), hex(b))


def test_sum_of_absolute_differences(device: Device) -> None:
    got = device.run_lanes("vabsdiff4.u32.u32.u32.add %d, %a, %b, %a;", COLUMNS, np.uint32)
    for (a, b), result in zip(PAIRS, got.tolist(), strict=True):
        pairs = zip(parts(a, 8, False), parts(b, 8, False), strict=True)
        assert result == a + sum(abs(x - y) for x, y in pairs) & M32


@pytest.mark.parametrize("kind", ["u32", "s32"])
@pytest.mark.parametrize("name", ["add", "sub", "absdiff", "min", "max"])
def test_scalar_saturates_then_combines(device: Device, name: str, kind: str) -> None:
    body = f"v{name}.{kind}.{kind}.{kind}.sat.max %d, %a, %b, %b;"
    got = device.run_lanes(body, COLUMNS, np.uint32)
    is_signed = kind == "s32"
    for (a, b), result in zip(PAIRS, got.tolist(), strict=True):
        x, y = (signed(a), signed(b)) if is_signed else (a, b)
        expected = max(bounded(compute(name, x, y), 32, is_signed, True), y)
        assert result == expected & M32, (hex(a), hex(b))


@pytest.mark.parametrize("mode", ["clamp", "wrap"])
def test_shift_and_add(device: Device, mode: str) -> None:
    got = device.run_lanes(f"vshr.u32.u32.u32.{mode}.add %d, %a, %b, 7;", COLUMNS, np.uint32)
    for (a, b), result in zip(PAIRS, got.tolist(), strict=True):
        count = b % 32 if mode == "wrap" else min(b, 32)
        assert result == (a >> count) + 7 & M32


@pytest.mark.parametrize("name", ["add.u32", "min.s32", "max.u32", "and.b32", "or.b32", "xor.b32"])
def test_warp_reduction_over_active_lanes(device: Device, name: str) -> None:
    values = np.random.default_rng(3).integers(0, 1 << 32, 64).astype(np.uint32)
    body = "mov.u32 %d, 7; and.b32 %r1, %a, 1; setp.eq.u32 %p, %r1, 0; @%p bra SKIP;"
    body += f"redux.sync.{name} %d, %a, -1; SKIP:"
    got = device.run_lanes(body, [values], np.uint32)
    for warp in range(2):
        lanes = values[32 * warp : 32 * warp + 32].tolist()
        odd = [value for value in lanes if value & 1]
        expected = {
            "add.u32": sum(odd) & M32,
            "min.s32": min(signed(value) for value in odd) & M32,
            "max.u32": max(odd),
            "and.b32": int(np.bitwise_and.reduce(np.array(odd))),
            "or.b32": int(np.bitwise_or.reduce(np.array(odd))),
            "xor.b32": int(np.bitwise_xor.reduce(np.array(odd))),
        }[name]
        wanted = [expected if value & 1 else 7 for value in lanes]
        assert got[32 * warp : 32 * warp + 32].tolist() == wanted


def test_spaces_of_generic_addresses(device: Device) -> None:
    """Bit 0 global, 1 shared, 2 local, 3 param, for an address in three of them and a wild one."""
    body = """
        .shared .b32 s; .local .b32 l;
        cvta.shared.u64 %w1, s; cvta.local.u64 %w2, l; ld.param.u64 %w3, [pd]; mov.u64 %w4, 16;
        setp.eq.u32 %p, %a, 0; selp.b64 %w5, %w3, %w4, %p;
        setp.eq.u32 %p, %a, 1; selp.b64 %w5, %w1, %w5, %p;
        setp.eq.u32 %p, %a, 2; selp.b64 %w5, %w2, %w5, %p;
        st.shared.u32 [s], 0; st.local.u32 [l], 0;
        isspacep.global %p, %w5; selp.u32 %r1, 1, 0, %p;
        isspacep.shared %p, %w5; selp.u32 %r2, 2, 0, %p;
        isspacep.local %p, %w5; selp.u32 %r3, 4, 0, %p;
        isspacep.param %p, %w5; selp.u32 %r4, 8, 0, %p;
        add.u32 %d, %r1, %r2; add.u32 %d, %d, %r3; add.u32 %d, %d, %r4;"""
    got = device.run_lanes(body, [np.arange(4, dtype=np.uint32)], np.uint32)
    assert got.tolist() == [1, 2, 4, 1]


def test_asynchronous_copies(device: Device) -> None:
    source = np.arange(64, dtype=np.uint32)
    body = """
        .shared .align 16 .b32 cells[256];
        mov.u64 %w1, cells; mad.wide.u32 %w1, %i, 16, %w1; ld.param.u64 %w2, [pa];
        and.b32 %r1, %i, 15; mad.wide.u32 %w2, %r1, 16, %w2;
        cp.async.ca.shared.global [%w1], [%w2], 16; cp.async.commit_group;
        cp.async.wait_group 0; bar.sync 0; ld.shared.u32 %d, [%w1+12];"""
    got = device.run_lanes(body, [source[:16].copy().repeat(4)], np.uint32)
    flat = source[:16].repeat(4)
    assert got.tolist() == [int(flat[(i & 15) * 4 + 3]) for i in range(64)]


@pytest.mark.parametrize("size", [4, 8, 16])
def test_asynchronous_copies_of_some_bytes(device: Device, size: int) -> None:
    """Bytes beyond the limit are zeros; an address of which nothing is read may be any."""
    source = np.random.default_rng(size).integers(1, 256, 32 * size).astype(np.uint8)
    limits = np.arange(32, dtype=np.uint32) % (size + 1)
    loads = "".join(
        f"ld.shared.u32 %r2, [%w1+{at}]; st.global.u32 [%w2+{at}], %r2;" for at in range(0, size, 4)
    )
    text = f""".visible .entry f(.param .u64 ps, .param .u64 pl, .param .u64 po) {{
        .shared .align 16 .b8 cells[512]; .reg .b64 %w<6>; .reg .b32 %r<4>; .reg .pred %p;
        mov.u32 %r0, %tid.x; mov.u64 %w1, cells; mad.wide.u32 %w1, %r0, {size}, %w1;
        ld.param.u64 %w2, [pl]; mad.wide.u32 %w2, %r0, 4, %w2; ld.global.u32 %r1, [%w2];
        ld.param.u64 %w3, [ps]; mad.wide.u32 %w3, %r0, {size}, %w3;
        setp.eq.u32 %p, %r1, 0; @%p mov.u64 %w3, {size};
        cp.async.ca.shared.global.L2::128B [%w1], [%w3], {size}, %r1;
        cp.async.wait_all; ld.param.u64 %w2, [po]; mad.wide.u32 %w2, %r0, {size}, %w2; {loads}
        ret; }}"""
    out = device.zeros(32 * size, np.uint8)
    arguments = struct.pack("<3Q", device.upload(source), device.upload(limits), out)
    device.function(text).launch((1, 1, 1), (32, 1, 1), 0, arguments)
    expected = source.reshape(32, size) * (np.arange(size) < limits[:, None])
    np.testing.assert_array_equal(device.download(out, (32, size), np.uint8), expected)


def test_asynchronous_copies_that_ignore_their_source(device: Device) -> None:
    body = """
        .shared .align 16 .b32 cells[64];
        mov.u64 %w1, cells; mad.wide.u32 %w1, %i, 4, %w1; ld.param.u64 %w2, [pa];
        mad.wide.u32 %w2, %i, 4, %w2; and.b32 %r1, %i, 1; setp.ne.u32 %p, %r1, 0;
        mov.u64 %w3, 0;
        cp.async.ca.shared.global.L2::cache_hint [%w1], [%w2], 4, %p, %w3;
        cp.async.wait_all; ld.shared.u32 %d, [%w1];"""
    values = np.arange(1, 33, dtype=np.uint32)
    got = device.run_lanes(body, [values], np.uint32)
    assert got.tolist() == [0 if i & 1 else i + 1 for i in range(32)]


def test_compare_and_swap_of_16_bits(device: Device) -> None:
    body = """
        .shared .b16 cell[4];
        mov.u64 %w1, cell; setp.eq.u32 %p, %i, 0; @%p st.shared.u16 [%w1], 5; bar.sync 0;
        mov.b16 %h1, 5; mov.b16 %h2, 9; atom.shared.cas.b16 %h3, [%w1], %h1, %h2;
        cvt.u32.u16 %d, %h3;"""
    got = device.run_lanes(body, [np.arange(32, dtype=np.uint32)], np.uint32)
    assert got.tolist() == [5] + [9] * 31
