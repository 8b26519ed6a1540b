"""Logic, shifts, bit fields, bit counts and byte permutation."""

from __future__ import annotations

from vgpu_host.executors.software.ir import BITS as WIDTH
from vgpu_host.executors.software.ir import Immediate, Instruction, Pair

from .arithmetic import is_signed, sources
from .emitter import Emitter, Value, integer
from .registry import BITS, INTEGERS, handles


@handles("and or xor", f"pred {BITS}")
def emit_logic(emitter: Emitter, instruction: Instruction) -> None:
    """`and`, `or`, `xor`."""
    a, b = sources(emitter, instruction)
    emitter.write(instruction.operands[0], emitter.op(instruction.opcode, a, b))


@handles("not cnot", f"pred {BITS}")
def emit_not(emitter: Emitter, instruction: Instruction) -> None:
    """`not` complements; `cnot` is 1 for 0 and 0 for anything else."""
    (value,) = sources(emitter, instruction)
    if instruction.opcode == "cnot":
        is_zero = emitter.compare("icmp eq", value, integer(0, value.type))
        emitter.write(instruction.operands[0], emitter.cast("zext", is_zero, value.type))
    else:
        emitter.write(instruction.operands[0], emitter.invert(value))


@handles("lop3", "b32 or and")
def emit_lop3(emitter: Emitter, instruction: Instruction) -> None:
    """`lop3`: any logical function of three inputs, given as a truth table.

    With `.or` or `.and` also a predicate: whether the result is not 0, combined with another.
    """
    target, *inputs, table = instruction.operands[:5]
    if not isinstance(table, Immediate):
        raise emitter.refuse("lop3 needs an immediate truth table")
    values = [emitter.read(operand, "b32") for operand in inputs]
    result: Value = integer(0, "i32")
    for row in range(8):
        if not table.bits >> row & 1:
            continue
        terms = [v if row >> (2 - i) & 1 else emitter.invert(v) for i, v in enumerate(values)]
        term = emitter.op("and", emitter.op("and", terms[0], terms[1]), terms[2])
        result = emitter.op("or", result, term)
    if isinstance(target, Pair):
        operation = next(name for name in ("or", "and") if name in instruction.modifiers)
        other = emitter.read(instruction.operands[5], "pred")
        some = emitter.compare("icmp ne", result, integer(0, "i32"))
        emitter.write(target.first, result)
        emitter.write(target.second, emitter.op(operation, some, other))
    else:
        emitter.write(target, result)


@handles("shl shr", f"{BITS} {INTEGERS}")
def emit_shift(emitter: Emitter, instruction: Instruction) -> None:
    """`shl`, `shr`: amounts beyond the width act as the width."""
    target, source, count = instruction.operands
    value, amount = emitter.read(source, instruction.type), emitter.read(count, "u32")
    signed = is_signed(instruction)
    operation = "shl" if instruction.opcode == "shl" else "ashr" if signed else "lshr"
    emitter.write(target, shift_clamped(emitter, operation, value, amount), signed)


def shift_clamped(emitter: Emitter, operation: str, value: Value, amount: Value) -> Value:
    """Shift by an i32 amount; at or beyond the width the result is 0, or the sign for `ashr`."""
    bits = WIDTH[value.type]
    within = emitter.compare("icmp ult", amount, integer(bits, "i32"))
    if operation == "ashr":
        amount = emitter.select(within, amount, integer(bits - 1, "i32"))
        return emitter.op(operation, value, emitter.resize(amount, value.type))
    safe = emitter.select(within, amount, integer(0, "i32"))
    shifted = emitter.op(operation, value, emitter.resize(safe, value.type))
    return emitter.select(within, shifted, integer(0, value.type))


@handles("shf", "l r clamp wrap b32")
def emit_funnel_shift(emitter: Emitter, instruction: Instruction) -> None:
    """`shf`: shift the 64-bit pair {b, a} and keep one half."""
    low, high, count = (emitter.read(operand, "b32") for operand in instruction.operands[1:])
    if "clamp" in instruction.modifiers:
        count = emitter.intrinsic("umin", count, integer(32, "i32"))
    else:
        count = emitter.op("and", count, integer(31, "i32"))
    pair = emitter.op(
        "or",
        emitter.op("shl", emitter.cast("zext", high, "i64"), integer(32, "i64")),
        emitter.cast("zext", low, "i64"),
    )
    amount = emitter.cast("zext", count, "i64")
    if "l" in instruction.modifiers:
        shifted = emitter.op("lshr", emitter.op("shl", pair, amount), integer(32, "i64"))
    else:
        shifted = emitter.op("lshr", pair, amount)
    emitter.write(instruction.operands[0], emitter.cast("trunc", shifted, "i32"))


@handles("popc clz brev", "b32 b64")
def emit_count(emitter: Emitter, instruction: Instruction) -> None:
    """`popc`, `clz` (both yield a u32) and `brev`."""
    (value,) = sources(emitter, instruction)
    if instruction.opcode == "brev":
        result = emitter.intrinsic("bitreverse", value)
    elif instruction.opcode == "popc":
        result = emitter.resize(emitter.intrinsic("ctpop", value), "i32")
    else:
        result = emitter.resize(emitter.intrinsic("ctlz", value, extra="i1 false"), "i32")
    emitter.write(instruction.operands[0], result)


@handles("bfind", "shiftamt u32 s32 u64 s64")
def emit_find(emitter: Emitter, instruction: Instruction) -> None:
    """`bfind`: position of the leading non-sign bit, all ones if there is none."""
    (value,) = sources(emitter, instruction)
    bits = WIDTH[value.type]
    if is_signed(instruction):
        sign = emitter.op("ashr", value, integer(bits - 1, value.type))
        value = emitter.op("xor", value, sign)
    leading = emitter.intrinsic("ctlz", value, extra="i1 false")
    found = leading
    if "shiftamt" not in instruction.modifiers:
        found = emitter.op("sub", integer(bits - 1, value.type), leading)
    none = emitter.compare("icmp eq", value, integer(0, value.type))
    result = emitter.select(none, integer(-1, value.type), found)
    emitter.write(instruction.operands[0], emitter.resize(result, "i32"))


@handles("bfe", "u32 s32 u64 s64")
def emit_extract(emitter: Emitter, instruction: Instruction) -> None:
    """`bfe`: extract a bit field and extend it; position and length are taken modulo 256."""
    target, source, start, count = instruction.operands
    value = emitter.read(source, instruction.type)
    mask = integer(255, "i32")
    position = emitter.op("and", emitter.read(start, "u32"), mask)
    length = emitter.op("and", emitter.read(count, "u32"), mask)
    bits = WIDTH[value.type]
    signed = is_signed(instruction)
    # Move the field to the top of the word, then back down; a field that reaches past the top is
    # extended from the top bit, so the upward shift is never negative.
    end = emitter.intrinsic("umin", emitter.op("add", position, length), integer(bits, "i32"))
    up = emitter.op("sub", integer(bits, "i32"), end)
    taken = emitter.op("sub", end, emitter.intrinsic("umin", position, integer(bits, "i32")))
    down = emitter.op("sub", integer(bits, "i32"), taken)
    operation = "ashr" if signed else "lshr"
    lifted = shift_clamped(emitter, "shl", value, up)
    field = shift_clamped(emitter, operation, lifted, down)
    if signed:
        # A field wholly above the word is all sign bits.
        sign = emitter.op("ashr", value, integer(bits - 1, value.type))
        above = emitter.compare("icmp uge", position, integer(bits, "i32"))
        field = emitter.select(above, sign, field)
    empty = emitter.compare("icmp eq", length, integer(0, "i32"))
    emitter.write(target, emitter.select(empty, integer(0, value.type), field))


@handles("bfi", "b32 b64")
def emit_insert(emitter: Emitter, instruction: Instruction) -> None:
    """`bfi`: insert the low bits of `a` into `b`; position and length are taken modulo 256."""
    target, field_operand, base_operand, start, count = instruction.operands
    field = emitter.read(field_operand, instruction.type)
    base = emitter.read(base_operand, instruction.type)
    limit = integer(255, "i32")
    position = emitter.op("and", emitter.read(start, "u32"), limit)
    length = emitter.op("and", emitter.read(count, "u32"), limit)
    ones = integer(-1, field.type)
    low = emitter.invert(shift_clamped(emitter, "shl", emitter.op("or", ones, field), length))
    mask = shift_clamped(emitter, "shl", low, position)
    moved = shift_clamped(emitter, "shl", field, position)
    kept = emitter.op("and", base, emitter.invert(mask))
    emitter.write(target, emitter.op("or", kept, emitter.op("and", moved, mask)))


#: Selectors of the special modes by the two low bits of the third operand.
_PERMUTATIONS = {
    "f4e": (0x3210, 0x4321, 0x5432, 0x6543),
    "b4e": (0x5670, 0x6701, 0x7012, 0x0123),
    "rc8": (0x0000, 0x1111, 0x2222, 0x3333),
    "ecl": (0x3210, 0x3211, 0x3222, 0x3333),
    "ecr": (0x0000, 0x1110, 0x2210, 0x3210),
    "rc16": (0x1010, 0x3232, 0x1010, 0x3232),
}


@handles("prmt", "b32 " + " ".join(_PERMUTATIONS))
def emit_permute(emitter: Emitter, instruction: Instruction) -> None:
    """`prmt`: pick four bytes of the pair {b, a}; bit 3 of a selector replicates the sign."""
    a, b, selector = sources(emitter, instruction)
    for mode, choices in _PERMUTATIONS.items():
        if mode in instruction.modifiers:
            selector = _choose(emitter, selector, choices)
    pair = emitter.op(
        "or",
        emitter.cast("zext", a, "i64"),
        emitter.op("shl", emitter.cast("zext", b, "i64"), integer(32, "i64")),
    )
    result: Value = integer(0, "i32")
    for index in range(4):
        nibble = emitter.op("lshr", selector, integer(4 * index, "i32"))
        shift = emitter.op("shl", emitter.op("and", nibble, integer(7, "i32")), integer(3, "i32"))
        byte = emitter.op("lshr", pair, emitter.cast("zext", shift, "i64"))
        byte = emitter.op("and", emitter.cast("trunc", byte, "i32"), integer(255, "i32"))
        negative = emitter.compare("icmp ugt", byte, integer(127, "i32"))
        sign = emitter.select(negative, integer(255, "i32"), integer(0, "i32"))
        replicate = emitter.op("and", nibble, integer(8, "i32"))
        wants_sign = emitter.compare("icmp ne", replicate, integer(0, "i32"))
        byte = emitter.select(wants_sign, sign, byte)
        result = emitter.op("or", result, emitter.op("shl", byte, integer(8 * index, "i32")))
    emitter.write(instruction.operands[0], result)


def _choose(emitter: Emitter, index: Value, choices: tuple[int, ...]) -> Value:
    """The choice that the two low bits of `index` name."""
    low = emitter.op("and", index, integer(3, "i32"))
    result: Value = integer(choices[0], "i32")
    for number, choice in enumerate(choices[1:], 1):
        hit = emitter.compare("icmp eq", low, integer(number, "i32"))
        result = emitter.select(hit, integer(choice, "i32"), result)
    return result


@handles("bmsk", "clamp wrap b32")
def emit_bit_mask(emitter: Emitter, instruction: Instruction) -> None:
    """`bmsk`: `b` ones from bit `a` on; beyond 31 they are clamped or taken modulo 32."""
    start, width = (emitter.read(operand, "u32") for operand in instruction.operands[1:])
    if "wrap" in instruction.modifiers:
        limit = integer(31, "i32")
        start, width = emitter.op("and", start, limit), emitter.op("and", width, limit)
    ones = integer(-1, "i32")
    low = emitter.invert(shift_clamped(emitter, "shl", emitter.op("or", width, ones), width))
    emitter.write(instruction.operands[0], shift_clamped(emitter, "shl", low, start))


@handles("szext", "clamp wrap u32 s32")
def emit_sign_extend(emitter: Emitter, instruction: Instruction) -> None:
    """`szext`: extend the low `b` bits of `a` to a word."""
    value, width = (
        emitter.read(instruction.operands[1], "b32"),
        emitter.read(instruction.operands[2], "u32"),
    )
    if "wrap" in instruction.modifiers:
        width = emitter.op("and", width, integer(31, "i32"))
    width = emitter.intrinsic("umin", width, integer(32, "i32"))
    away = emitter.op("sub", integer(32, "i32"), width)
    lifted = shift_clamped(emitter, "shl", value, away)
    down = "ashr" if is_signed(instruction) else "lshr"
    emitter.write(instruction.operands[0], shift_clamped(emitter, down, lifted, away))


@handles("fns", "b32")
def emit_find_nth_set(emitter: Emitter, instruction: Instruction) -> None:
    """`fns`: position of the n-th set bit from a start, upward or (n < 0) downward."""
    mask, base, offset = (
        emitter.read(o, t)
        for o, t in zip(instruction.operands[1:], ("b32", "b32", "s32"), strict=True)
    )
    zero, one, ones = integer(0, "i32"), integer(1, "i32"), integer(-1, "i32")
    down = emitter.compare("icmp slt", offset, zero)
    # Downward is upward in the mirrored word.
    mask = emitter.select(down, emitter.intrinsic("bitreverse", mask), mask)
    start = emitter.select(down, emitter.op("sub", integer(31, "i32"), base), base)
    above = shift_clamped(emitter, "shl", emitter.op("or", start, ones), start)
    left = emitter.op("and", mask, above)
    wanted = emitter.intrinsic("abs", offset, extra="i1 false")
    # With offset 0 the bit at the start itself is wanted.
    is_zero = emitter.compare("icmp eq", offset, zero)
    here = emitter.op(
        "and",
        left,
        emitter.invert(
            shift_clamped(
                emitter, "shl", emitter.op("or", start, ones), emitter.op("add", start, one)
            )
        ),
    )
    left = emitter.select(is_zero, here, left)
    wanted = emitter.intrinsic("umax", wanted, one)
    for step in range(1, 32):
        again = emitter.compare("icmp ugt", wanted, integer(step, "i32"))
        without = emitter.op("and", left, emitter.op("sub", left, one))
        left = emitter.select(again, without, left)
    found = emitter.intrinsic("cttz", left, extra="i1 false")
    mirrored = emitter.op("sub", integer(31, "i32"), found)
    found = emitter.select(down, mirrored, found)
    none = emitter.op(
        "or",
        emitter.compare("icmp eq", left, zero),
        emitter.compare("icmp ugt", wanted, integer(32, "i32")),
    )
    emitter.write(instruction.operands[0], emitter.select(none, ones, found))
