"""Products of matrices: `mma` and `wmma.mma`.

Each kind of product is a function of the kernel's module, from registers to registers. Tensor cores
add in an order and precision of their own; here f16, bf16 and tf32 are converted exactly and added
to a single-precision sum one after the other, and a f16 accumulator is rounded once, at the end.
"""

from __future__ import annotations

from vgpu_host.executors.software.ir import Instruction, Operand, Vector

from .emitter import Emitter, Value, integer
from .halves import HALVES, from_single
from .matrix_columns import ROWS, multiply_columns
from .matrix_lanes import multiply_lanes
from .matrix_shapes import Product, mma_product, packed, wmma_product
from .matrix_steps import elements, step_of


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
    from_zero = all(emitter.zeros.is_zero(emitter.block, instruction, item) for item in operands[3])
    read = operands[1:3] if from_zero else operands[1:]
    a, b, *c = ([emitter.widen(emitter.read(item, ptx_type)) for item in items] for items in read)
    results = multiply(emitter, product, instruction, a, b, c[0] if c else None)
    for item, value in zip(operands[0], results, strict=True):
        emitter.write(item, value)


def multiply(
    emitter: Emitter,
    product: Product,
    instruction: Instruction,
    a: list[Value],
    b: list[Value],
    c: list[Value] | None,
) -> list[Value]:
    """Registers of D from those of A, B and C, by a function that is made for the instruction.

    C is None where it is known to be zero.
    """
    name = ".".join([instruction.opcode, *instruction.modifiers, *["zero"] * (c is None)])
    b_start, c_start = len(a), len(a) + len(b)
    kind = a[0].type

    def build(values: list[Value]) -> list[Value]:
        left, right, start = values[:b_start], values[b_start:c_start], values[c_start:]
        if c is None:
            zero = Value("zeroinitializer", kind, True)
            start = [zero] * len(product.fragments[3].registers)
        return _multiply(emitter, product, instruction.modifiers, left, right, start)

    count = len(product.fragments[0].registers)
    return emitter.call_function(name, [*a, *b, *(c or [])], [kind] * count, build)


def _items(operand: Operand) -> tuple[Operand, ...]:
    return operand.items if isinstance(operand, Vector) else (operand,)


def _multiply(
    emitter: Emitter,
    product: Product,
    modifiers: tuple[str, ...],
    a: list[Value],
    b: list[Value],
    c: list[Value],
) -> list[Value]:
    """Registers of D from those of A, B and C."""
    d_type, a_type, _, c_type = product.types
    start = [value for register in c for (value,) in elements(emitter, register, c_type)]
    saturates = "satfinite" in modifiers
    first = [Value("zeroinitializer", "i32", True)] * len(start) if saturates else start
    multiply = multiply_lanes if product.shape[0] % ROWS else multiply_columns
    sums = multiply(emitter, product, a, b, first, step_of(a_type, modifiers))
    if saturates:
        sums = [
            emitter.intrinsic("sadd.sat", before, total)
            for before, total in zip(start, sums, strict=True)
        ]
    count = packed(d_type)
    return [_join(emitter, sums[at : at + count], d_type) for at in range(0, len(sums), count)]


def _join(emitter: Emitter, elements: list[Value], element: str) -> Value:
    """A register of D."""
    if element not in HALVES:
        (value,) = elements
        return value if element == "f64" else emitter.bits(value, "i32")
    low, high = (
        emitter.cast("zext", from_single(emitter, value, element), "i32") for value in elements
    )
    return emitter.op("or", low, emitter.op("shl", high, integer(16, "i32")))
