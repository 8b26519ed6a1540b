"""Routines of cuBLAS as an executor gets them: one call with all that any routine takes.

The numbers of the enumerations are those of `cublas_api.h` and `library_types.h`. The guest's
library has checked the arguments as cuBLAS documents it; an executor checks again what could harm
the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from vgpu_stub.abi import generated as abi


class DataType(IntEnum):
    """`cudaDataType`: R is real, C is complex."""

    R_32F = 0
    R_64F = 1
    R_16F = 2
    R_8I = 3
    C_32F = 4
    C_64F = 5
    C_8I = 7
    R_32I = 10
    R_16BF = 14
    R_64I = 24

    @property
    def bytes(self) -> int:
        """Size of an element."""
        return _BYTES[self]

    @property
    def complex(self) -> bool:
        """Whether elements are pairs of real and imaginary part."""
        return self in (DataType.C_32F, DataType.C_64F, DataType.C_8I)

    @property
    def real(self) -> DataType:
        """Type of the real part of a float."""
        return {DataType.C_32F: DataType.R_32F, DataType.C_64F: DataType.R_64F}.get(self, self)


_BYTES: Final = {
    DataType.R_32F: 4,
    DataType.R_64F: 8,
    DataType.R_16F: 2,
    DataType.R_8I: 1,
    DataType.C_32F: 8,
    DataType.C_64F: 16,
    DataType.C_8I: 2,
    DataType.R_32I: 4,
    DataType.R_16BF: 2,
    DataType.R_64I: 8,
}


class ComputeType(IntEnum):
    """`cublasComputeType_t`."""

    F16 = 64
    F16_PEDANTIC = 65
    F32 = 68
    F32_PEDANTIC = 69
    F64 = 70
    F64_PEDANTIC = 71
    I32 = 72
    I32_PEDANTIC = 73
    F32_FAST_F16 = 74
    F32_FAST_BF16 = 75
    F32_FAST_TF32 = 77
    F32_EMULATED_BF16X9 = 78
    F64_EMULATED_FIXED_POINT = 79


class Operation(IntEnum):
    """`cublasOperation_t`: the matrix itself, transposed, conjugate transposed."""

    N = 0
    T = 1
    C = 2


class Side(IntEnum):
    """`cublasSideMode_t`: where the triangular or symmetric matrix stands."""

    LEFT = 0
    RIGHT = 1


class Fill(IntEnum):
    """`cublasFillMode_t`: the triangle that is stored."""

    LOWER = 0
    UPPER = 1


class Diagonal(IntEnum):
    """`cublasDiagType_t`."""

    NON_UNIT = 0
    UNIT = 1


class Routine(IntEnum):
    """What to compute."""

    GEMM = abi.BLAS_GEMM
    TRSM = abi.BLAS_TRSM
    SYMM = abi.BLAS_SYMM
    HEMM = abi.BLAS_HEMM
    SYRK = abi.BLAS_SYRK
    HERK = abi.BLAS_HERK
    SYR2K = abi.BLAS_SYR2K
    HER2K = abi.BLAS_HER2K
    SYRKX = abi.BLAS_SYRKX
    HERKX = abi.BLAS_HERKX
    TRMM = abi.BLAS_TRMM
    GEAM = abi.BLAS_GEAM
    DGMM = abi.BLAS_DGMM
    GEMV = abi.BLAS_GEMV
    GER = abi.BLAS_GER
    GERC = abi.BLAS_GERC
    SYMV = abi.BLAS_SYMV
    HEMV = abi.BLAS_HEMV
    TRMV = abi.BLAS_TRMV
    TRSV = abi.BLAS_TRSV
    AXPY = abi.BLAS_AXPY
    SCAL = abi.BLAS_SCAL
    COPY = abi.BLAS_COPY
    SWAP = abi.BLAS_SWAP
    DOT = abi.BLAS_DOT
    DOTC = abi.BLAS_DOTC
    NRM2 = abi.BLAS_NRM2
    ASUM = abi.BLAS_ASUM
    AMAX = abi.BLAS_AMAX
    AMIN = abi.BLAS_AMIN


@dataclass(slots=True)  # frozen would cost five microseconds a call
class BlasCall:
    """One call, in the terms of cuBLAS: column-major matrices, steps and strides in elements.

    A step is the leading dimension of a matrix or the increment of a vector, a stride the distance
    of two problems of a batch. With `pointer_arrays`, `a`, `b` and `c` are device pointers to
    `batch` device pointers. `alpha` and `beta` are 16 bytes: a value of the routine's scale type,
    or with `device_scalars` its device pointer. `workspace` is device memory that the
    program gives for the routine to use, or 0.
    """

    routine: Routine
    a_type: DataType
    b_type: DataType
    c_type: DataType
    compute_type: int
    math_mode: int
    a_operation: Operation
    b_operation: Operation
    side: Side
    fill: Fill
    diagonal: Diagonal
    device_scalars: bool
    pointer_arrays: bool
    m: int
    n: int
    k: int
    a: int
    b: int
    c: int
    a_step: int
    b_step: int
    c_step: int
    a_stride: int
    b_stride: int
    c_stride: int
    batch: int
    workspace: int
    workspace_bytes: int
    alpha: bytes
    beta: bytes

    @property
    def alpha_type(self) -> DataType:
        """Type of alpha."""
        match self.routine:
            case Routine.GEMM:
                return self._gemm_scale_type()
            case Routine.HERK:
                return self.a_type.real
            case Routine.SCAL | Routine.AXPY:
                return self.c_type
            case _:
                return self.a_type

    @property
    def beta_type(self) -> DataType:
        """Type of beta."""
        if self.routine in (Routine.HERK, Routine.HER2K, Routine.HERKX):
            return self.a_type.real
        return self.alpha_type

    def _gemm_scale_type(self) -> DataType:
        if self.compute_type in (ComputeType.F16, ComputeType.F16_PEDANTIC):
            return DataType.R_16F
        if self.compute_type in (ComputeType.I32, ComputeType.I32_PEDANTIC):
            return DataType.R_32I
        double = self.compute_type in (
            ComputeType.F64,
            ComputeType.F64_PEDANTIC,
            ComputeType.F64_EMULATED_FIXED_POINT,
        )
        if self.c_type.complex:
            return DataType.C_64F if double else DataType.C_32F
        return DataType.R_64F if double else DataType.R_32F
