"""Matrices in memory: `ldmatrix`, `stmatrix`, `wmma.load`, `wmma.store`; and `movmatrix`.

These instructions belong to the whole warp, and a lane may access what another lane's address
names. So every lane takes part as soon as one does, and every address is checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from vgpu_host.executors.software.ir import WARP_SIZE, Address, Instruction, Operand, Vector

from .access import Place, load, locate_at, operand_value, store
from .emitter import LANES, Emitter, Value, integer, lanes
from .matrix_layouts import shuffle
from .matrix_shapes import ELEMENT_BITS, shape_of, wmma_fragment
from .memory import address_of, space_of

#: Matrices of 8 by 8 elements of 16 bits: rows of 16 bytes.
_ROWS, _ROW_BYTES, _ROW_WORDS = 8, 16, 4
#: Lane `l` of the transposed matrix has rows 2 * (l % 4) and the next, column l / 4.
_TRANSPOSED = [(2 * (lane % 4) + half) * _ROWS + lane // 4 for lane in LANES for half in range(2)]


@contextmanager
def whole_warp(emitter: Emitter) -> Iterator[Value | None]:
    """Let all lanes take part; yields whether any does, if that is in doubt."""
    saved = emitter.mask, emitter.mask_bits, emitter.guard
    some: Value | None = None
    if emitter.guard is not None:
        some = emitter.compare("icmp ne", emitter.active_bits(), integer(0, "i32"))
        emitter.mask = emitter.widen(some)
        emitter.mask_bits = emitter.lane_bits(emitter.mask)
    else:
        emitter.mask = emitter.widen(integer(1, "i1"))
        emitter.mask_bits = integer(-1, "i32")
    emitter.guard = None
    yield some
    emitter.mask, emitter.mask_bits, emitter.guard = saved


def _count(instruction: Instruction) -> int:
    """How many matrices a `ldmatrix` or `stmatrix` moves."""
    return next(n for n in (1, 2, 4) if f"x{n}" in instruction.modifiers)


def _registers(operand: Operand) -> tuple[Operand, ...]:
    return operand.items if isinstance(operand, Vector) else (operand,)


def _rows(
    emitter: Emitter, instruction: Instruction, operand: Operand, some: Value | None
) -> Value:
    """Checked addresses of rows, one in each of the first lanes: a row of 16 bytes each."""
    address = address_of(emitter, operand)
    base = emitter.widen(operand_value(emitter, address.base))
    used = _ROWS * _count(instruction)
    # The other lanes' addresses do not matter.
    base = shuffle(emitter, base, base, [lane % used for lane in LANES])
    space = space_of(emitter, instruction)
    place = locate_at(emitter, base, address.offset, space, _ROW_BYTES)
    if emitter.instruments:
        _instrument(emitter, instruction, place)
    where = place.address
    return where if some is None else emitter.select(some, where, Value("%sink", "i64"))


def _instrument(emitter: Emitter, instruction: Instruction, rows: Place) -> None:
    """Tell the checkers which word each lane reads or writes."""
    assert emitter.instruments
    word = lanes([lane % _ROW_WORDS * 4 for lane in LANES], "i64")
    for number in range(_count(instruction)):
        order = [_ROWS * number + lane // _ROW_WORDS for lane in LANES]
        row = shuffle(emitter, rows.address, rows.address, order)
        place = replace(rows, address=emitter.op("add", row, word))
        if instruction.opcode == "ldmatrix":
            emitter.instruments.load(place, "i32", 0)
        else:
            emitter.instruments.store(place, Value("", "i32", True), 0)


def emit_load_matrix(emitter: Emitter, instruction: Instruction) -> None:
    """`ldmatrix`: each of the first lanes names a row; lane `l` gets two elements of row l / 4."""
    targets = _registers(instruction.operands[0])
    count = _count(instruction)
    if len(targets) != count:
        raise emitter.refuse(f"x{count} needs {count} registers")
    transposes = "trans" in instruction.modifiers
    with whole_warp(emitter) as some:
        rows = _rows(emitter, instruction, instruction.operands[1], some)

    def build(values: list[Value]) -> list[Value]:
        matrices = [_load_rows(emitter, values[0], _ROWS * number) for number in range(count)]
        return [transpose(emitter, m) for m in matrices] if transposes else matrices

    name = f"ldmatrix.x{count}" + (".trans" if transposes else "")
    results = emitter.call_function(name, [rows], ["i32"] * count, build)
    for target, value in zip(targets, results, strict=True):
        emitter.write(target, value)


def _load_rows(emitter: Emitter, addresses: Value, first: int) -> Value:
    """A matrix in a register: its rows one after the other."""
    parts = []
    for row in range(first, first + _ROWS):
        pointer = _pointer(emitter, addresses, row)
        parts.append(emitter.define(f"load <{_ROW_WORDS} x i32>, {pointer}, align 16", "i32").ref)
    size = _ROW_WORDS
    while len(parts) > 1:
        order = ", ".join(f"i32 {index}" for index in range(2 * size))
        parts = [
            emitter.define(
                f"shufflevector <{size} x i32> {low}, <{size} x i32> {high}, "
                f"<{2 * size} x i32> <{order}>",
                "i32",
            ).ref
            for low, high in zip(parts[::2], parts[1::2], strict=True)
        ]
        size *= 2
    return Value(parts[0], "i32", True)


def _pointer(emitter: Emitter, addresses: Value, lane: int) -> Value:
    address = emitter.define(f"extractelement {addresses}, i32 {lane}", "i64")
    return emitter.cast("inttoptr", address, "ptr")


def transpose(emitter: Emitter, matrix: Value) -> Value:
    """Exchange rows and columns of a matrix in a register."""
    count = 2 * WARP_SIZE
    kind = f"<{count} x i16>"
    halves = emitter.define(f"bitcast {matrix} to {kind}", "i16").ref
    order = ", ".join(f"i32 {index}" for index in _TRANSPOSED)
    turned = emitter.define(
        f"shufflevector {kind} {halves}, {kind} poison, <{count} x i32> <{order}>",
        "i16",
    ).ref
    return emitter.define(f"bitcast {kind} {turned} to {matrix.llvm_type}", "i32", True)


def emit_store_matrix(emitter: Emitter, instruction: Instruction) -> None:
    """`stmatrix`: the opposite of `ldmatrix`."""
    sources = _registers(instruction.operands[1])
    if len(sources) != _count(instruction):
        raise emitter.refuse(f"{len(sources)} registers do not fit")
    matrices = [emitter.widen(emitter.read(source, "b32")) for source in sources]
    with whole_warp(emitter) as some:
        rows = _rows(emitter, instruction, instruction.operands[0], some)
    for number, matrix in enumerate(matrices):
        if "trans" in instruction.modifiers:
            matrix = transpose(emitter, matrix)
        for row in range(_ROWS):
            order = ", ".join(f"i32 {_ROW_WORDS * row + word}" for word in range(_ROW_WORDS))
            mask = f"<{_ROW_WORDS} x i32> <{order}>"
            part = emitter.define(
                f"shufflevector {matrix}, {matrix.llvm_type} poison, {mask}", "i32"
            ).ref
            pointer = _pointer(emitter, rows, _ROWS * number + row)
            emitter.line(f"store <{_ROW_WORDS} x i32> {part}, {pointer}, align 16")


def emit_move_matrix(emitter: Emitter, instruction: Instruction) -> None:
    """`movmatrix.trans`: transpose a matrix that lies in registers."""
    target, source = instruction.operands
    emitter.write(target, transpose(emitter, emitter.widen(emitter.read(source, "b32"))))


class _Matrix:
    """A matrix in memory, as `wmma.load` and `wmma.store` address it."""

    def __init__(
        self, emitter: Emitter, instruction: Instruction, operand: Operand, stride: Operand | None
    ) -> None:
        self._emitter = emitter
        self._matrix = instruction.modifiers[1]
        self._shape = shape_of(instruction)
        (self.element,) = (name for name in instruction.modifiers if name in ELEMENT_BITS)
        self._bits = ELEMENT_BITS[self.element]
        self.fragment = wmma_fragment(self._matrix, self._shape, self.element)
        self._by_row = "row" in instruction.modifiers
        if self._by_row == ("col" in instruction.modifiers):
            raise emitter.refuse("expected one of .row and .col")
        self._space = space_of(emitter, instruction)
        self._address: Address = address_of(emitter, operand)
        self._base = emitter.resize(operand_value(emitter, self._address.base), "i64")
        if stride is None:
            self._stride = integer(self._line_length(), "i64")
        else:
            self._stride = emitter.cast("zext", emitter.read(stride, "u32"), "i64")
        # Elements of a register that lie side by side in memory are accessed as one.
        steps = self.fragment.registers[0][0]
        self.together = len(steps) == 1 or (steps[0][0] == steps[1][0]) == self._by_row
        if not self.together and self._bits < 8:
            raise emitter.refuse(f"{self.element} needs the other layout")

    def _line_length(self) -> int:
        rows, columns, depth = self._shape
        width = {"a": depth, "b": columns}.get(self._matrix, columns)
        height = {"a": rows, "b": depth}.get(self._matrix, rows)
        return width if self._by_row else height

    def locate(self, places: tuple[tuple[int, int], ...], size: int) -> Place:
        """A checked place of `size` bytes for each lane, at an element."""
        emitter = self._emitter
        ordered = places if self._by_row else [(column, row) for row, column in places]
        line = lanes([line for line, _ in ordered], "i64")
        position = lanes([position for _, position in ordered], "i64")
        index = emitter.op("add", emitter.op("mul", line, self._stride), position)
        start = emitter.op("mul", index, integer(self._bits, "i64"))
        offset = emitter.op("lshr", start, integer(3, "i64"))
        base = emitter.op("add", self._base, offset)
        return locate_at(emitter, base, self._address.offset, self._space, size)


def emit_fragment_load(emitter: Emitter, instruction: Instruction) -> None:
    """`wmma.load`: a matrix from memory into a fragment."""
    target, address, *rest = instruction.operands
    targets = _registers(target)
    with whole_warp(emitter):
        matrix = _Matrix(emitter, instruction, address, rest[0] if rest else None)
        if len(targets) != len(matrix.fragment.registers):
            raise emitter.refuse("wrong number of registers in a fragment")
        known: dict[tuple[tuple[tuple[int, int], ...], ...], Value] = {}
        for register in matrix.fragment.registers:
            if register not in known:
                known[register] = _load_register(emitter, matrix, register)
    for item, register in zip(targets, matrix.fragment.registers, strict=True):
        emitter.write(item, known[register])


def _load_register(
    emitter: Emitter, matrix: _Matrix, register: tuple[tuple[tuple[int, int], ...], ...]
) -> Value:
    if matrix.element == "f64":
        place = matrix.locate(tuple(places[0] for places in register), 8)
        return emitter.widen(load(emitter, place, "double"))
    if matrix.together:
        place = matrix.locate(tuple(places[0] for places in register), 4)
        return emitter.widen(load(emitter, place, "i32"))
    bits = ELEMENT_BITS[matrix.element]
    word: Value = emitter.widen(integer(0, "i32"))
    for index in range(len(register[0])):
        place = matrix.locate(tuple(places[index] for places in register), bits // 8)
        part = emitter.cast("zext", load(emitter, place, f"i{bits}"), "i32")
        word = emitter.op("or", word, emitter.op("shl", part, integer(bits * index, "i32")))
    return word


def emit_fragment_store(emitter: Emitter, instruction: Instruction) -> None:
    """`wmma.store`: the accumulator's fragment to memory."""
    address, source, *rest = instruction.operands
    sources = _registers(source)
    with whole_warp(emitter):
        matrix = _Matrix(emitter, instruction, address, rest[0] if rest else None)
        if len(sources) != len(matrix.fragment.registers):
            raise emitter.refuse("wrong number of registers in a fragment")
        wide = matrix.element == "f64"
        values = [emitter.read(item, "f64" if wide else "b32") for item in sources]
        for value, register in zip(values, matrix.fragment.registers, strict=True):
            if wide or matrix.together:
                place = matrix.locate(tuple(places[0] for places in register), 8 if wide else 4)
                store(emitter, place, value)
                continue
            bits = ELEMENT_BITS[matrix.element]
            for index in range(len(register[0])):
                place = matrix.locate(tuple(places[index] for places in register), bits // 8)
                part = emitter.op("lshr", value, integer(bits * index, "i32"))
                store(emitter, place, emitter.cast("trunc", part, f"i{bits}"))
