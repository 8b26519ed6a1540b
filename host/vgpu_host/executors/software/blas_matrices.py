"""Routines of level 3 beside products of general matrices and triangular systems."""

from __future__ import annotations

from typing import Any

import numpy as np

from vgpu_host.executors.blas import BlasCall, Diagonal, Fill, Operation, Routine, Side
from vgpu_host.executors.software.blas_memory import Array, Memory

_HERMITIAN = frozenset((Routine.HEMM, Routine.HERK, Routine.HER2K, Routine.HERKX, Routine.HEMV))


def operated(array: Array, operation: Operation) -> Array:
    """op(X)."""
    if operation is Operation.N:
        return array
    return array.T.conj() if operation is Operation.C else array.T


def triangle(array: Array, call: BlasCall) -> Array:
    """A triangular matrix from its stored triangle."""
    stored = np.tril(array) if call.fill is Fill.LOWER else np.triu(array)
    if call.diagonal is Diagonal.UNIT:
        np.fill_diagonal(stored, 1)
    return stored


def symmetric(array: Array, call: BlasCall) -> Array:
    """A symmetric or Hermitian matrix from its stored triangle."""
    lower = call.fill is Fill.LOWER
    strict = np.tril(array, -1) if lower else np.triu(array, 1)
    hermitian = call.routine in _HERMITIAN
    mirrored = strict.T.conj() if hermitian else strict.T
    diagonal = array.diagonal().real if hermitian else array.diagonal()
    whole: Array = strict + mirrored + np.diag(diagonal.astype(array.dtype))
    return whole


def scalars(memory: Memory, call: BlasCall) -> tuple[Any, Any]:
    """alpha and beta."""
    return (
        memory.scalar(call.alpha, call.alpha_type, call.device_scalars),
        memory.scalar(call.beta, call.beta_type, call.device_scalars),
    )


def added(product: Array, alpha: Any, beta: Any, result: Array) -> Array:
    """alpha product + beta result; with beta 0 the result is not read."""
    scaled = alpha * product
    total: Array = scaled + beta * result if beta != 0 else scaled
    return total


def symm(memory: Memory, call: BlasCall) -> None:
    """C = alpha A B + beta C, or alpha B A + beta C."""
    alpha, beta = scalars(memory, call)
    order = call.m if call.side is Side.LEFT else call.n
    a = symmetric(memory.matrix(call.a, order, order, call.a_step, call.a_type), call)
    b = memory.matrix(call.b, call.m, call.n, call.b_step, call.a_type)
    c = memory.matrix(call.c, call.m, call.n, call.c_step, call.a_type)
    c[...] = added(a @ b if call.side is Side.LEFT else b @ a, alpha, beta, c)


def rank_k(memory: Memory, call: BlasCall) -> None:
    """C = alpha op(A) op(B)' + beta C on one triangle; B is A, or both orders are added."""
    alpha, beta = scalars(memory, call)
    hermitian = call.routine in _HERMITIAN
    shape = (call.n, call.k) if call.a_operation is Operation.N else (call.k, call.n)
    a = operated(memory.matrix(call.a, *shape, call.a_step, call.a_type), call.a_operation)
    if call.routine in (Routine.SYRK, Routine.HERK):
        b = a
    else:
        b = operated(memory.matrix(call.b, *shape, call.b_step, call.a_type), call.a_operation)
    # Before the product, which with k = 0 is larger than anything that has been checked.
    c = memory.matrix(call.c, call.n, call.n, call.c_step, call.a_type)
    product = alpha * (a @ (b.T.conj() if hermitian else b.T))
    if call.routine is Routine.SYR2K:
        product += alpha * (b @ a.T)
    elif call.routine is Routine.HER2K:
        product += np.conj(alpha) * (b @ a.T.conj())
    if beta != 0:
        product += beta * c
    if hermitian:
        np.fill_diagonal(product, product.diagonal().real)
    mask = np.tri(call.n, dtype=bool)
    np.copyto(c, product, where=mask if call.fill is Fill.LOWER else mask.T)


def trmm(memory: Memory, call: BlasCall) -> None:
    """C = alpha op(A) B, or alpha B op(A)."""
    alpha, _ = scalars(memory, call)
    order = call.m if call.side is Side.LEFT else call.n
    stored = memory.matrix(call.a, order, order, call.a_step, call.a_type)
    a = operated(triangle(stored, call), call.a_operation)
    b = memory.matrix(call.b, call.m, call.n, call.b_step, call.a_type)
    c = memory.matrix(call.c, call.m, call.n, call.c_step, call.a_type)
    c[...] = alpha * (a @ b if call.side is Side.LEFT else b @ a)


def geam(memory: Memory, call: BlasCall) -> None:
    """C = alpha op(A) + beta op(B); a matrix whose scalar is 0 is not read."""
    alpha, beta = scalars(memory, call)
    c = memory.matrix(call.c, call.m, call.n, call.c_step, call.a_type)
    total = np.zeros_like(c)
    for scalar, pointer, step, operation in (
        (alpha, call.a, call.a_step, call.a_operation),
        (beta, call.b, call.b_step, call.b_operation),
    ):
        if scalar != 0:
            shape = (call.m, call.n) if operation is Operation.N else (call.n, call.m)
            matrix = memory.matrix(pointer, *shape, step, call.a_type)
            total += scalar * operated(matrix, operation)
    c[...] = total


def dgmm(memory: Memory, call: BlasCall) -> None:
    """C = diag(B) A, or A diag(B)."""
    a = memory.matrix(call.a, call.m, call.n, call.a_step, call.a_type)
    c = memory.matrix(call.c, call.m, call.n, call.c_step, call.a_type)
    left = call.side is Side.LEFT
    x = memory.vector(call.b, call.m if left else call.n, call.b_step, call.a_type)
    c[...] = a * (x[:, np.newaxis] if left else x)
