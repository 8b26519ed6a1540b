"""Calls of cuBLAS that no library of ours sends: types that do not go together, sizes beyond all.

The guest's library has refused them already; a guest that talks to the device itself gets the error
here, and numpy never sees them.
"""

from __future__ import annotations

from typing import Final

from vgpu_host.executors.base import CudaError
from vgpu_host.executors.blas import BlasCall, ComputeType, DataType, Routine
from vgpu_host.executors.software.errors import CudaResult, DeviceFault

_FLOATS: Final = frozenset((DataType.R_32F, DataType.R_64F, DataType.C_32F, DataType.C_64F))
_NARROW: Final = frozenset((DataType.R_16F, DataType.R_16BF))
_VECTOR_TYPES: Final = _FLOATS | _NARROW
_SCALED: Final = frozenset((Routine.AXPY, Routine.SCAL))
_PRODUCTS: Final = frozenset((Routine.DOT, Routine.DOTC))
_NORMS: Final = frozenset((Routine.NRM2, Routine.ASUM))
_EXTREMES: Final = frozenset((Routine.AMAX, Routine.AMIN))
_MOVES: Final = frozenset((Routine.COPY, Routine.SWAP))
_INDEXES: Final = frozenset((DataType.R_32I, DataType.R_64I))

#: Types of C for each type of A and B, by compute type: the table of cublasGemmEx.
_Table = dict[DataType, frozenset[DataType]]


def _same(*types: DataType) -> _Table:
    return {one: frozenset((one,)) for one in types}


_SINGLE: Final[_Table] = {
    DataType.R_16F: frozenset((DataType.R_16F, DataType.R_32F)),
    DataType.R_16BF: frozenset((DataType.R_16BF, DataType.R_32F)),
    DataType.R_8I: frozenset((DataType.R_32F,)),
    DataType.R_32F: frozenset((DataType.R_32F,)),
    DataType.C_8I: frozenset((DataType.C_32F,)),
    DataType.C_32F: frozenset((DataType.C_32F,)),
}
_FAST: Final = _same(DataType.R_32F, DataType.C_32F)
_DOUBLE: Final = _same(DataType.R_64F, DataType.C_64F)
_INTEGER: Final[_Table] = {DataType.R_8I: frozenset((DataType.R_32I,))}
_GEMM: Final[dict[int, _Table]] = {
    ComputeType.F16: _same(DataType.R_16F),
    ComputeType.F16_PEDANTIC: _same(DataType.R_16F),
    ComputeType.F32: _SINGLE,
    ComputeType.F32_PEDANTIC: _SINGLE,
    ComputeType.F32_FAST_F16: _FAST,
    ComputeType.F32_FAST_BF16: _FAST,
    ComputeType.F32_FAST_TF32: _FAST,
    ComputeType.F32_EMULATED_BF16X9: _FAST,
    ComputeType.F64: _DOUBLE,
    ComputeType.F64_PEDANTIC: _DOUBLE,
    ComputeType.F64_EMULATED_FIXED_POINT: _DOUBLE,
    ComputeType.I32: _INTEGER,
    ComputeType.I32_PEDANTIC: _INTEGER,
}


def check_call(call: BlasCall, total_bytes: int) -> None:
    """Refuse a call that cannot be meant.

    Args:
        call: The call.
        total_bytes: Device memory.

    Raises:
        CudaError: NOT_SUPPORTED: its types do not go together.
        DeviceFault: No memory could hold its operands.
    """
    if not _types_exist(call):
        raise CudaError(
            CudaResult.NOT_SUPPORTED,
            f"BLAS: {call.routine.name} of types {call.a_type.name}, {call.b_type.name}, "
            f"{call.c_type.name}, computed in {call.compute_type}",
        )
    if max(call.m, call.n, call.k, call.batch) > total_bytes:
        raise DeviceFault(
            CudaResult.ILLEGAL_ADDRESS,
            f"BLAS: {call.batch} problems of {call.m} x {call.n} x {call.k}",
        )


def _types_exist(call: BlasCall) -> bool:
    kind, routine = call.a_type, call.routine
    if routine is Routine.GEMM:
        results = _GEMM.get(call.compute_type, {}).get(kind, frozenset())
        return call.b_type is kind and call.c_type in results
    if routine in _SCALED:
        scale = call.c_type
        return kind in _VECTOR_TYPES and scale in _VECTOR_TYPES and scale.complex <= kind.complex
    if routine in _PRODUCTS:
        return kind in _VECTOR_TYPES and call.c_type is kind
    if routine in _NORMS:
        return kind in _VECTOR_TYPES and call.c_type is kind.real
    if routine in _EXTREMES:
        return kind in _FLOATS and call.c_type in _INDEXES
    if routine in _MOVES:
        return kind in _VECTOR_TYPES
    return kind in _FLOATS
