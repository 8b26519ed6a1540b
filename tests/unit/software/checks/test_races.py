"""The race checker: planted races are found, with both sides; what is ordered is none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from vgpu_host.findings import Finding

from .conftest import HEADER, CheckedDevice

REVERSE = """__global__ void f(float *out)
{{
    __shared__ float line[64];
    line[threadIdx.x] = threadIdx.x;
    {order}
    out[threadIdx.x] = line[63 - threadIdx.x];
}}"""


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


def kinds(findings: list[Finding]) -> list[str]:
    return sorted(finding.kind for finding in findings)


def test_missing_barrier_in_shared_memory(race_device: CheckedDevice) -> None:
    found = race_device.cuda(REVERSE.format(order=""), 1, 64, race_device.zeros(64))
    assert kinds(found) == ["read-after-write", "write-after-read"]
    read = next(finding for finding in found if finding.kind == "read-after-write")
    assert read.other
    assert (read.check, read.address, read.count) == ("race", 124, 32)
    assert read.place == "124 bytes into shared variable _ZZ1fE4line of 256 bytes"
    assert (read.access.block, read.access.thread) == ((0, 0, 0), (32, 0, 0))
    assert (read.other.block, read.other.thread) == ((0, 0, 0), (31, 0, 0))
    assert read.access.instruction.startswith("ld.shared")
    assert read.other.instruction.startswith("st.shared")
    assert read.access.source.endswith("f.cu:6")
    assert read.other.source.endswith("f.cu:4")
    assert "no barrier" in read.message


def test_a_barrier_orders_the_block(race_device: CheckedDevice) -> None:
    source = REVERSE.format(order="__syncthreads();")
    assert race_device.cuda(source, 4, 64, race_device.zeros(64)) == []


WARP = """__global__ void f(float *out)
{{
    __shared__ float line[64];
    line[threadIdx.x] = threadIdx.x;
    {order}
    out[threadIdx.x] = line[threadIdx.x ^ 1];
}}"""


@pytest.mark.parametrize(
    ("order", "found"),
    [
        ("", ["read-after-write"]),
        ("__syncwarp();", []),
        ("__threadfence_block();", ["read-after-write"]),
        ("line[__shfl_sync(~0u, threadIdx.x, threadIdx.x)] += 1;", ["read-after-write"]),
    ],
)
def test_lanes_of_a_warp(race_device: CheckedDevice, order: str, found: list[str]) -> None:
    findings = race_device.cuda(WARP.format(order=order), 1, 64, race_device.zeros(64))
    assert kinds(findings) == found
    assert all("another lane of its warp" in finding.message for finding in findings)


def test_volatile_accesses_do_not_race_with_each_other(race_device: CheckedDevice) -> None:
    source = WARP.format(order="").replace("__shared__", "volatile __shared__")
    assert race_device.cuda(source, 1, 64, race_device.zeros(64)) == []


def test_blocks_that_write_the_same_place(race_device: CheckedDevice) -> None:
    source = "__global__ void f(int *p) { p[threadIdx.x] = blockIdx.x; }"
    out = race_device.zeros(64)
    found = only(race_device.cuda(source, 3, 64, out))
    assert (found.kind, found.count) == ("write-after-write", 128)
    assert found.other
    assert (found.access.block, found.other.block) == ((1, 0, 0), (0, 0, 0))
    assert found.address == out
    assert found.place == "0 bytes into the allocation of 256 bytes"
    assert "a thread of another block" in found.message


def test_equal_values_do_not_count_as_a_race(race_device: CheckedDevice) -> None:
    source = "__global__ void f(int *p) { p[threadIdx.x & 7] = 5; }"
    assert race_device.cuda(source, 3, 64, race_device.zeros(64)) == []


def test_lanes_of_one_instruction_that_disagree(race_device: CheckedDevice) -> None:
    source = "__global__ void f(int *p) { p[0] = threadIdx.x & %d; }"
    out = race_device.zeros(1)
    assert race_device.cuda(source % 0, 1, 32, out) == []
    found = only(race_device.cuda(source % 3, 1, 32, out))
    assert found.kind == "write-after-write"
    assert "the values differ" in found.message


def test_a_block_that_reads_what_another_writes(race_device: CheckedDevice) -> None:
    source = """__global__ void f(int *p)
{
    if (blockIdx.x == %d)
        p[threadIdx.x] = 7;
    else
        p[threadIdx.x + 1024] = p[threadIdx.x];
}"""
    out = race_device.zeros(2048)
    assert kinds(race_device.cuda(source % 0, 2, 32, out)) == ["read-after-write"]
    assert kinds(race_device.cuda(source % 1, 2, 32, out)) == ["write-after-read"]
    # The end of a launch orders everything.
    assert race_device.cuda(source % 0, 1, 32, out) == []
    assert race_device.cuda(source % 5, 1, 32, out) == []


def test_atomics_do_not_race_with_atomics(race_device: CheckedDevice) -> None:
    source = """__global__ void f(int *p)
{
    __shared__ int sum;
    if (threadIdx.x == 0)
        sum = 0;
    %s
    atomicAdd(&sum, 1);
    __syncthreads();
    if (threadIdx.x == 0)
        atomicAdd(p, sum);
}"""
    out = race_device.zeros(1, np.int32)
    assert race_device.cuda(source % "__syncthreads();", 4, 64, out) == []
    assert race_device.download(out, 1, np.int32).tolist() == [256]
    found = only(race_device.cuda(source % "", 4, 64, out))
    assert found.kind == "write-after-write"
    assert found.access.instruction.startswith("atom")
    assert found.other
    assert found.other.instruction.startswith("st.shared")
    assert found.other.thread == (0, 0, 0)


def test_atomics_race_with_plain_reads(race_device: CheckedDevice) -> None:
    source = "__global__ void f(int *p) { if (p[0] < 100) atomicAdd(p, 1); }"
    found = race_device.cuda(source, 2, 32, race_device.zeros(1, np.int32))
    assert kinds(found) == ["read-after-write", "write-after-read"]


LAST_BLOCK = """__global__ void f(int *partial, unsigned *arrived, int *total)
{{
    __shared__ bool last;
    if (threadIdx.x == 0) {{
        partial[blockIdx.x] = blockIdx.x;
        {fence}
        last = {take} == gridDim.x - 1;
    }}
    __syncthreads();
    if (last && threadIdx.x < gridDim.x)
        atomicAdd(total, partial[threadIdx.x]);
}}"""


@pytest.mark.parametrize(
    ("fence", "take", "found"),
    [
        ("__threadfence();", "atomicAdd(arrived, 1)", []),
        ("", "atomicAdd(arrived, 1)", ["read-after-write"]),
        ("__threadfence_block();", "atomicAdd(arrived, 1)", ["read-after-write"]),
        ("__threadfence();", "(arrived[blockIdx.x + 1] = blockIdx.x)", ["read-after-write"]),
    ],
)
def test_the_last_block_may_read_what_the_others_released(
    race_device: CheckedDevice, fence: str, take: str, found: list[str]
) -> None:
    partial, arrived, total = (race_device.zeros(64, np.int32) for _ in range(3))
    source = LAST_BLOCK.format(fence=fence, take=take)
    assert kinds(race_device.cuda(source, 8, 32, partial, arrived, total)) == found
    if not found:
        assert race_device.download(total, 1, np.int32).tolist() == [28]


FLAG = """__global__ void f(volatile int *flag, int *data)
{
    if (blockIdx.x == 0) {
        data[threadIdx.x] = 5;
        %s
        __syncthreads();
        if (threadIdx.x == 0)
            *flag = 1;
    } else {
        if (threadIdx.x == 0)
            while (!*flag)
                ;
        __syncthreads();
        data[threadIdx.x + 64] = data[threadIdx.x];
    }
}"""


def test_a_volatile_flag_behind_a_fence_orders_blocks(race_device: CheckedDevice) -> None:
    flag, data = race_device.zeros(1), race_device.zeros(128)
    assert race_device.cuda(FLAG % "__threadfence();", 2, 64, flag, data) == []
    flag = race_device.zeros(1)
    assert kinds(race_device.cuda(FLAG % "", 2, 64, flag, data)) == ["read-after-write"]


RELEASE = """
.visible .entry f(.param .u64 a) {
.reg .b64 %rd<4>; .reg .b32 %r<6>; .reg .pred %p<3>;
ld.param.u64 %rd1, [a];
mov.u32 %r1, %ctaid.x;
setp.ne.u32 %p1, %r1, 0;
@%p1 bra READ;
st.global.u32 [%rd1+8], 17;
STORE.u32 [%rd1], 1;
ret;
READ:
LOAD.u32 %r2, [%rd1];
setp.eq.u32 %p2, %r2, 0;
@%p2 bra READ;
ld.global.u32 %r3, [%rd1+8];
st.global.u32 [%rd1+16], %r3;
ret; }
"""


@pytest.mark.parametrize(
    ("store", "load", "found"),
    [
        ("st.release.gpu.global", "ld.acquire.gpu.global", []),
        ("st.relaxed.gpu.global", "ld.relaxed.gpu.global", ["read-after-write"]),
        ("st.global.cg", "ld.global.cg", ["read-after-write"]),
        ("st.global", "ld.global", ["read-after-write"] * 2),
    ],
)
def test_release_and_acquire(
    newer_race_device: CheckedDevice, store: str, load: str, found: list[str]
) -> None:
    text = RELEASE.replace("STORE", store).replace("LOAD", load).replace("sm_61", "sm_70")
    found_now = newer_race_device.ptx(text, 2, 1, newer_race_device.zeros(8, np.int32))
    assert kinds(found_now) == found


def test_a_counted_barrier_orders_those_who_pass_it(race_device: CheckedDevice) -> None:
    source = """__global__ void f(float *out)
{
    __shared__ float line[96];
    if (threadIdx.x < 64) {
        line[threadIdx.x] = threadIdx.x;
        %s
        out[threadIdx.x] = line[63 - threadIdx.x];
    }
}"""
    barrier = 'asm volatile("bar.sync 1, 64;" ::: "memory");'
    out = race_device.zeros(64)
    assert race_device.cuda(source % barrier, 1, 96, out) == []
    assert len(race_device.cuda(source % "", 1, 96, out)) == 2


MBARRIER = """
.visible .entry f(.param .u64 a) {{
.reg .b64 %rd<4>; .reg .b32 %r<8>; .reg .pred %p<4>;
.shared .align 8 .b64 bar; .shared .align 4 .b8 line[256];
ld.param.u64 %rd1, [a];
mov.u32 %r1, %tid.x;
setp.ne.u32 %p1, %r1, 0;
@%p1 bra READY;
mbarrier.init.shared.b64 [bar], 64;
READY:
{ready}
shl.b32 %r2, %r1, 2;
mov.u32 %r3, line;
add.u32 %r4, %r3, %r2;
st.shared.u32 [%r4], %r1;
{arrive}
AGAIN:
mbarrier.test_wait.shared.b64 %p2, [bar], %rd2;
@!%p2 bra AGAIN;
{late}
xor.b32 %r5, %r2, 128;
add.u32 %r5, %r3, %r5;
ld.shared.u32 %r6, [%r5];
mul.wide.u32 %rd3, %r1, 4;
add.u64 %rd3, %rd3, %rd1;
st.global.u32 [%rd3], %r6;
ret; }}
"""
ARRIVE = "mbarrier.arrive.shared.b64 %rd2, [bar];"


@pytest.mark.parametrize(
    ("ready", "late", "found"),
    [
        ("bar.sync 0;", "", []),
        # What is written behind the barrier object is not ordered by it.
        ("bar.sync 0;", "st.shared.u32 [%r4], 7;", ["read-after-write", "write-after-read"]),
        ("", "", ["write-after-write"]),
    ],
)
def test_a_barrier_object_orders_those_who_wait_for_it(
    newer_race_device: CheckedDevice, ready: str, late: str, found: list[str]
) -> None:
    text = MBARRIER.format(ready=ready, arrive=ARRIVE, late=late)
    image = HEADER.replace("sm_61", "sm_80") + text
    findings = newer_race_device.run(image.encode(), "f", 1, 64, newer_race_device.zeros(64))
    assert sorted(set(kinds(findings))) == found


def test_halves_and_bytes_of_a_word_are_told_apart(race_device: CheckedDevice) -> None:
    source = """__global__ void f({0} *p)
{{
    __shared__ {0} line[128];
    line[threadIdx.x] = threadIdx.x;
    p[threadIdx.x] = line[threadIdx.x {1}];
}}"""
    out = race_device.zeros(256)
    for type_ in ("short", "char", "double"):
        assert race_device.cuda(source.format(type_, ""), 1, 64, out) == []
        shifted = race_device.cuda(source.format(type_, "^ 33"), 1, 64, out)
        assert "read-after-write" in kinds(shifted)


def test_vectors(race_device: CheckedDevice) -> None:
    source = """__global__ void f(float *p, int by)
{
    ((float4 *)p)[threadIdx.x] = make_float4(threadIdx.x, 2, 3, 4);
    p[1024 + threadIdx.x] = p[4 * threadIdx.x + by];
}"""
    out = race_device.zeros(2048)
    assert race_device.cuda(source, 1, 32, out, 3) == []
    assert kinds(race_device.cuda(source, 1, 32, out, 4)) == ["read-after-write"]


def test_local_memory_is_private(race_device: CheckedDevice) -> None:
    source = """__global__ void f(float *out, int used, int read)
{
    float values[64];
    for (int i = 0; i < used; i++)
        values[i * 7 % 64] = i;
    out[blockIdx.x * 64 + threadIdx.x] = values[read];
}"""
    assert race_device.cuda(source, 4, 64, race_device.zeros(256), 64, 63) == []


def test_a_race_is_counted_not_repeated(race_device: CheckedDevice) -> None:
    source = """__global__ void f(float *p)
{
    for (int i = 0; i < 10; i++)
        p[i] = p[i] + blockIdx.x;
}"""
    found = race_device.cuda(source, 5, 1, race_device.zeros(16))
    for kind in ("read-after-write", "write-after-read", "write-after-write"):
        assert sum(finding.count for finding in found if finding.kind == kind) == 40


@pytest.mark.parametrize(
    ("name", "grid", "block", "floats", "shared"),
    [("tree_reduction", 20, 256, 2, 1024), ("matrix_multiply", 4, 256, 3, 0)],
)
def test_correct_kernels_are_clean(
    strict_device: CheckedDevice,
    workload: Callable[[str], bytes],
    name: str,
    grid: int,
    block: int,
    floats: int,
    shared: int,
) -> None:
    buffers = [strict_device.zeros(64 * 64 * 8) for _ in range(floats)]
    if name == "matrix_multiply":
        found = strict_device.run(
            workload(name), name, (2, 2, 1), (16, 16, 1), *buffers, 32, 32, 32, shared=shared
        )
    else:
        found = strict_device.run(workload(name), name, grid, block, *buffers, 5000, shared=shared)
    assert found == []
    assert strict_device.fault is None
