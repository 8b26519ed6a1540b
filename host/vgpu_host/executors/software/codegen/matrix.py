"""Registers the instructions on matrices; their parts are in the other modules named `matrix`."""

from __future__ import annotations

from vgpu_host.executors.software.ir import Instruction

from .emitter import Emitter
from .matrix_arithmetic import emit_mma, emit_wmma
from .matrix_memory import (
    emit_fragment_load,
    emit_fragment_store,
    emit_load_matrix,
    emit_move_matrix,
    emit_store_matrix,
)
from .matrix_shapes import ELEMENT_BITS, MMA_SHAPES, WMMA_SHAPES
from .matrix_warpgroup import emit_warpgroup_product, shapes
from .registry import handles


def _shapes(table: dict[str, tuple[tuple[int, int, int], ...]]) -> str:
    return " ".join(f"m{m}n{n}k{k}" for shapes in table.values() for m, n, k in shapes)


_TYPES = " ".join(ELEMENT_BITS)


@handles(
    "mma", f"sync aligned row col {_shapes(MMA_SHAPES)} {_TYPES} satfinite rn rz rm rp xor and popc"
)
def emit_product(emitter: Emitter, instruction: Instruction) -> None:
    """`mma.sync`: the product of two matrices, added to a third."""
    emit_mma(emitter, instruction)


@handles(
    "wmma",
    f"load store mma a b c d sync aligned row col {_shapes(WMMA_SHAPES)} {_TYPES} satfinite "
    "rn rz rm rp xor and popc global shared shared::cta",
)
def emit_warp_matrix(emitter: Emitter, instruction: Instruction) -> None:
    """`wmma`: load, multiply and store matrices in fragments of unspecified layout."""
    match instruction.modifiers[0]:
        case "load":
            emit_fragment_load(emitter, instruction)
        case "store":
            emit_fragment_store(emitter, instruction)
        case "mma":
            emit_wmma(emitter, instruction)
        case _:
            raise emitter.refuse("expected wmma.load, wmma.store or wmma.mma")


@handles("ldmatrix", "sync aligned m8n8 x1 x2 x4 trans shared shared::cta b16")
def emit_matrix_load(emitter: Emitter, instruction: Instruction) -> None:
    """`ldmatrix`: one, two or four matrices of 8 by 8 elements from shared memory."""
    emit_load_matrix(emitter, instruction)


@handles("stmatrix", "sync aligned m8n8 x1 x2 x4 trans shared shared::cta b16")
def emit_matrix_store(emitter: Emitter, instruction: Instruction) -> None:
    """`stmatrix`: one, two or four matrices of 8 by 8 elements to shared memory."""
    emit_store_matrix(emitter, instruction)


@handles("movmatrix", "sync aligned m8n8 trans b16")
def emit_matrix_move(emitter: Emitter, instruction: Instruction) -> None:
    """`movmatrix`: a matrix of 8 by 8 elements, transposed."""
    emit_move_matrix(emitter, instruction)


@handles(
    "wgmma",
    f"mma_async fence commit_group wait_group sync aligned {shapes()} {_TYPES} satfinite and popc",
)
def emit_warpgroup_matrix(emitter: Emitter, instruction: Instruction) -> None:
    """`wgmma`: products of four warps, which are carried out at once; waiting finds them done."""
    if instruction.modifiers[0] == "mma_async":
        emit_warpgroup_product(emitter, instruction)
