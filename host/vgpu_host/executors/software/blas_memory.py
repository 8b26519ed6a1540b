"""Device memory as numpy arrays, and the types of cuBLAS in terms of numpy's.

What an array touches is checked against its allocation before anything is read or written, and
fails like an access of a kernel.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vgpu_host.executors.blas import BlasCall, DataType
from vgpu_host.executors.software.errors import CudaResult, DeviceFault

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
    DataType.R_64I: np.dtype(np.int64),
}
#: Intermediate values up to that size keep their memory.
_SCRATCH_BYTES: Final = 64 << 20
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

    def __init__(self, check_range: CheckRange, total_bytes: int) -> None:
        self._check_range = check_range
        self._total_bytes = total_bytes
        self._buffers: dict[str, Array] = {}

    def scratch(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """An array for intermediate values; the next call of that name reuses it.

        Fresh memory costs a page fault for every 1024 floats, more than their conversion does.
        """
        size = math.prod(shape) * dtype.itemsize
        if size > _SCRATCH_BYTES:
            return np.empty(shape, dtype)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.nbytes < size:
            buffer = self._buffers[name] = np.empty(size, np.uint8)
        return buffer[:size].view(dtype).reshape(shape)

    def array(
        self, pointer: int, shape: tuple[int, ...], steps: tuple[int, ...], kind: DataType
    ) -> Array:
        """An array on device memory, with steps in elements.

        Raises:
            DeviceFault: Not all of it lies in one allocation, or it is misaligned.
        """
        stored = _STORED[kind]
        size = stored.itemsize
        low = high = 0  # of the elements' offsets
        for count, step in zip(shape, steps, strict=True):
            if not count:
                return np.empty(shape, stored)
            reach = (count - 1) * step
            if reach < 0:
                low += reach
            else:
                high += reach
        first = pointer + size * low
        length = size * (high - low + 1)
        # Steps of 0 make more elements than there is memory, for which the host has none either.
        # Only a matrix that a whole batch shares is meant so, and is not copied for each.
        own = shape[1:] if len(shape) == 3 and not steps[0] else shape
        if size * math.prod(own) > self._total_bytes:
            raise DeviceFault(CudaResult.ILLEGAL_ADDRESS, f"BLAS: an operand of shape {shape}")
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
            # A step that is never taken may be larger than any memory.
            [size * step if count > 1 else size for count, step in zip(shape, steps, strict=True)],
        )

    def transposed(self, place: Place, kind: DataType) -> Array:
        """The transposes of the matrices of a batch, row-major: (batch, columns, rows)."""
        shape = (place.batch, place.columns, place.rows)
        return self.array(place.pointer, shape, (place.stride, place.step, 1), kind)

    def matrix(self, pointer: int, rows: int, columns: int, step: int, kind: DataType) -> Array:
        """One matrix, (rows, columns)."""
        return self.array(pointer, (columns, rows), (step, 1), kind).T

    def vector(self, pointer: int, length: int, step: int, kind: DataType) -> Array:
        """A vector; with a negative step it is read backwards from its end."""
        first = pointer if step > 0 else pointer - (length - 1) * step * _STORED[kind].itemsize
        return self.array(first, (length,), (step,), kind)

    def batches(
        self, call: BlasCall, *operands: tuple[int, int, int, int, int]
    ) -> Iterator[tuple[Place, ...]]:
        """Places of (pointer, rows, columns, step, stride): all in one, or one by one."""
        if not call.pointer_arrays:
            yield tuple(Place(*operand, call.batch) for operand in operands)
            return
        arrays = [self.pointers(operand[0], call.batch) for operand in operands]
        for pointers in zip(*arrays, strict=True):
            yield tuple(
                Place(pointer, rows, columns, step, 0, 1)
                for pointer, (_, rows, columns, step, _) in zip(pointers, operands, strict=True)
            )

    def pointers(self, pointer: int, count: int) -> list[int]:
        """An array of device pointers in device memory."""
        return [int(each) for each in self.array(pointer, (count,), (1,), DataType.R_64I)]

    def scalar(self, text: bytes, kind: DataType, on_device: bool) -> Any:
        """alpha or beta, in the type that is computed with."""
        stored = _STORED[kind]
        if on_device:
            stored_value = self.array(int.from_bytes(text[:8], "little"), (1,), (1,), kind)
        else:
            stored_value = np.frombuffer(text, stored, 1)
        value = widened(stored_value, kind)[0]
        return int(value) if kind is DataType.R_32I else value


def widened(array: Array, kind: DataType, out: Array | None = None) -> Array:
    """An array in the type that its elements are computed with; itself where that is its own.

    `out` is a float array of its shape to write to, instead of a new one.
    """
    if kind in (DataType.R_16F, DataType.R_8I, DataType.R_16BF):
        if out is None:
            out = np.empty(array.shape, np.float32)
        if kind is DataType.R_16BF:
            np.left_shift(array, np.uint32(16), out=out.view(np.uint32))
        else:
            np.copyto(out, array)
        return out
    if kind is DataType.C_8I:
        return array["real"].astype(np.float32) + np.complex64(1j) * array["imaginary"]
    return array


def store(result: Array, computed: Array, kind: DataType) -> None:
    """Round computed elements once to the type that they are stored in, ties to even.

    `computed` may be overwritten.
    """
    if kind is not DataType.R_16BF:
        np.copyto(result, computed, casting="same_kind")
        return
    nan = np.isnan(computed)
    bits = computed.view(np.uint32)
    odd = bits >> 16
    odd &= 1
    odd += 0x7FFF
    bits += odd
    np.right_shift(bits, 16, out=result, casting="unsafe")
    if nan.any():
        result[nan] = 0x7FFF
