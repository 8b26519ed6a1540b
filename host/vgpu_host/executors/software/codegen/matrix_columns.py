"""Multiplies matrices column by column: products of 16 rows or more.

Fragments are turned in registers until a vector holds one column of 16 rows, of A or of the
accumulator. The elements of B go through memory, where the instruction that multiplies and adds
finds each of them and spreads it over its lanes, so that nothing else is left to do for a step.
"""

from __future__ import annotations

from collections.abc import Sequence

from vgpu_host.executors.software.ir import BITS, WARP_SIZE

from .emitter import Emitter, Value, integer
from .matrix_layouts import shuffle
from .matrix_shapes import Product, packed
from .matrix_steps import (
    BYTES,
    AddProduct,
    Part,
    add,
    add_bytes,
    define,
    elements,
    mix,
)

#: Rows of a tile, which are in two registers; columns of a tile of the accumulator.
ROWS, _REGISTERS, _COLUMNS = 16, 2, 8
#: Lanes that share a row of a fragment.
_GROUP = 4
#: What makes a signed byte one without a sign, 128 more, in each byte of a word.
_BIAS = integer(0x80808080, "i32")


def multiply_columns(
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
        product: which one it is; its rows are a multiple of 16.
        a: registers of the left operand.
        b: those of the right one.
        c: elements to start from, register by register.
        add_product: does one step.
    """
    rows, columns, _ = product.shape
    _, a_type, b_type, _ = product.types
    groups = product.depth // (_GROUP * len(product.fragments[1].registers[0][0]))
    offsets: _Memory | None = None
    if b_type == "s8" and a_type in ("s8", "u8"):
        if a_type == "s8":
            offsets = _offsets(emitter, [b[at : at + groups] for at in range(0, len(b), groups)])
            a = [emitter.op("xor", register, _BIAS) for register in a]
        a_type, b_type, add_product = BYTES, BYTES, add_bytes
    right = _Right(emitter, product, b, b_type)
    results: list[Value] = []
    for top in range(rows // ROWS):
        left: list[list[Part]] = []
        for group in range(groups):
            first = (top * groups + group) * _REGISTERS
            left += _columns(emitter, a[first : first + _REGISTERS], a_type)
        for tile in range(columns // _COLUMNS):
            first = (top * (columns // _COLUMNS) + tile) * 2 * _REGISTERS
            own = c[first : first + 2 * _REGISTERS]
            # Even columns, then odd ones.
            sums = [part for odd in (0, 1) for part in _turn(emitter, own[odd::2])]
            numbers = [2 * at + odd for odd in (0, 1) for at in range(_GROUP)]
            if offsets:
                sums = [
                    add(emitter, total, offsets.spread(tile, _GROUP * number))
                    for total, number in zip(sums, numbers, strict=True)
                ]
            for step, pieces in enumerate(left):
                for piece, column in enumerate(pieces):
                    for index, number in enumerate(numbers):
                        factor = right.spread(step, tile * _COLUMNS + number, piece)
                        sums[index] = add_product(emitter, sums[index], column, factor)
            turned = [_turn_back(emitter, sums[at : at + _GROUP]) for at in (0, _GROUP)]
            results += [value for pair in zip(*turned, strict=True) for value in pair]
    return results


def _offsets(emitter: Emitter, tiles: Sequence[Sequence[Value]]) -> _Memory:
    """What to add to each column, in the first lane that holds it, when bytes of A are raised.

    They are taken without their sign, so that each is 128 too large: the sum is too large by 128
    times that of the column of B.
    """
    bias = Part(f"splat ({_BIAS})", "i32", ROWS)
    found: list[Part] = []
    for registers in tiles:
        sums = [Part("zeroinitializer", "i32", ROWS) for _ in (0, 1)]
        for register in registers:
            for half in (0, 1):
                sums[half] = add_bytes(
                    emitter, sums[half], bias, _cut(emitter, register, half * ROWS)
                )
        total = _join(emitter, sums)
        for distance in (1, 2):
            order = [lane ^ distance for lane in range(WARP_SIZE)]
            total = emitter.op("add", total, shuffle(emitter, total, total, order))
        negative = emitter.op("sub", integer(0, "i32"), total)
        found.append(Part(negative.ref, "i32", WARP_SIZE))
    return _Memory(emitter, found)


def _columns(emitter: Emitter, registers: Sequence[Value], a_type: str) -> list[list[Part]]:
    """Columns of A, in pieces, from the two registers with its 16 rows."""
    if a_type == "f16":
        return [[_extend(emitter, part)] for part in _turn_halves(emitter, registers)]
    turned = _turn(emitter, registers)
    result: list[list[Part]] = []
    # Two columns fill the lanes of a warp.
    for at in range(0, _GROUP, 2):
        words = elements(emitter, _join(emitter, turned[at : at + 2]), a_type)
        for first in (0, ROWS):
            result += [[_cut(emitter, piece, first) for piece in pieces] for pieces in words]
    return result


class _Memory:
    """Vectors in memory, each of whose elements can be read into all lanes."""

    def __init__(self, emitter: Emitter, vectors: Sequence[Part]) -> None:
        self._emitter = emitter
        self._like = vectors[0]
        kind = f"[{len(vectors)} x {vectors[0].llvm_type}]"
        self._start = emitter.define(f"alloca {kind}, align 64", "ptr")
        for index, vector in enumerate(vectors):
            emitter.line(f"store {vector}, {self._at(index, 0)}, align 64")
        # LLVM would take elements out of the vectors again, at the cost of a shuffle for each.
        emitter.line(f'call void asm sideeffect "", "r,~{{memory}}"({self._start})')

    def _at(self, vector: int, index: int) -> Value:
        offset = (vector * self._like.count + index) * BITS[self._like.type] // 8
        return self._emitter.define(f"getelementptr i8, {self._start}, i64 {offset}", "ptr")

    def spread(self, vector: int, index: int) -> Part:
        """One element for all rows."""
        emitter, kind = self._emitter, self._like.type
        one = emitter.define(f"load {kind}, {self._at(vector, index)}", kind)
        target = f"<{ROWS} x {kind}>"
        first = define(emitter, f"insertelement {target} poison, {one}, i32 0", kind, ROWS)
        return mix(emitter, (first, first), [0] * ROWS)


class _Right:
    """The right operand, to be read element by element."""

    def __init__(
        self, emitter: Emitter, product: Product, registers: Sequence[Value], b_type: str
    ) -> None:
        self._holders = product.fragments[2].holders()
        self._is_half = b_type == "f16"
        vectors: list[Part] = []
        for register in registers:
            if self._is_half:
                count = 2 * WARP_SIZE
                words = f"bitcast {register} to <{count} x half>"
                vectors.append(_extend(emitter, define(emitter, words, "half", count)))
                continue
            found = elements(emitter, register, b_type)
            self._count, self._pieces = len(found), len(found[0])
            vectors += [Part(v.ref, v.type, WARP_SIZE) for pieces in found for v in pieces]
        self._memory = _Memory(emitter, vectors)

    def spread(self, row: int, column: int, piece: int) -> Part:
        """One element for all rows."""
        register, index, lane = self._holders[row, column]
        if self._is_half:
            return self._memory.spread(register, packed("f16") * lane + index)
        return self._memory.spread((register * self._count + index) * self._pieces + piece, lane)


def _extend(emitter: Emitter, halves: Part) -> Part:
    expression = f"fpext {halves} to <{halves.count} x float>"
    return define(emitter, expression, "float", halves.count)


def _turn(emitter: Emitter, registers: Sequence[Value]) -> list[Part]:
    """Four columns of 16 rows from two registers of 8 rows.

    Rows come in another order: element `4 * i + j` is row `4 * j + i`.
    """
    return _exchange(emitter, _halves(emitter, registers), 1)


def _turn_back(emitter: Emitter, columns: Sequence[Part]) -> list[Value]:
    """The opposite of `_turn`."""
    halves = _exchange(emitter, columns, 1)
    return [_join(emitter, halves[at : at + 2]) for at in (0, 2)]


def _turn_halves(emitter: Emitter, registers: Sequence[Value]) -> list[Part]:
    """Eight columns of `half` from two registers that hold two of them in a word."""
    parts = []
    for part in _halves(emitter, registers):
        count = 2 * part.count
        parts.append(define(emitter, f"bitcast {part} to <{count} x half>", "half", count))
    # Now each has two columns: four rows of one, then of the other.
    mixed = _exchange(emitter, parts, 2)
    orders = [
        [start + row for start in range(first, 2 * ROWS, 2 * _GROUP) for row in range(_GROUP)]
        for first in (0, _GROUP)
    ]
    return [mix(emitter, (part, part), order) for part in mixed for order in orders]


def _exchange(emitter: Emitter, parts: Sequence[Part], packed: int) -> list[Part]:
    """Exchange number and place of four vectors within each row of `4 * packed` elements.

    For one element in a lane, doing it twice changes nothing. These are the shuffles that x86 does
    without crossing lanes of 128 bits.
    """
    for size in (1, 2):
        count, half = parts[0].count, 2 * packed
        orders = [
            [
                start + unit + other + index
                for unit in range(0, half, size)
                for other in (0, count)
                for index in range(size)
            ]
            for start in (0, half)
        ]
        repeated = [_repeat(order, count) for order in orders]
        if size == 1:
            parts = [mix(emitter, parts[at : at + 2], r) for r in repeated for at in (0, 2)]
        else:
            parts = [mix(emitter, parts[at : at + 2], r) for at in (0, 2) for r in repeated]
    return list(parts)


def _repeat(group: Sequence[int], count: int) -> list[int]:
    """The order of `count` lanes from that of the first few."""
    return [lane + first for first in range(0, count, len(group)) for lane in group]


def _halves(emitter: Emitter, registers: Sequence[Value]) -> list[Part]:
    return [_cut(emitter, register, first) for register in registers for first in (0, ROWS)]


def _join(emitter: Emitter, parts: Sequence[Part]) -> Value:
    """Two parts as the lanes of a warp."""
    both = mix(emitter, parts, range(WARP_SIZE))
    return Value(both.ref, both.type, True)


def _cut(emitter: Emitter, value: Value, first: int) -> Part:
    """16 lanes of a warp."""
    whole = Part(value.ref, value.type, WARP_SIZE)
    return mix(emitter, (whole, whole), range(first, first + ROWS))
