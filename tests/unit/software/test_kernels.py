"""Whole CUDA C++ kernels, compiled by NVRTC, against numpy."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest

from vgpu_host.executors.software.function import Function

from .conftest import Array, Device

Kernel = Callable[[str], Function]


def blocks_for(count: int, threads: int) -> tuple[int, int, int]:
    return -(-count // threads), 1, 1


@pytest.mark.parametrize(
    ("count", "threads"), [(1, 32), (1000, 256), (100_003, 96), (65_536, 1024)]
)
def test_vector_add_with_ragged_end(
    device: Device, kernel: Kernel, count: int, threads: int
) -> None:
    rng = np.random.default_rng(count)
    a, b = rng.standard_normal((2, count)).astype(np.float32)
    out = device.zeros(count + 7, np.float32)
    parameters = struct.pack("<QQQI", device.upload(a), device.upload(b), out, count)
    kernel("vector_add").launch(blocks_for(count, threads), (threads, 1, 1), 0, parameters)
    got = device.download(out, count + 7, np.float32)
    assert np.array_equal(got[:count], a + b)
    assert not got[count:].any()


@pytest.mark.parametrize(("rows", "columns", "inner"), [(16, 16, 16), (70, 53, 45), (1, 33, 100)])
def test_matrix_multiply(
    device: Device, kernel: Kernel, rows: int, columns: int, inner: int
) -> None:
    rng = np.random.default_rng(rows)
    a = rng.standard_normal((rows, inner)).astype(np.float32)
    b = rng.standard_normal((inner, columns)).astype(np.float32)
    out = device.zeros(rows * columns, np.float32)
    parameters = struct.pack(
        "<QQQiii", device.upload(a), device.upload(b), out, rows, columns, inner
    )
    grid = (-(-columns // 16), -(-rows // 16), 1)
    kernel("matrix_multiply").launch(grid, (16, 16, 1), 0, parameters)
    got = device.download(out, (rows, columns), np.float32)
    assert np.allclose(got, a.astype(np.float64) @ b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("threads", [32, 128, 1024])
def test_tree_reduction(device: Device, kernel: Kernel, threads: int) -> None:
    values = np.random.default_rng(threads).integers(-8, 9, 50_001).astype(np.float32)
    grid = blocks_for(len(values), threads)
    out = device.zeros(grid[0], np.float32)
    parameters = struct.pack("<QQI", device.upload(values), out, len(values))
    kernel("tree_reduction").launch(grid, (threads, 1, 1), 4 * threads, parameters)
    padded = np.zeros(grid[0] * threads, np.float32)
    padded[: len(values)] = values
    got = device.download(out, grid[0], np.float32)
    assert np.array_equal(got, padded.reshape(-1, threads).sum(1))


@pytest.mark.parametrize("threads", [32, 100, 1024])
def test_shuffle_reduction(device: Device, kernel: Kernel, threads: int) -> None:
    values = np.random.default_rng(threads).integers(-8, 9, 40_003).astype(np.float32)
    # The last lanes of a partial warp hold nothing, so only whole warps are asked to shuffle.
    threads = threads // 32 * 32
    out = device.zeros(1, np.float32)
    parameters = struct.pack("<QQI", device.upload(values), out, len(values))
    kernel("shuffle_reduction").launch((9, 1, 1), (threads, 1, 1), 0, parameters)
    assert device.download(out, 1, np.float32)[0] == values.sum()


@pytest.mark.parametrize("threads", [64, 200])
def test_histogram(device: Device, kernel: Kernel, threads: int) -> None:
    values = np.random.default_rng(threads).binomial(255, 0.3, 30_011).astype(np.uint8)
    out = device.zeros(256, np.uint32)
    parameters = struct.pack("<QQI", device.upload(values), out, len(values))
    kernel("histogram").launch((12, 1, 1), (threads, 1, 1), 0, parameters)
    assert np.array_equal(device.download(out, 256, np.uint32), np.bincount(values, minlength=256))


def escape_times(
    width: int, height: int, left: float, top: float, step: float, limit: int
) -> Array:
    f = np.float32
    real = f(left) + np.arange(width, dtype=f)[None, :] * f(step)
    imaginary = f(top) + np.arange(height, dtype=f)[:, None] * f(step)
    x = np.zeros((height, width), f)
    y = np.zeros((height, width), f)
    times = np.zeros((height, width), np.int32)
    alive = np.ones((height, width), bool)
    for _ in range(limit):
        xx, yy = x * x, y * y
        alive &= ~(xx + yy > f(4.0))
        y = np.where(alive, f(2.0) * x * y + imaginary, y)
        x = np.where(alive, xx - yy + real, x)
        times += alive
    return times


@pytest.mark.parametrize("block", [(16, 8, 1), (32, 4, 1), (7, 9, 1)])
def test_mandelbrot(device: Device, kernel: Kernel, block: tuple[int, int, int]) -> None:
    width, height, limit = 90, 61, 60
    out = device.zeros(width * height, np.int32)
    parameters = struct.pack("<Qiifffi", out, width, height, -2.2, -1.3, 0.04, limit)
    grid = (-(-width // block[0]), -(-height // block[1]), 1)
    kernel("mandelbrot").launch(grid, block, 0, parameters)
    got = device.download(out, (height, width), np.int32)
    assert np.array_equal(got, escape_times(width, height, -2.2, -1.3, 0.04, limit))


def test_nbody_step(device: Device, kernel: Kernel) -> None:
    count, step, softening = 150, np.float32(0.01), np.float32(0.1)
    rng = np.random.default_rng(5)
    bodies = rng.standard_normal((count, 4)).astype(np.float32)
    bodies[:, 3] = np.abs(bodies[:, 3])
    velocities = rng.standard_normal((count, 4)).astype(np.float32)
    pointers = device.upload(bodies), device.upload(velocities), device.zeros(count * 4, np.float32)
    parameters = struct.pack("<QQQiff", *pointers, count, step, softening)
    kernel("nbody").launch(blocks_for(count, 64), (64, 1, 1), 64 * 16, parameters)
    wide = bodies.astype(np.float64)
    delta = wide[None, :, :3] - wide[:, None, :3]
    inverse = ((delta**2).sum(2) + softening**2) ** -1.5
    pull = (delta * (inverse * wide[None, :, 3])[:, :, None]).sum(1)
    moved = velocities.astype(np.float64)
    moved[:, :3] += pull * step
    got = device.download(pointers[1], (count, 4), np.float32)
    assert np.allclose(got, moved, rtol=1e-4, atol=1e-4)
    wide[:, :3] += moved[:, :3] * step
    got = device.download(pointers[2], (count, 4), np.float32)
    assert np.allclose(got, wide, rtol=1e-5, atol=1e-5)


def test_grids_longer_in_y_than_those_of_a_gpu(device: Device) -> None:
    function = device.cuda(
        'extern "C" __global__ void f(int* last) { atomicMax(last, blockIdx.y + blockIdx.z); }'
    )
    last = device.zeros(1, np.int32)
    function.launch((1, 70000, 1), (1, 1, 1), 0, struct.pack("<Q", last))
    assert device.download(last, 1, np.int32).tolist() == [69999]
    function.launch((1, 1, 70001), (1, 1, 1), 0, struct.pack("<Q", last))
    assert device.download(last, 1, np.int32).tolist() == [70000]
    with pytest.raises(ValueError, match="blocks"):
        function.launch((2**31 - 1,) * 3, (1, 1, 1), 0, struct.pack("<Q", last))


def test_three_dimensional_blocks_and_grids(device: Device) -> None:
    function = device.cuda(
        """extern "C" __global__ void f(unsigned *out) {
            unsigned t = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
            unsigned b = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
            unsigned i = b * blockDim.x * blockDim.y * blockDim.z + t;
            out[i] = threadIdx.x | threadIdx.y << 4 | threadIdx.z << 8 | blockIdx.x << 12
                   | blockIdx.y << 16 | blockIdx.z << 20;
        }"""
    )
    block, grid = (3, 5, 7), (2, 3, 4)
    size = int(np.prod(block) * np.prod(grid))
    out = device.zeros(size, np.uint32)
    function.launch(grid, block, 0, struct.pack("<Q", out))
    expected = [
        x | y << 4 | z << 8 | bx << 12 | by << 16 | bz << 20
        for bz in range(4)
        for by in range(3)
        for bx in range(2)
        for z in range(7)
        for y in range(5)
        for x in range(3)
    ]
    assert device.download(out, size, np.uint32).tolist() == expected


def test_device_functions_and_local_arrays(device: Device) -> None:
    function = device.cuda(
        """__device__ __noinline__ int pick(const int *table, int i) {
            if (i < 0) return -1;
            int sum = 0;
            for (int k = 0; k <= i % 8; k++) sum += table[k];
            return sum;
        }
        extern "C" __global__ void f(int *out, int n) {
            int table[8];
            for (int k = 0; k < 8; k++) table[k] = k * (int)threadIdx.x + blockIdx.x;
            int i = blockIdx.x * blockDim.x + threadIdx.x;
            if (i < n) out[i] = pick(table, (int)threadIdx.x - 3) + pick(table, 2);
        }"""
    )
    count = 90
    out = device.zeros(count, np.int32)
    function.launch((3, 1, 1), (40, 1, 1), 0, struct.pack("<Qi", out, count))

    def pick(table: list[int], i: int) -> int:
        return -1 if i < 0 else sum(table[: i % 8 + 1])

    expected = []
    for i in range(count):
        block, thread = divmod(i, 40)
        table = [k * thread + block for k in range(8)]
        expected.append(pick(table, thread - 3) + pick(table, 2))
    assert device.download(out, count, np.int32).tolist() == expected


def test_module_variables_with_initialisers_and_addresses(device: Device) -> None:
    module = device.gpu.load_module(
        b""".version 7.0
.target sm_61
.address_size 64
.global .align 4 .u32 table[4] = {10, 20, 0x1E, 40};
.const .align 8 .f64 ratio = 0d3FE0000000000000;
.global .align 8 .u64 pointer = generic(table)+8;
.visible .global .align 4 .u32 counter;
.visible .entry f(.param .u64 p) {
  .reg .b64 %x<5>; .reg .b32 %r<5>; .reg .f64 %g<3>;
  ld.param.u64 %x1, [p];
  ld.global.u64 %x2, [pointer];
  ld.global.u32 %r1, [%x2];
  ld.global.u32 %r2, [table+12];
  ld.const.f64 %g1, [ratio];
  cvt.rzi.s32.f64 %r3, %g1;
  add.u32 %r1, %r1, %r2;
  add.u32 %r1, %r1, %r3;
  st.global.u32 [%x1], %r1;
  red.global.add.u32 [counter], 1;
  ret;
}"""
    )
    out = device.zeros(1, np.uint32)
    module.get_function("f").launch((1, 1, 1), (5, 1, 1), 0, struct.pack("<Q", out))
    assert device.download(out, 1, np.uint32)[0] == 70
    pointer, size = module.get_global("counter")
    assert size == 4
    assert device.download(pointer, 1, np.uint32)[0] == 5
    with pytest.raises(KeyError):
        device.gpu.free(pointer)
    before = device.gpu.free_memory
    module.unload()
    assert device.gpu.free_memory > before


def test_last_block_done_pattern(device: Device) -> None:
    function = device.cuda(
        """extern "C" __global__ void f(int *parts, unsigned *done, int *total) {
            __shared__ bool last;
            if (threadIdx.x == 0) {
                parts[blockIdx.x] = blockIdx.x + 1;
                __threadfence();
                last = atomicInc(done, gridDim.x - 1) == gridDim.x - 1;
            }
            __syncthreads();
            if (last) atomicAdd(total, threadIdx.x < gridDim.x ? parts[threadIdx.x] : 0);
        }"""
    )
    parts, done, total = (
        device.zeros(100, np.int32),
        device.zeros(1, np.uint32),
        device.zeros(1, "i4"),
    )
    for round_ in (1, 2, 3):
        function.launch((100, 1, 1), (128, 1, 1), 0, struct.pack("<QQQ", parts, done, total))
        assert device.download(total, 1, np.int32)[0] == 5050 * round_
