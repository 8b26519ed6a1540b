"""Which lane and register of a warp holds which element of a matrix.

A fragment is a table; every instruction on matrices reads such tables and knows no layout itself.
The layouts of `mma` are those of the PTX manual ("Matrix Fragments for mma"). The manual leaves
those of `wmma` open; here they are the ones of `mma`, tile after tile, with copies where registers
are left, which is also what the same program finds on an H200.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from vgpu_host.executors.software.ir import WARP_SIZE

from .emitter import LANES, Emitter, Value

#: Row and column of an element. Where a warp multiplies several matrices at once they are blocks
#: on the diagonal of one.
Place = tuple[int, int]
#: Lanes that share a row of an operand, and rows or columns of the smallest tile.
_GROUP, _TILE = 4, 8


@dataclass(frozen=True, slots=True)
class Fragment:
    """The elements of a matrix by register, then lane, then from low to high bits."""

    registers: tuple[tuple[tuple[Place, ...], ...], ...]

    def element(self, register: int, index: int) -> tuple[Place, ...]:
        """Places of one element of a register in all lanes."""
        return tuple(places[index] for places in self.registers[register])

    def holders(self) -> dict[Place, tuple[int, int, int]]:
        """For each place the register, element and lane that hold it (the first of copies)."""
        found: dict[Place, tuple[int, int, int]] = {}
        for register, lanes in enumerate(self.registers):
            for lane, places in enumerate(lanes):
                for index, place in enumerate(places):
                    found.setdefault(place, (register, index, lane))
        return found


def _register(row: int, column: int, packed: int, by_row: bool) -> tuple[tuple[Place, ...], ...]:
    """One register: groups of four lanes hold 8 rows (or columns), `packed` elements a lane."""
    lanes = []
    for lane in LANES:
        group, member = divmod(lane, _GROUP)
        line = [member * packed + index for index in range(packed)]
        if by_row:
            lanes.append(tuple((row + group, column + step) for step in line))
        else:
            lanes.append(tuple((row + step, column + group) for step in line))
    return tuple(lanes)


@cache
def operand_a(rows: int, depth: int, packed: int, registers: int = 0) -> Fragment:
    """The left operand: `packed` elements a register, repeated until there are `registers`."""
    step = _GROUP * packed
    tile = min(rows, 2 * _TILE)
    once = [
        _register(top + half, column, packed, True)
        for top in range(0, rows, tile)
        for column in range(0, depth, step)
        for half in range(0, tile, _TILE)
    ]
    return Fragment(_repeated(once, registers))


@cache
def operand_b(depth: int, columns: int, packed: int, registers: int = 0) -> Fragment:
    """The right operand: like the left one, with rows and columns exchanged."""
    once = [
        _register(row, left, packed, False)
        for left in range(0, columns, _TILE)
        for row in range(0, depth, _GROUP * packed)
    ]
    return Fragment(_repeated(once, registers))


@cache
def accumulator(rows: int, columns: int, packed: int) -> Fragment:
    """The accumulator: a group of four lanes holds 8 columns of a row, two to a lane."""
    tile = min(rows, 2 * _TILE)
    pairs = [
        _register(top + half, left, 2, True)
        for top in range(0, rows, tile)
        for left in range(0, columns, _TILE)
        for half in range(0, tile, _TILE)
    ]
    if packed == 2:
        return Fragment(tuple(pairs))
    return Fragment(
        tuple(tuple((places[index],) for places in pair) for pair in pairs for index in range(2))
    )


def _repeated(
    once: list[tuple[tuple[Place, ...], ...]], registers: int
) -> tuple[tuple[tuple[Place, ...], ...], ...]:
    return tuple(once * max(1, registers // len(once)))


# -- mma.m8n8k4 of f16: four matrices, each in two quads of lanes, 16 lanes apart -----------------


def _quad(lane: int) -> tuple[int, int, int]:
    """Which matrix (as the start of its block), which half of it, and which lane of four."""
    return lane % 16 // 4 * _TILE, lane // 16 * 4, lane % 4


@cache
def quad_operand(is_a: bool, by_row: bool) -> Fragment:
    """An operand of 8 by 4 (or 4 by 8) elements, in two registers of two."""

    def place(lane: int, index: int) -> Place:
        block, half, member = _quad(lane)
        # A row of A or a column of B lies in one lane; else each lane holds a half of one step.
        step, line = (index, half + member) if is_a == by_row else (member, half + index)
        return (block + line, step) if is_a else (step, block + line)

    return Fragment(
        tuple(
            tuple(tuple(place(lane, 2 * register + i) for i in range(2)) for lane in LANES)
            for register in range(2)
        )
    )


@cache
def quad_accumulator(packed: int) -> Fragment:
    """The accumulator of 8 by 8 elements: rows in lanes (`packed` 2) or spread over pairs (1)."""

    def place(lane: int, index: int) -> Place:
        block, half, member = _quad(lane)
        if packed == 2:
            return block + half + member, block + index
        row = half + (member & 1) + (index & 2)
        return block + row, block + (index & 4) + (member & 2) + (index & 1)

    return Fragment(
        tuple(
            tuple(
                tuple(place(lane, packed * register + i) for i in range(packed)) for lane in LANES
            )
            for register in range(8 // packed)
        )
    )


def shuffle(emitter: Emitter, a: Value, b: Value, order: list[int]) -> Value:
    """Lane by lane: lane `order[i]` of a, or of b when that is beyond the lanes of a."""
    if order == list(LANES):
        return a
    mask = ", ".join(f"i32 {lane}" for lane in order)
    return emitter.define(f"shufflevector {a}, {b}, <{WARP_SIZE} x i32> <{mask}>", a.type, True)
