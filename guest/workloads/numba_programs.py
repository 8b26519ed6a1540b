"""Programs of Numba-CUDA, each against numpy.

Numba's compiler, its driver layer and its launches run unchanged, over whatever libcuda.so.1 they
find. Kernels are compiled to PTX by NVVM and linked by the driver; needs the packages numba-cuda,
nvidia-nvvm, nvidia-cuda-nvrtc and numpy, and not nvidia-nvjitlink, which makes machine code.
"""

from __future__ import annotations

import argparse
import math
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import runner
from cuda_driver import Driver
from numba import cuda, float32, float64, int32, vectorize
from numba.cuda.core.errors import NumbaPerformanceWarning
from numba.cuda.random import create_xoroshiro128p_states, xoroshiro128p_uniform_float32
from numpy.typing import NDArray
from runner import Outcome, compare, worst

TILE = 16
BINS = 96


@cuda.jit
def add_kernel(left, right, total):
    at = cuda.grid(1)
    if at < total.size:
        total[at] = left[at] + right[at]


def vector_add() -> Outcome:
    left, right = np.random.default_rng(1).standard_normal((2, 100_003)).astype(np.float32)
    total = cuda.device_array_like(left)
    add_kernel[391, 256](cuda.to_device(left), cuda.to_device(right), total)
    return compare(total.copy_to_host(), left + right)


@cuda.jit
def matmul_kernel(a, b, c):
    a_tile = cuda.shared.array((TILE, TILE), float32)
    b_tile = cuda.shared.array((TILE, TILE), float32)
    column, row = cuda.grid(2)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    total = float32(0)
    for start in range(0, a.shape[1], TILE):
        inside = row < a.shape[0] and start + x < a.shape[1]
        a_tile[y, x] = a[row, start + x] if inside else 0
        inside = start + y < b.shape[0] and column < b.shape[1]
        b_tile[y, x] = b[start + y, column] if inside else 0
        cuda.syncthreads()
        for k in range(TILE):
            total += a_tile[y, k] * b_tile[k, x]
        cuda.syncthreads()
    if row < c.shape[0] and column < c.shape[1]:
        c[row, column] = total


def matmul() -> Outcome:
    """With ragged sizes, so that tiles reach over the edges."""
    rng = np.random.default_rng(2)
    a = rng.standard_normal((75, 130)).astype(np.float32)
    b = rng.standard_normal((130, 93)).astype(np.float32)
    c = cuda.device_array((75, 93), np.float32)
    grid = -(-c.shape[1] // TILE), -(-c.shape[0] // TILE)
    matmul_kernel[grid, (TILE, TILE)](cuda.to_device(a), cuda.to_device(b), c)
    return compare(c.copy_to_host(), a.astype(np.float64) @ b.astype(np.float64), 1e-6)


@cuda.jit
def sum_kernel(values, total):
    partial = cuda.shared.array(32, float64)
    at = cuda.grid(1)
    mine = float64(0)
    for index in range(at, values.size, cuda.gridsize(1)):
        mine += values[index]
    offset = 16
    while offset:
        mine += cuda.shfl_down_sync(0xFFFFFFFF, mine, offset)
        offset //= 2
    if cuda.laneid == 0:
        partial[cuda.threadIdx.x // 32] = mine
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        for warp in range(1, cuda.blockDim.x // 32):
            mine += partial[warp]
        cuda.atomic.add(total, 0, mine)


@cuda.reduce
def largest(left, right):
    return max(left, right)


def reduction() -> Outcome:
    """A sum by shuffles and an atomic addition, and Numba's own reduction."""
    values = np.random.default_rng(3).uniform(0, 1, 70_001)
    on_device = cuda.to_device(values)
    total = cuda.to_device(np.zeros(1))
    sum_kernel[7, 256](on_device, total)
    return worst(
        compare(total.copy_to_host(), np.array([math.fsum(values)]), 1e-12),
        compare(np.array(largest(on_device)), values.max()),
    )


@cuda.jit
def histogram_kernel(values, low, high, bins, extremes):
    counts = cuda.shared.array(BINS, int32)
    for index in range(cuda.threadIdx.x, BINS, cuda.blockDim.x):
        counts[index] = 0
    cuda.syncthreads()
    for index in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        if low <= values[index] < high:
            place = int((values[index] - low) / (high - low) * BINS)
            cuda.atomic.add(counts, place, 1)
        cuda.atomic.min(extremes, 0, values[index])
        cuda.atomic.max(extremes, 1, values[index])
    cuda.syncthreads()
    for index in range(cuda.threadIdx.x, BINS, cuda.blockDim.x):
        cuda.atomic.add(bins, index, counts[index])


def histogram() -> Outcome:
    values = np.random.default_rng(4).normal(0, 2, 50_000)
    bins = cuda.to_device(np.zeros(BINS, np.int32))
    extremes = cuda.to_device(np.array([np.inf, -np.inf]))
    histogram_kernel[9, 128](cuda.to_device(values), -6.0, 6.0, bins, extremes)
    inside = values[(values >= -6.0) & (values < 6.0)]
    places = ((inside + 6.0) / 12.0 * BINS).astype(int)
    return worst(
        compare(bins.copy_to_host(), np.bincount(places, minlength=BINS)),
        compare(extremes.copy_to_host(), np.array([values.min(), values.max()])),
    )


@cuda.jit(device=True)
def escape_time(x, y, limit):
    real, imaginary = x, y
    for step in range(limit):
        if real * real + imaginary * imaginary > 4:
            return step
        real, imaginary = real * real - imaginary * imaginary + x, 2 * real * imaginary + y
    return limit


@cuda.jit(fastmath=False)
def mandelbrot_kernel(image, left, top, step, limit):
    for row in range(cuda.grid(2)[1], image.shape[0], cuda.gridsize(2)[1]):
        for column in range(cuda.grid(2)[0], image.shape[1], cuda.gridsize(2)[0]):
            image[row, column] = escape_time(left + column * step, top + row * step, limit)


def mandelbrot() -> Outcome:
    """All counts but a few: a multiplication and an addition may be one operation on a GPU."""
    height, width, limit, step = 120, 180, 60, 1 / 64
    image = cuda.device_array((height, width), np.uint8)
    mandelbrot_kernel[(4, 6), (32, 8)](image, -2.0, -0.95, step, limit)
    x = (-2.0 + np.arange(width) * step)[None, :].repeat(height, 0)
    y = (-0.95 + np.arange(height) * step)[:, None].repeat(width, 1)
    real, imaginary, counts = x.copy(), y.copy(), np.full(x.shape, limit)
    for count in range(limit):
        gone = (real * real + imaginary * imaginary > 4) & (counts == limit)
        counts[gone] = count
        inside = counts == limit
        real, imaginary = (
            np.where(inside, real * real - imaginary * imaginary + x, real),
            np.where(inside, 2 * real * imaginary + y, imaginary),
        )
    different = float((image.copy_to_host() != counts).mean())
    return Outcome(different < 1e-3, different)


@cuda.jit
def scale_kernel(values, factor):
    at = cuda.grid(1)
    if at < values.size:
        values[at] *= factor


def streams() -> Outcome:
    """Copies and kernels in two streams; one waits for an event of the other."""
    values = cuda.pinned_array(40_000, np.float32)
    values[:] = np.random.default_rng(5).standard_normal(values.size)
    first, second = cuda.stream(), cuda.stream()
    before, after = cuda.event(), cuda.event()
    on_device = cuda.to_device(values, stream=first)
    before.record(first)
    scale_kernel[157, 256, first](on_device, np.float32(3))
    after.record(first)
    after.wait(second)
    scale_kernel[157, 256, second](on_device, np.float32(0.5))
    result = on_device.copy_to_host(stream=second)
    second.synchronize()
    right = after.query() and 0 <= before.elapsed_time(after) < 60_000
    outcome = compare(result, values * np.float32(3) * np.float32(0.5))
    return worst(outcome, Outcome(right))


@vectorize(["float64(float64, float64)"], target="cuda")
def hypotenuse(a, b):
    return math.sqrt(a * a + b * b)


def universal_function() -> Outcome:
    a, b = np.random.default_rng(6).standard_normal((2, 5_000))
    return compare(hypotenuse(a, b), np.hypot(a, b), 1e-15)


@cuda.jit
def functions_kernel(x, result):
    at = cuda.grid(1)
    if at < x.size:
        result[0, at] = math.sin(x[at]) + math.cos(x[at]) * math.tan(x[at])
        result[1, at] = math.exp(x[at]) - math.log(1 + abs(x[at]))
        result[2, at] = math.erf(x[at]) + math.lgamma(2 + abs(x[at]))
        result[3, at] = math.atan2(x[at], 2) + math.pow(abs(x[at]), 1.5)
        result[4, at] = math.floor(x[at]) + math.fmod(x[at], 0.75) + math.tanh(x[at])


def functions() -> Outcome:
    """Mathematical functions of libdevice, in double precision."""
    x = np.random.default_rng(7).uniform(-6, 6, 3_000)
    result = cuda.device_array((5, x.size))
    functions_kernel[12, 256](cuda.to_device(x), result)
    each = np.vectorize
    expected = np.array(
        [
            np.sin(x) + np.cos(x) * np.tan(x),
            np.exp(x) - np.log1p(np.abs(x)),
            each(math.erf)(x) + each(math.lgamma)(2 + np.abs(x)),
            np.arctan2(x, 2) + np.abs(x) ** 1.5,
            np.floor(x) + np.fmod(x, 0.75) + np.tanh(x),
        ]
    )
    got = result.copy_to_host()
    return worst(*(compare(got[row], expected[row], 1e-14) for row in range(len(expected))))


@cuda.jit
def random_kernel(states, means):
    at = cuda.grid(1)
    if at < means.size:
        total = float32(0)
        for _ in range(1000):
            total += xoroshiro128p_uniform_float32(states, at)
        means[at] = total / float32(1000)


def random_numbers() -> Outcome:
    """Means of 1000 uniform numbers lie within six standard deviations, and are all different."""
    states = create_xoroshiro128p_states(512, seed=8)
    means = cuda.device_array(512, np.float32)
    random_kernel[4, 128](states, means)
    got: NDArray[Any] = means.copy_to_host()
    deviation = float(np.abs(got - 0.5).max())
    bound = 6 * math.sqrt(1 / 12 / 1000)
    return Outcome(deviation < bound and np.unique(got).size > 500, deviation)


LATTICE = np.array([[0.25, 0.5, 0.25], [0.5, -3.0, 0.5], [0.25, 0.5, 0.25]])


@cuda.jit
def convolve_kernel(image, result):
    weights = cuda.const.array_like(LATTICE)
    window = cuda.local.array(9, float64)
    row, column = cuda.grid(2)
    if 0 < row < image.shape[0] - 1 and 0 < column < image.shape[1] - 1:
        for index in range(9):
            window[index] = image[row + index // 3 - 1, column + index % 3 - 1]
        total = 0.0
        for index in range(9):
            total += weights[index // 3, index % 3] * window[index]
        result[row, column] = total


def convolution() -> Outcome:
    """Constant and local memory."""
    image = np.random.default_rng(9).standard_normal((61, 50))
    result = cuda.to_device(np.zeros_like(image))
    convolve_kernel[(8, 7), (8, 8)](cuda.to_device(image), result)
    expected = np.zeros_like(image)
    for row in range(3):
        for column in range(3):
            part = image[row : row + 59, column : column + 48]
            expected[1:-1, 1:-1] += LATTICE[row, column] * part
    return compare(result.copy_to_host(), expected, 1e-15)


PROGRAMS: dict[str, Callable[[], Outcome]] = {
    program.__name__: program
    for program in (
        *(vector_add, matmul, reduction, histogram, mandelbrot, streams, universal_function),
        *(functions, random_numbers, convolution),
    )
}


def main() -> int:
    """Run the programs that are named, or all."""
    warnings.simplefilter("ignore", NumbaPerformanceWarning)
    warnings.filterwarnings("ignore", "cuda.bindings.nvjitlink is not available")
    options = runner.parse(argparse.ArgumentParser(description=__doc__), PROGRAMS)

    def run(driver: Driver, name: str) -> Outcome:
        return PROGRAMS[name]()

    return runner.run_all(options, run)


if __name__ == "__main__":
    sys.exit(main())
