"""What products of matrices are made of: elements of registers, and one step along the depth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vgpu_host.executors.software.host_functions import dot_name
from vgpu_host.executors.software.ir import WARP_SIZE

from .emitter import Emitter, Value, integer
from .halves import to_single
from .matrix_shapes import ELEMENT_BITS, INTEGERS


@dataclass(frozen=True, slots=True)
class Part:
    """A vector of any number of elements."""

    ref: str
    type: str
    count: int

    @property
    def llvm_type(self) -> str:
        """The LLVM type of the whole value."""
        return f"<{self.count} x {self.type}>"

    def __str__(self) -> str:
        return f"{self.llvm_type} {self.ref}"


#: Words of four bytes that are multiplied as they are, those of A without a sign, those of B with.
BYTES = "bytes"

#: Makes a + b * c.
AddProduct = Callable[[Emitter, Part, Part, Part], Part]


def define(emitter: Emitter, expression: str, type_: str, count: int) -> Part:
    """Append `%x = expression`."""
    return Part(emitter.define(expression, "").ref, type_, count)


def mix(emitter: Emitter, pair: Sequence[Part], order: Sequence[int]) -> Part:
    """A vector of elements of two vectors, which are numbered through."""
    a, b = pair
    mask = ", ".join(f"i32 {lane}" for lane in order)
    expression = f"shufflevector {a}, {b}, <{len(order)} x i32> <{mask}>"
    return define(emitter, expression, a.type, len(order))


def elements(emitter: Emitter, register: Value, element: str) -> list[list[Value]]:
    """The elements of a register, each as what is multiplied; integers in one or more pieces."""
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
    return [[register]] if element == BYTES else [_pairs(emitter, register, element)]


def _pairs(emitter: Emitter, word: Value, element: str) -> list[Value]:
    """Words of two 16-bit integers each: elements `i` and `i + n/2` of the n elements of a word."""
    bits = ELEMENT_BITS[element]
    count = 2 * WARP_SIZE
    halves = define(emitter, f"bitcast {word} to <{count} x i16>", "i16", count)
    extend = "ashr" if element[0] == "s" else "lshr"
    pieces = []
    for low in range(0, 16, bits):
        amount = 16 - bits - low
        up = define(emitter, f"shl {halves}, splat (i16 {amount})", "i16", count)
        down = define(emitter, f"{extend} {up}, splat (i16 {16 - bits})", "i16", count)
        pieces.append(emitter.define(f"bitcast {down} to {word.llvm_type}", "i32", True))
    return pieces


def step_of(a_type: str, modifiers: Sequence[str]) -> AddProduct:
    """One step of a product, by the type of A."""
    if a_type == BYTES:
        return add_bytes
    if a_type == "b1":
        return _add_unequal_bits if "xor" in modifiers else _add_equal_bits
    return _add_pairs if a_type in INTEGERS else _fuse


def _fuse(emitter: Emitter, total: Part, a: Part, b: Part) -> Part:
    name = f"llvm.fma.v{total.count}{'f64' if total.type == 'double' else 'f32'}"
    kind = total.llvm_type
    emitter.declarations.add(f"declare {kind} @{name}({kind}, {kind}, {kind})")
    return _like(emitter, f"call {kind} @{name}({a}, {b}, {total})", total)


def _add_pairs(emitter: Emitter, total: Part, a: Part, b: Part) -> Part:
    """Adds the products of two signed 16-bit integers; x86 does this in one instruction."""
    count = 2 * total.count
    wide = []
    for value in (a, b):
        pairs = define(emitter, f"bitcast {value} to <{count} x i16>", "i16", count)
        wide.append(define(emitter, f"sext {pairs} to <{count} x i32>", "i32", count))
    product = define(emitter, f"mul {wide[0]}, {wide[1].ref}", "i32", count)
    for first in (0, 1):
        half = mix(emitter, (product, product), range(first, count, 2))
        total = add(emitter, total, half)
    return total


def add(emitter: Emitter, a: Part, b: Part) -> Part:
    """The sum of two vectors of integers."""
    return _like(emitter, f"add {a}, {b.ref}", a)


def add_bytes(emitter: Emitter, total: Part, a: Part, b: Part) -> Part:
    """Adds the products of four bytes, those of A without a sign; for 16 elements."""
    name = dot_name(is_signed=False, other_is_signed=True, count=total.count)
    return _like(emitter, f"call {total.llvm_type} @{name}({a}, {b}, {total})", total)


def _add_equal_bits(emitter: Emitter, total: Part, a: Part, b: Part) -> Part:
    return _add_bits(emitter, total, _like(emitter, f"and {a}, {b.ref}", total))


def _add_unequal_bits(emitter: Emitter, total: Part, a: Part, b: Part) -> Part:
    return _add_bits(emitter, total, _like(emitter, f"xor {a}, {b.ref}", total))


def _add_bits(emitter: Emitter, total: Part, bits: Part) -> Part:
    kind, name = total.llvm_type, f"llvm.ctpop.v{total.count}i32"
    emitter.declarations.add(f"declare {kind} @{name}({kind})")
    return add(emitter, total, _like(emitter, f"call {kind} @{name}({bits})", total))


def _like(emitter: Emitter, expression: str, like: Part) -> Part:
    return define(emitter, expression, like.type, like.count)
