"""Levels 1 and 2 of cuBLAS on every executor, against numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vgpu_host.executors.blas import BlasCall, DataType, Diagonal, Fill, Operation, Routine

from .blas_calls import (
    EMPTY,
    EPSILON,
    Array,
    Matrices,
    Vector,
    operated,
    random_array,
    scalar,
    symmetric_of,
    triangle_of,
    unpacked,
)
from .conftest import Device

pytestmark = pytest.mark.device

KINDS = [DataType.R_32F, DataType.R_64F, DataType.C_32F, DataType.C_64F]
COMPLEX = [DataType.C_32F, DataType.C_64F]
STEPS = [(1, 1), (3, 2), (-2, 1)]
M, N = 9, 7


def check(found: Array, expected: Array, kind: DataType) -> None:
    limit = 64 * EPSILON[kind] * np.abs(expected).max()
    assert np.abs(np.asarray(found) - expected).max() <= limit


def scalars_of(kind: DataType) -> tuple[complex, complex]:
    return (2 - 1j, -1 + 0.5j) if kind.complex else (2, -1)


def call_of(routine: Routine, kind: DataType, **fields: int) -> BlasCall:
    call = replace(EMPTY, routine=routine, a_type=kind, b_type=kind, c_type=kind, **fields)
    alpha, beta = scalars_of(kind)
    return replace(call, alpha=scalar(alpha, call.alpha_type), beta=scalar(beta, call.beta_type))


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("operation", Operation)
@pytest.mark.parametrize("kind", KINDS)
def test_matrix_times_vector(
    device: Device, kind: DataType, operation: Operation, steps: tuple[int, int]
) -> None:
    a = random_array(1, (1, M, N), kind)
    plain = operation is Operation.N
    x = random_array(2, (N if plain else M,), kind)
    y = random_array(3, (M if plain else N,), kind)
    matrix = Matrices(device, a, kind, 2)
    vector, result = Vector(device, x, kind, steps[0]), Vector(device, y, kind, steps[1])
    call = call_of(Routine.GEMV, kind, a_operation=operation, m=M, n=N)
    call = replace(call, a=matrix.pointer, a_step=matrix.step, b=vector.pointer, b_step=steps[0])
    device.executor.blas(replace(call, c=result.pointer, c_step=steps[1]), None)
    alpha, beta = scalars_of(kind)
    check(result.values(), alpha * (operated(a[0], operation) @ x) + beta * y, kind)


@pytest.mark.parametrize("pointer_arrays", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_matrices_times_vectors_of_a_batch(
    device: Device, kind: DataType, pointer_arrays: bool
) -> None:
    a, x, y = (random_array(4, (3, *shape), kind) for shape in ((M, N), (N, 1), (M, 1)))
    matrix, vector, result = (Matrices(device, each, kind, 0, 4) for each in (a, x, y))
    call = call_of(Routine.GEMV, kind, m=M, n=N, batch=3)
    operands = (matrix, vector, result)
    pointers = [each.pointer_array() if pointer_arrays else each.pointer for each in operands]
    call = replace(call, pointer_arrays=pointer_arrays, a=pointers[0], b=pointers[1], c=pointers[2])
    call = replace(
        call,
        a_step=matrix.step,
        a_stride=matrix.stride,
        b_stride=vector.stride,
        c_stride=result.stride,
    )
    device.executor.blas(call, None)
    alpha, beta = scalars_of(kind)
    check(result.values(), alpha * (a @ x) + beta * y, kind)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(
    ("routine", "kind"),
    [(Routine.GER, kind) for kind in KINDS] + [(Routine.GERC, kind) for kind in COMPLEX],
)
def test_update_by_an_outer_product(
    device: Device, routine: Routine, kind: DataType, steps: tuple[int, int]
) -> None:
    x, y = random_array(5, (M,), kind), random_array(6, (N,), kind)
    c = random_array(7, (1, M, N), kind)
    left, right = Vector(device, x, kind, steps[0]), Vector(device, y, kind, steps[1])
    matrix = Matrices(device, c, kind, 2)
    call = call_of(routine, kind, m=M, n=N, a_step=steps[0], b_step=steps[1])
    call = replace(call, a=left.pointer, b=right.pointer, c=matrix.pointer, c_step=matrix.step)
    device.executor.blas(call, None)
    alpha, _ = scalars_of(kind)
    outer = np.outer(x, y.conj() if routine is Routine.GERC else y)
    check(matrix.values()[0], alpha * outer + c[0], kind)


@pytest.mark.parametrize("fill", Fill)
@pytest.mark.parametrize(
    ("routine", "kind"),
    [(Routine.SYMV, kind) for kind in KINDS] + [(Routine.HEMV, kind) for kind in COMPLEX],
)
def test_symmetric_matrix_times_vector(
    device: Device, routine: Routine, kind: DataType, fill: Fill
) -> None:
    a = random_array(8, (1, N, N), kind)
    x, y = random_array(9, (N,), kind), random_array(10, (N,), kind)
    matrix = Matrices(device, a, kind, 2)
    vector, result = Vector(device, x, kind, 2), Vector(device, y, kind)
    call = call_of(routine, kind, m=N, n=N, a_step=matrix.step, b_step=2)
    call = replace(call, fill=fill, a=matrix.pointer, b=vector.pointer, c=result.pointer)
    device.executor.blas(call, None)
    alpha, beta = scalars_of(kind)
    whole = symmetric_of(a[0], fill, hermitian=routine is Routine.HEMV)
    check(result.values(), alpha * (whole @ x) + beta * y, kind)


@pytest.mark.parametrize("diagonal", Diagonal)
@pytest.mark.parametrize("operation", Operation)
@pytest.mark.parametrize("fill", Fill)
@pytest.mark.parametrize("routine", [Routine.TRMV, Routine.TRSV])
@pytest.mark.parametrize("kind", KINDS)
def test_triangle_with_a_vector(
    device: Device,
    kind: DataType,
    routine: Routine,
    fill: Fill,
    operation: Operation,
    diagonal: Diagonal,
) -> None:
    order = 40
    a = random_array(11, (1, order, order), kind) / order
    a += 2 * np.eye(order, dtype=a.dtype)
    x = random_array(12, (order,), kind)
    matrix, vector = Matrices(device, a, kind, 1), Vector(device, x, kind, -3)
    call = call_of(routine, kind, m=order, n=order, a_step=matrix.step, b_step=-3)
    call = replace(call, fill=fill, a_operation=operation, diagonal=diagonal)
    device.executor.blas(replace(call, a=matrix.pointer, b=vector.pointer), None)
    triangle = operated(triangle_of(a[0], fill, diagonal), operation)
    if routine is Routine.TRMV:
        check(vector.values(), triangle @ x, kind)
    else:
        check(triangle @ vector.values(), x, kind)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("routine", [Routine.AXPY, Routine.COPY, Routine.SWAP])
@pytest.mark.parametrize("kind", KINDS)
def test_two_vectors(
    device: Device, kind: DataType, routine: Routine, steps: tuple[int, int]
) -> None:
    x, y = random_array(13, (M,), kind), random_array(14, (M,), kind)
    first, second = Vector(device, x, kind, steps[0]), Vector(device, y, kind, steps[1])
    call = call_of(routine, kind, n=M, a_step=steps[0], b_step=steps[1])
    device.executor.blas(replace(call, a=first.pointer, b=second.pointer), None)
    alpha, _ = scalars_of(kind)
    expected = {Routine.AXPY: alpha * x + y, Routine.COPY: x, Routine.SWAP: x}[routine]
    check(second.values(), expected, kind)
    check(first.values(), y if routine is Routine.SWAP else x, kind)


@pytest.mark.parametrize("scale", ["own", "real"])
@pytest.mark.parametrize("kind", KINDS)
def test_scaled_vector(device: Device, kind: DataType, scale: str) -> None:
    x = random_array(15, (M,), kind)
    vector = Vector(device, x, kind, 2)
    c_type = kind if scale == "own" else kind.real
    alpha = scalars_of(c_type)[0]
    call = replace(call_of(Routine.SCAL, kind, n=M, a_step=2), c_type=c_type)
    call = replace(call, a=vector.pointer, alpha=scalar(alpha, c_type))
    device.executor.blas(call, None)
    check(vector.values(), alpha * x, kind)


@pytest.mark.parametrize("kind", [DataType.R_16F, DataType.R_16BF])
def test_half_vectors_are_computed_in_float(device: Device, kind: DataType) -> None:
    x, y = random_array(19, (257,), kind), random_array(20, (257,), kind)
    wide = [each.astype(np.float64) for each in (x, y)]
    length = reduced(device, Routine.NRM2, kind, kind, x, None)
    assert abs(length - np.linalg.norm(wide[0])) <= 2 * EPSILON[kind] * np.linalg.norm(wide[0])
    product = reduced(device, Routine.DOT, kind, kind, x, y)
    assert abs(product - wide[0] @ wide[1]) <= 2 * EPSILON[kind] * abs(wide[0] @ wide[1]) + 1e-4
    first, second = Vector(device, x, kind, 2), Vector(device, y, kind)
    call = replace(call_of(Routine.AXPY, kind, n=257, a_step=2), c_type=DataType.R_32F)
    call = replace(call, a=first.pointer, b=second.pointer, alpha=scalar(0.5, DataType.R_32F))
    device.executor.blas(call, None)
    check(second.values(), wide[0] / 2 + wide[1], kind)
    device.executor.blas(replace(call, routine=Routine.SCAL), None)
    check(first.values(), wide[0] / 2, kind)


def reduced(
    device: Device, routine: Routine, kind: DataType, c_type: DataType, x: Array, y: Array | None
) -> Array:
    first = Vector(device, x, kind, 2)
    second = Vector(device, x if y is None else y, kind)
    result = device.upload(bytes([0xEE]) * 16)
    call = replace(call_of(routine, kind, n=len(x), a_step=2), c_type=c_type, device_scalars=True)
    call = replace(call, a=first.pointer, b=second.pointer, c=result)
    device.executor.blas(call, None)
    return unpacked(device.download(result, c_type.bytes), c_type)[0]


@pytest.mark.parametrize("routine", [Routine.DOT, Routine.DOTC, Routine.NRM2, Routine.ASUM])
@pytest.mark.parametrize("kind", KINDS)
def test_sums_of_vectors(device: Device, kind: DataType, routine: Routine) -> None:
    if routine is Routine.DOTC and not kind.complex:
        pytest.skip("a conjugate only matters for complex numbers")
    x, y = random_array(16, (257,), kind), random_array(17, (257,), kind)
    expected = {
        Routine.DOT: x @ y,
        Routine.DOTC: x.conj() @ y,
        Routine.NRM2: np.linalg.norm(x),
        Routine.ASUM: (np.abs(x.real) + np.abs(x.imag)).sum(),
    }[routine]
    c_type = kind if routine in (Routine.DOT, Routine.DOTC) else kind.real
    found = reduced(device, routine, kind, c_type, x, y)
    assert abs(found - expected) <= 257 * EPSILON[kind] * np.abs(x).sum()


@pytest.mark.parametrize("index", [DataType.R_32I, DataType.R_64I])
@pytest.mark.parametrize("kind", KINDS)
def test_places_of_the_largest_and_smallest(
    device: Device, kind: DataType, index: DataType
) -> None:
    x = random_array(18, (100,), kind)
    x[[41, 77]] = -3  # the first of equals counts
    x[[12, 90]] = 0
    assert reduced(device, Routine.AMAX, kind, index, x, None) == 42
    assert reduced(device, Routine.AMIN, kind, index, x, None) == 13


@pytest.mark.parametrize("routine", [Routine.AMAX, Routine.NRM2, Routine.ASUM, Routine.DOT])
def test_nothing_adds_up_to_zero(device: Device, routine: Routine) -> None:
    empty = np.zeros(0, np.float32)
    c_type = DataType.R_32I if routine is Routine.AMAX else DataType.R_32F
    assert reduced(device, routine, DataType.R_32F, c_type, empty, None) == 0


def test_length_does_not_overflow(device: Device) -> None:
    x = np.full(4, 1e30, np.float32)
    found = reduced(device, Routine.NRM2, DataType.R_32F, DataType.R_32F, x, None)
    assert abs(found / 2e30 - 1) < 1e-6
