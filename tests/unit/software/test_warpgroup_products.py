"""`wgmma`: every type, operands in registers and in shared memory, all layouts of the latter.

The reference writes a matrix into shared memory element by element, by the layouts of the PTX
manual; those of the software GPU were compared with an H200 on 241 products, and were the same.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import pytest

from vgpu_host.executors.software.errors import DeviceFault, PtxError

from .conftest import Array, Device
from .test_matrix_products import BITS, encode, numbers

ROWS, SHARED = 64, 40 << 10
#: Bytes that are swizzled, by the mode in the descriptor.
WIDTHS = {0: 16, 1: 128, 2: 64, 3: 32}


@dataclass(frozen=True)
class Layout:
    """Where a matrix is in shared memory."""

    mode: int
    turned: bool = False  # lines side by side, not elements along the inner dimension
    start: int = 0
    leading: int = 1024
    stride: int = 2048

    @property
    def descriptor(self) -> int:
        fields = self.start >> 4 | self.leading >> 4 << 16 | self.stride >> 4 << 32
        return fields | self.mode << 62

    def place(self, line: int, step: int, size: int) -> int:
        """Offset of an element of `size` bytes: row of A or column of B, and inner dimension."""
        width = WIDTHS[self.mode]
        if self.turned:
            per_row = width // size
            chunk, depth = line // per_row, step // 8
            far = (depth, chunk) if self.mode == 0 else (chunk, depth)
            at = line % per_row * size + step % 8 * width
            at += far[0] * self.leading + far[1] * self.stride
        else:
            at = line // 8 * self.stride + line % 8 * width
            place = step * size
            at += place // 16 * self.leading + place % 16 if self.mode == 0 else place
        at += self.start
        return at ^ (at >> 3 & width - 16)


@dataclass(frozen=True)
class Case:
    """One `wgmma`; without a layout of A it is in registers."""

    d: str
    a: str
    n: int
    b_layout: Layout
    a_layout: Layout | None = None
    adds: bool = True
    signs: tuple[int, int] = (1, 1)
    saturates: bool = False

    @property
    def k(self) -> int:
        return 256 // BITS[self.a]

    @property
    def text(self) -> str:
        registers = self.n // (4 if self.d == "f16" else 2)
        d = ", ".join(f"%d{i}" for i in range(registers))
        a = "%ma" if self.a_layout else "{%a0, %a1, %a2, %a3}"
        flags = ""
        if self.a in ("f16", "bf16", "tf32"):
            flags += f", {self.signs[0]}, {self.signs[1]}"
        if BITS[self.a] == 16:
            flags += f", {int(self.a_layout.turned)}" if self.a_layout else ""
            flags += f", {int(self.b_layout.turned)}"
        after = ".and.popc" if self.a == "b1" else ""
        before = ".satfinite" if self.saturates else ""
        name = f"m64n{self.n}k{self.k}{before}.{self.d}.{self.a}.{self.a}{after}"
        return f"wgmma.mma_async.sync.aligned.{name} {{{d}}}, {a}, %mb, %keep{flags};"


def kernel(case: Case) -> str:
    """128 threads: shared memory from pm, A of each thread from pa, D from and to pd."""
    registers = case.n // (4 if case.d == "f16" else 2)
    loads = "".join(f"ld.global.b32 %d{i}, [%x+{4 * i}];" for i in range(registers))
    stores = "".join(f"st.global.b32 [%x+{4 * i}], %d{i};" for i in range(registers))
    left = case.a_layout.descriptor if case.a_layout else 0
    kind = "f32" if case.d == "f32" else "b32"
    return f""".version 8.0\n.target sm_90a\n.address_size 64
    .visible .entry f(.param .u64 pm, .param .u64 pa, .param .u64 pd) {{
    .shared .align 1024 .b8 memory[{SHARED}];
    .reg .b64 %x, %ma, %mb; .reg .b32 %i, %v, %t, %s, %a<4>; .reg .pred %p, %keep;
    .reg .{kind} %d<{registers}>; .reg .b32 %e<{registers}>;
    mov.u32 %t, %tid.x; mov.u32 %i, %t;
    COPY: ld.param.u64 %x, [pm]; mad.wide.u32 %x, %i, 4, %x; ld.global.b32 %v, [%x];
    mov.u32 %s, memory; mad.lo.u32 %s, %i, 4, %s; st.shared.b32 [%s], %v;
    add.u32 %i, %i, 128; setp.lt.u32 %p, %i, {SHARED // 4}; @%p bra COPY;
    ld.param.u64 %x, [pa]; mad.wide.u32 %x, %t, 16, %x;
    ld.global.v4.b32 {{%a0, %a1, %a2, %a3}}, [%x];
    ld.param.u64 %x, [pd]; mad.wide.u32 %x, %t, {4 * registers}, %x; {loads}
    fence.proxy.async.shared::cta; bar.sync 0;
    mov.u64 %ma, {left:#x}; mov.u64 %mb, {case.b_layout.descriptor:#x};
    setp.ne.u32 %keep, {int(case.adds)}, 0;
    wgmma.fence.sync.aligned; {case.text}
    wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;
    {stores} ret; }}"""


def put(memory: Array, matrix: Array, element: str, layout: Layout) -> None:
    """Write a matrix, lines by steps, into shared memory."""
    bits = BITS[element]
    if bits < 8:
        packed = np.packbits(matrix.astype(np.uint8), axis=1, bitorder="little")
        matrix, size, data = packed, 1, packed
    else:
        size, data = bits // 8, encode(matrix, element)
    for line in range(matrix.shape[0]):
        for step in range(matrix.shape[1]):
            at = layout.place(line, step, size)
            memory[at : at + size] = np.frombuffer(
                int(data[line, step]).to_bytes(size, "little"), np.uint8
            )


def left_registers(matrix: Array, element: str) -> Array:
    """A in the registers of 128 threads: as four `mma` of 16 rows have it."""
    if BITS[element] < 8:
        data = np.packbits(matrix.astype(np.uint8), axis=1, bitorder="little")
    else:
        size = BITS[element] // 8
        data = encode(matrix, element).astype(f"<u{size}").view(np.uint8).reshape(ROWS, 32)
    words = np.ascontiguousarray(data).view(np.uint32).reshape(4, 2, 8, 2, 4)
    # Warp, half of its rows, row, half of the depth, word -> thread, and register.
    return words.transpose(0, 2, 4, 3, 1).reshape(128, 4)


def accumulators(matrix: Array, element: str) -> Array:
    """D in the registers of 128 threads."""
    data = encode(matrix, element)
    if element == "f16":
        words = np.ascontiguousarray(data.astype(np.uint16)).view(np.uint32)
        tiles = words.reshape(4, 2, 8, -1, 4).transpose(0, 2, 4, 3, 1)
    else:
        tiles = data.astype(np.uint32).reshape(4, 2, 8, -1, 4, 2).transpose(0, 2, 4, 3, 1, 5)
    return np.ascontiguousarray(tiles).reshape(128, -1)


def expected(case: Case, a: Array, b: Array, before: Array) -> Array:
    start = before if case.adds else np.zeros_like(before)
    if case.a == "b1":
        return start + a.astype(np.int64) @ b.astype(np.int64)
    total = case.signs[0] * case.signs[1] * (a @ b) + start
    if case.saturates:
        return np.clip(total, -(1 << 31), (1 << 31) - 1)
    return total


def check(device: Device, case: Case) -> None:
    rng = np.random.default_rng(case.n)

    def small(shape: tuple[int, int], element: str) -> Array:
        if element in ("s8", "u8", "b1"):
            return numbers(rng, shape, element)
        return rng.integers(-4, 5, shape).astype(np.float64)  # exact in any order

    a, b = small((ROWS, case.k), case.a), small((case.k, case.n), case.a)
    before = small((ROWS, case.n), "f16" if case.d != "s32" else "s8")
    if case.saturates:
        before = np.where(before > 0, (1 << 31) - 1, -(1 << 31))
    memory = rng.integers(0, 32, SHARED).astype(np.uint8)
    put(memory, b.T, case.a, case.b_layout)
    if case.a_layout:
        put(memory, a, case.a, case.a_layout)
    registers = np.zeros((128, 4), np.uint32) if case.a_layout else left_registers(a, case.a)
    initial = accumulators(before, case.d)
    out = device.upload(initial)
    function = device.gpu.load_module(kernel(case).encode()).get_function("f")
    pointers = device.upload(memory), device.upload(registers), out
    function.launch((1, 1, 1), (128, 1, 1), 0, struct.pack("<3Q", *pointers))
    got = device.download(out, initial.shape, np.uint32)
    np.testing.assert_array_equal(got, accumulators(expected(case, a, b, before), case.d))


PLAIN = Layout(0, leading=128, stride=256, start=8192)


@pytest.mark.parametrize(
    "case",
    [
        Case("f32", "f16", 8, PLAIN),
        Case("f32", "f16", 24, Layout(1, stride=1024), Layout(2, start=16384, stride=512)),
        Case("f16", "f16", 64, Layout(1, turned=True), Layout(1, turned=True, start=16384)),
        Case("f16", "f16", 16, Layout(2, turned=True), signs=(-1, 1)),
        Case("f32", "bf16", 16, Layout(3, turned=True, leading=256, stride=512), adds=False),
        Case("f32", "bf16", 8, PLAIN, Layout(0, turned=True, leading=1152, stride=128)),
        Case("f32", "tf32", 32, Layout(3, stride=256), Layout(1, start=16384), signs=(-1, -1)),
        Case("f32", "tf32", 8, Layout(1, start=1024 + 64), signs=(1, -1)),
        Case("s32", "s8", 16, Layout(2, stride=512), saturates=True),
        Case("s32", "u8", 48, PLAIN, Layout(1, start=16384), adds=False),
        Case("s32", "b1", 8, Layout(3, stride=256), Layout(0, leading=128, stride=256, start=4096)),
    ],
    ids=lambda case: f"{case.d}-{case.a}-{case.n}",
)
def test_products(hopper: Device, case: Case) -> None:
    check(hopper, case)


def test_an_operand_outside_of_shared_memory_is_a_fault(hopper: Device) -> None:
    case = Case("f32", "f16", 8, Layout(1, start=SHARED))
    function = hopper.gpu.load_module(kernel(case).encode()).get_function("f")
    pointers = [hopper.zeros(SHARED, np.uint8) for _ in range(3)]
    with pytest.raises(DeviceFault) as caught:
        function.launch((1, 1, 1), (128, 1, 1), 0, struct.pack("<3Q", *pointers))
    assert caught.value.result == 700


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("m64n8k16.f32.f16.bf16 {%f0,%f1,%f2,%f3}, %x, %x, %p, 1, 1, 0, 0", "no product of f16"),
        ("m64n8k8.f32.f16.f16 {%f0,%f1,%f2,%f3}, %x, %x, %p, 1, 1, 0, 0", "no such shape"),
        ("m64n40k32.s32.s8.s8 {%f0,%f1,%f2,%f3}, %x, %x, %p", "no such shape"),
        ("m64n8k16.f32.f16.f16 {%f0,%f1,%f2}, %x, %x, %p, 1, 1, 0, 0", "wrong number of registers"),
        ("m64n8k16.f32.f16.f16 {%f0,%f1,%f2,%f3}, %x, %x, %p, 1, 1", "wrong number of scales"),
        ("m64n8k32.f32.e4m3.e4m3 {%f0,%f1,%f2,%f3}, %x, %x, %p, 1, 1", "modifier .e4m3"),
    ],
)
def test_products_that_are_refused(hopper: Device, text: str, reason: str) -> None:
    ptx = f""".version 8.0\n.target sm_90a\n.address_size 64
    .entry f() {{ .reg .f32 %f<4>; .reg .b64 %x; .reg .pred %p; mov.u64 %x, 0;
    setp.eq.u64 %p, %x, 0; mov.f32 %f0, 0f00000000; mov.f32 %f1, %f0; mov.f32 %f2, %f0;
    mov.f32 %f3, %f0;
    wgmma.mma_async.sync.aligned.{text}; ret; }}"""
    with pytest.raises(PtxError) as caught:
        hopper.gpu.load_module(ptx.encode()).get_function("f")
    assert reason in caught.value.log
