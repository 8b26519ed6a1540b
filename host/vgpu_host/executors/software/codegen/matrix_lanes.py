"""Multiplies matrices lane by lane: products of 8 rows, and those of quads.

It never leaves the layout of the accumulator: for each step along the inner dimension, one shuffle
brings every lane its element of A and one its element of B, and 32 lanes multiply and add at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vgpu_host.executors.software.ir import WARP_SIZE

from .emitter import Emitter, Value
from .matrix_layouts import Fragment, Place, shuffle
from .matrix_shapes import Product, packed
from .matrix_steps import AddProduct, Part, elements


def multiply_lanes(
    emitter: Emitter,
    product: Product,
    a: Sequence[Value],
    b: Sequence[Value],
    c: Sequence[Value],
    add_product: AddProduct,
) -> list[Value]:
    """Elements of D, register by register.

    Args:
        emitter: writes the code.
        product: which one it is.
        a: registers of the left operand.
        b: those of the right one.
        c: elements to start from, register by register.
        add_product: does one step.
    """
    d_type, a_type, b_type, c_type = product.types
    d_places, a_places, b_places, c_places = product.fragments
    left = _Source.of([elements(emitter, register, a_type) for register in a], a_places)
    right = _Source.of([elements(emitter, register, b_type) for register in b], b_places)
    count = packed(c_type)
    initial = _Source.of(
        [[[value] for value in c[at : at + count]] for at in range(0, len(c), count)], c_places
    )
    places = [
        d_places.element(register, index)
        for register in range(len(d_places.registers))
        for index in range(packed(d_type))
    ]
    sums = [_part(initial.pick(emitter, lanes)) for lanes in places]
    for step in range(product.depth):
        for piece in range(left.pieces):
            rows: dict[tuple[int, ...], Part] = {}
            columns: dict[tuple[int, ...], Part] = {}
            for number, lanes in enumerate(places):
                row = tuple(row for row, _ in lanes)
                if row not in rows:
                    rows[row] = _part(left.pick(emitter, [(r, step) for r in row], piece))
                column = tuple(column for _, column in lanes)
                if column not in columns:
                    picked = right.pick(emitter, [(step, c) for c in column], piece)
                    columns[column] = _part(picked)
                sums[number] = add_product(emitter, sums[number], rows[row], columns[column])
    return [Value(total.ref, total.type, True) for total in sums]


def _part(value: Value) -> Part:
    return Part(value.ref, value.type, WARP_SIZE)


@dataclass(slots=True)
class _Source:
    """The elements of an operand: one vector of 32 lanes for each register and element in it.

    Attributes:
        vectors: by register and element, each in one or more pieces.
        holders: where each place of the matrix is.
        pieces: how many pieces an element has.
    """

    vectors: dict[tuple[int, int], list[Value]]
    holders: dict[Place, tuple[int, int, int]]
    pieces: int

    @staticmethod
    def of(registers: Sequence[Sequence[list[Value]]], places: Fragment) -> _Source:
        """From elements by register."""
        vectors = {
            (number, index): pieces
            for number, found in enumerate(registers)
            for index, pieces in enumerate(found)
        }
        return _Source(vectors, places.holders(), len(vectors[0, 0]))

    def pick(self, emitter: Emitter, places: Sequence[Place], piece: int = 0) -> Value:
        """A vector with the element at `places[lane]` in each lane."""
        found = [self.holders[place] for place in places]
        result: Value | None = None
        for key in dict.fromkeys((register, index) for register, index, _ in found):
            vector = self.vectors[key][piece]
            if result is None:
                result = shuffle(emitter, vector, vector, [lane for *_, lane in found])
            else:
                order = [
                    WARP_SIZE + holder[2] if holder[:2] == key else lane
                    for lane, holder in enumerate(found)
                ]
                result = shuffle(emitter, result, vector, order)
        assert result is not None
        return result
