"""rings: routines of cuBLAS that failed as exceptions of numpy.

Found by `vgpu-stub fuzz rings --seed 5`, made small by it, and written with the names of fields.
"""

from __future__ import annotations

import struct

import pytest

from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.generated import Opcode
from vgpu_stub.fuzz.operations import Operation, Value
from vgpu_stub.fuzz.regression import check_sequence
from vgpu_stub.fuzz.ring_operations import Command, Step

_CONTEXT = Command(Opcode.CONTEXT_CREATE, (0, 0), context=0)
_MEMORY = Command(Opcode.MEMORY_ALLOCATE, (4096,))
_ONE = struct.pack("<f", 1)
_POINTERS: dict[str, Value] = dict.fromkeys(("a", "b", "c"), ("memory", 0, 0))
_STEPS: dict[str, Value] = dict.fromkeys(("a_step", "b_step", "c_step"), 1)
_SINGLE: dict[str, Value] = {"m": 1, "n": 1, "k": 1, "batch": 1, "compute_type": 68}
_R_32F, _R_8I, _C_32F = 0, 3, 4


def blas(routine: int, **fields: Value) -> list[Operation]:
    values = {"routine": routine, "alpha": _ONE, "beta": b"", **_POINTERS, **_STEPS, **_SINGLE}
    names = abi.COMMANDS[Opcode.BLAS].field_names
    command = Command(Opcode.BLAS, tuple({**values, **fields}.get(name, 0) for name in names))
    return [_CONTEXT, _MEMORY, Step(), command]


SEQUENCES = {
    "an operand of 2**62 columns": blas(abi.BLAS_GEMM, m=0, n=1 << 62, k=0),
    "complex times real": blas(abi.BLAS_GEMM, a_type=_C_32F, c_type=_C_32F),
    "a dot product of floats into bytes": blas(abi.BLAS_DOT, a_type=_C_32F, c_type=_R_8I),
    "an empty batch of triangular systems": blas(abi.BLAS_TRSM, batch=0, blas_flags=2),
    "a step beyond 2**60 that is never taken": blas(abi.BLAS_GEMM, a_step=1 << 61),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_routine_is_refused(name: str) -> None:
    check_sequence("rings", SEQUENCES[name])
