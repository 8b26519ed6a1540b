"""`wgmma.mma_async`: four warps multiply matrices that lie in shared memory.

Each warp multiplies its 16 of the 64 rows as soon as it gets there, by the same steps as `mma`; a
program has to wait for the result in any case. Operands in shared memory are found by descriptors
("Asynchronous warpgroup level matrix instructions" in the PTX manual): rows, or columns, of 8 by
16 bytes, which are swizzled where a descriptor says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from vgpu_host.executors.software.ir import Immediate, Instruction, Operand, Vector

from .access import end_kernel, load, locate_at
from .emitter import Emitter, Value, integer, lanes
from .matrix_arithmetic import multiply
from .matrix_layouts import Fragment
from .matrix_memory import whole_warp
from .matrix_shapes import ELEMENT_BITS, INTEGERS, Product, product_of, shape_of
from .state import FAULT_TRAP

_WARPS, _ROWS, _COLUMNS = 4, 16, 8
#: Bytes of an operand along the inner dimension, which give the depth for each type.
_DEPTH_BYTES = 32
_CHUNK = 16
ACCUMULATORS = {
    "f16": ("f16", "f32"),
    "bf16": ("f32",),
    "tf32": ("f32",),
    "s8": ("s32",),
    "u8": ("s32",),
    "b1": ("s32",),
}


def shapes() -> str:
    """Modifiers of all shapes."""
    depths = {8 * _DEPTH_BYTES // ELEMENT_BITS[a] for a in ACCUMULATORS}
    return " ".join(f"m64n{n}k{k}" for n in range(8, 257, 8) for k in sorted(depths))


@dataclass(frozen=True, slots=True)
class _Descriptor:
    """Where a matrix lies in shared memory; offsets in bytes, one scalar for the whole warp.

    `pitch` is the distance of rows: 16 without swizzling, else the bytes that are swizzled.
    """

    start: Value
    leading: Value
    stride: Value
    pitch: Value
    is_plain: Value


def _read_descriptor(emitter: Emitter, operand: Operand) -> _Descriptor:
    word = emitter.read(operand, "b64")
    if word.vector:
        word = emitter.define(f"extractelement {word}, i32 0", "i64")

    def field(first: int, bits: int) -> Value:
        shifted = emitter.op("lshr", word, integer(first, "i64"))
        return emitter.op("and", shifted, integer((1 << bits) - 1, "i64"))

    def offset(first: int) -> Value:
        return emitter.op("shl", field(first, 14), integer(4, "i64"))

    has_base = emitter.compare("icmp ne", field(49, 3), integer(0, "i64"))
    bad = emitter.select(has_base, emitter.active_bits(), integer(0, "i32"))
    end_kernel(emitter, bad, word, FAULT_TRAP)
    # Mode 1 swizzles 128 bytes, 2 swizzles 64, 3 swizzles 32.
    power = emitter.op("and", emitter.op("sub", integer(4, "i64"), field(62, 2)), integer(3, "i64"))
    pitch = emitter.op("shl", integer(_CHUNK, "i64"), power)
    is_plain = emitter.compare("icmp eq", power, integer(0, "i64"))
    return _Descriptor(offset(0), offset(16), offset(32), pitch, is_plain)


def _address(
    emitter: Emitter, matrix: _Descriptor, line: Value, depth: list[int], by_depth: bool, unit: int
) -> Value:
    """Offsets of elements in shared memory.

    Args:
        emitter: writes the code.
        matrix: describes the matrix.
        line: rows of A or columns of B, a vector.
        depth: their places along the inner dimension, in units.
        by_depth: whether neighbours along the inner dimension lie side by side.
        unit: size of an element, or a word of them, in bytes.
    """

    def times(numbers: list[int], by: Value) -> Value:
        return emitter.op("mul", lanes(numbers, "i64"), by)

    if by_depth:
        chunk = emitter.select(matrix.is_plain, matrix.leading, integer(_CHUNK, "i64"))
        places = [unit * place for place in depth]
        inner = emitter.op("lshr", line, integer(3, "i64"))
        parts = [
            emitter.op("mul", inner, matrix.stride),
            emitter.op("mul", emitter.op("and", line, integer(7, "i64")), matrix.pitch),
            times([place // _CHUNK for place in places], chunk),
            lanes([place % _CHUNK for place in places], "i64"),
        ]
    else:
        across = emitter.select(matrix.is_plain, matrix.stride, matrix.leading)
        along = emitter.select(matrix.is_plain, matrix.leading, matrix.stride)
        place = emitter.op("mul", line, integer(unit, "i64"))
        rest = emitter.op("sub", matrix.pitch, integer(1, "i64"))
        parts = [
            emitter.op("and", place, rest),
            emitter.op("mul", emitter.op("udiv", place, matrix.pitch), across),
            times([step % 8 for step in depth], matrix.pitch),
            times([step // 8 for step in depth], along),
        ]
    total = matrix.start
    for part in parts:
        total = emitter.op("add", total, part)
    phase = emitter.op("lshr", total, integer(3, "i64"))
    mask = emitter.op("sub", matrix.pitch, integer(_CHUNK, "i64"))
    return emitter.op("xor", total, emitter.op("and", phase, mask))


def _load_fragment(
    emitter: Emitter,
    matrix: _Descriptor,
    fragment: Fragment,
    first: Value,
    is_a: bool,
    element: str,
    by_depth: bool,
) -> list[Value]:
    """The registers of an operand whose lines begin at `first`."""
    bits = ELEMENT_BITS[element]
    unit = 4 if element in INTEGERS else bits // 8
    registers = []
    for register in fragment.registers:
        pieces = []
        for index in range(1 if by_depth else len(register[0])):
            places = [own[index] for own in register]
            line = emitter.op("add", lanes([p[0 if is_a else 1] for p in places], "i64"), first)
            depth = [p[1 if is_a else 0] for p in places]
            where = _address(emitter, matrix, line, depth, by_depth, unit)
            size = 4 if by_depth else unit
            piece = load(emitter, locate_at(emitter, where, 0, "shared", size), f"i{8 * size}")
            pieces.append(emitter.cast("zext", piece, "i32"))
        word = pieces[0]
        for piece in pieces[1:]:
            word = emitter.op("or", word, emitter.op("shl", piece, integer(bits, "i32")))
        registers.append(word)
    return registers


def _negate(emitter: Emitter, registers: list[Value], element: str) -> list[Value]:
    signs = 0x80000000 if element == "tf32" else 0x80008000
    return [emitter.op("xor", register, integer(signs, "i32")) for register in registers]


def _product(emitter: Emitter, instruction: Instruction) -> tuple[Product, int]:
    """What one warp does for 8 columns, and how many columns there are."""
    rows, columns, depth = shape_of(instruction)
    match [name for name in instruction.modifiers if name in ELEMENT_BITS]:
        case [d, a, b]:
            if a != b or d not in ACCUMULATORS.get(a, ()):
                raise emitter.refuse(f"no product of {a} and {b} in {d}")
        case _:
            raise emitter.refuse("expected three types")
    odd = a in INTEGERS and columns > 32 and columns % 16
    if rows != _WARPS * _ROWS or depth != 8 * _DEPTH_BYTES // ELEMENT_BITS[a] or odd:
        raise emitter.refuse("there is no such shape for this type")
    return product_of((_ROWS, _COLUMNS, depth), (d, a, b, d)), columns


def emit_warpgroup_product(emitter: Emitter, instruction: Instruction) -> None:
    """`wgmma.mma_async`: D = A * B + D, or A * B."""
    product, columns = _product(emitter, instruction)
    element = product.types[1]
    d, a, b, scale_d, *settings = instruction.operands
    assert isinstance(d, Vector)
    tiles = columns // _COLUMNS
    count = len(product.fragments[0].registers)
    flags = [setting.bits for setting in settings if isinstance(setting, Immediate)]
    a_is_memory = not isinstance(a, Vector)
    scales = 0 if element in INTEGERS else 2
    transposes = 0 if ELEMENT_BITS[element] != 16 else 1 + a_is_memory
    if len(d.items) != tiles * count:
        raise emitter.refuse("wrong number of registers in a fragment")
    if not len(flags) == len(settings) == scales + transposes:
        raise emitter.refuse("wrong number of scales or transpositions")
    negates_a, negates_b = (flag != 1 for flag in flags[:2]) if scales else (False, False)
    turned = [bool(flag) for flag in flags[scales:]]
    a_by_depth = not (a_is_memory and turned and turned[0])
    b_by_depth = not (turned and turned[-1])
    keeps = emitter.read(scale_d, "pred")
    zero = integer(0, "i32")
    with whole_warp(emitter):
        if isinstance(a, Vector):
            left = [emitter.widen(emitter.read(item, "b32")) for item in a.items]
        else:
            warp = emitter.op("and", emitter.special("%warpid"), integer(_WARPS - 1, "i32"))
            row = emitter.op("mul", emitter.cast("zext", warp, "i64"), integer(_ROWS, "i64"))
            left = _load_fragment(
                *(emitter, _read_descriptor(emitter, a), product.fragments[1], row),
                *(True, element, a_by_depth),
            )
        matrix = _read_descriptor(emitter, b)
        right = [
            _load_fragment(
                *(emitter, matrix, product.fragments[2], integer(_COLUMNS * tile, "i64")),
                *(False, element, b_by_depth),
            )
            for tile in range(tiles)
        ]
    if len(left) != len(product.fragments[1].registers):
        raise emitter.refuse("wrong number of registers in a fragment")
    if negates_a != negates_b:
        left = _negate(emitter, left, element)
    before = [
        emitter.widen(emitter.select(keeps, emitter.read(item, "b32"), zero)) for item in d.items
    ]
    for tile, columns_of_b in enumerate(right):
        at = tile * count
        results = multiply(
            emitter, product, instruction, left, columns_of_b, before[at : at + count]
        )
        for item, value in zip(d.items[at : at + count], results, strict=True):
            emitter.write(item, value)
