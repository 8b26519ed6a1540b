"""Which products of matrices there are: shapes, types and the fragments of their operands."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vgpu_host.executors.software.ir import Instruction

from .matrix_layouts import (
    Fragment,
    accumulator,
    operand_a,
    operand_b,
    quad_accumulator,
    quad_operand,
)

#: Bits of an element; `tf32` has 19, in a register of its own.
ELEMENT_BITS = {
    **dict.fromkeys(("f16", "bf16"), 16),
    **dict.fromkeys(("tf32", "f32", "s32"), 32),
    "f64": 64,
    **dict.fromkeys(("s8", "u8"), 8),
    **dict.fromkeys(("s4", "u4"), 4),
    "b1": 1,
}
INTEGERS = frozenset(("s8", "u8", "s4", "u4", "b1"))

#: Shapes (rows, columns, depth) of `mma` by the type of the left operand.
MMA_SHAPES = {
    "f16": ((8, 8, 4), (16, 8, 8), (16, 8, 16)),
    "bf16": ((16, 8, 8), (16, 8, 16)),
    "tf32": ((16, 8, 4), (16, 8, 8)),
    "f64": ((8, 8, 4), (16, 8, 4), (16, 8, 8), (16, 8, 16)),
    **dict.fromkeys(("s8", "u8"), ((8, 8, 16), (16, 8, 16), (16, 8, 32))),
    **dict.fromkeys(("s4", "u4"), ((8, 8, 32), (16, 8, 32), (16, 8, 64))),
    "b1": ((8, 8, 128), (16, 8, 128), (16, 8, 256)),
}
#: The same of `wmma`.
_COMMON = ((16, 16, 16), (8, 32, 16), (32, 8, 16))
WMMA_SHAPES = {
    **dict.fromkeys(("f16", "bf16", "s8", "u8"), _COMMON),
    "tf32": ((16, 16, 8),),
    "f64": ((8, 8, 4),),
    **dict.fromkeys(("s4", "u4"), ((8, 8, 32),)),
    "b1": ((8, 8, 128),),
}
#: Accumulator types by the type of the left operand.
ACCUMULATORS = {
    "f16": ("f16", "f32"),
    "bf16": ("f32",),
    "tf32": ("f32",),
    "f64": ("f64",),
    **dict.fromkeys(INTEGERS, ("s32",)),
}
#: Registers of a `wmma` operand of f16, whatever its shape.
_WMMA_HALF_REGISTERS = 8


@dataclass(frozen=True, slots=True)
class Product:
    """One way to multiply matrices: D = A * B + C.

    Attributes:
        shape: rows and columns of D, and depth: columns of A.
        types: of D, A, B and C.
        fragments: of D, A, B and C; operands of integers are told in words of 32 bits, so that the
            depth of their fragments is `depth`.
        depth: steps along the inner dimension.
    """

    shape: tuple[int, int, int]
    types: tuple[str, str, str, str]
    fragments: tuple[Fragment, Fragment, Fragment, Fragment]
    depth: int


def shape_of(instruction: Instruction) -> tuple[int, int, int]:
    """Rows, columns and depth; ValueError when the instruction names no shape."""
    for modifier in instruction.modifiers:
        found = re.fullmatch(r"m(\d+)n(\d+)k(\d+)", modifier)
        if found:
            return int(found[1]), int(found[2]), int(found[3])
    raise ValueError(instruction.text)


def packed(element: str) -> int:
    """Elements in a register (one of 64 bits for f64)."""
    return max(1, 32 // ELEMENT_BITS[element])


def types_of(instruction: Instruction) -> tuple[str, str, str, str]:
    """Types of D, A, B and C; `wmma` leaves those of f16 operands out."""
    match [name for name in instruction.modifiers if name in ELEMENT_BITS]:
        case [d, a, b, c]:
            return d, a, b, c
        case [d, c] if instruction.opcode == "wmma":
            return d, "f16", "f16", c
    raise ValueError(instruction.text)


def mma_product(instruction: Instruction) -> Product:
    """The product that an `mma` asks for; ValueError when there is no such one."""
    shape, types = shape_of(instruction), types_of(instruction)
    _check(shape, types, MMA_SHAPES)
    mixed = (types[0], types[3]) == ("f32", "f16") and shape == (8, 8, 4)
    if types[0] != types[3] and not mixed:
        raise ValueError(instruction.text)
    layouts = [name == "row" for name in instruction.modifiers if name in ("row", "col")]
    if types[1] == "f16" and shape == (8, 8, 4):
        by_row, b_by_row = layouts
        fragments = (
            quad_accumulator(packed(types[0])),
            quad_operand(True, by_row),
            quad_operand(False, b_by_row),
            quad_accumulator(packed(types[3])),
        )
        return Product(shape, types, fragments, shape[2])
    if layouts != [True, False]:
        raise ValueError(instruction.text)
    return product_of(shape, types)


def wmma_product(instruction: Instruction) -> Product:
    """The product that a `wmma.mma` asks for; ValueError when there is no such one."""
    shape, types = shape_of(instruction), types_of(instruction)
    _check(shape, types, WMMA_SHAPES)
    return product_of(shape, types, _WMMA_HALF_REGISTERS if types[1] == "f16" else 0)


def wmma_fragment(matrix: str, shape: tuple[int, int, int], element: str) -> Fragment:
    """The fragment of `a`, `b`, `c` or `d` that `wmma.load` and `wmma.store` move."""
    rows, columns, depth = shape
    if matrix in ("c", "d"):
        if element not in ("f16", "f32", "f64", "s32"):
            raise ValueError(element)
        if not any(shape in shapes for shapes in WMMA_SHAPES.values()):
            raise ValueError(str(shape))
        return accumulator(rows, columns, packed(element))
    if shape not in WMMA_SHAPES[element]:
        raise ValueError(str(shape))
    registers = _WMMA_HALF_REGISTERS if element == "f16" else 0
    if matrix == "a":
        return operand_a(rows, depth, packed(element), registers)
    return operand_b(depth, columns, packed(element), registers)


def _check(
    shape: tuple[int, int, int],
    types: tuple[str, str, str, str],
    shapes: dict[str, tuple[tuple[int, int, int], ...]],
) -> None:
    d, a, b, c = types
    same = a == b or {a, b} in ({"s8", "u8"}, {"s4", "u4"})
    allowed = ACCUMULATORS.get(a, ())
    if not same or shape not in shapes.get(a, ()) or d not in allowed or c not in allowed:
        raise ValueError(f"no product of {a} and {b} in {d} of this shape")


def product_of(
    shape: tuple[int, int, int], types: tuple[str, str, str, str], registers: int = 0
) -> Product:
    """A product with A by rows and B by columns; `registers` of an operand, if there are copies."""
    rows, columns, depth = shape
    d, a, _, c = types
    together = packed(a)
    if a in INTEGERS:
        depth, together = depth // together, 1
    fragments = (
        accumulator(rows, columns, packed(d)),
        operand_a(rows, depth, together, registers),
        operand_b(depth, columns, together, registers),
        accumulator(rows, columns, packed(c)),
    )
    return Product(shape, types, fragments, depth)
