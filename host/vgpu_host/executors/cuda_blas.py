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
#: Letters of functions with a real result, or a real scalar, for complex vectors.
_REAL_RESULT: Final = {"s": "s", "d": "d", "c": "sc", "z": "dz"}
_REAL_SCALAR: Final = {"s": "s", "d": "d", "c": "cs", "z": "zd"}

#: Name and arguments of each function; {t} is the letter of its type.
_SIGNATURES: Final = {
    (Routine.GEMM, ""): (
        "gemm_ex",
        "a_operation b_operation m n k alpha a a_type a_step b b_type b_step beta c c_type c_step"
        " compute_type algorithm",
    ),
    (Routine.GEMM, "_batched"): (
        "gemm_batched_ex",
        "a_operation b_operation m n k alpha a a_type a_step b b_type b_step beta c c_type c_step"
        " batch compute_type algorithm",
    ),
    (Routine.GEMM, "_strided_batched"): (
        "gemm_strided_batched_ex",
        "a_operation b_operation m n k alpha a a_type a_step a_stride b b_type b_step b_stride beta"
        " c c_type c_step c_stride batch compute_type algorithm",
    ),
    (Routine.TRSM, ""): ("{t}trsm", "side fill a_operation diagonal m n alpha a a_step b b_step"),
    (Routine.TRSM, "_batched"): (
        "{t}trsm_batched",
        "side fill a_operation diagonal m n alpha a a_step b b_step batch",
    ),
    (Routine.SYMM, ""): ("{t}symm", "side fill m n alpha a a_step b b_step beta c c_step"),
    (Routine.HEMM, ""): ("{t}hemm", "side fill m n alpha a a_step b b_step beta c c_step"),
    (Routine.SYRK, ""): ("{t}syrk", "fill a_operation n k alpha a a_step beta c c_step"),
    (Routine.HERK, ""): ("{t}herk", "fill a_operation n k alpha a a_step beta c c_step"),
    (Routine.SYR2K, ""): ("{t}syr2k", "fill a_operation n k alpha a a_step b b_step beta c c_step"),
    (Routine.HER2K, ""): ("{t}her2k", "fill a_operation n k alpha a a_step b b_step beta c c_step"),
    (Routine.SYRKX, ""): ("{t}syrkx", "fill a_operation n k alpha a a_step b b_step beta c c_step"),
    (Routine.HERKX, ""): ("{t}herkx", "fill a_operation n k alpha a a_step b b_step beta c c_step"),
    (Routine.TRMM, ""): (
        "{t}trmm",
        "side fill a_operation diagonal m n alpha a a_step b b_step c c_step",
    ),
    (Routine.GEAM, ""): (
        "{t}geam",
        "a_operation b_operation m n alpha a a_step beta b b_step c c_step",
    ),
    (Routine.DGMM, ""): ("{t}dgmm", "side m n a a_step b b_step c c_step"),
    (Routine.GEMV, ""): ("{t}gemv", "a_operation m n alpha a a_step b b_step beta c c_step"),
    (Routine.GEMV, "_batched"): (
        "{t}gemv_batched",
        "a_operation m n alpha a a_step b b_step beta c c_step batch",
    ),
    (Routine.GEMV, "_strided_batched"): (
        "{t}gemv_strided_batched",
        "a_operation m n alpha a a_step a_stride b b_step b_stride beta c c_step c_stride batch",
    ),
    (Routine.GER, ""): ("{t}ger{u}", "m n alpha a a_step b b_step c c_step"),
    (Routine.GERC, ""): ("{t}gerc", "m n alpha a a_step b b_step c c_step"),
    (Routine.SYMV, ""): ("{t}symv", "fill n alpha a a_step b b_step beta c c_step"),
    (Routine.HEMV, ""): ("{t}hemv", "fill n alpha a a_step b b_step beta c c_step"),
    (Routine.TRMV, ""): ("{t}trmv", "fill a_operation diagonal n a a_step b b_step"),
    (Routine.TRSV, ""): ("{t}trsv", "fill a_operation diagonal n a a_step b b_step"),
    (Routine.AXPY, ""): ("{t}axpy", "n alpha a a_step b b_step"),
    (Routine.SCAL, ""): ("{scalar}scal", "n alpha a a_step"),
    (Routine.COPY, ""): ("{t}copy", "n a a_step b b_step"),
    (Routine.SWAP, ""): ("{t}swap", "n a a_step b b_step"),
    (Routine.DOT, ""): ("{t}dot{u}", "n a a_step b b_step c"),
    (Routine.DOTC, ""): ("{t}dotc", "n a a_step b b_step c"),
    (Routine.NRM2, ""): ("{result}nrm2", "n a a_step c"),
    (Routine.ASUM, ""): ("{result}asum", "n a a_step c"),
    (Routine.AMAX, ""): ("i{t}amax", "n a a_step c"),
    (Routine.AMIN, ""): ("i{t}amin", "n a a_step c"),
    (Routine.AXPY, "_ex"): ("axpy_ex", "n alpha c_type a a_type a_step b b_type b_step execution"),
    (Routine.SCAL, "_ex"): ("scal_ex", "n alpha c_type a a_type a_step execution"),
    (Routine.DOT, "_ex"): ("dot_ex", "n a a_type a_step b b_type b_step c c_type execution"),
    (Routine.DOTC, "_ex"): ("dotc_ex", "n a a_type a_step b b_type b_step c c_type execution"),
    (Routine.NRM2, "_ex"): ("nrm2_ex", "n a a_type a_step c c_type execution"),
}
#: Types that vectors are computed with in float, by the functions named Ex.
_HALVES: Final = frozenset((DataType.R_16F, DataType.R_16BF))
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
        mode = ""
        if call.pointer_arrays:
            mode = "_batched"
        elif call.batch != 1:
            mode = "_strided_batched"
        elif call.a_type in _HALVES and call.routine is not Routine.GEMM:
            mode = "_ex"
        try:
            name, arguments = _SIGNATURES[call.routine, mode]
        except KeyError:
            text = f"cuBLAS has no {call.routine.name} of that kind of batch"
            raise CudaError(_NOT_SUPPORTED, text) from None
        alpha, beta = self._scalar_addresses(call)
        known = {
            "alpha": alpha,
            "beta": beta,
            "algorithm": _GEMM_DEFAULT,
            "execution": DataType.R_32F,
        }
        values = [
            known[each] if each in known else getattr(call, each) for each in arguments.split()
        ]
        self._ask(_function(name, call), self._handle, *values)

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

    def close(self) -> None:
        """Destroy the handle, which waits for the device."""
        self._ask("destroy", self._handle)


def _function(name: str, call: BlasCall) -> str:
    """Name of a function for the call's type, with 64-bit sizes where they are needed."""
    if "{" in name:
        letter = _LETTERS.get(call.a_type)
        if letter is None:
            raise CudaError(_NOT_SUPPORTED, f"no {call.routine.name} for {call.a_type.name}")
        mixed = call.c_type is not call.a_type
        name = name.format(
            t=letter,
            u="u" if call.a_type.complex else "",
            result=_REAL_RESULT[letter],
            scalar=_REAL_SCALAR[letter] if mixed else letter,
        )
    sizes = (call.m, call.n, call.k, call.a_step, call.b_step, call.c_step, call.batch)
    wide = max(map(abs, sizes)) > _INT_MAX or call.c_type is DataType.R_64I
    return name + "_64" if wide else name
