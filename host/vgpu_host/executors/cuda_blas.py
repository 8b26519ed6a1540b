"""cuBLAS on a physical GPU, by NVIDIA's binding `nvmath.bindings.cublas`.

A handle belongs to the context in which it was made and takes its stream, workspace and modes from
each call. Without a workspace of the program cuBLAS uses its own, which is safe across streams and
which a capture records as memory nodes: both as on the program's own machine.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

from vgpu_host.executors.base import CudaError, Stream
from vgpu_host.executors.blas import BlasCall, DataType, Routine

_OUT_OF_MEMORY: Final = 2
_NOT_SUPPORTED: Final = 801
_LAUNCH_FAILED: Final = 719
#: cublasStatus_t -> CUresult; the guest has checked what it can, so others are the device's.
_RESULTS: Final = {
    3: _OUT_OF_MEMORY,  # CUBLAS_STATUS_ALLOC_FAILED
    7: 1,  # CUBLAS_STATUS_INVALID_VALUE: CUDA_ERROR_INVALID_VALUE
    8: _NOT_SUPPORTED,  # CUBLAS_STATUS_ARCH_MISMATCH
    15: _NOT_SUPPORTED,  # CUBLAS_STATUS_NOT_SUPPORTED
}
_LETTERS: Final = {
    DataType.R_32F: "s",
    DataType.R_64F: "d",
    DataType.C_32F: "c",
    DataType.C_64F: "z",
}
_GEMM_DEFAULT: Final = -1
_INT_MAX: Final = (1 << 31) - 1
_SCALAR_BYTES: Final = 16


class CudaBlas:
    """cuBLAS in the context that is current, now and at every call."""

    def __init__(self) -> None:
        """Load cuBLAS and make a handle.

        Raises:
            CudaError: The binding or the library is missing, or the handle cannot be made.
        """
        try:
            from nvmath.bindings import cublas  # takes a third of a second
        except ImportError as error:
            text = f"cuBLAS needs the Python package nvmath-python: {error}"
            raise CudaError(_NOT_SUPPORTED, text) from error
        self._cublas = cublas
        self._handle: int = self._ask("create")
        # What the handle is set to.
        self._stream = 0
        self._workspace = (0, 0)
        self._math_mode = 0
        self._device_scalars = False
        scalars = (ctypes.c_char * (2 * _SCALAR_BYTES))()
        self._scalars = memoryview(scalars).cast("B")
        self._scalars_address = ctypes.addressof(scalars)
        self._routines = {Routine.GEMM: self._gemm, Routine.TRSM: self._trsm}

    def _ask(self, name: str, *arguments: int) -> Any:
        try:
            return getattr(self._cublas, name)(*arguments)
        except self._cublas.cuBLASError as error:
            text = f"cublas {name}: {error}"
            raise CudaError(_RESULTS.get(error.status, _LAUNCH_FAILED), text) from error
        except RuntimeError as error:  # the library, or one of its functions, is not there
            raise CudaError(_NOT_SUPPORTED, f"cublas {name}: {error}") from error

    def run(self, call: BlasCall, stream: Stream | None) -> None:
        """Queue a call.

        Raises:
            CudaError: cuBLAS refuses it.
        """
        self._set(call, int(stream) if stream else 0)  # type: ignore[call-overload]  # a CUstream
        self._routines[call.routine](call)

    def _set(self, call: BlasCall, stream: int) -> None:
        workspace = (call.workspace, call.workspace_bytes)
        if (stream, workspace) != (self._stream, self._workspace):
            self._ask("set_stream", self._handle, stream)  # also takes the workspace away
            if call.workspace:
                self._ask("set_workspace", self._handle, *workspace)
            self._stream, self._workspace = stream, workspace
        if call.math_mode != self._math_mode:
            self._ask("set_math_mode", self._handle, call.math_mode)
            self._math_mode = call.math_mode
        if call.device_scalars != self._device_scalars:
            self._ask("set_pointer_mode", self._handle, int(call.device_scalars))
            self._device_scalars = call.device_scalars

    def _scalar_addresses(self, call: BlasCall) -> tuple[int, int]:
        if call.device_scalars:
            return int.from_bytes(call.alpha[:8], "little"), int.from_bytes(call.beta[:8], "little")
        self._scalars[:_SCALAR_BYTES] = call.alpha
        self._scalars[_SCALAR_BYTES:] = call.beta
        return self._scalars_address, self._scalars_address + _SCALAR_BYTES

    def _gemm(self, call: BlasCall) -> None:
        alpha, beta = self._scalar_addresses(call)
        a = [call.a, call.a_type, call.a_step]
        b = [call.b, call.b_type, call.b_step]
        c = [call.c, call.c_type, call.c_step]
        batch: list[int] = []
        name = "gemm_ex"
        if call.pointer_arrays:
            name = "gemm_batched_ex"
            batch = [call.batch]
        elif call.batch != 1:
            name = "gemm_strided_batched_ex"
            a.append(call.a_stride)
            b.append(call.b_stride)
            c.append(call.c_stride)
            batch = [call.batch]
        self._ask(
            name + _wide(call),
            self._handle,
            call.a_operation,
            call.b_operation,
            call.m,
            call.n,
            call.k,
            alpha,
            *a,
            *b,
            beta,
            *c,
            *batch,
            call.compute_type,
            _GEMM_DEFAULT,
        )

    def _trsm(self, call: BlasCall) -> None:
        alpha, _ = self._scalar_addresses(call)
        name = f"{_letter(call.a_type)}trsm"
        batch: list[int] = []
        if call.pointer_arrays:
            name += "_batched"
            batch = [call.batch]
        elif call.batch != 1:
            raise CudaError(_NOT_SUPPORTED, "cuBLAS solves no strided batches of triangles")
        self._ask(
            name + _wide(call),
            self._handle,
            call.side,
            call.fill,
            call.a_operation,
            call.diagonal,
            call.m,
            call.n,
            alpha,
            call.a,
            call.a_step,
            call.b,
            call.b_step,
            *batch,
        )

    def close(self) -> None:
        """Destroy the handle, which waits for the device."""
        self._ask("destroy", self._handle)


def _letter(kind: DataType) -> str:
    try:
        return _LETTERS[kind]
    except KeyError:
        raise CudaError(_NOT_SUPPORTED, f"no routine of cuBLAS for {kind.name}") from None


def _wide(call: BlasCall) -> str:
    """Suffix of the functions with 64-bit sizes, where they are needed."""
    sizes = (call.m, call.n, call.k, call.a_step, call.b_step, call.c_step, call.batch)
    return "_64" if max(sizes) > _INT_MAX else ""
