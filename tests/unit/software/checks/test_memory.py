"""The memory checker: planted errors are found where they are, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest

from vgpu_host.findings import Finding

from .conftest import HEADER, CheckedDevice

ILLEGAL_ADDRESS, MISALIGNED = 700, 716

COPY = """__global__ void f(float *to, const float *from, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        to[i] = from[i];
}"""


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


def test_read_behind_an_allocation(memory_device: CheckedDevice) -> None:
    to, source = memory_device.zeros(1001), memory_device.zeros(1000)
    found = only(memory_device.cuda(COPY, 8, 128, to, source, 1001))
    assert (found.check, found.kind) == ("mem", "out-of-bounds")
    assert memory_device.fault == ILLEGAL_ADDRESS
    assert found.address == source + 4000
    assert found.place == f"0 bytes behind the allocation of 4000 bytes at {source:#x}"
    assert (found.access.block, found.access.thread) == ((7, 0, 0), (104, 0, 0))
    assert found.access.instruction.startswith("ld.global")
    assert found.access.source.endswith("f.cu:5")


def test_write_behind_an_allocation_of_whole_pages(memory_device: CheckedDevice) -> None:
    to, source = memory_device.zeros(1024), memory_device.zeros(1100)
    found = only(memory_device.cuda(COPY, 9, 128, to, source, 1100))
    assert found.kind == "out-of-bounds"
    assert found.address == to + 4096
    assert found.access.instruction.startswith("st.global")


def test_vector_that_begins_inside(memory_device: CheckedDevice) -> None:
    source = "__global__ void f(float4 *p) { p[threadIdx.x] = make_float4(1, 2, 3, 4); }"
    pointer = memory_device.zeros(6)
    found = only(memory_device.cuda(source, 1, 2, pointer))
    assert found.kind == "out-of-bounds"
    assert found.access.thread == (1, 0, 0)
    assert found.place.startswith("the last 8 of 16 bytes lie behind the allocation of 24 bytes")


def test_freed_memory_is_known(memory_device: CheckedDevice) -> None:
    to, source = memory_device.zeros(64), memory_device.zeros(64)
    memory_device.gpu.free(source)
    other = memory_device.zeros(64)
    found = only(memory_device.cuda(COPY, 1, 64, to, source, 64))
    assert found.kind == "use-after-free"
    assert "which was freed" in found.place
    assert memory_device.fault == ILLEGAL_ADDRESS
    assert other != source


def test_memory_that_is_full_gives_freed_memory_out_again(memory_device: CheckedDevice) -> None:
    for _ in range(8):
        pointer = memory_device.gpu.alloc(100 << 20)
        memory_device.gpu.free(pointer)


def test_uninitialised_read_goes_on(memory_device: CheckedDevice) -> None:
    to, source = memory_device.gpu.alloc(4000), memory_device.gpu.alloc(4000)
    memory_device.gpu.written(source, 2000)
    found = only(memory_device.cuda(COPY, 8, 128, to, source, 1000))
    assert (found.kind, found.count) == ("uninitialised-read", 500)
    assert memory_device.fault is None
    assert found.address is not None and found.address >= source + 2000
    # What was copied counts as written, whatever it was.
    assert memory_device.cuda(COPY, 8, 128, source, to, 1000) == []


def test_copies_between_allocations_carry_what_is_initialised(
    memory_device: CheckedDevice,
) -> None:
    first, second = memory_device.gpu.alloc(256), memory_device.zeros(64)
    memory_device.gpu.copied(second, first, 128)
    found = only(memory_device.cuda(COPY, 1, 64, memory_device.zeros(64), second, 64))
    assert (found.kind, found.count) == ("uninitialised-read", 32)


@pytest.mark.parametrize(
    ("type_", "step", "bytes_"), [("float", 1, 4), ("float", 2, 4), ("float4", 1, 16)]
)
def test_lanes_in_a_row_are_told_apart(
    memory_device: CheckedDevice, type_: str, step: int, bytes_: int
) -> None:
    source = f"""__global__ void f({type_} *to, const {type_} *from, int n)
{{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        to[{step} * i] = from[{step} * i];
}}"""
    size = 100 * step * bytes_
    origin, to = memory_device.gpu.alloc(size), memory_device.zeros(size // 4)
    memory_device.gpu.written(origin, 97 * step * bytes_)
    assert memory_device.cuda(source, 1, 128, to, origin, 97) == []
    found = memory_device.cuda(source, 1, 128, to, origin, 100)
    assert {(each.kind, each.access.thread, each.count) for each in found} == {
        ("uninitialised-read", (97, 0, 0), 3 * bytes_ // 4)
    }
    fresh = memory_device.gpu.alloc(size)
    assert memory_device.cuda(source, 1, 128, fresh, to, 97) == []
    memory_device.cuda(source, 1, 128, to, fresh, 98)
    assert memory_device.fault is None
    memory_device.cuda(source, 1, 128, to, fresh, 105)
    assert memory_device.fault == ILLEGAL_ADDRESS


def test_warps_for_which_assumptions_fail_are_checked_too(memory_device: CheckedDevice) -> None:
    text = """
.visible .entry f(.param .u64 a, .param .u32 b) {
.reg .b64 %rd<4>; .reg .b32 %r<8>; .reg .pred %q;
ld.param.u64 %rd1, [a]; ld.param.u32 %r1, [b];
mov.u32 %r2, %tid.x;
setp.ge.u32 %q, %r2, 16;
add.u32 %r3, %r1, %r2;
mul.wide.u32 %rd2, %r3, 4;
add.u64 %rd3, %rd1, %rd2;
@%q ld.global.u32 %r4, [%rd3];
@%q st.global.u32 [%rd3], %r4;
ret; }
"""
    for base, first in ((-16, 16), (0, 16)):
        pointer = memory_device.gpu.alloc(4 * 32)
        function = (HEADER + text).encode()
        found = only(memory_device.run(function, "f", 1, 32, pointer, base))
        assert (found.kind, found.count, found.access.ptx_line) == ("uninitialised-read", 16, 13)
        assert found.access.thread == (first, 0, 0)
        assert found.address == pointer + (0 if base else 64)


def test_misaligned_access(memory_device: CheckedDevice) -> None:
    source = "__global__ void f(char *p) { *(int *)(p + threadIdx.x) = 1; }"
    pointer = memory_device.zeros(64)
    found = only(memory_device.cuda(source, 1, 32, pointer))
    assert (found.kind, found.address) == ("misaligned", pointer + 1)
    assert memory_device.fault == MISALIGNED


@pytest.mark.parametrize(
    ("name", "index", "kind", "place"),
    [
        ("first", 64, "out-of-bounds", "0 bytes behind shared variable"),
        ("second", 65, "out-of-bounds", "4 bytes behind shared variable"),
        ("first", 60, "uninitialised-read", "240 bytes into shared variable"),
    ],
)
def test_shared_variables_have_bounds_of_their_own(
    memory_device: CheckedDevice, name: str, index: int, kind: str, place: str
) -> None:
    source = f"""__global__ void f(float *out, int at)
{{
    __shared__ float first[64], second[64];
    if (threadIdx.x < 60)
        first[threadIdx.x] = second[threadIdx.x] = 1;
    __syncthreads();
    out[threadIdx.x] = first[threadIdx.x & 31] + second[threadIdx.x & 31] + {name}[at];
}}"""
    found = only(memory_device.cuda(source, 1, 64, memory_device.zeros(64), index))
    assert found.kind == kind
    assert found.place.startswith(place)
    assert name in found.place


def test_dynamic_shared_memory_ends_where_the_launch_says(memory_device: CheckedDevice) -> None:
    source = """__global__ void f(float *out)
{
    extern __shared__ float tile[];
    tile[threadIdx.x] = 1;
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x];
}"""
    out = memory_device.zeros(64)
    assert memory_device.cuda(source, 2, 64, out, shared=256) == []
    found = only(memory_device.cuda(source, 2, 64, out, shared=128))
    assert (found.kind, found.access.thread) == ("out-of-bounds", (32, 0, 0))


def test_shared_memory_is_fresh_in_each_block(memory_device: CheckedDevice) -> None:
    source = """__global__ void f(float *out)
{
    __shared__ float values[32];
    if (blockIdx.x == 0)
        values[threadIdx.x] = 1;
    __syncthreads();
    out[threadIdx.x] = values[threadIdx.x ^ 1];
}"""
    found = only(memory_device.cuda(source, 2, 32, memory_device.zeros(32)))
    assert (found.kind, found.access.block) == ("uninitialised-read", (1, 0, 0))


def test_local_arrays(memory_device: CheckedDevice) -> None:
    source = """__global__ void f(float *out, int used, int read)
{
    float values[64];
    for (int i = 0; i < used; i++)
        values[i * 7 % 64] = i;
    out[threadIdx.x] = values[read];
}"""
    out = memory_device.zeros(32)
    assert memory_device.cuda(source, 1, 32, out, 64, 63) == []
    found = only(memory_device.cuda(source, 1, 32, out, 3, 1))
    assert (found.kind, found.count) == ("uninitialised-read", 32)


def test_atomics_are_checked(memory_device: CheckedDevice) -> None:
    source = "__global__ void f(int *p) { atomicAdd(p + 10 * threadIdx.x, 1); }"
    pointer = memory_device.gpu.alloc(200)
    findings = memory_device.cuda(source, 1, 8, pointer)
    assert [found.kind for found in findings] == ["out-of-bounds"]
    assert findings[0].access.thread == (5, 0, 0)
    memory_device.gpu.written(pointer, 200)
    assert memory_device.cuda(source, 1, 5, pointer) == []


def test_module_variables_are_initialised_and_have_bounds(memory_device: CheckedDevice) -> None:
    source = """__device__ int table[5] = {1, 2};
__constant__ int more[3];
extern "C" __global__ void f(int *out, int at) { out[0] = table[at] + more[2]; }"""
    out = memory_device.zeros(1, np.int32)
    assert memory_device.cuda(f"__device__ int unused;\n{source}", 1, 1, out, 4) == []
    found = only(memory_device.cuda(f"__device__ int unused;\n{source}", 1, 1, out, 5))
    assert found.kind == "out-of-bounds"
    assert found.access.source.endswith("f.cu:4")


def test_a_finding_is_counted_not_repeated(memory_device: CheckedDevice) -> None:
    source = """__global__ void f(float *to, float *from)
{
    for (int i = 0; i < 10; i++)
        atomicAdd(to, from[i]);
}"""
    to, origin = memory_device.zeros(1), memory_device.gpu.alloc(40)
    findings = memory_device.cuda(source, 3, 32, to, origin)
    assert sum(found.count for found in findings) == 3 * 32 * 10


def test_shared_memory_behind_a_barrier_of_part_of_a_block(memory_device: CheckedDevice) -> None:
    """Every block begins with shared memory in which nothing has been written."""
    source = """__global__ void f(int *to) {
        __shared__ int cell[64];
        int t = threadIdx.x;
        if (t < 64) {
            if (t < 32 + 31 * (blockIdx.x == 0)) cell[t] = t;
            asm volatile("bar.sync 1, 64;" ::: "memory");
            to[t] = cell[t ^ 1];
        }
    }"""
    found = only(memory_device.cuda(source, 2, 96, memory_device.zeros(64)))
    assert found.kind == "uninitialised-read"
    assert found.access.instruction.startswith("ld.shared")
    assert (found.access.block, found.access.thread) == ((0, 0, 0), (62, 0, 0))
    assert found.count == 33
