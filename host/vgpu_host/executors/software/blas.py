"""cuBLAS on the CPU: numpy's BLAS on device memory, in place where the layout allows it.

Half and bfloat16 are converted to float, accumulated in float and rounded once; 8-bit integers are
multiplied exactly. The routines are in the modules beside this one, by what they work on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from threadpoolctl import threadpool_limits

from vgpu_host.executors.blas import BlasCall, Routine
from vgpu_host.executors.software import blas_matrices as matrices
from vgpu_host.executors.software import blas_vectors as vectors
from vgpu_host.executors.software.blas_checks import check_call
from vgpu_host.executors.software.blas_gemm import gemm
from vgpu_host.executors.software.blas_memory import CheckRange, Memory
from vgpu_host.executors.software.blas_triangular import trsm

_ROUTINES: Final[dict[Routine, Callable[[Memory, BlasCall], None]]] = {
    Routine.GEMM: gemm,
    Routine.TRSM: trsm,
    Routine.SYMM: matrices.symm,
    Routine.HEMM: matrices.symm,
    Routine.SYRK: matrices.rank_k,
    Routine.HERK: matrices.rank_k,
    Routine.SYR2K: matrices.rank_k,
    Routine.HER2K: matrices.rank_k,
    Routine.SYRKX: matrices.rank_k,
    Routine.HERKX: matrices.rank_k,
    Routine.TRMM: matrices.trmm,
    Routine.GEAM: matrices.geam,
    Routine.DGMM: matrices.dgmm,
    Routine.GEMV: vectors.gemv,
    Routine.GER: vectors.ger,
    Routine.GERC: vectors.ger,
    Routine.SYMV: vectors.symv,
    Routine.HEMV: vectors.symv,
    Routine.TRMV: vectors.trmv,
    Routine.TRSV: vectors.trsv,
    Routine.AXPY: vectors.axpy,
    Routine.SCAL: vectors.scal,
    Routine.COPY: vectors.copy,
    Routine.SWAP: vectors.swap,
    Routine.DOT: vectors.dot,
    Routine.DOTC: vectors.dot,
    Routine.NRM2: vectors.nrm2,
    Routine.ASUM: vectors.asum,
    Routine.AMAX: vectors.extreme,
    Routine.AMIN: vectors.extreme,
}


class Blas:
    """Carries out routines of cuBLAS on device memory."""

    def __init__(self, check_range: CheckRange, total_bytes: int, threads: int | None) -> None:
        """Make one.

        Args:
            check_range: Raises DeviceFault where a range is not in an allocation.
            total_bytes: Device memory.
            threads: Host threads of a routine; all processors of this process by default.
        """
        self._memory = Memory(check_range, total_bytes)
        self._total_bytes = total_bytes
        self._threads = threads

    def prepare(self) -> None:
        """Have BLAS use so many threads; takes a millisecond."""
        if self._threads:
            threadpool_limits(limits=self._threads, user_api="blas")

    def run(self, call: BlasCall) -> None:
        """Carry out a call.

        Raises:
            CudaError: Its types do not go together.
            DeviceFault: It touches memory that it must not.
        """
        check_call(call, self._total_bytes)
        with np.errstate(all="ignore"):
            _ROUTINES[call.routine](self._memory, call)
