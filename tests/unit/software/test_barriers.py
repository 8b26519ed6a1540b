"""Barriers that count threads, member masks in divergent code, and loops that wait for others."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from vgpu_host.executors.software.errors import CudaResult, DeviceFault, PtxError
from vgpu_host.executors.software.gpu import SoftwareGpu

from .conftest import Array, Device

KERNEL = ".visible .entry f(.param .u64 p) {{ {registers} {body} }}"
REGISTERS = """.reg .b32 %r<20>; .reg .b64 %x<9>; .reg .pred %p<9>;
    .shared .align 4 .b8 cell[4096];
    ld.param.u64 %x1, [p]; mov.u32 %r0, %tid.x; mul.wide.u32 %x2, %r0, 4; add.u64 %x3, %x1, %x2;
    shr.u32 %r1, %r0, 5;"""


def run(device: Device, body: str, threads: int) -> Array:
    """Run a kernel body that stores a word per thread at [%x3]; %r0 thread, %r1 warp."""
    function = device.function(KERNEL.format(registers=REGISTERS, body=body))
    out = device.zeros(threads, np.int32)
    function.launch((1, 1, 1), (threads, 1, 1), 0, struct.pack("<Q", out))
    return device.download(out, threads, np.int32)


def test_producer_and_consumer_with_arrive(device: Device) -> None:
    """Warp 1 waits for warp 0, which does not wait, over several rounds of two barriers."""
    got = run(
        device,
        """
        mov.u32 %r5, 0; mov.u32 %r6, 0; mov.u32 %r9, cell;
        and.b32 %r7, %r0, 31; shl.b32 %r7, %r7, 2; add.u32 %r9, %r9, %r7;
        setp.ne.u32 %p1, %r1, 0; @%p1 bra CONSUME;
        PRODUCE:
        mul.lo.u32 %r8, %r5, 100; add.u32 %r8, %r8, %r0; st.shared.u32 [%r9], %r8;
        bar.arrive 1, 64;
        bar.sync 2, 64;
        add.u32 %r5, %r5, 1; setp.lt.u32 %p2, %r5, 5; @%p2 bra PRODUCE;
        bra END;
        CONSUME:
        bar.sync 1, 64;
        ld.shared.u32 %r8, [%r9]; add.u32 %r6, %r6, %r8;
        bar.arrive 2, 64;
        add.u32 %r5, %r5, 1; setp.lt.u32 %p2, %r5, 5; @%p2 bra CONSUME;
        END: st.global.u32 [%x3], %r6; ret;""",
        64,
    )
    assert got.tolist() == [0] * 32 + [1000 + 5 * lane for lane in range(32)]


def test_barrier_number_in_a_register(device: Device) -> None:
    """Pairs of warps meet at a barrier each; its number is the pair's."""
    got = run(
        device,
        """
        shr.u32 %r2, %r1, 1; mov.u32 %r9, cell; shl.b32 %r3, %r0, 2; add.u32 %r9, %r9, %r3;
        st.shared.u32 [%r9], %r0;
        barrier.sync %r2, 64;
        xor.b32 %r4, %r0, 32; shl.b32 %r4, %r4, 2; mov.u32 %r9, cell; add.u32 %r9, %r9, %r4;
        ld.shared.u32 %r5, [%r9]; st.global.u32 [%x3], %r5; ret;""",
        192,
    )
    assert got.tolist() == [thread ^ 32 for thread in range(192)]


@pytest.mark.parametrize("threads", [32, 64, 96])
def test_threads_of_a_warp_arrive_apart(device: Device, threads: int) -> None:
    """`barrier.sync` counts threads: the halves of each warp arrive by different ways."""
    got = run(
        device,
        """
        mov.u32 %r9, cell; shl.b32 %r3, %r0, 2; add.u32 %r9, %r9, %r3; mov.u32 %r5, 0;
        and.b32 %r2, %r0, 16; setp.ne.u32 %p1, %r2, 0; @%p1 bra UPPER;
        add.u32 %r4, %r0, 100; st.shared.u32 [%r9], %r4;
        barrier.sync 0;
        bra END;
        UPPER: add.u32 %r4, %r0, 200; st.shared.u32 [%r9], %r4;
        barrier.sync 0;
        END: xor.b32 %r4, %r0, 16; shl.b32 %r4, %r4, 2; mov.u32 %r9, cell; add.u32 %r9, %r9, %r4;
        ld.shared.u32 %r5, [%r9]; st.global.u32 [%x3], %r5; ret;""",
        threads,
    )
    expected = [(t ^ 16) + (200 if (t ^ 16) & 16 else 100) for t in range(threads)]
    assert got.tolist() == expected


def test_half_warps_form_a_barrier_of_32(device: Device) -> None:
    """16 threads of each of two warps make up the 32 of a barrier; the others never come."""
    got = run(
        device,
        """
        mov.u32 %r5, 7; and.b32 %r2, %r0, 16; setp.ne.u32 %p1, %r2, 0; @%p1 bra END;
        barrier.sync 3, 32; mov.u32 %r5, 8;
        END: st.global.u32 [%x3], %r5; ret;""",
        64,
    )
    assert got.tolist() == [7 if thread & 16 else 8 for thread in range(64)]


def test_ended_threads_count_as_arrived(device: Device) -> None:
    got = run(
        device,
        """
        setp.gt.u32 %p1, %r0, 40; @%p1 exit;
        st.global.u32 [%x3], %r0;
        barrier.sync 1;
        st.global.u32 [%x3], 1; ret;""",
        96,
    )
    assert got.tolist() == [1] * 41 + [0] * 55


def test_part_of_a_warp_at_a_barrier_of_the_block(device: Device) -> None:
    """`bar.sync` by the first 40 threads of 64, beside a numbered barrier: warps are counted."""
    got = run(
        device,
        """
        mov.u32 %r5, 1; setp.ge.u32 %p1, %r0, 40; @%p1 bra END;
        bar.sync 0; mov.u32 %r5, 2;
        END: bar.sync 1; st.global.u32 [%x3], %r5; ret;""",
        64,
    )
    assert got.tolist() == [2] * 40 + [1] * 24


def test_reduction_in_divergent_code(device: Device) -> None:
    """`bar.red` in two ways of a branch, on two barriers, of different warps and of half warps."""
    got = run(
        device,
        """
        mov.u32 %r5, 0; and.b32 %r3, %r0, 1; setp.ne.u32 %p2, %r3, 0;
        and.b32 %r2, %r0, 48; setp.ne.u32 %p1, %r2, 0; @%p1 bra OTHER;
        barrier.red.popc.u32 %r5, 2, %p2; bra END;
        OTHER: setp.lt.u32 %p3, %r0, 60; barrier.red.popc.u32 %r5, 2, %p3;
        END: barrier.red.and.pred %p4, 1, 64, %p2; @%p4 add.u32 %r5, %r5, 1000;
        barrier.red.or.pred %p5, 1, 64, !%p2; @%p5 add.u32 %r5, %r5, 2000;
        st.global.u32 [%x3], %r5; ret;""",
        64,
    )
    assert got.tolist() == [2000 + 8 + 44] * 64


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("bar.sync 16;", "0 to 15"),
        ("bar.sync 1, 33;", "multiple of 32"),
        ("bar.arrive 1;", "needs a number of threads"),
    ],
)
def test_impossible_barriers_are_refused(device: Device, statement: str, reason: str) -> None:
    with pytest.raises(PtxError) as caught:
        run(device, f"{statement} ret;", 32)
    assert reason in caught.value.log


def test_impossible_barrier_number_at_run_time_is_a_fault() -> None:
    gpu = SoftwareGpu(total_memory=1 << 20)
    with pytest.raises(DeviceFault) as caught:
        run(Device(gpu), "add.u32 %r2, %r1, 16; bar.sync %r2; ret;", 32)
    assert caught.value.result == CudaResult.LAUNCH_FAILED
    gpu.close()


def test_barrier_that_nobody_else_reaches_ends_the_kernel(device: Device) -> None:
    """No watchdog is needed to see that nothing can happen any more."""
    with pytest.raises(DeviceFault) as caught:
        run(device, "setp.ne.u32 %p1, %r1, 0; @%p1 exit; bar.sync 1, 64; ret;", 64)
    assert caught.value.result == CudaResult.LAUNCH_TIMEOUT
    assert "barrier" in caught.value.message


def test_warps_of_a_block_wait_for_each_other_in_loops(device: Device) -> None:
    """Warp 0 waits for warp 1, by a loop that reads shared memory."""
    got = run(
        device,
        """
        mov.u32 %r9, cell; st.shared.u32 [%r9], 0; bar.sync 0;
        setp.ne.u32 %p1, %r1, 0; @%p1 bra SET;
        WAIT: ld.volatile.shared.u32 %r5, [%r9]; setp.eq.u32 %p2, %r5, 0; @%p2 bra WAIT;
        st.global.u32 [%x3], %r5; ret;
        SET: st.volatile.shared.u32 [%r9], 5; st.global.u32 [%x3], 6; ret;""",
        64,
    )
    assert got.tolist() == [5] * 32 + [6] * 32


def test_mutual_exclusion_between_threads_of_a_warp(independent: Device) -> None:
    """Every thread takes a lock: from capability 7.0 on, threads of a warp make progress apart."""
    got = independent.cuda(
        """extern "C" __global__ void f(int *out) {
            __shared__ int lock, sum;
            if (!threadIdx.x) lock = sum = 0;
            __syncthreads();
            while (atomicCAS(&lock, 0, 1)) {}
            __threadfence_block();
            volatile int *cell = &sum;
            out[threadIdx.x] = *cell; *cell = *cell + 1;
            __threadfence_block();
            atomicExch(&lock, 0);
        }"""
    )
    out = independent.zeros(96, np.int32)
    got.launch((1, 1, 1), (96, 1, 1), 0, struct.pack("<Q", out))
    assert sorted(independent.download(out, 96, np.int32).tolist()) == list(range(96))


MASKS = """extern "C" __global__ void f(int *out) {{
    int t = threadIdx.x, v = t * 10, r = -1;
    {body}
    out[t] = r;
}}"""


def lanes(device: Device, body: str, threads: int = 32) -> list[int]:
    function = device.cuda(MASKS.format(body=body))
    out = device.zeros(threads, np.int32)
    function.launch((1, 1, 1), (threads, 1, 1), 0, struct.pack("<Q", out))
    return device.download(out, threads, np.int32).tolist()


def test_shuffle_reached_from_both_sides_of_a_branch(device: Device) -> None:
    body = """
    if (t & 1) { v += 1; r = __shfl_xor_sync(~0u, v, 1); r += 1000; }
    else { v += 2; r = __shfl_xor_sync(~0u, v, 1); r += 2000; }"""
    expected = [(t ^ 1) * 10 + (2 if t & 1 else 1) + (1000 if t & 1 else 2000) for t in range(32)]
    assert lanes(device, body) == expected


def test_several_shuffles_on_each_side(device: Device) -> None:
    """What one side puts down next does not reach the other before it has read the last."""
    body = """
    if (t < 16) {
        int a = __shfl_sync(~0u, v, t + 16); int b = __shfl_sync(~0u, v + 1, t + 16);
        r = a * 3 + b;
    } else {
        int a = __shfl_sync(~0u, v + 5, t - 16); __threadfence_block();
        int b = __shfl_sync(~0u, v + 7, t - 16); r = a + b * 5;
    }"""
    expected = [
        3 * (10 * (t + 16) + 5) + 10 * (t + 16) + 7
        if t < 16
        else 10 * (t - 16) + 5 * (10 * (t - 16) + 1)
        for t in range(32)
    ]
    assert lanes(device, body) == expected


def test_masks_of_groups_in_a_loop(device: Device) -> None:
    """Groups of eight lanes run loops of different lengths; each waits for its own lanes."""
    body = """
    unsigned mask = 0xffu << (t & 24); int group = t >> 3; r = 0;
    for (int i = 0; i <= group; i++) {
        if ((t & 7) > i) r += __reduce_add(mask, v); else r += __reduce_add(mask, v) + 1;
    }"""
    source = "#define __reduce_add(m, v) (__shfl_xor_sync(m, v, 1) + __shfl_xor_sync(m, v, 2))"
    function = device.cuda(source + "\n" + MASKS.format(body=body))
    out = device.zeros(32, np.int32)
    function.launch((1, 1, 1), (32, 1, 1), 0, struct.pack("<Q", out))
    expected = [
        sum(10 * (t ^ 1) + 10 * (t ^ 2) + (0 if (t & 7) > i else 1) for i in range((t >> 3) + 1))
        for t in range(32)
    ]
    assert device.download(out, 32, np.int32).tolist() == expected


def test_ballot_waits_for_both_sides(device: Device) -> None:
    body = """
    if (t & 2) { r = __ballot_sync(~0u, t & 1); } else { r = __ballot_sync(~0u, t & 4); }"""
    ballot = sum(1 << t for t in range(32) if (t & 1 if t & 2 else t & 4))
    signed = ballot - (1 << 32) if ballot >> 31 else ballot
    assert lanes(device, body) == [signed] * 32


def test_barriers_of_a_warp_in_different_places(device: Device) -> None:
    """`__syncwarp` on one side meets `__syncwarp` on the other: each sees what the other wrote."""
    body = """
    __shared__ volatile int cell[32];
    if (t < 16) { cell[t] = v; __syncwarp(); r = cell[t + 16]; }
    else { cell[t] = v + 1; __syncwarp(); r = cell[t - 16]; }"""
    expected = [10 * (t + 16) + 1 if t < 16 else 10 * (t - 16) for t in range(32)]
    assert lanes(device, body) == expected


def test_lanes_that_ended_are_not_waited_for(device: Device) -> None:
    body = """
    if (t >= 20) { out[t] = 99; return; }
    if (t & 1) r = __shfl_xor_sync(~0u, v, 1); else r = __shfl_xor_sync(~0u, v + 1, 1);"""
    expected = [10 * (t ^ 1) + (1 if t & 1 else 0) if t < 20 else 99 for t in range(32)]
    assert lanes(device, body) == expected


def test_mask_whose_lanes_never_come(device: Device) -> None:
    """Lanes that wait where all meet cannot come any more: the others go on alone."""
    body = "for (int i = 0; i < (t & 1) + 1; i++) if (i) r = __shfl_sync(~0u, v, 1);"
    assert lanes(device, body) == [10 if t & 1 else -1 for t in range(32)]
