"""Triangular systems by blocked forward substitution, for whole batches at once.

Upper triangles are solved as lower ones read backwards. Within a block one row is solved after the
other, so that a zero on the diagonal gives infinities and NaNs, as cuBLAS does, and no exception.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from vgpu_host.executors.blas import BlasCall, Diagonal, Fill, Operation, Side
from vgpu_host.executors.software.blas_memory import Array, Memory

_BLOCK: Final = 32


def trsm(memory: Memory, call: BlasCall) -> None:
    """op(A) X = alpha B, or X op(A) = alpha B; X replaces B."""
    alpha = memory.scalar(call.alpha, call.alpha_type, call.device_scalars)
    order = call.m if call.side is Side.LEFT else call.n
    operands = (
        (call.a, order, order, call.a_step, call.a_stride),
        (call.b, call.m, call.n, call.b_step, call.b_stride),
    )
    places = list(memory.batches(call, *operands))
    a, b = ([memory.transposed(place[which], call.a_type) for place in places] for which in (0, 1))
    if not places:
        return
    if len(places) == 1:
        solve(call, a[0], b[0], alpha)
        return
    # Substitution goes row by row: all systems of the batch at once share its cost.
    solutions = np.concatenate(b)
    solve(call, np.concatenate(a), solutions, alpha)
    for place, solution in zip(b, solutions, strict=True):
        place[0] = solution


def solve(call: BlasCall, a: Array, b: Array, alpha: Any) -> None:
    """Replace B by X where op(A) X = alpha B, or X op(A) = alpha B.

    Args:
        call: Side, triangle, operation and diagonal.
        a: A', of shape (batch, order, order); only its triangle is used.
        b: B', of shape (batch, n, m); overwritten.
        alpha: Scalar of their type.
    """
    lower = call.fill is Fill.LOWER
    stored = np.tril(a.swapaxes(-1, -2)) if lower else np.triu(a.swapaxes(-1, -2))
    matrix = stored
    if call.a_operation is not Operation.N:
        matrix = stored.swapaxes(-1, -2)
        lower = not lower
        if call.a_operation is Operation.C:
            matrix = matrix.conj()
    if call.side is Side.LEFT:
        right = b.swapaxes(-1, -2)
    else:
        matrix = matrix.swapaxes(-1, -2)
        lower = not lower
        right = b
    x = right * alpha if alpha != 0 else np.zeros_like(right)
    if lower:
        substitute(matrix, x, call.diagonal)
    else:
        substitute(matrix[..., ::-1, ::-1], x[..., ::-1, :], call.diagonal)
    right[...] = x


def substitute(matrix: Array, x: Array, diagonal: Diagonal) -> None:
    """Solve with a lower triangle, in place; `x` is of shape (..., order, right sides)."""
    order = matrix.shape[-1]
    for start in range(0, order, _BLOCK):
        end = min(start + _BLOCK, order)
        x[..., start:end, :] -= matrix[..., start:end, :start] @ x[..., :start, :]
        for row in range(start, end):
            known = matrix[..., row : row + 1, start:row] @ x[..., start:row, :]
            x[..., row, :] -= known[..., 0, :]
            if diagonal is Diagonal.NON_UNIT:
                x[..., row, :] /= matrix[..., row, row, np.newaxis]
