"""Products of general matrices, alone and in batches.

A column-major matrix is seen as the row-major one of its transpose, so C = A B is computed as
C' = B' A'.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from vgpu_host.executors.blas import BlasCall, ComputeType, DataType, Operation
from vgpu_host.executors.software.blas_memory import Array, Memory, store, widened
from vgpu_host.executors.software.errors import CudaResult, DeviceFault

_FLOAT: Final = np.dtype(np.float32)
#: Types that are converted to float first.
_CONVERTED: Final = frozenset((DataType.R_16F, DataType.R_16BF, DataType.R_8I))
_INTEGER_COMPUTE: Final = frozenset((ComputeType.I32, ComputeType.I32_PEDANTIC))


def gemm(memory: Memory, call: BlasCall) -> None:
    """C = alpha op(A) op(B) + beta C."""
    alpha = memory.scalar(call.alpha, call.alpha_type, call.device_scalars)
    beta = memory.scalar(call.beta, call.beta_type, call.device_scalars)
    a_shape = (call.m, call.k) if call.a_operation is Operation.N else (call.k, call.m)
    b_shape = (call.k, call.n) if call.b_operation is Operation.N else (call.n, call.k)
    batches = memory.batches(
        call,
        (call.a, *a_shape, call.a_step, call.a_stride),
        (call.b, *b_shape, call.b_step, call.b_stride),
        (call.c, call.m, call.n, call.c_step, call.c_stride),
    )
    if call.batch > 1 and not call.c_stride and not call.pointer_arrays:
        raise DeviceFault(CudaResult.ILLEGAL_ADDRESS, "BLAS: all products of a batch go to one C")
    for a_place, b_place, c_place in batches:
        result = memory.transposed(c_place, call.c_type)
        if call.k == 0 or alpha == 0:
            _scale(result, beta, call.c_type)
            continue
        a = memory.transposed(a_place, call.a_type)
        b = memory.transposed(b_place, call.b_type)
        left = _operand(memory, "b", b, call.b_type, call.b_operation)
        right = _operand(memory, "a", a, call.a_type, call.a_operation)
        if call.compute_type in _INTEGER_COMPUTE:
            _multiply_integers(left, right, result, alpha, beta)
        elif beta == 0 and alpha == 1 and left.dtype == right.dtype == result.dtype:
            np.matmul(left, right, out=result)
        else:
            product = memory.scratch("product", result.shape, left.dtype)
            np.matmul(left, right, out=product)
            if alpha != 1:
                product *= alpha
            if beta != 0:
                product += beta * widened(result, call.c_type)
            store(result, product, call.c_type)


def _operand(
    memory: Memory, name: str, array: Array, kind: DataType, operation: Operation
) -> Array:
    """op(X)' from X'; what the whole batch shares is converted once."""
    shared = len(array) > 1 and not array.strides[0]
    wide = array[:1] if shared else array
    if kind in _CONVERTED:
        wide = widened(wide, kind, memory.scratch(name, wide.shape, _FLOAT))
    elif kind is DataType.C_8I:
        wide = widened(wide, kind)
    if operation is Operation.C and kind.complex:
        wide = wide.conj()
    if shared:
        wide = np.broadcast_to(wide, array.shape)
    return wide if operation is Operation.N else wide.swapaxes(-1, -2)


def _scale(result: Array, beta: Any, kind: DataType) -> None:
    if beta == 0:
        result[...] = np.zeros((), result.dtype)
    elif beta != 1:
        store(result, widened(result, kind) * beta, kind)


def _multiply_integers(left: Array, right: Array, result: Array, alpha: Any, beta: Any) -> None:
    """Products of bytes fit a double exactly for any k that fits the device."""
    product = np.matmul(left.astype(np.float64), right.astype(np.float64)).astype(np.int64)
    product *= alpha
    if beta:
        product += beta * result.astype(np.int64)
    result[...] = product.astype(np.int32)
