"""Products of matrices: `mma` and `wmma.mma`.

Each kind of product is a function of the kernel's module, from registers to registers. It never
leaves the layout of the accumulator: for each step along the inner dimension, one shuffle brings
every lane its element of A and one its element of B, and 32 lanes multiply and add at once.
Tensor cores add in an order and precision of their own; here f16, bf16 and tf32 are converted
exactly and added to a single-precision sum one after the other, and a f16 accumulator is rounded
once, at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vgpu_host.executors.software.ir import WARP_SIZE, Instruction, Operand, Vector

from .emitter import LANES, Emitter, Value, integer
from .halves import HALVES, from_single, to_single
from .matrix_layouts import Fragment, Place, shuffle
from .matrix_shapes import ELEMENT_BITS, INTEGERS, Product, mma_product, packed, wmma_product


def emit_mma(emitter: Emitter, instruction: Instruction) -> None:
    """`mma.sync`: the whole warp multiplies two matrices."""
    _emit(emitter, instruction, mma_product(instruction))


def emit_wmma(emitter: Emitter, instruction: Instruction) -> None:
    """`wmma.mma`: the same on larger matrices."""
    _emit(emitter, instruction, wmma_product(instruction))


def _emit(emitter: Emitter, instruction: Instruction, product: Product) -> None:
    if {"rz", "rm", "rp"} & set(instruction.modifiers):
        raise emitter.refuse("only rounding to nearest is supported")
    operands = [_items(operand) for operand in instruction.operands]
    counts = [len(fragment.registers) for fragment in product.fragments]
    if [len(items) for items in operands] != counts:
        raise emitter.refuse("wrong number of registers in a fragment")
    ptx_type = "f64" if product.types[1] == "f64" else "b32"
    arguments = [
        emitter.widen(emitter.read(item, ptx_type)) for items in operands[1:] for item in items
    ]
    name = ".".join([instruction.opcode, *instruction.modifiers])

    def build(values: list[Value]) -> list[Value]:
        b_start, c_start = counts[1], counts[1] + counts[2]
        a, b, c = values[:b_start], values[b_start:c_start], values[c_start:]
        return _Multiplication(emitter, product, instruction.modifiers).result(a, b, c)

    results = emitter.call_function(name, arguments, [arguments[0].type] * counts[0], build)
    for item, value in zip(operands[0], results, strict=True):
        emitter.write(item, value)


def _items(operand: Operand) -> tuple[Operand, ...]:
    return operand.items if isinstance(operand, Vector) else (operand,)


@dataclass(slots=True)
class _Source:
    """The elements of an operand: one vector of 32 lanes for each register and element in it.

    Attributes:
        vectors: by register and element; integers lie two by two in several pieces of a word.
        holders: where each place of the matrix is.
    """

    vectors: dict[tuple[int, int], list[Value]]
    holders: dict[Place, tuple[int, int, int]]

    def pick(self, emitter: Emitter, places: Sequence[Place], piece: int = 0) -> Value:
        """A vector with the element at `places[lane]` in each lane."""
        found = [self.holders[place] for place in places]
        result: Value | None = None
        for key in dict.fromkeys((register, index) for register, index, _ in found):
            vector = self.vectors[key][piece]
            mine = [(register, index) == key for register, index, _ in found]
            if result is None:
                result = shuffle(emitter, vector, vector, [lane for *_, lane in found])
            else:
                order = [
                    WARP_SIZE + holder[2] if own else lane
                    for lane, (own, holder) in enumerate(zip(mine, found, strict=True))
                ]
                result = shuffle(emitter, result, vector, order)
        assert result is not None
        return result


class _Multiplication:
    """The body of the function for one kind of product."""

    def __init__(self, emitter: Emitter, product: Product, modifiers: tuple[str, ...]) -> None:
        self._emitter = emitter
        self._product = product
        self._xor = "xor" in modifiers
        self._saturates = "satfinite" in modifiers
        a = product.types[1]
        self._sum = {"f64": "double", **dict.fromkeys(INTEGERS, "i32")}.get(a, "float")
        self._pieces = packed(a) // 2 if a in INTEGERS and a != "b1" else 1

    def result(self, a: list[Value], b: list[Value], c: list[Value]) -> list[Value]:
        """Registers of D from those of A, B and C."""
        emitter, product = self._emitter, self._product
        d_type, a_type, b_type, c_type = product.types
        d_places, a_places, b_places, c_places = product.fragments
        left = self._source(a, a_places, a_type)
        right = self._source(b, b_places, b_type)
        start = self._source(c, c_places, c_type)
        count = packed(d_type)
        keys = [(r, i) for r in range(len(d_places.registers)) for i in range(count)]
        places = [d_places.element(*key) for key in keys]
        initial = [start.pick(emitter, lanes) for lanes in places]
        zero = emitter.widen(integer(0, "i32"))
        sums = [zero] * len(keys) if self._saturates else list(initial)
        for step in range(product.depth):
            for piece in range(self._pieces):
                rows: dict[tuple[int, ...], Value] = {}
                columns: dict[tuple[int, ...], Value] = {}
                for number, lanes in enumerate(places):
                    row = tuple(row for row, _ in lanes)
                    if row not in rows:
                        rows[row] = left.pick(emitter, [(r, step) for r in row], piece)
                    column = tuple(column for _, column in lanes)
                    if column not in columns:
                        columns[column] = right.pick(emitter, [(step, c) for c in column], piece)
                    sums[number] = self._add_product(rows[row], columns[column], sums[number])
        if self._saturates:
            sums = [
                emitter.intrinsic("sadd.sat", c_value, total)
                for c_value, total in zip(initial, sums, strict=True)
            ]
        return [
            _join(emitter, sums[start : start + count], d_type)
            for start in range(0, len(sums), count)
        ]

    def _source(self, registers: list[Value], places: Fragment, element: str) -> _Source:
        vectors = {}
        for number, register in enumerate(registers):
            for index, pieces in enumerate(self._elements(register, element)):
                vectors[number, index] = pieces
        return _Source(vectors, places.holders())

    def _elements(self, register: Value, element: str) -> list[list[Value]]:
        """The elements of a register, each as what is multiplied."""
        emitter = self._emitter
        match element:
            case "f16" | "bf16":
                high = emitter.op("lshr", register, integer(16, "i32"))
                halves = [emitter.cast("trunc", word, "i16") for word in (register, high)]
                return [[to_single(emitter, half, element)] for half in halves]
            case "tf32":
                # The hardware does not look at the bits that tf32 does not have.
                known = emitter.op("and", register, integer(~0x1FFF, "i32"))
                return [[emitter.bits(known, "float")]]
            case "f32":
                return [[emitter.bits(register, "float")]]
            case "f64" | "s32" | "b1":
                return [[register]]
        return [_pairs(emitter, register, element)]

    def _add_product(self, a: Value, b: Value, total: Value) -> Value:
        emitter = self._emitter
        if self._sum != "i32":
            return emitter.intrinsic("fma", a, b, total)
        if self._product.types[1] == "b1":
            both = emitter.op("xor" if self._xor else "and", a, b)
            return emitter.op("add", total, emitter.intrinsic("ctpop", both))
        return emitter.op("add", total, _pair_product(emitter, a, b))


def _pairs(emitter: Emitter, word: Value, element: str) -> list[Value]:
    """Words of two 16-bit integers each: elements `i` and `i + n/2` of the n elements of a word."""
    bits = ELEMENT_BITS[element]
    count = 2 * WARP_SIZE
    halves = emitter.define(f"bitcast {word} to <{count} x i16>", "i16", True).ref
    extend = "ashr" if element[0] == "s" else "lshr"
    pieces = []
    for low in range(0, 16, bits):
        up = emitter.define(
            f"shl <{count} x i16> {halves}, splat (i16 {16 - bits - low})", "i16", True
        )
        down = emitter.define(
            f"{extend} <{count} x i16> {up.ref}, splat (i16 {16 - bits})", "i16", True
        )
        pieces.append(
            emitter.define(f"bitcast <{count} x i16> {down.ref} to {word.llvm_type}", "i32", True)
        )
    return pieces


def _pair_product(emitter: Emitter, a: Value, b: Value) -> Value:
    """Sum of the products of two signed 16-bit integers; x86 does this in one instruction."""
    count = 2 * WARP_SIZE
    wide = []
    for value in (a, b):
        pairs = emitter.define(f"bitcast {value} to <{count} x i16>", "i16", True)
        wide.append(
            emitter.define(f"sext <{count} x i16> {pairs.ref} to <{count} x i32>", "i32", True)
        )
    product = emitter.define(f"mul <{count} x i32> {wide[0].ref}, {wide[1].ref}", "i32", True)
    halves = []
    for first in (0, 1):
        order = ", ".join(f"i32 {2 * lane + first}" for lane in LANES)
        halves.append(
            emitter.define(
                f"shufflevector <{count} x i32> {product.ref}, <{count} x i32> poison, "
                f"<{WARP_SIZE} x i32> <{order}>",
                "i32",
                True,
            )
        )
    return emitter.op("add", *halves)


def _join(emitter: Emitter, elements: list[Value], element: str) -> Value:
    """A register of D."""
    if element not in HALVES:
        (value,) = elements
        return value if element == "f64" else emitter.bits(value, "i32")
    low, high = (
        emitter.cast("zext", from_single(emitter, value, element), "i32") for value in elements
    )
    return emitter.op("or", low, emitter.op("shl", high, integer(16, "i32")))
