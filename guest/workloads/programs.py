"""Seven CUDA programs, each checked against numpy: the proof that the device computes.

Run it in the guest, by `vgpu-stub exec`, or natively; exits with 1 when a result is wrong. The
kernels are in `kernels/`, their PTX (made by `make workloads`) in `build/`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from ctypes import c_float, c_int, c_uint
from pathlib import Path

import numpy as np
import runner
from cuda_driver import Driver, Kernel
from numpy.typing import NDArray

PTX = Path(__file__).resolve().parent / "build"
Program = Callable[[Driver, Kernel], bool]
PROGRAMS: dict[str, Program] = {}


def program(run: Program) -> Program:
    """Register a program under its name, which is also that of its kernel."""
    PROGRAMS[run.__name__] = run
    return run


def blocks_for(count: int, threads: int) -> tuple[int, int, int]:
    return -(-count // threads), 1, 1


@program
def vector_add(driver: Driver, kernel: Kernel) -> bool:
    count = 100_003  # ragged: the last block is partly idle
    a, b = np.random.default_rng(1).standard_normal((2, count)).astype(np.float32)
    total = driver.zeros(4 * (count + 7))
    kernel(
        blocks_for(count, 256),
        (256, 1, 1),
        driver.upload(a),
        driver.upload(b),
        total,
        c_uint(count),
    )
    got = total.download(count + 7, np.float32)
    return bool(np.array_equal(got[:count], a + b) and not got[count:].any())


@program
def matrix_multiply(driver: Driver, kernel: Kernel) -> bool:
    rows, columns, inner = 150, 173, 91
    rng = np.random.default_rng(2)
    a = rng.standard_normal((rows, inner)).astype(np.float32)
    b = rng.standard_normal((inner, columns)).astype(np.float32)
    c = driver.zeros(4 * rows * columns)
    grid = (-(-columns // 16), -(-rows // 16), 1)
    sizes = c_int(rows), c_int(columns), c_int(inner)
    kernel(grid, (16, 16, 1), driver.upload(a), driver.upload(b), c, *sizes)
    got = c.download((rows, columns), np.float32)
    return bool(np.allclose(got, a.astype(np.float64) @ b, rtol=1e-5, atol=1e-5))


@program
def tree_reduction(driver: Driver, kernel: Kernel) -> bool:
    threads = 256
    values = np.random.default_rng(3).integers(-8, 9, 50_001).astype(np.float32)
    grid = blocks_for(len(values), threads)
    sums = driver.zeros(4 * grid[0])
    arguments = driver.upload(values), sums, c_uint(len(values))
    kernel(grid, (threads, 1, 1), *arguments, shared_bytes=4 * threads)
    padded = np.zeros(grid[0] * threads, np.float32)
    padded[: len(values)] = values
    expected = padded.reshape(-1, threads).sum(1)
    return bool(np.array_equal(sums.download(grid[0], np.float32), expected))


@program
def shuffle_reduction(driver: Driver, kernel: Kernel) -> bool:
    values = np.random.default_rng(4).integers(-8, 9, 40_003).astype(np.float32)
    total = driver.zeros(4)
    kernel((9, 1, 1), (256, 1, 1), driver.upload(values), total, c_uint(len(values)))
    return bool(total.download(1, np.float32)[0] == values.sum())


@program
def histogram(driver: Driver, kernel: Kernel) -> bool:
    values = np.random.default_rng(5).binomial(255, 0.3, 300_011).astype(np.uint8)
    counts = driver.zeros(4 * 256)
    kernel((12, 1, 1), (200, 1, 1), driver.upload(values), counts, c_uint(len(values)))
    expected = np.bincount(values, minlength=256)
    return bool(np.array_equal(counts.download(256, np.uint32), expected))


def escape_times(
    width: int, height: int, left: float, top: float, step: float, limit: int
) -> NDArray[np.int32]:
    """Mandelbrot escape times in single precision, each operation as the kernel has it."""
    f = np.float32
    real = f(left) + np.arange(width, dtype=f)[None, :] * f(step)
    imaginary = f(top) + np.arange(height, dtype=f)[:, None] * f(step)
    x, y = np.zeros((2, height, width), f)
    times = np.zeros((height, width), np.int32)
    alive = np.ones((height, width), bool)
    for _ in range(limit):
        xx, yy = x * x, y * y
        alive &= ~(xx + yy > f(4.0))
        y = np.where(alive, f(2.0) * x * y + imaginary, y)
        x = np.where(alive, xx - yy + real, x)
        times += alive
    return times


@program
def mandelbrot(driver: Driver, kernel: Kernel) -> bool:
    width, height, left, top, step, limit = 160, 121, -2.2, -1.3, 0.02, 80
    escape = driver.zeros(4 * width * height)
    view = c_float(left), c_float(top), c_float(step)
    grid = (-(-width // 16), -(-height // 8), 1)
    kernel(grid, (16, 8, 1), escape, c_int(width), c_int(height), *view, c_int(limit))
    got = escape.download((height, width), np.int32)
    return bool(np.array_equal(got, escape_times(width, height, left, top, step, limit)))


@program
def nbody(driver: Driver, kernel: Kernel) -> bool:
    count, step, softening = 500, np.float32(0.01), np.float32(0.1)
    rng = np.random.default_rng(6)
    bodies = rng.standard_normal((count, 4)).astype(np.float32)
    bodies[:, 3] = np.abs(bodies[:, 3])
    velocities = rng.standard_normal((count, 4)).astype(np.float32)
    moving, moved = driver.upload(velocities), driver.zeros(16 * count)
    arguments = (
        driver.upload(bodies),
        moving,
        moved,
        c_int(count),
        c_float(step),
        c_float(softening),
    )
    kernel(blocks_for(count, 64), (64, 1, 1), *arguments, shared_bytes=64 * 16)
    wide = bodies.astype(np.float64)
    delta = wide[None, :, :3] - wide[:, None, :3]
    inverse = ((delta**2).sum(2) + softening**2) ** -1.5
    speeds = velocities.astype(np.float64)
    speeds[:, :3] += (delta * (inverse * wide[None, :, 3])[:, :, None]).sum(1) * step
    places = wide.copy()
    places[:, :3] += speeds[:, :3] * step
    return bool(
        np.allclose(moving.download((count, 4), np.float32), speeds, rtol=1e-4, atol=1e-4)
        and np.allclose(moved.download((count, 4), np.float32), places, rtol=1e-5, atol=1e-5)
    )


def main() -> int:
    """Run the programs that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    options = runner.parse(parser, PROGRAMS)

    def run(driver: Driver, name: str) -> runner.Outcome:
        kernel = driver.load(PTX / f"{name}.ptx").kernel(name)
        return runner.Outcome(PROGRAMS[name](driver, kernel))

    return runner.run_all(options, run)


if __name__ == "__main__":
    sys.exit(main())
