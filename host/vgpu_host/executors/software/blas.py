"""cuBLAS on the CPU: numpy's BLAS on device memory, in place where the layout allows it.

A column-major matrix is seen as the row-major one of its transpose, so C = A B is computed as
C' = B' A'. Half and bfloat16 are converted to float, accumulated in float and rounded once; 8-bit
integers are multiplied exactly. What a matrix touches is checked against its allocation before
anything is read, and fails like an access of a kernel.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vgpu_host.executors.blas import (
    BlasCall,
    ComputeType,
    DataType,
    Operation,
    Routine,
)
from vgpu_host.executors.software.errors import CudaResult, DeviceFault
from vgpu_host.executors.software.triangular import solve

Array = NDArray[Any]
CheckRange = Callable[[int, int], None]

_BYTE_PAIR: Final = np.dtype([("real", "i1"), ("imaginary", "i1")])
#: Elements as they are stored; bfloat16 as the upper half of a float.
_STORED: Final[dict[DataType, np.dtype[Any]]] = {
    DataType.R_16F: np.dtype(np.float16),
    DataType.R_16BF: np.dtype(np.uint16),
    DataType.R_32F: np.dtype(np.float32),
    DataType.R_64F: np.dtype(np.float64),
    DataType.C_32F: np.dtype(np.complex64),
    DataType.C_64F: np.dtype(np.complex128),
    DataType.R_8I: np.dtype(np.int8),
    DataType.C_8I: _BYTE_PAIR,
    DataType.R_32I: np.dtype(np.int32),
}
_INTEGER_COMPUTE: Final = frozenset((ComputeType.I32, ComputeType.I32_PEDANTIC))
_BUFFER_WRITABLE: Final = 0x200
_view = ctypes.pythonapi.PyMemoryView_FromMemory
_view.argtypes = (ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int)
_view.restype = ctypes.py_object


class Place(NamedTuple):
    """Where the matrices of a batch are: `step` and `stride` in elements."""

    pointer: int
    rows: int
    columns: int
    step: int
    stride: int
    batch: int


class Memory:
    """Device memory as arrays."""

    def __init__(self, check_range: CheckRange) -> None:
        self._check_range = check_range

    def array(
        self, pointer: int, shape: tuple[int, ...], steps: tuple[int, ...], kind: DataType
    ) -> Array:
        """An array on device memory, with steps in elements.

        Raises:
            DeviceFault: Not all of it lies in one allocation, or it is misaligned.
        """
        stored = _STORED[kind]
        size = stored.itemsize
        if 0 in shape:
            return np.empty(shape, stored)
        reach = [(count - 1) * step for count, step in zip(shape, steps, strict=True)]
        first = pointer + size * sum(way for way in reach if way < 0)
        length = size * (sum(abs(way) for way in reach) + 1)
        alignment = stored.alignment
        if pointer % alignment:
            raise DeviceFault(
                CudaResult.MISALIGNED_ADDRESS, f"{pointer:#x} is no multiple of {alignment}"
            )
        try:
            self._check_range(first, length)
        except DeviceFault as fault:
            raise DeviceFault(CudaResult.ILLEGAL_ADDRESS, f"BLAS: {fault.message}") from fault
        return np.ndarray(
            shape,
            stored,
            _view(first, length, _BUFFER_WRITABLE),
            pointer - first,
            tuple(size * step for step in steps),
        )

    def transposed(self, place: Place, kind: DataType) -> Array:
        """The transposes of the matrices of a batch, row-major: (batch, columns, rows)."""
        shape = (place.batch, place.columns, place.rows)
        return self.array(place.pointer, shape, (place.stride, place.step, 1), kind)

    def pointers(self, pointer: int, count: int) -> list[int]:
        """An array of device pointers in device memory."""
        return [int(p) for p in self.array(pointer, (count,), (1,), DataType.R_64F).view(np.uint64)]

    def scalar(self, text: bytes, kind: DataType, on_device: bool) -> Any:
        """alpha or beta, in the type that is computed with."""
        stored = _STORED[kind]
        if on_device:
            stored_value = self.array(int.from_bytes(text[:8], "little"), (1,), (1,), kind)
        else:
            stored_value = np.frombuffer(text, stored, 1)
        value = widened(stored_value, kind)[0]
        return int(value) if kind is DataType.R_32I else value


def widened(array: Array, kind: DataType) -> Array:
    """An array in the type that its elements are computed with; itself where that is its own."""
    if kind is DataType.R_16BF:
        return (array.astype(np.uint32) << 16).view(np.float32)
    if kind in (DataType.R_16F, DataType.R_8I):
        return array.astype(np.float32)
    if kind is DataType.C_8I:
        return array["real"].astype(np.float32) + np.complex64(1j) * array["imaginary"]
    return array


def narrowed(array: Array, kind: DataType) -> Array:
    """Round computed elements once to the type that they are stored in, ties to even."""
    if kind is DataType.R_16BF:
        bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
        rounded = bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))
        quiet = bits | np.uint32(0x0040_0000)
        return (np.where(np.isnan(array), quiet, rounded) >> 16).astype(np.uint16)
    return array.astype(_STORED[kind], copy=False)


class Blas:
    """Carries out routines of cuBLAS on device memory."""

    def __init__(self, check_range: CheckRange) -> None:
        """Make one; `check_range` raises DeviceFault where a range is not in an allocation."""
        self._memory = Memory(check_range)
        self._routines = {Routine.GEMM: self._gemm, Routine.TRSM: self._trsm}

    def run(self, call: BlasCall) -> None:
        """Carry out a call.

        Raises:
            DeviceFault: It touches memory that it must not.
        """
        with np.errstate(all="ignore"):
            self._routines[call.routine](call)

    # -- batches ---------------------------------------------------------------------------------

    def _places(
        self, call: BlasCall, *operands: tuple[int, int, int, int, int]
    ) -> Iterator[tuple[Place, ...]]:
        """Places of (pointer, rows, columns, step, stride): all in one, or one by one."""
        if not call.pointer_arrays:
            yield tuple(Place(*operand, call.batch) for operand in operands)
            return
        arrays = [self._memory.pointers(operand[0], call.batch) for operand in operands]
        for pointers in zip(*arrays, strict=True):
            yield tuple(
                Place(pointer, rows, columns, step, 0, 1)
                for pointer, (_, rows, columns, step, _) in zip(pointers, operands, strict=True)
            )

    # -- general matrices ------------------------------------------------------------------------

    def _gemm(self, call: BlasCall) -> None:
        scale = call.scale_type
        alpha = self._memory.scalar(call.alpha, scale, call.device_scalars)
        beta = self._memory.scalar(call.beta, scale, call.device_scalars)
        a_shape = (call.m, call.k) if call.a_operation is Operation.N else (call.k, call.m)
        b_shape = (call.k, call.n) if call.b_operation is Operation.N else (call.n, call.k)
        places = self._places(
            call,
            (call.a, *a_shape, call.a_step, call.a_stride),
            (call.b, *b_shape, call.b_step, call.b_stride),
            (call.c, call.m, call.n, call.c_step, call.c_stride),
        )
        multiply = _multiply_integers if call.compute_type in _INTEGER_COMPUTE else _multiply
        for a_place, b_place, c_place in places:
            result = self._memory.transposed(c_place, call.c_type)
            if call.k == 0 or alpha == 0:
                _scale(result, beta, call.c_type)
                continue
            a = self._memory.transposed(a_place, call.a_type)
            b = self._memory.transposed(b_place, call.b_type)
            left = _operand(b, call.b_type, call.b_operation)
            right = _operand(a, call.a_type, call.a_operation)
            multiply(left, right, result, alpha, beta, call.c_type)

    # -- triangular matrices ---------------------------------------------------------------------

    def _trsm(self, call: BlasCall) -> None:
        alpha = self._memory.scalar(call.alpha, call.scale_type, call.device_scalars)
        order = call.n if call.side else call.m
        places = self._places(
            call,
            (call.a, order, order, call.a_step, call.a_stride),
            (call.b, call.m, call.n, call.b_step, call.b_stride),
        )
        for a_place, b_place in places:
            a = self._memory.transposed(a_place, call.a_type)
            b = self._memory.transposed(b_place, call.a_type)
            solve(call, a, b, alpha)


def _operand(array: Array, kind: DataType, operation: Operation) -> Array:
    """op(X)' from X'."""
    wide = widened(array, kind)
    if operation is Operation.N:
        return wide
    if operation is Operation.C and kind.complex:
        wide = wide.conj()
    return wide.swapaxes(-1, -2)


def _scale(result: Array, beta: Any, kind: DataType) -> None:
    if beta == 0:
        result[...] = np.zeros((), result.dtype)
    elif beta != 1:
        result[...] = narrowed(widened(result, kind) * beta, kind)


def _multiply(
    left: Array, right: Array, result: Array, alpha: Any, beta: Any, kind: DataType
) -> None:
    if beta == 0 and alpha == 1 and left.dtype == right.dtype == result.dtype:
        np.matmul(left, right, out=result)
        return
    product = np.matmul(left, right)
    if alpha != 1:
        product *= alpha
    if beta != 0:
        product += beta * widened(result, kind)
    result[...] = narrowed(product, kind)


def _multiply_integers(
    left: Array, right: Array, result: Array, alpha: Any, beta: Any, kind: DataType
) -> None:
    """Products of bytes fit a double exactly for any k that fits the device."""
    product = np.matmul(left.astype(np.float64), right.astype(np.float64)).astype(np.int64)
    product *= alpha
    if beta:
        product += beta * result.astype(np.int64)
    result[...] = product.astype(np.int32)
