"""Level 3 of cuBLAS beside products and triangular systems, on every executor, against numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vgpu_host.executors.blas import BlasCall, DataType, Diagonal, Fill, Operation, Routine, Side

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
    with_operands,
)
from .conftest import Device

pytestmark = pytest.mark.device

KINDS = [DataType.R_32F, DataType.R_64F, DataType.C_32F, DataType.C_64F]
COMPLEX = [DataType.C_32F, DataType.C_64F]
M, N, K = 9, 7, 11


def check(found: Array, expected: Array, kind: DataType) -> None:
    assert np.abs(found - expected).max() <= 64 * EPSILON[kind] * np.abs(expected).max()


def scalars_of(kind: DataType) -> tuple[complex, complex]:
    return (2 - 1j, -1 + 0.5j) if kind.complex else (2, -1)


def run(device: Device, call: BlasCall, alpha: complex, beta: complex) -> None:
    call = replace(call, alpha=scalar(alpha, call.alpha_type), beta=scalar(beta, call.beta_type))
    device.executor.blas(call, None)


@pytest.mark.parametrize("fill", Fill)
@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize(
    ("routine", "kind"),
    [(Routine.SYMM, kind) for kind in KINDS] + [(Routine.HEMM, kind) for kind in COMPLEX],
)
def test_product_with_a_symmetric_matrix(
    device: Device, routine: Routine, kind: DataType, side: Side, fill: Fill
) -> None:
    order = M if side is Side.LEFT else N
    a = random_array(1, (1, order, order), kind)
    b, c = random_array(2, (1, M, N), kind), random_array(3, (1, M, N), kind)
    operands = [Matrices(device, each, kind, 2) for each in (a, b, c)]
    call = replace(EMPTY, routine=routine, side=side, fill=fill, m=M, n=N)
    alpha, beta = scalars_of(kind)
    run(device, with_operands(call, *operands), alpha, beta)
    whole = symmetric_of(a[0], fill, hermitian=routine is Routine.HEMM)
    product = whole @ b[0] if side is Side.LEFT else b[0] @ whole
    check(operands[2].values()[0], alpha * product + beta * c[0], kind)


@pytest.mark.parametrize("fill", Fill)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    ("routine", "kind"),
    [(r, kind) for r in (Routine.SYRK, Routine.SYR2K, Routine.SYRKX) for kind in KINDS]
    + [(r, kind) for r in (Routine.HERK, Routine.HER2K, Routine.HERKX) for kind in COMPLEX],
)
def test_update_of_one_triangle(
    device: Device, routine: Routine, kind: DataType, transposed: bool, fill: Fill
) -> None:
    hermitian = routine in (Routine.HERK, Routine.HER2K, Routine.HERKX)
    alpha, beta = scalars_of(kind)
    if hermitian:
        beta = -1
        alpha = 2 if routine is Routine.HERK else alpha
    operation = Operation.N
    if transposed:
        operation = Operation.C if hermitian else Operation.T
    shape = (1, K, N) if transposed else (1, N, K)
    a, b = random_array(4, shape, kind), random_array(5, shape, kind)
    c = random_array(6, (1, N, N), kind)
    if routine is Routine.HERKX:
        b = a.copy()  # the result has to be Hermitian
        alpha = 2
    if hermitian:
        c = c + c.conj().swapaxes(1, 2)
    operands = [Matrices(device, each, kind, 3) for each in (a, b, c)]
    call = replace(EMPTY, routine=routine, fill=fill, a_operation=operation, m=N, n=N, k=K)
    run(device, with_operands(call, *operands), alpha, beta)
    left, right = operated(a[0], operation), operated(b[0], operation)
    other = left if routine in (Routine.SYRK, Routine.HERK) else right
    adjoint = (lambda x: x.conj().T) if hermitian else (lambda x: x.T)
    expected = alpha * (left @ adjoint(other)) + beta * c[0]
    if routine in (Routine.SYR2K, Routine.HER2K):
        factor = np.conj(alpha) if hermitian else alpha
        expected += factor * (right @ adjoint(left))
    mask = np.tri(N, dtype=bool)
    mask = mask if fill is Fill.LOWER else mask.T
    found = operands[2].values()[0]
    check(found[mask], expected[mask], kind)
    np.testing.assert_array_equal(found[~mask], c[0][~mask])


@pytest.mark.parametrize("diagonal", Diagonal)
@pytest.mark.parametrize("operation", Operation)
@pytest.mark.parametrize("fill", Fill)
@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("kind", KINDS)
def test_product_with_a_triangle(
    device: Device, kind: DataType, side: Side, fill: Fill, operation: Operation, diagonal: Diagonal
) -> None:
    order = M if side is Side.LEFT else N
    a, b = random_array(7, (1, order, order), kind), random_array(8, (1, M, N), kind)
    operands = [Matrices(device, each, kind, 1) for each in (a, b, np.zeros_like(b))]
    call = replace(EMPTY, routine=Routine.TRMM, side=side, fill=fill, a_operation=operation)
    call = replace(call, diagonal=diagonal, m=M, n=N)
    alpha, _ = scalars_of(kind)
    run(device, with_operands(call, *operands), alpha, 0)
    triangle = operated(triangle_of(a[0], fill, diagonal), operation)
    expected = triangle @ b[0] if side is Side.LEFT else b[0] @ triangle
    check(operands[2].values()[0], alpha * expected, kind)


@pytest.mark.parametrize("b_operation", Operation)
@pytest.mark.parametrize("a_operation", Operation)
@pytest.mark.parametrize("kind", KINDS)
def test_sum_of_matrices(
    device: Device, kind: DataType, a_operation: Operation, b_operation: Operation
) -> None:
    a = random_array(9, (1, M, N) if a_operation is Operation.N else (1, N, M), kind)
    b = random_array(10, (1, M, N) if b_operation is Operation.N else (1, N, M), kind)
    operands = [Matrices(device, each, kind, 2) for each in (a, b)]
    result = Matrices(device, np.zeros((1, M, N), a.dtype), kind)
    call = replace(EMPTY, routine=Routine.GEAM, m=M, n=N)
    call = replace(call, a_operation=a_operation, b_operation=b_operation)
    alpha, beta = scalars_of(kind)
    run(device, with_operands(call, *operands, result), alpha, beta)
    expected = alpha * operated(a[0], a_operation) + beta * operated(b[0], b_operation)
    check(result.values()[0], expected, kind)


@pytest.mark.parametrize("step", [1, 3, -2])
@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("kind", KINDS)
def test_product_with_a_diagonal(device: Device, kind: DataType, side: Side, step: int) -> None:
    a = random_array(11, (1, M, N), kind)
    x = random_array(12, (M if side is Side.LEFT else N,), kind)
    matrix, vector = Matrices(device, a, kind, 2), Vector(device, x, kind, step)
    result = Matrices(device, np.zeros_like(a), kind)
    call = replace(EMPTY, routine=Routine.DGMM, side=side, m=M, n=N, batch=1)
    call = with_operands(call, matrix, matrix, result)
    call = replace(call, b=vector.pointer, b_step=step)
    run(device, call, 0, 0)
    diagonal = np.diag(x)
    expected = diagonal @ a[0] if side is Side.LEFT else a[0] @ diagonal
    check(result.values()[0], expected, kind)
