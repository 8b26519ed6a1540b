"""The commands of cuBLAS: whole routines."""

from __future__ import annotations

from vgpu_host.executors.base import CudaError
from vgpu_host.executors.blas import BlasCall, DataType, Diagonal, Fill, Operation, Routine, Side
from vgpu_host.session_contexts import INVALID_VALUE, SessionContexts, find
from vgpu_stub.abi import generated as abi


class SessionBlas(SessionContexts):
    """The part of a session that runs routines of cuBLAS."""

    def blas_prepare(self) -> None:
        """BLAS_PREPARE."""
        self._current  # noqa: B018  # refuses a command without a context
        self._executor.blas_prepare()

    def blas(
        self,
        routine: int,
        a_type: int,
        b_type: int,
        c_type: int,
        compute_type: int,
        math_mode: int,
        a_operation: int,
        b_operation: int,
        side: int,
        fill: int,
        diagonal: int,
        blas_flags: int,
        stream: int,
        reserved: int,
        m: int,
        n: int,
        k: int,
        a: int,
        b: int,
        c: int,
        a_step: int,
        b_step: int,
        c_step: int,
        a_stride: int,
        b_stride: int,
        c_stride: int,
        batch: int,
        workspace: int,
        workspace_bytes: int,
        alpha: bytes,
        beta: bytes,
    ) -> None:
        """BLAS."""
        target = find(self._current.streams, stream, "stream")
        try:
            call = BlasCall(
                Routine(routine),
                DataType(a_type),
                DataType(b_type),
                DataType(c_type),
                compute_type,
                math_mode,
                Operation(a_operation),
                Operation(b_operation),
                Side(side),
                Fill(fill),
                Diagonal(diagonal),
                bool(blas_flags & abi.BLAS_FLAG_DEVICE_SCALARS),
                bool(blas_flags & abi.BLAS_FLAG_POINTER_ARRAYS),
                m,
                n,
                k,
                a,
                b,
                c,
                a_step,
                b_step,
                c_step,
                a_stride,
                b_stride,
                c_stride,
                batch,
                workspace,
                workspace_bytes,
                alpha,
                beta,
            )
        except ValueError as error:
            raise CudaError(INVALID_VALUE, f"BLAS: {error}") from error
        if min(m, n, k, batch) < 0:
            raise CudaError(INVALID_VALUE, f"BLAS: {batch} problems of {m} x {n} x {k}")
        self._executor.blas(call, target)
