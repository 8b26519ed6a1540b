"""The kernels of Triton's tutorials, compiled and launched by Triton, each against numpy.

Triton's compiler and its own launcher run unchanged, over whatever libcuda.so.1 they find; only the
last stage, NVIDIA's assembler, is left out, so that the driver gets PTX. PyTorch is not needed:
arrays are device memory of `cuda_driver`. Needs the packages triton and numpy, and gcc, with which
Triton compiles its launcher.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import runner
import triton
import triton.language as tl
from cuda_driver import Driver
from numpy.typing import NDArray
from runner import Outcome, compare, worst
from triton import knobs

Array = NDArray[Any]


def stop_at_ptx(*stage: Any) -> tuple[str, str] | None:
    """Triton's hook on its stages: the binary is the PTX. Without arguments, a key for caches."""
    if not stage:
        return "ptx", "ptx"
    stages = stage[1]
    stages["cubin"] = lambda ptx, metadata: ptx.encode() + b"\0"
    return None


class DeviceArray:
    """Device memory as Triton takes it: an address and an element type."""

    def __init__(self, driver: Driver, array: Array) -> None:
        self.dtype = str(array.dtype)
        self.shape = array.shape
        self._buffer = driver.upload(array)

    def data_ptr(self) -> int:
        """Where Triton finds the first element."""
        return self._buffer.pointer

    def download(self) -> Array:
        """Copy the elements to a new array."""
        return self._buffer.download(self.shape, np.dtype(self.dtype).type)


@triton.jit
def add_kernel(left, right, total, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    tl.store(total + at, tl.load(left + at, inside) + tl.load(right + at, inside), inside)


def vector_add(driver: Driver) -> Outcome:
    count = 98_432 + 7
    left, right = np.random.default_rng(1).standard_normal((2, count)).astype(np.float32)
    total = DeviceArray(driver, np.zeros(count, np.float32))
    arrays = DeviceArray(driver, left), DeviceArray(driver, right), total
    add_kernel[(triton.cdiv(count, 1024),)](*arrays, count, BLOCK=1024)
    return compare(total.download(), left + right)


@triton.jit
def softmax_kernel(rows, result, row_count, columns, pitch, BLOCK: tl.constexpr):
    # A program takes every n-th row and keeps a whole one in registers.
    at = tl.arange(0, BLOCK)
    inside = at < columns
    for row in tl.range(tl.program_id(0), row_count, tl.num_programs(0), num_stages=2):
        values = tl.load(rows + row * pitch + at, inside, other=-float("inf"))
        powers = tl.exp(values - tl.max(values, axis=0))
        tl.store(result + row * pitch + at, powers / tl.sum(powers, axis=0), inside)


def softmax(driver: Driver) -> Outcome:
    row_count, columns = 183, 781
    values = np.random.default_rng(2).normal(0, 5, (row_count, columns)).astype(np.float32)
    result = DeviceArray(driver, np.zeros_like(values))
    softmax_kernel[(48,)](
        DeviceArray(driver, values), result, row_count, columns, columns, BLOCK=1024, num_warps=8
    )
    powers = np.exp(values.astype(np.float64) - values.max(1, keepdims=True))
    return compare(result.download(), powers / powers.sum(1, keepdims=True), 1e-6)


@triton.jit
def matmul_kernel(
    a, b, c, rows, columns, inner,
    a_pitch, b_pitch, c_pitch,
    M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, GROUP: tl.constexpr,
    PRECISION: tl.constexpr, LEAKY: tl.constexpr,
):  # fmt: skip
    # Tiles of GROUP rows of tiles are taken column by column, so that their inputs stay in cache.
    tile, tile_rows = tl.program_id(0), tl.cdiv(rows, M)
    in_group = GROUP * tl.cdiv(columns, N)
    first_row = tile // in_group * GROUP
    height = min(tile_rows - first_row, GROUP)
    row = (first_row + tile % in_group % height) * M + tl.arange(0, M)
    column = tile % in_group // height * N + tl.arange(0, N)
    depth = tl.arange(0, K)
    total = tl.zeros((M, N), tl.float32)
    for start in range(0, inner, K):
        k = start + depth
        left = tl.load(
            a + row[:, None] * a_pitch + k[None, :],
            (row[:, None] < rows) & (k[None, :] < inner),
            other=0.0,
        )
        right = tl.load(
            b + k[:, None] * b_pitch + column[None, :],
            (k[:, None] < inner) & (column[None, :] < columns),
            other=0.0,
        )
        total = tl.dot(left, right, total, input_precision=PRECISION)
    if LEAKY:
        total = tl.where(total >= 0, total, 0.01 * total)
    inside = (row[:, None] < rows) & (column[None, :] < columns)
    at = c + row[:, None] * c_pitch + column[None, :]
    tl.store(at, total.to(c.dtype.element_ty), inside)


def multiply(driver: Driver, dtype: str, precision: str, tolerance: float) -> Outcome:
    """A product with ragged sizes, and leaky rectified."""
    rows, columns, inner = 150, 141, 107
    rng = np.random.default_rng(3)
    a = rng.standard_normal((rows, inner)).astype(dtype)
    b = rng.standard_normal((inner, columns)).astype(dtype)
    c = DeviceArray(driver, np.zeros((rows, columns), dtype))
    matmul_kernel[(triton.cdiv(rows, 64) * triton.cdiv(columns, 32),)](
        *(DeviceArray(driver, a), DeviceArray(driver, b), c),
        *(rows, columns, inner, inner, columns, columns),
        M=64,
        N=32,
        K=32,
        GROUP=2,
        PRECISION=precision,
        LEAKY=True,
        num_warps=4,
        num_stages=2,
    )
    product = a.astype(np.float64) @ b.astype(np.float64)
    return compare(c.download(), np.where(product >= 0, product, 0.01 * product), tolerance)


def matmul_f16(driver: Driver) -> Outcome:
    return multiply(driver, "float16", "ieee", 1e-3)


def matmul_f32(driver: Driver) -> Outcome:
    return multiply(driver, "float32", "ieee", 1e-6)


def matmul_tf32(driver: Driver) -> Outcome:
    return multiply(driver, "float32", "tf32", 2e-3)


@triton.jit
def norm_forward(x, y, weight, bias, mean_out, scale_out, columns, epsilon, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, columns, BLOCK):
        at = start + tl.arange(0, BLOCK)
        total += tl.load(x + row * columns + at, at < columns, other=0.0)
    mean = tl.sum(total, axis=0) / columns
    squares = tl.zeros([BLOCK], tl.float32)
    for start in range(0, columns, BLOCK):
        at = start + tl.arange(0, BLOCK)
        value = tl.load(x + row * columns + at, at < columns, other=0.0)
        apart = tl.where(at < columns, value - mean, 0.0)
        squares += apart * apart
    scale = 1 / tl.sqrt(tl.sum(squares, axis=0) / columns + epsilon)
    tl.store(mean_out + row, mean)
    tl.store(scale_out + row, scale)
    for start in range(0, columns, BLOCK):
        at = start + tl.arange(0, BLOCK)
        inside = at < columns
        value = (tl.load(x + row * columns + at, inside) - mean) * scale
        value = value * tl.load(weight + at, inside) + tl.load(bias + at, inside)
        tl.store(y + row * columns + at, value, inside)


@triton.jit
def norm_backward(
    x, dy, dx, weight, means, scales, dw_groups, db_groups, locks, columns,
    GROUPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # Rows of a group add to its sums one after the other: a lock, and whether the sums have begun.
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    inside = at < columns
    gradient = tl.load(dy + row * columns + at, inside, other=0.0)
    normal = (tl.load(x + row * columns + at, inside, other=0.0) - tl.load(means + row)) * tl.load(
        scales + row
    )
    normal = tl.where(inside, normal, 0.0)
    weighted = tl.load(weight + at, inside, other=0.0) * gradient
    along = tl.sum(normal * weighted, axis=0) / columns
    mean = tl.sum(weighted, axis=0) / columns
    change = (weighted - (normal * along + mean)) * tl.load(scales + row)
    tl.store(dx + row * columns + at, change, inside)
    group = row % GROUPS
    lock, begun = locks + group, locks + GROUPS + group
    dw, db = dw_groups + group * columns + at, db_groups + group * columns + at
    dw_part, db_part = gradient * normal, gradient
    while tl.atomic_cas(lock, 0, 1) == 1:
        pass
    if tl.load(begun) == 0:
        tl.atomic_xchg(begun, 1)
    else:
        dw_part += tl.load(dw, inside)
        db_part += tl.load(db, inside)
    tl.store(dw, dw_part, inside)
    tl.store(db, db_part, inside)
    tl.debug_barrier()
    tl.atomic_xchg(lock, 0)


@triton.jit
def norm_gather(groups, result, columns, GROUPS: tl.constexpr, BLOCK: tl.constexpr):
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    group = tl.arange(0, GROUPS)
    at = groups + group[:, None] * columns + column[None, :]
    sums = tl.sum(tl.load(at, column[None, :] < columns, other=0.0), axis=0)
    tl.store(result + column, sums, column < columns)


def layer_norm(driver: Driver) -> Outcome:
    rows, columns, groups = 67, 333, 8
    rng = np.random.default_rng(4)
    x = rng.normal(2, 3, (rows, columns)).astype(np.float32)
    dy = rng.standard_normal((rows, columns)).astype(np.float32)
    weight, bias = rng.uniform(-1, 1, (2, columns)).astype(np.float32)

    def zeros(*shape: int) -> DeviceArray:
        return DeviceArray(driver, np.zeros(shape, np.float32))

    y, dx, dw, db = zeros(rows, columns), zeros(rows, columns), zeros(columns), zeros(columns)
    mean, scale = zeros(rows), zeros(rows)
    dw_groups, db_groups = zeros(groups, columns), zeros(groups, columns)
    locks = DeviceArray(driver, np.zeros(2 * groups, np.int32))
    on_x, on_dy, on_weight = (DeviceArray(driver, array) for array in (x, dy, weight))
    on_bias = DeviceArray(driver, bias)
    norm_forward[(rows,)](on_x, y, on_weight, on_bias, mean, scale, columns, 1e-5, BLOCK=128)
    norm_backward[(rows,)](
        *(on_x, on_dy, dx, on_weight, mean, scale, dw_groups, db_groups, locks, columns),
        GROUPS=groups,
        BLOCK=512,
        num_warps=2,
    )
    for parts, total in ((dw_groups, dw), (db_groups, db)):
        norm_gather[(triton.cdiv(columns, 64),)](parts, total, columns, GROUPS=groups, BLOCK=64)
    wide = x.astype(np.float64)
    deviation = np.sqrt(wide.var(1, keepdims=True) + 1e-5)
    normal = (wide - wide.mean(1, keepdims=True)) / deviation
    weighted = weight * dy.astype(np.float64)
    along = (normal * weighted).mean(1, keepdims=True)
    change = (weighted - normal * along - weighted.mean(1, keepdims=True)) / deviation
    return worst(
        compare(y.download(), normal * weight + bias, 1e-6),
        compare(dx.download(), change, 1e-6),
        compare(dw.download(), (dy * normal).sum(0), 1e-6),
        compare(db.download(), dy.sum(0, dtype=np.float64), 1e-6),
    )


PROGRAMS: dict[str, Callable[[Driver], Outcome]] = {
    program.__name__: program
    for program in (vector_add, softmax, matmul_f32, matmul_f16, matmul_tf32, layer_norm)
}


def main() -> int:
    """Run the programs that are named, or all."""
    options = runner.parse(argparse.ArgumentParser(description=__doc__), PROGRAMS)
    knobs.runtime.add_stages_inspection_hook = stop_at_ptx
    return runner.run_all(options, lambda driver, name: PROGRAMS[name](driver))


if __name__ == "__main__":
    sys.exit(main())
