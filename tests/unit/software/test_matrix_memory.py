"""`ldmatrix`, `stmatrix`, `movmatrix` and `wmma`: matrices between memory and fragments."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from vgpu_host.executors.software.errors import CudaResult, DeviceFault, PtxError
from vgpu_host.nvrtc import compile_ptx

from .conftest import Array, Device
from .test_matrix_products import HEADER, RANGES, decode, encode, numbers

LANES = np.arange(32)


def launch(device: Device, text: str, *arguments: int, threads: int = 32) -> None:
    function = device.gpu.load_module((HEADER + text).encode()).get_function("f")
    packed = struct.pack(f"<{len(arguments)}Q", *arguments)
    function.launch((1, 1, 1), (threads, 1, 1), 0, packed)


def element(matrix: Array, lane: int, transposed: bool) -> int:
    """The register of a lane: two elements of a row, or of a column."""
    line, first = lane // 4, lane % 4 * 2
    pair = matrix.T[line, first : first + 2] if transposed else matrix[line, first : first + 2]
    return int(pair[0]) | int(pair[1]) << 16


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_load_matrix(hopper: Device, count: int, transposed: bool) -> None:
    rng = np.random.default_rng(count)
    memory = rng.integers(0, 1 << 16, 2048).astype(np.uint16)
    rows = rng.permutation(2048 // 8)[:32]
    registers = ", ".join(f"%r{i}" for i in range(count))
    trans = ".trans" if transposed else ""
    stores = "".join(f"st.global.b32 [%out+{128 * i}], %r{i};" for i in range(count))
    text = f""".visible .entry f(.param .u64 pm, .param .u64 prow, .param .u64 pout) {{
        .shared .align 16 .b8 data[4096];
        .reg .b32 %lane, %at, %r<4>, %i, %v; .reg .b64 %m, %out; .reg .pred %more;
        mov.u32 %lane, %tid.x; mov.u32 %i, %lane;
        COPY: ld.param.u64 %m, [pm]; mad.wide.u32 %m, %i, 4, %m; ld.global.b32 %v, [%m];
        mov.u32 %at, data; mad.lo.u32 %at, %i, 4, %at; st.shared.b32 [%at], %v;
        add.u32 %i, %i, 32; setp.lt.u32 %more, %i, 1024; @%more bra COPY;
        ld.param.u64 %m, [prow]; mad.wide.u32 %m, %lane, 4, %m; ld.global.b32 %i, [%m];
        mov.u32 %at, data; mad.lo.u32 %at, %i, 16, %at;
        bar.warp.sync -1;
        ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 {{{registers}}}, [%at];
        ld.param.u64 %out, [pout]; mad.wide.u32 %out, %lane, 4, %out; {stores} ret; }}"""
    # Only the first lanes' addresses count.
    given = rows.astype(np.uint32)
    given[8 * count :] = 1 << 20
    out = hopper.zeros(32 * count, np.uint32)
    launch(hopper, text, hopper.upload(memory), hopper.upload(given), out)
    got = hopper.download(out, (count, 32), np.uint32)
    lines = memory.reshape(-1, 8)[rows]
    expected = [
        [element(lines[8 * i : 8 * i + 8], lane, transposed) for lane in LANES]
        for i in range(count)
    ]
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_store_matrix(hopper: Device, count: int, transposed: bool) -> None:
    rng = np.random.default_rng(count)
    fragments = rng.integers(0, 1 << 32, (count, 32)).astype(np.uint32)
    rows = rng.permutation(32)[: 8 * count]
    given = np.full(32, 1 << 20, np.uint32)
    given[: 8 * count] = rows
    loads = "".join(f"ld.global.b32 %r{i}, [%m+{128 * i}];" for i in range(count))
    registers = ", ".join(f"%r{i}" for i in range(count))
    trans = ".trans" if transposed else ""
    text = f""".visible .entry f(.param .u64 pm, .param .u64 prow, .param .u64 pout) {{
        .shared .align 16 .b8 data[512];
        .reg .b32 %lane, %at, %r<4>, %i, %v<4>; .reg .b64 %m, %out;
        mov.u32 %lane, %tid.x; mov.u32 %at, data; mad.lo.u32 %at, %lane, 16, %at;
        st.shared.v4.b32 [%at], {{0, 0, 0, 0}};
        ld.param.u64 %m, [prow]; mad.wide.u32 %m, %lane, 4, %m; ld.global.b32 %i, [%m];
        mov.u32 %at, data; mad.lo.u32 %at, %i, 16, %at;
        ld.param.u64 %m, [pm]; mad.wide.u32 %m, %lane, 4, %m; {loads}
        stmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 [%at], {{{registers}}};
        mov.u32 %at, data; mad.lo.u32 %at, %lane, 16, %at;
        ld.shared.v4.b32 {{%v0, %v1, %v2, %v3}}, [%at];
        ld.param.u64 %out, [pout]; mad.wide.u32 %out, %lane, 16, %out;
        st.global.v4.b32 [%out], {{%v0, %v1, %v2, %v3}}; ret; }}"""
    out = hopper.zeros(128, np.uint32)
    launch(hopper, text, hopper.upload(fragments), hopper.upload(given), out)
    got = hopper.download(out, (32, 8), np.uint16)
    expected = np.zeros((32, 8), np.uint16)
    for i in range(count):
        matrix = fragments[i].view(np.uint16).reshape(8, 8)
        expected[rows[8 * i : 8 * i + 8]] = matrix.T if transposed else matrix
    np.testing.assert_array_equal(got, expected)


def test_transpose_in_registers(hopper: Device) -> None:
    matrix = np.arange(64, dtype=np.uint16).reshape(8, 8)
    got = hopper.run_lanes(
        "movmatrix.sync.aligned.m8n8.trans.b16 %d, %a;",
        [matrix.reshape(-1).view(np.uint32)],
        np.uint32,
    )
    np.testing.assert_array_equal(got.view(np.uint16).reshape(8, 8), matrix.T)


@pytest.mark.parametrize("bad_lane", [0, 13, 31])
@pytest.mark.parametrize(
    ("offset", "error"),
    [(4096, CudaResult.ILLEGAL_ADDRESS), (8, CudaResult.MISALIGNED_ADDRESS)],
)
def test_every_row_is_checked(
    hopper: Device, bad_lane: int, offset: int, error: CudaResult
) -> None:
    text = f""".visible .entry f() {{ .shared .align 16 .b8 data[512];
        .reg .b32 %lane, %at, %r<4>; .reg .pred %bad;
        mov.u32 %lane, %tid.x; mov.u32 %at, data; mad.lo.u32 %at, %lane, 16, %at;
        setp.eq.u32 %bad, %lane, {bad_lane}; @%bad add.u32 %at, %at, {offset};
        ldmatrix.sync.aligned.m8n8.x4.shared.b16 {{%r0, %r1, %r2, %r3}}, [%at]; ret; }}"""
    with pytest.raises(DeviceFault) as fault:
        launch(hopper, text)
    assert fault.value.result == error
    assert f"thread ({bad_lane}, 0, 0)" in str(fault.value)


def test_rows_of_lanes_that_are_off_are_checked_too(hopper: Device) -> None:
    """Rows come from all lanes, so a lane outside the branch must not smuggle an address in."""
    text = """.visible .entry f() { .shared .align 16 .b8 data[512];
        .reg .b32 %lane, %at, %r; .reg .pred %off;
        mov.u32 %lane, %tid.x; mov.u32 %at, data; mad.lo.u32 %at, %lane, 16, %at;
        setp.lt.u32 %off, %lane, 8; @%off add.u32 %at, %at, 0x10000000; @%off bra END;
        ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r}, [%at]; END: ret; }"""
    with pytest.raises(DeviceFault) as fault:
        launch(hopper, text)
    assert fault.value.result == CudaResult.ILLEGAL_ADDRESS


def test_an_instruction_that_no_lane_executes_touches_nothing(hopper: Device) -> None:
    text = """.visible .entry f(.param .u64 pout) { .shared .align 16 .b8 data[512];
        .reg .b32 %lane, %at, %r; .reg .pred %never; .reg .b64 %out;
        mov.u32 %lane, %tid.x; mov.u32 %at, 0x7FFFFFF0; mov.u32 %r, 7;
        setp.gt.u32 %never, %lane, 31;
        @%never ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r}, [%at];
        @%never stmatrix.sync.aligned.m8n8.x1.shared.b16 [%at], {%r};
        ld.param.u64 %out, [pout]; mad.wide.u32 %out, %lane, 4, %out;
        st.global.b32 [%out], %r; ret; }"""
    out = hopper.zeros(32, np.uint32)
    launch(hopper, text, out)
    assert hopper.download(out, 32, np.uint32).tolist() == [7] * 32


# -- wmma -----------------------------------------------------------------------------------------

#: Registers of the fragments of A, B, C and D: the tables "Matrix Fragments for WMMA".
_SHAPES = ((16, 16, 16), (8, 32, 16), (32, 8, 16))
_BYTES = {(16, 16, 16): (2, 2), (8, 32, 16): (1, 4), (32, 8, 16): (4, 1)}
WMMA = [
    *(
        (shape, d, "f16", c, 8, 8)
        for shape in _SHAPES
        for d in ("f16", "f32")
        for c in ("f16", "f32")
    ),
    *(
        (shape, "f32", "bf16", "f32", 2 * _BYTES[shape][0], 2 * _BYTES[shape][1])
        for shape in _SHAPES
    ),
    *((shape, "s32", kind, "s32", *_BYTES[shape]) for shape in _SHAPES for kind in ("s8", "u8")),
    ((16, 16, 8), "f32", "tf32", "f32", 4, 4),
    ((8, 8, 4), "f64", "f64", "f64", 1, 1),
    ((8, 8, 32), "s32", "s4", "s32", 1, 1),
    ((8, 8, 32), "s32", "u4", "s32", 1, 1),
    ((8, 8, 128), "s32", "b1", "s32", 1, 1),
]


def memory_of(matrix: Array, kind: str, by_row: bool, padding: int) -> tuple[Array, int]:
    """A matrix in memory, lines padded, as bytes; and the stride in elements."""
    lines = matrix if by_row else matrix.T
    bits = encode(lines, kind)
    bits = np.pad(bits, ((0, 0), (0, padding)))
    width = {"b1": 1, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "f16": 16, "bf16": 16, "f64": 64}
    size = width.get(kind, 32)
    stream = (bits[..., None] >> np.arange(size, dtype=np.uint64)) & np.uint64(1)
    return np.packbits(stream.astype(np.uint8).reshape(-1), bitorder="little"), bits.shape[1]


@pytest.mark.parametrize("layouts", ["row.col", "col.row"])
@pytest.mark.parametrize(
    ("shape", "d", "kind", "c", "a_count", "b_count"), WMMA, ids=lambda v: str(v).replace(" ", "")
)
def test_warp_matrices(
    hopper: Device,
    shape: tuple[int, int, int],
    d: str,
    kind: str,
    c: str,
    a_count: int,
    b_count: int,
    layouts: str,
) -> None:
    """Load A, B and C, multiply, store D: as a whole, since the layout is unspecified."""
    rows, columns, depth = shape
    small = kind in ("s4", "u4", "b1")
    if small and layouts != "row.col":
        pytest.skip("the manual has only one layout of elements below a byte")
    rng = np.random.default_rng(depth)
    a, b = numbers(rng, (rows, depth), kind), numbers(rng, (depth, columns), kind)
    c_matrix = (
        rng.integers(-1000, 1000, (rows, columns))
        if c == "s32"
        else numbers(rng, (rows, columns), c)
    )
    a_layout, b_layout = layouts.split(".")
    step = {"b1": 128, "s4": 32, "u4": 32}.get(kind, 16)
    a_bytes, a_stride = memory_of(a, kind, a_layout == "row", step)
    b_bytes, b_stride = memory_of(b, kind, b_layout == "row", step)
    c_bytes, c_stride = memory_of(c_matrix, c, a_layout == "row", 8)
    accumulators = {"f16": 2}
    c_count, d_count = (rows * columns // 32 // accumulators.get(t, 1) for t in (c, d))
    register = "f64" if kind == "f64" else "b32"
    size = {"f16": 2, "f64": 8}.get(d, 4)
    lists = {
        name: "{" + ", ".join(f"%{name}{i}" for i in range(count)) + "}"
        for name, count in zip("abcd", (a_count, b_count, c_count, d_count), strict=True)
    }
    name = f"m{rows}n{columns}k{depth}"
    inputs = f"{d}.{c}" if kind == "f16" else f"{d}.{kind}.{kind}.{c}"
    operation = ".xor.popc" if kind == "b1" else ""
    sync = "sync.aligned"
    text = f""".visible .entry f(.param .u64 pa, .param .u64 pb, .param .u64 pc, .param .u64 pd) {{
        .reg .{register} %a<{a_count}>, %b<{b_count}>, %c<{c_count}>, %d<{d_count}>;
        .reg .b64 %at; .reg .b32 %stride;
        ld.param.u64 %at, [pa]; mov.u32 %stride, {a_stride};
        wmma.load.a.{sync}.{a_layout}.{name}.global.{kind} {lists["a"]}, [%at], %stride;
        ld.param.u64 %at, [pb]; mov.u32 %stride, {b_stride};
        wmma.load.b.{sync}.{b_layout}.{name}.{kind} {lists["b"]}, [%at], %stride;
        ld.param.u64 %at, [pc]; mov.u32 %stride, {c_stride};
        wmma.load.c.{sync}.{a_layout}.{name}.global.{c} {lists["c"]}, [%at], %stride;
        wmma.mma{operation}.{sync}.{a_layout}.{b_layout}.{name}.{inputs}
            {lists["d"]}, {lists["a"]}, {lists["b"]}, {lists["c"]};
        ld.param.u64 %at, [pd];
        wmma.store.d.{sync}.{b_layout}.{name}.global.{d} [%at], {lists["d"]};
        ret; }}"""
    out = hopper.zeros(rows * columns * size, np.uint8)
    launch(hopper, text, *(hopper.upload(data) for data in (a_bytes, b_bytes, c_bytes)), out)
    lines = (rows, columns) if b_layout == "row" else (columns, rows)
    bits = hopper.download(out, lines, {2: np.uint16, 4: np.uint32, 8: np.uint64}[size])
    got = decode(bits.astype(np.uint64), d)
    got = got if b_layout == "row" else got.T
    if kind in RANGES:
        product = (a[:, :, None] ^ b[None]).sum(axis=1) if kind == "b1" else a @ b
        np.testing.assert_array_equal(got, product + c_matrix)
        return
    exact = a @ b + c_matrix
    unit = 2.0**-53 if kind == "f64" else 2.0**-24
    bound = (depth + 1) * unit * (np.abs(a) @ np.abs(b) + np.abs(c_matrix))
    bound += {"f16": 2.0**-11, "f32": 2.0**-24, "f64": 2.0**-53}[d] * np.abs(exact)
    assert (np.abs(got - exact) <= bound).all()


def test_fragment_in_shared_memory_is_checked(hopper: Device) -> None:
    text = """.visible .entry f() { .shared .align 32 .b8 data[512]; .reg .b32 %r<8>, %at;
        mov.u32 %at, data; wmma.load.a.sync.aligned.row.m16n16k16.shared.f16
        {%r0, %r1, %r2, %r3, %r4, %r5, %r6, %r7}, [%at], 24; ret; }"""
    with pytest.raises(DeviceFault) as fault:
        launch(hopper, text)
    assert fault.value.result == CudaResult.ILLEGAL_ADDRESS


GEMM = r"""
#include <cuda_fp16.h>
__device__ unsigned at(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }
extern "C" __global__ void f(const unsigned short* a, const unsigned short* b, float* d, int n) {
    __shared__ __align__(16) unsigned short as[16 * 16], bs[16 * 16];
    int lane = threadIdx.x;
    float sum[2][4] = {};
    for (int k = 0; k < n; k += 16) {
        for (int i = lane; i < 256; i += 32) {
            as[i] = a[(blockIdx.y * 16 + i / 16) * n + k + i % 16];
            bs[i] = b[(k + i / 16) * n + blockIdx.x * 16 + i % 16];
        }
        __syncthreads();
        unsigned x[4], y[4];
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
            : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
            : "r"(at(as + lane % 16 * 16 + lane / 16 * 8)));
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
            : "=r"(y[0]), "=r"(y[1]), "=r"(y[2]), "=r"(y[3])
            : "r"(at(bs + lane % 16 * 16 + lane / 16 * 8)));
        for (int j = 0; j < 2; j++)
            asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                : "+f"(sum[j][0]), "+f"(sum[j][1]), "+f"(sum[j][2]), "+f"(sum[j][3])
                : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[2 * j]), "r"(y[2 * j + 1]));
        __syncthreads();
    }
    for (int j = 0; j < 2; j++)
        for (int i = 0; i < 4; i++) {
            int row = blockIdx.y * 16 + lane / 4 + i / 2 * 8;
            d[row * n + blockIdx.x * 16 + j * 8 + lane % 4 * 2 + i % 2] = sum[j][i];
        }
}
"""


def test_matrix_product_from_cuda(hopper: Device) -> None:
    size = 64
    source = GEMM.replace("#include <cuda_fp16.h>\n", "")
    function = hopper.gpu.load_module(compile_ptx(source, "compute_80")).get_function("f")
    rng = np.random.default_rng(0)
    a, b = (rng.normal(0, 1, (size, size)).astype(np.float16) for _ in range(2))
    out = hopper.zeros(size * size, np.float32)
    packed = struct.pack("<3QI", hopper.upload(a), hopper.upload(b), out, size)
    function.launch((size // 16, size // 16, 1), (32, 1, 1), 0, packed)
    got = hopper.download(out, (size, size), np.float32)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    bound = size * 2.0**-24 * (np.abs(a.astype(np.float64)) @ np.abs(b.astype(np.float64)))
    assert (np.abs(got - exact) <= bound).all()


@pytest.mark.parametrize(
    "instruction",
    [
        "mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f32 {%r0,%r1}, {%r0,%r1,%r2,%r3}, "
        "{%r0,%r1}, {%r0,%r1,%r2,%r3}",
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%r0,%r1}, {%r0,%r1,%r2,%r3}, "
        "{%r0,%r1}, {%r0,%r1,%r2,%r3}",
        "mma.sync.aligned.m16n8k16.col.row.f16.f16.f16.f16 {%r0,%r1}, {%r0,%r1,%r2,%r3}, "
        "{%r0,%r1}, {%r0,%r1}",
        "mma.sync.aligned.m8n8k4.row.col.rz.f64.f64.f64.f64 {%g0,%g1}, {%g0}, {%g1}, {%g0,%g1}",
        "mma.sync.aligned.m16n8k64.row.col.s32.s8.s8.s32 {%r0,%r1,%r2,%r3}, {%r0,%r1,%r2,%r3}, "
        "{%r0,%r1}, {%r0,%r1,%r2,%r3}",
        "wmma.load.a.sync.aligned.row.m16n16k8.f16 {%r0}, [%w0]",
        "ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r0}, [%r1]",
        "ldmatrix.sync.aligned.m16n16.x1.trans.shared.b8 {%r0, %r1}, [%r1]",
    ],
)
def test_what_does_not_exist_is_refused(hopper: Device, instruction: str) -> None:
    text = (
        f".visible .entry f() {{ .reg .b32 %r<4>; .reg .f64 %g<2>; .reg .b64 %w0; {instruction}; }}"
    )
    with pytest.raises(PtxError):
        hopper.gpu.load_module((HEADER + text).encode()).get_function("f")
