"""Instructions between lanes, atomics, barriers and special registers."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest

from .conftest import Device

LANES = np.arange(64, dtype=np.uint32)


def shuffle(mode: str, lane: int, b: int, c: int) -> tuple[int, bool]:
    """The pseudo code of shfl.sync in the PTX manual."""
    bound, segment = c & 31, c >> 8 & 31
    highest = (lane & segment) | (bound & ~segment & 31)
    lowest = lane & segment
    b &= 31
    if mode == "up":
        j, valid = lane - b, lane - b >= highest
    elif mode == "down":
        j, valid = lane + b, lane + b <= highest
    elif mode == "bfly":
        j, valid = lane ^ b, lane ^ b <= highest
    else:
        j = lowest | (b & ~segment & 31)
        valid = j <= highest
    return (j if valid else lane), valid


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize(
    ("mode", "b", "c"),
    [
        ("bfly", 16, 31),
        ("bfly", 3, 0x1C1F),
        ("down", 5, 31),
        ("down", 1, 0x181F),
        ("up", 4, 0),
        ("up", 1, 0x1800),
        ("idx", 9, 31),
        ("idx", 2, 0x181F),
        ("idx", 7, 3),
    ],
)
def test_shuffle(device: Device, mode: str, b: int, c: int, constant: bool) -> None:
    operands = f"{b}, {c}" if constant else "%r2, %r3"
    body = (
        f"ld.param.u32 %r2, [pn]; sub.u32 %r3, %r2, {64 - c}; sub.u32 %r2, %r2, {64 - b};"
        f"shfl.sync.{mode}.b32 %r4|%p, %a, {operands}, -1;"
        "selp.u32 %r5, 1000, 0, %p; add.u32 %d, %r4, %r5;"
    )
    got = device.run_lanes(body, [LANES * 10], np.uint32)
    expected = []
    for thread in range(64):
        source, valid = shuffle(mode, thread % 32, b, c)
        expected.append((source + thread // 32 * 32) * 10 + 1000 * valid)
    assert got.tolist() == expected


def test_shuffle_by_a_lane_of_its_own(device: Device) -> None:
    picks = np.random.default_rng(1).integers(0, 32, 64).astype(np.uint32)
    got = device.run_lanes("shfl.sync.idx.b32 %d, %a, %b, 31, -1;", [LANES, picks], np.uint32)
    assert got.tolist() == (LANES // 32 * 32 + picks).tolist()


def test_votes(device: Device) -> None:
    values = np.array([1, 0] * 16 + [1] * 32, np.uint32)
    body = (
        "setp.ne.u32 %p, %a, 0; vote.sync.all.pred %q, %p, -1; selp.u32 %r1, 1, 0, %q;"
        "vote.sync.any.pred %q, %p, -1; selp.u32 %r2, 2, 0, %q;"
        "vote.sync.uni.pred %q, %p, -1; selp.u32 %r3, 4, 0, %q;"
        "vote.sync.ballot.b32 %r4, %p, -1; and.b32 %r4, %r4, 0xF0;"
        "or.b32 %d, %r1, %r2; or.b32 %d, %d, %r3; or.b32 %d, %d, %r4;"
    )
    got = device.run_lanes(body, [values], np.uint32)
    assert got.tolist() == [2 | 0x50] * 32 + [1 | 2 | 4 | 0xF0] * 32


def test_vote_and_activemask_in_divergent_code(device: Device) -> None:
    body = (
        "setp.lt.u32 %p, %a, 10; mov.u32 %d, 0; @%p bra LOW;"
        "activemask.b32 %d; bra DONE; LOW: setp.gt.u32 %q, %a, 4;"
        "vote.sync.ballot.b32 %d, %q, -1; DONE:"
    )
    got = device.run_lanes(body, [LANES % 32], np.uint32)
    assert got.tolist() == ([0b1111100000] * 10 + [0xFFFFFC00] * 22) * 2


def test_match(hopper: Device) -> None:
    values = np.array([7, 7, 9, 1] * 8 + [5] * 32, np.uint32)
    got = hopper.run_lanes("match.any.sync.b32 %d, %a, -1;", [values], np.uint32)
    assert got.tolist() == [0x33333333, 0x33333333, 0x44444444, 0x88888888] * 8 + [0xFFFFFFFF] * 32
    body = "match.all.sync.b32 %r1|%p, %a, -1; selp.u32 %d, %r1, 17, %p;"
    got = hopper.run_lanes(body, [values], np.uint32)
    assert got.tolist() == [17] * 32 + [0xFFFFFFFF] * 32


def test_lane_masks_and_identity(device: Device) -> None:
    body = "mov.u32 %r1, %lanemask_lt; mov.u32 %r2, %lanemask_ge; mov.u32 %r3, %laneid;"
    body += "xor.b32 %r1, %r1, %r2; add.u32 %d, %r1, %r3; mov.u32 %r4, %warpid;"
    body += "add.u32 %d, %d, %r4;"
    got = device.run_lanes(body, [LANES], np.uint32)
    assert got.tolist() == [(0xFFFFFFFF + t % 32 + t // 32) & 0xFFFFFFFF for t in range(64)]


def test_clocks_advance(device: Device) -> None:
    body = "mov.u64 %w1, %{0}; membar.gl; mov.u64 %w2, %{0}; sub.u64 %d, %w2, %w1;"
    for name in ("clock64", "globaltimer"):
        got = device.run_lanes(body.replace("{0}", name), [LANES], np.uint64)
        assert (got < 10_000_000_000).all()


ATOMICS: dict[str, tuple[int, Callable[[list[int]], int]]] = {
    "add.u32": (3, lambda v: 3 + sum(v)),
    "min.s32": (100, lambda v: min([100, *v])),
    "max.u32": (5, lambda v: max([5, *v])),
    "and.b32": (0xFF, lambda v: 0xFF & int(np.bitwise_and.reduce(v))),
    "or.b32": (256, lambda v: 256 | int(np.bitwise_or.reduce(v))),
    "xor.b32": (7, lambda v: 7 ^ int(np.bitwise_xor.reduce(v))),
}


@pytest.mark.parametrize("space", ["global", "shared", "generic"])
@pytest.mark.parametrize("name", ATOMICS)
def test_reductions(device: Device, name: str, space: str) -> None:
    start, expected = ATOMICS[name]
    suffix = "" if space == "generic" else f".{space}"
    ptx = f"""
.visible .entry f(.param .u64 p) {{
  .reg .b64 %x<4>; .reg .b32 %r<5>; .reg .pred %p; .shared .align 4 .u32 cell;
  ld.param.u64 %x1, [p]; mov.u32 %r1, %tid.x; add.u32 %r2, %r1, 2;
  ld.global.u32 %r3, [%x1];
  mov.u64 %x2, cell; setp.ne.u32 %p, %r1, 0; @!%p st.shared.u32 [%x2], %r3; bar.sync 0;
  {"mov.u64 %x2, %x1;" if space == "global" else ""}
  {"cvta.shared.u64 %x2, %x2;" if space == "generic" else ""}
  red{suffix}.{name} [%x2], %r2; bar.sync 0;
  ld{suffix}.u32 %r4, [%x2]; @%p bra END; st.global.u32 [%x1], %r4; END: ret;
}}"""
    out = device.upload(np.array([start], np.uint32))
    device.function(ptx).launch((1, 1, 1), (90, 1, 1), 0, struct.pack("<Q", out))
    assert device.download(out, 1, np.uint32)[0] == expected(list(range(2, 92)))


def test_atomics_return_the_old_value(device: Device) -> None:
    counter = device.zeros(1, np.uint32)
    body = f"mov.u64 %w1, {counter}; atom.global.add.u32 %d, [%w1], 1;"
    got = device.run_lanes(body, [np.zeros(500, np.uint32)], np.uint32)
    assert sorted(got.tolist()) == list(range(500))
    body = f"mov.u64 %w1, {counter}; atom.global.inc.u32 %d, [%w1], 600;"
    got = device.run_lanes(body, [np.zeros(301, np.uint32)], np.uint32)
    assert sorted(got.tolist()) == sorted([*range(500, 601), *range(200)])
    body = f"mov.u64 %w1, {counter}; atom.global.dec.u32 %d, [%w1], 1000;"
    got = device.run_lanes(body, [np.zeros(203, np.uint32)], np.uint32)
    assert sorted(got.tolist()) == [*range(201), 999, 1000]
    body = f"mov.u64 %w1, {counter}; atom.global.exch.b32 %d, [%w1], 77;"
    device.run_lanes(body, [np.zeros(1, np.uint32)], np.uint32)
    assert device.download(counter, 1, np.uint32)[0] == 77


def test_shared_atomics_return_the_old_value(device: Device) -> None:
    function = device.function(
        """.visible .entry f(.param .u64 p) {
        .reg .b32 %r<9>; .reg .b64 %x<3>; .reg .f32 %f<3>;
        .shared .align 4 .u32 cells[8];
        mov.u32 %r1, %tid.x;
        atom.shared.add.u32 %r2, [cells], 3;
        atom.shared.inc.u32 %r3, [cells+4], 5;
        atom.shared.dec.u32 %r4, [cells+8], 6;
        atom.shared.exch.b32 %r5, [cells+12], %r1;
        atom.shared.cas.b32 %r6, [cells+16], %r1, 1;
        atom.shared.add.f32 %f1, [cells+20], 0f3F000000;
        cvt.rzi.u32.f32 %r7, %f1;
        atom.shared.max.s32 %r8, [cells+24], %r1;
        ld.param.u64 %x1, [p]; mad.wide.u32 %x1, %r1, 28, %x1;
        st.global.u32 [%x1], %r2; st.global.u32 [%x1+4], %r3; st.global.u32 [%x1+8], %r4;
        st.global.u32 [%x1+12], %r5; st.global.u32 [%x1+16], %r6; st.global.u32 [%x1+20], %r7;
        st.global.u32 [%x1+24], %r8;
        ret; }"""
    )
    out = device.zeros(40 * 7, np.uint32)
    # Shared memory starts with what the last block left, so it is cleared by another kernel first.
    clear = device.function(
        ".visible .entry f() { .reg .b32 %r; .shared .align 4 .b8 room[512];"
        "mov.u32 %r, %tid.x; shl.b32 %r, %r, 2; st.shared.u32 [%r], 0; ret; }"
    )
    clear.launch((1, 1, 1), (128, 1, 1), 0, b"")
    function.launch((1, 1, 1), (40, 1, 1), 0, struct.pack("<Q", out))
    got = device.download(out, (40, 7), np.uint32).tolist()
    down = [0, *[6, 5, 4, 3, 2, 1, 0] * 6]
    assert got == [
        [3 * t, t % 6, down[t], max(t - 1, 0), int(t > 0), t // 2, max(t - 1, 0)] for t in range(40)
    ]


def test_compare_and_swap_loop(device: Device) -> None:
    cell = device.upload(np.zeros(1, np.float32))
    body = (
        f"mov.u64 %w1, {cell}; ld.global.u32 %r1, [%w1]; RETRY: mov.b32 %f1, %r1;"
        "add.f32 %f2, %f1, %a; mov.b32 %r2, %f2; atom.global.cas.b32 %r3, [%w1], %r1, %r2;"
        "setp.ne.u32 %p, %r3, %r1; mov.u32 %r1, %r3; @%p bra RETRY; mov.f32 %d, 0f00000000;"
    )
    device.run_lanes(body, [np.arange(300, dtype=np.float32)], np.float32)
    assert device.download(cell, 1, np.float32)[0] == 299 * 150


@pytest.mark.parametrize(("type_", "dtype"), [("f32", np.float32), ("f64", np.float64)])
def test_floating_point_atomic_add(device: Device, type_: str, dtype: type) -> None:
    cell = device.zeros(1, dtype)
    body = f"mov.u64 %w1, {cell}; atom.global.add.{type_} %d, [%w1], %a;"
    got = device.run_lanes(body, [np.full(400, 0.5, dtype)], dtype)
    assert sorted(got.tolist()) == [0.5 * i for i in range(400)]


def test_packed_half_atomic_add(device: Device) -> None:
    cell = device.zeros(2, np.float16)
    addend = np.tile(np.array([1, 2], np.float16), 50).view(np.uint32)
    body = f"mov.u64 %w1, {cell}; atom.global.add.noftz.f16x2 %d, [%w1], %a;"
    device.run_lanes(body, [addend], np.uint32)
    assert device.download(cell, 2, np.float16).tolist() == [50, 100]


def test_spinning_on_an_atomic_lock_between_blocks(device: Device) -> None:
    function = device.cuda(
        """extern "C" __global__ void f(int *lock, volatile int *value) {
            if (threadIdx.x == 0) {
                while (atomicCAS(lock, 0, 1) != 0) {}
                *value = *value + 1;
                __threadfence();
                atomicExch(lock, 0);
            }
        }"""
    )
    cells = device.zeros(2, np.int32)
    function.launch((500, 1, 1), (64, 1, 1), 0, struct.pack("<QQ", cells, cells + 4))
    assert device.download(cells, 2, np.int32).tolist() == [0, 500]


def test_barriers_with_warps_that_have_left(device: Device) -> None:
    function = device.cuda(
        """extern "C" __global__ void f(int *out) {
            __shared__ int stage[256];
            int t = threadIdx.x;
            if (t >= 160) return;
            stage[t] = t;
            for (int round = 0; round < 5; round++) {
                __syncthreads();
                int next = stage[(t + 33) % 160];
                __syncthreads();
                stage[t] = next + 1;
            }
            out[t] = stage[t];
        }"""
    )
    out = device.zeros(160, np.int32)
    function.launch((1, 1, 1), (256, 1, 1), 0, struct.pack("<Q", out))
    expected = [(t + 5 * 33) % 160 + 5 for t in range(160)]
    assert device.download(out, 160, np.int32).tolist() == expected


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("__syncthreads_count", lambda flags: sum(flags)),
        ("__syncthreads_and", lambda flags: int(all(flags))),
        ("__syncthreads_or", lambda flags: int(any(flags))),
    ],
)
def test_barriers_that_reduce(
    device: Device, function: str, expected: Callable[[list[bool]], int]
) -> None:
    kernel = device.cuda(
        f"""extern "C" __global__ void f(int *out, int modulus) {{
            int first = {function}(threadIdx.x % modulus == 0);
            int second = {function}(threadIdx.x >= 0);
            int third = {function}(threadIdx.x == 200);
            out[threadIdx.x] = (first != 0 ? first : 0) * 1000000 + (second != 0) * 1000 + third;
        }}"""
    )
    out = device.zeros(100, np.int32)
    kernel.launch((1, 1, 1), (100, 1, 1), 0, struct.pack("<Qi", out, 3))
    first = expected([t % 3 == 0 for t in range(100)])
    assert device.download(out, 100, np.int32).tolist() == [first * 1000000 + 1000] * 100


def test_predicated_barriers(device: Device) -> None:
    """Warps see what others stored before a barrier whose predicate holds for all."""
    body = """
        .shared .b32 cells[64]; mov.u64 %w1, cells; mul.wide.u32 %w2, %a, 4; add.u64 %w2, %w1, %w2;
        setp.ge.u32 %p, %n, 1; setp.lt.u32 %q, %n, 1;
        st.shared.u32 [%w2], %a; @%p bar.sync 0; @%q bar.sync 0; @!%q bar.sync 0;
        xor.b32 %r1, %a, 33; mul.wide.u32 %w2, %r1, 4; add.u64 %w2, %w1, %w2;
        ld.shared.u32 %d, [%w2];"""
    got = device.run_lanes(body, [LANES], np.uint32)
    assert got.tolist() == [lane ^ 33 for lane in range(64)]
