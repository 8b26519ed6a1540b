"""Routines of levels 1 and 2: vectors, and matrices with vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from vgpu_host.executors.blas import BlasCall, DataType, Diagonal, Fill, Operation, Routine
from vgpu_host.executors.software.blas_matrices import (
    added,
    operated,
    scalars,
    symmetric,
    triangle,
)
from vgpu_host.executors.software.blas_memory import Array, Memory, store, widened
from vgpu_host.executors.software.blas_triangular import substitute


def gemv(memory: Memory, call: BlasCall) -> None:
    """y = alpha op(A) x + beta y."""
    alpha, beta = scalars(memory, call)
    plain = call.a_operation is Operation.N
    x_length, y_length = (call.n, call.m) if plain else (call.m, call.n)
    batches = memory.batches(
        call,
        (call.a, call.m, call.n, call.a_step, call.a_stride),
        (call.b, x_length, 1, call.b_step, call.b_stride),
        (call.c, y_length, 1, call.c_step, call.c_stride),
    )
    size = call.a_type.bytes
    for a_place, x_place, y_place in batches:
        for entry in range(a_place.batch):
            pointers = [
                place.pointer + entry * place.stride * size for place in (a_place, x_place, y_place)
            ]
            y = memory.vector(pointers[2], y_length, call.c_step, call.a_type)
            if alpha == 0:
                y[...] = added(np.zeros_like(y), alpha, beta, y)
                continue
            a = memory.matrix(pointers[0], call.m, call.n, call.a_step, call.a_type)
            x = memory.vector(pointers[1], x_length, call.b_step, call.a_type)
            y[...] = added(operated(a, call.a_operation) @ x, alpha, beta, y)


def ger(memory: Memory, call: BlasCall) -> None:
    """C = alpha A B' + C, or with the conjugate of B."""
    alpha, _ = scalars(memory, call)
    x = memory.vector(call.a, call.m, call.a_step, call.a_type)
    y = memory.vector(call.b, call.n, call.b_step, call.a_type)
    c = memory.matrix(call.c, call.m, call.n, call.c_step, call.a_type)
    c += alpha * np.outer(x, y.conj() if call.routine is Routine.GERC else y)


def symv(memory: Memory, call: BlasCall) -> None:
    """y = alpha A x + beta y, A symmetric or Hermitian."""
    alpha, beta = scalars(memory, call)
    a = symmetric(memory.matrix(call.a, call.n, call.n, call.a_step, call.a_type), call)
    x = memory.vector(call.b, call.n, call.b_step, call.a_type)
    y = memory.vector(call.c, call.n, call.c_step, call.a_type)
    y[...] = added(a @ x, alpha, beta, y)


def trmv(memory: Memory, call: BlasCall) -> None:
    """x = op(A) x."""
    a = triangle(memory.matrix(call.a, call.n, call.n, call.a_step, call.a_type), call)
    x = memory.vector(call.b, call.n, call.b_step, call.a_type)
    x[...] = operated(a, call.a_operation) @ x


def trsv(memory: Memory, call: BlasCall) -> None:
    """op(A) x = b; x replaces b."""
    a = triangle(memory.matrix(call.a, call.n, call.n, call.a_step, call.a_type), call)
    matrix = operated(a, call.a_operation)
    b = memory.vector(call.b, call.n, call.b_step, call.a_type)
    x = b[:, np.newaxis].copy()
    lower = (call.fill is Fill.LOWER) == (call.a_operation is Operation.N)
    if lower:
        substitute(matrix, x, Diagonal.NON_UNIT)
    else:
        substitute(matrix[::-1, ::-1], x[::-1], Diagonal.NON_UNIT)
    b[...] = x[:, 0]


def _x(memory: Memory, call: BlasCall) -> Array:
    return memory.vector(call.a, max(call.n, 0), call.a_step, call.a_type)


def _y(memory: Memory, call: BlasCall) -> Array:
    return memory.vector(call.b, max(call.n, 0), call.b_step, call.a_type)


def axpy(memory: Memory, call: BlasCall) -> None:
    """y = alpha x + y."""
    alpha, _ = scalars(memory, call)
    y = _y(memory, call)
    total = alpha * widened(_x(memory, call), call.a_type) + widened(y, call.a_type)
    store(y, total, call.a_type)


def scal(memory: Memory, call: BlasCall) -> None:
    """x = alpha x."""
    alpha, _ = scalars(memory, call)
    x = _x(memory, call)
    store(x, alpha * widened(x, call.a_type), call.a_type)


def copy(memory: Memory, call: BlasCall) -> None:
    """y = x."""
    _y(memory, call)[...] = _x(memory, call)


def swap(memory: Memory, call: BlasCall) -> None:
    """Exchange x and y."""
    x, y = _x(memory, call), _y(memory, call)
    kept = x.copy()
    x[...] = y
    y[...] = kept


def _give(memory: Memory, call: BlasCall, value: Any) -> None:
    """Write a result; half and bfloat16 are rounded here, once."""
    computed = np.array([value])
    if call.c_type in (DataType.R_16F, DataType.R_16BF):
        computed = computed.astype(np.float32)
    store(memory.vector(call.c, 1, 1, call.c_type), computed, call.c_type)


def dot(memory: Memory, call: BlasCall) -> None:
    """The sum of x y, or of conj(x) y."""
    x, y = (widened(each(memory, call), call.a_type) for each in (_x, _y))
    _give(memory, call, np.dot(x.conj() if call.routine is Routine.DOTC else x, y))


def nrm2(memory: Memory, call: BlasCall) -> None:
    """The Euclidean length, scaled so that no square overflows or vanishes."""
    magnitudes = np.abs(widened(_forward(memory, call), call.a_type))
    largest = magnitudes.max(initial=0)
    if largest != 0 and np.isfinite(largest):
        largest *= np.sqrt(np.sum(np.square(magnitudes / largest)))
    _give(memory, call, largest)


def asum(memory: Memory, call: BlasCall) -> None:
    """The sum of |re| + |im|."""
    _give(memory, call, _size(_forward(memory, call)).sum())


def extreme(memory: Memory, call: BlasCall) -> None:
    """Index from 1 of the first of the largest, or smallest, |re| + |im|; 0 without elements."""
    sizes = _size(_forward(memory, call))
    find = np.argmax if call.routine is Routine.AMAX else np.argmin
    _give(memory, call, find(sizes) + 1 if sizes.size else 0)


def _forward(memory: Memory, call: BlasCall) -> Array:
    """x of routines that take no step below 1: they find nothing there."""
    length = call.n if call.n > 0 and call.a_step > 0 else 0
    return memory.vector(call.a, length, max(call.a_step, 1), call.a_type)


def _size(x: Array) -> Array:
    sizes: Array = np.abs(x.real) + np.abs(x.imag) if np.iscomplexobj(x) else np.abs(x)
    return sizes
