"""BLAS calls for the tests: matrices of every type on a device, and what numpy makes of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vgpu_host.executors.blas import (
    BlasCall,
    ComputeType,
    DataType,
    Diagonal,
    Fill,
    Operation,
    Routine,
    Side,
)

from .conftest import Device

Array = NDArray[Any]

#: A call in which nothing is set.
EMPTY = BlasCall(
    routine=Routine.GEMM,
    a_type=DataType.R_32F,
    b_type=DataType.R_32F,
    c_type=DataType.R_32F,
    compute_type=ComputeType.F32,
    math_mode=0,
    a_operation=Operation.N,
    b_operation=Operation.N,
    side=Side.LEFT,
    fill=Fill.LOWER,
    diagonal=Diagonal.NON_UNIT,
    device_scalars=False,
    pointer_arrays=False,
    m=0,
    n=0,
    k=0,
    a=0,
    b=0,
    c=0,
    a_step=1,
    b_step=1,
    c_step=1,
    a_stride=0,
    b_stride=0,
    c_stride=0,
    batch=1,
    workspace=0,
    workspace_bytes=0,
    alpha=bytes(16),
    beta=bytes(16),
)

#: Types that numpy has; bfloat16 is a float here and its upper half on the device.
VALUES: dict[DataType, type] = {
    DataType.R_16F: np.float16,
    DataType.R_16BF: np.float32,
    DataType.R_32F: np.float32,
    DataType.R_64F: np.float64,
    DataType.C_32F: np.complex64,
    DataType.C_64F: np.complex128,
    DataType.R_8I: np.int8,
    DataType.R_32I: np.int32,
    DataType.R_64I: np.int64,
}
#: Relative error of one rounding to the type.
EPSILON = {
    DataType.R_16F: 2.0**-11,
    DataType.R_16BF: 2.0**-8,
    DataType.R_32F: 2.0**-24,
    DataType.R_64F: 2.0**-53,
    DataType.C_32F: 2.0**-23,
    DataType.C_64F: 2.0**-52,
    DataType.R_32I: 0.0,
}


def random_array(seed: int, shape: tuple[int, ...], kind: DataType) -> Array:
    """Values that their type holds exactly, between -1 and 1, or -8 and 8 for integers."""
    generator = np.random.default_rng(seed)
    if kind in (DataType.R_8I, DataType.R_32I):
        return generator.integers(-8, 9, shape).astype(VALUES[kind])
    values = generator.uniform(-1, 1, shape)
    if kind.complex:
        return (values + 1j * generator.uniform(-1, 1, shape)).astype(VALUES[kind])
    if kind is DataType.R_16BF:
        return (values.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)
    return values.astype(VALUES[kind])


def packed(array: Array, kind: DataType) -> bytes:
    """The bytes of an array, last axis fastest, as the device stores it."""
    if kind is DataType.R_16BF:
        return (
            (np.ascontiguousarray(array, np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
        )
    return np.ascontiguousarray(array, VALUES[kind]).tobytes()


def unpacked(data: bytes, kind: DataType) -> Array:
    """The array of those bytes, flat."""
    if kind is DataType.R_16BF:
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, VALUES[kind])


def scalar(value: complex, kind: DataType) -> bytes:
    """16 bytes that begin with a scalar."""
    return packed(np.array([value if kind.complex else value.real]), kind).ljust(16, b"\0")


class Matrices:
    """A batch of column-major matrices on a device, with `pad` unused rows and a gap in between."""

    def __init__(
        self, device: Device, values: Array, kind: DataType, pad: int = 0, gap: int = 0
    ) -> None:
        self._device = device
        self.kind = kind
        self.batch, self.rows, self.columns = values.shape
        self.step = max(self.rows + pad, 1)
        self.stride = self.step * self.columns + gap
        stored = np.full((self.batch, self.stride), 77, values.dtype)
        inner = stored[:, : self.step * self.columns].reshape(self.batch, self.columns, self.step)
        inner[:, :, : self.rows] = values.swapaxes(1, 2)
        self._bytes = packed(stored, kind)
        self.pointer = device.upload(self._bytes)

    def values(self) -> Array:
        """What is there now, (batch, rows, columns); checks that nothing else has changed."""
        flat = unpacked(self._device.download(self.pointer, len(self._bytes)), self.kind)
        stored = flat.reshape(self.batch, self.stride)
        inner = stored[:, : self.step * self.columns].reshape(self.batch, self.columns, self.step)
        assert (inner[:, :, self.rows :] == 77).all()
        assert (stored[:, self.step * self.columns :] == 77).all()
        return inner[:, :, : self.rows].swapaxes(1, 2)

    def pointer_array(self) -> int:
        """A device array of the pointers to the matrices."""
        size = self.stride * self.kind.bytes
        pointers = np.arange(self.batch, dtype=np.uint64) * np.uint64(size) + np.uint64(
            self.pointer
        )
        return self._device.upload(pointers.tobytes())


def operated(values: Array, operation: Operation) -> Array:
    """op(X) of a batch."""
    if operation is Operation.N:
        return values
    swapped = values.swapaxes(-1, -2)
    return swapped.conj() if operation is Operation.C else swapped


def with_operands(call: BlasCall, a: Matrices, b: Matrices, c: Matrices | None = None) -> BlasCall:
    """The call on these matrices: their pointers, types, steps, strides and batch."""
    call = replace(
        call,
        a=a.pointer_array() if call.pointer_arrays else a.pointer,
        a_type=a.kind,
        a_step=a.step,
        a_stride=a.stride,
        b=b.pointer_array() if call.pointer_arrays else b.pointer,
        b_type=b.kind,
        b_step=b.step,
        b_stride=b.stride,
        batch=a.batch,
    )
    if c is None:
        return call
    return replace(
        call,
        c=c.pointer_array() if call.pointer_arrays else c.pointer,
        c_type=c.kind,
        c_step=c.step,
        c_stride=c.stride,
    )


class Vector:
    """A vector on a device, `step` elements apart; a negative step stores it backwards."""

    def __init__(self, device: Device, values: Array, kind: DataType, step: int = 1) -> None:
        self._device = device
        self.kind = kind
        self.step = step
        self.length = len(values)
        stored = np.full(max((self.length - 1) * abs(step) + 1, 1), 77, values.dtype)
        stored[:: abs(step)][: self.length] = values[::-1] if step < 0 else values
        self._bytes = packed(stored, kind)
        self.pointer = device.upload(self._bytes)

    def values(self) -> Array:
        """What is there now; checks that nothing in between has changed."""
        stored = unpacked(self._device.download(self.pointer, len(self._bytes)), self.kind)
        between = np.ones(len(stored), bool)
        between[:: abs(self.step)] = False
        assert (stored[between] == 77).all()
        values = stored[:: abs(self.step)][: self.length]
        return values[::-1] if self.step < 0 else values


def triangle_of(full: Array, fill: Fill, diagonal: Diagonal) -> Array:
    """The triangular matrix that is stored in a triangle."""
    triangle = np.tril(full) if fill is Fill.LOWER else np.triu(full)
    if diagonal is Diagonal.UNIT:
        np.fill_diagonal(triangle, 1)
    return triangle


def symmetric_of(full: Array, fill: Fill, *, hermitian: bool) -> Array:
    """The symmetric or Hermitian matrix that is stored in a triangle."""
    strict = np.tril(full, -1) if fill is Fill.LOWER else np.triu(full, 1)
    diagonal = np.diag(full.diagonal().real if hermitian else full.diagonal())
    return strict + (strict.conj() if hermitian else strict).T + diagonal
