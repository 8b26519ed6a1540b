"""Values that differ between the lanes of a warp only by what is known beforehand.

Such a value is a *base*, the same in all lanes, plus an *offset* for each lane, a constant: thread
ids, and what is computed from them by adding, scaling and masking. It is then one scalar, and a
memory access at such addresses has a known shape. `Row` is what is known of a value, and
`Rows.of_result` says what an instruction makes of the rows that it reads. All arithmetic wraps as
in the machine, so a row is exact or it is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import gcd

from .ir import (
    WARP_SIZE,
    Immediate,
    Instruction,
    Operand,
    Pair,
    Part,
    Register,
    Special,
    Vector,
)

#: A sum of special registers, each times a factor; the name of a constant is empty.
Terms = tuple[tuple[str, int], ...]

_ZERO = (0,) * WARP_SIZE
_LANES = tuple(range(WARP_SIZE))


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of a value of `bits` bits: base plus offsets.

    Attributes:
        bits: 32 or 64.
        offsets: What each lane adds to the base.
        modulus: A power of two, by which the base leaves `remainder`; 2**bits for a constant.
        remainder: See there.
        top: The largest value that the base, unsigned, can have.
        terms: What the base is the sum of; None if that is not known.
    """

    bits: int
    offsets: tuple[int, ...]
    modulus: int
    remainder: int
    top: int
    terms: Terms | None = None

    @property
    def is_uniform(self) -> bool:
        """Whether all lanes have the same value."""
        return self.offsets == _ZERO

    @property
    def constant(self) -> int | None:
        """The value, if it is the same in all lanes and known."""
        if self.modulus < 1 << self.bits or not self.is_uniform:
            return None
        return _signed(self.remainder, self.bits)

    @property
    def low(self) -> tuple[int, ...] | None:
        """The value modulo `modulus` in each lane, if adding the offset never carries beyond it."""
        low = tuple(self.remainder + offset for offset in self.offsets)
        return low if all(0 <= part < self.modulus for part in low) else None

    def stays_below(self, limit: int) -> bool:
        """Whether base and sum are never negative, and the sum is always less than `limit`."""
        return min(self.offsets) >= 0 and self.top + max(self.offsets) < limit


def unknown(bits: int) -> Row:
    """A value that is the same in all lanes, of which no more is known."""
    return Row(bits, _ZERO, 1, 0, (1 << bits) - 1)


def constant(value: int, bits: int) -> Row:
    """A known value."""
    value &= (1 << bits) - 1
    return Row(bits, _ZERO, 1 << bits, value, value, (("", value),))


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _row(
    bits: int,
    offsets: tuple[int, ...],
    modulus: int,
    remainder: int,
    top: int,
    terms: Terms | None = None,
) -> Row:
    full = (1 << bits) - 1
    if modulus > full:
        terms = (("", remainder & full),)
    elif terms is not None and not any(name for name, _ in terms):
        # Nothing but a constant is left of the base.
        top = remainder = sum(value for _, value in terms) & full
        modulus = full + 1
    return Row(
        bits,
        tuple(_signed(offset, bits) for offset in offsets),
        modulus,
        remainder % modulus,
        top if 0 <= top <= full else full,
        terms,
    )


def _sum_of(bits: int, *parts: tuple[Terms | None, int]) -> Terms | None:
    """The sum of some terms, each times a factor, without what cancels out."""
    total: dict[str, int] = {}
    for terms, factor in parts:
        if terms is None:
            return None
        for name, value in terms:
            total[name] = (total.get(name, 0) + value * factor) & ((1 << bits) - 1)
    return tuple(sorted((name, value) for name, value in total.items() if value))


def meet(a: Row, b: Row) -> Row | None:
    """What holds of a register that either of two instructions wrote; None if it is no row."""
    if a == b:
        return a
    if a.bits != b.bits or a.offsets != b.offsets:
        return None
    modulus = gcd(a.modulus, b.modulus, a.remainder - b.remainder)
    # How large a value gets in a loop is not looked for.
    top = a.top if a.top == b.top else (1 << a.bits) - 1
    return Row(a.bits, a.offsets, modulus, a.remainder % modulus, top)


#: Special registers in blocks whose first dimension is a multiple of 32 threads.
_KNOWN = {
    "%tid.x": Row(32, _LANES, WARP_SIZE, 0, 1024 - WARP_SIZE),
    "%tid.y": replace(unknown(32), top=1023),
    "%tid.z": replace(unknown(32), top=63),
    "%laneid": Row(32, _LANES, 1 << 32, 0, 0),
    "%ntid.x": Row(32, _ZERO, WARP_SIZE, 0, 1024),
    "%ntid.y": replace(unknown(32), top=1024),
    "%ntid.z": replace(unknown(32), top=64),
    "%warpid": replace(unknown(32), top=31),
    **{
        f"%{name}.{axis}": replace(unknown(32), top=2**31 - 1)
        for name in ("ctaid", "nctaid")
        for axis in "xyz"
    },
}
_SPECIAL = {
    name: row if name == "%laneid" else replace(row, terms=((name, 1),))
    for name, row in _KNOWN.items()
}
_SPECIAL["%tid"], _SPECIAL["%ntid"] = _SPECIAL["%tid.x"], _SPECIAL["%ntid.x"]


def special_row(name: str) -> Row | None:
    """What is known of a special register; None if it differs between lanes in another way."""
    if name in _SPECIAL:
        return _SPECIAL[name]
    if name.startswith("%lanemask"):
        return None
    return unknown(64 if "64" in name or name in ("%globaltimer", "%gridid") else 32)


# -- what instructions make of rows ----------------------------------------------------------------


def _add(a: Row, b: Row) -> Row:
    offsets = tuple(x + y for x, y in zip(a.offsets, b.offsets, strict=True))
    modulus = min(a.modulus, b.modulus)
    terms = _sum_of(a.bits, (a.terms, 1), (b.terms, 1))
    return _row(a.bits, offsets, modulus, a.remainder + b.remainder, a.top + b.top, terms)


def _subtract(a: Row, b: Row) -> Row:
    offsets = tuple(x - y for x, y in zip(a.offsets, b.offsets, strict=True))
    modulus = min(a.modulus, b.modulus)
    terms = _sum_of(a.bits, (a.terms, 1), (b.terms, -1))
    return _row(a.bits, offsets, modulus, a.remainder - b.remainder, -1, terms)


def _scale(a: Row, factor: int) -> Row:
    modulus = min(a.modulus * (factor & -factor or 1 << a.bits), 1 << a.bits)
    top = a.top * factor if factor >= 0 else -1
    offsets = tuple(offset * factor for offset in a.offsets)
    terms = _sum_of(a.bits, (a.terms, factor))
    return _row(a.bits, offsets, modulus, a.remainder * factor, top, terms)


def _multiply(a: Row, b: Row) -> Row | None:
    for row, other in ((a, b), (b, a)):
        if other.constant is not None:
            return _scale(row, other.constant)
    if not (a.is_uniform and b.is_uniform):
        return None
    # Each factor brings the powers of two that divide it.
    modulus = gcd(a.modulus, a.remainder) * gcd(b.modulus, b.remainder)
    return _row(a.bits, _ZERO, min(modulus, 1 << a.bits), 0, a.top * b.top)


def _shift_right(a: Row, amount: int, is_signed: bool) -> Row | None:
    if amount >= a.bits:
        return None
    if a.stays_below(1 << min(amount, a.bits - 1)):
        return constant(0, a.bits)
    low = a.low
    # The sign must be a bit of the base's unknown part, or zero.
    if low is None or (
        is_signed and a.modulus >> (a.bits - 1) and not a.stays_below(1 << (a.bits - 1))
    ):
        return None
    offsets = tuple((part >> amount) - (a.remainder >> amount) for part in low)
    is_constant = a.modulus == 1 << a.bits
    modulus = a.modulus if is_constant else max(a.modulus >> amount, 1)
    top = -1 if is_signed and a.top >> (a.bits - 1) else a.top >> amount
    return _row(a.bits, offsets, modulus, a.remainder >> amount, top)


def _bitwise(a: Row, mask: int, operation: Callable[[int, int], int], neutral: int) -> Row | None:
    low = a.low
    if low is None:
        return None
    mask &= (1 << a.bits) - 1
    start = operation(a.remainder, mask % a.modulus)
    offsets = tuple(operation(part, mask % a.modulus) - start for part in low)
    # The operation may leave the base's unknown part as it is.
    terms = None
    if (mask ^ neutral) & ((1 << a.bits) - 1) < a.modulus:
        terms = _sum_of(a.bits, (a.terms, 1), ((("", start - a.remainder),), 1))
    return _row(a.bits, offsets, a.modulus, start, -1, terms)


def _and(a: Row, mask: int) -> Row | None:
    row = _bitwise(a, mask, int.__and__, -1)
    if row is None:
        return None
    mask &= (1 << a.bits) - 1
    if mask < a.modulus:
        # Nothing of the base's unknown part is left.
        return _row(a.bits, row.offsets, 1 << a.bits, a.remainder & mask, a.remainder & mask)
    low_bit = mask & -mask
    remainder = row.remainder
    modulus = row.modulus
    if row.is_uniform and low_bit > modulus:
        modulus, remainder = low_bit, 0
    return _row(a.bits, row.offsets, modulus, remainder, min(a.top, mask), row.terms)


def _or(a: Row, b: Row) -> Row | None:
    for row, other in ((a, b), (b, a)):
        if other.constant is not None:
            return _bitwise(row, other.constant, int.__or__, 0)
        # Where no bit is set in both, it is a sum.
        multiples = [other.remainder, *other.offsets]
        if row.stays_below(other.modulus) and not any(m % other.modulus for m in multiples):
            return _add(row, other)
    return None


def _not(a: Row) -> Row:
    return _subtract(constant(-1, a.bits), a)


def extends_exactly(row: Row, is_signed: bool) -> bool:
    """Whether widening the base and adding the offsets is widening the sum."""
    if row.is_uniform or (row.low is not None and row.modulus < 1 << row.bits):
        return True
    half = 1 << (row.bits - 1)
    if is_signed:
        return max(row.top, row.top + max(row.offsets)) < half and min(row.offsets) > -half
    return row.stays_below(1 << row.bits)


def widened(row: Row, is_signed: bool) -> Row:
    """A row of 32 bits as one of 64, given that it extends exactly."""
    negative = is_signed and row.top >> (row.bits - 1)
    value = row.constant
    if value is not None:
        return constant(value if is_signed else value & 0xFFFFFFFF, 64)
    # A constant base with offsets stays one: all its 64 bits are known.
    modulus, remainder = row.modulus, row.remainder
    if modulus == 1 << row.bits:
        modulus = 1 << 64
        remainder = _signed(remainder, row.bits) if is_signed else remainder
    return _row(64, row.offsets, modulus, remainder, -1 if negative else row.top)


def _narrowed(row: Row, bits: int) -> Row:
    modulus = min(row.modulus, 1 << bits)
    top = row.top if row.top < 1 << bits else -1
    return _row(bits, row.offsets, modulus, row.remainder, top)


_WIDTH = {"b32": 32, "u32": 32, "s32": 32, "b64": 64, "u64": 64, "s64": 64}
#: Opcodes that can make a row of rows, and how many sources they have; everything else makes
#: vectors of them.
_SOURCES = {
    **dict.fromkeys(("mov", "not", "neg", "cvt", "cvta"), 1),
    **dict.fromkeys(("add", "sub", "mul", "shl", "shr", "and", "or", "xor"), 2),
    **dict.fromkeys(("mad", "bfe"), 3),
}
_MODIFIERS = frozenset(("lo", "wide", "to", "global", "const", "shared", *_WIDTH))


class Rows:
    """Finds out what an instruction makes of the rows that it reads.

    Args:
        may_assume: Whether code may go back to the start of the kernel at an instruction, because
            nothing that anyone could notice has happened by then.

    Attributes:
        assumed: Instructions (by identity) that widen a row which may wrap: what they make is a
            row only as long as it does not, which the code has to test.
    """

    def __init__(self, may_assume: Callable[[Instruction], bool]) -> None:
        self._may_assume = may_assume
        self.assumed: set[int] = set()

    def of_operand(self, operand: Operand, bits: int, rows: Mapping[str, Row]) -> Row | None:
        """The row of a source operand, None for a vector or a register not yet reached."""
        match operand:
            case Register(name):
                row = rows.get(name)
                if row is None or row.bits == bits:
                    return row
                return unknown(bits) if row.is_uniform else None
            case Immediate(value, "int"):
                return constant(value, bits)
            case Special(name):
                row = special_row(name)
                if row is not None and row.bits != bits:
                    return widened(row, False) if row.bits < bits else _narrowed(row, bits)
                return row
            case Vector() | Pair() | Part():
                return None
        return unknown(bits)

    def of_result(
        self, instruction: Instruction, rows: Mapping[str, Row], is_hint: bool = False
    ) -> Row | None:
        """What an instruction makes of rows; None for a vector.

        Where it widens a sum that may wrap, the instruction is put down in `assumed`, or, if
        nothing may be assumed there, it makes a vector (`is_hint`: a row all the same).
        """
        modifiers = instruction.modifiers
        sources = instruction.operands[1:]
        if _SOURCES.get(instruction.opcode) != len(sources):
            return None
        width = _WIDTH.get(instruction.type)
        if width is None or not _MODIFIERS.issuperset(modifiers):
            return None
        if instruction.opcode == "cvt":
            return self._convert(instruction, rows, is_hint)
        row_sources = []
        for place, operand in enumerate(sources):
            bits = width
            if instruction.opcode in ("shl", "shr", "bfe") and place >= 1:
                bits = 32
            elif instruction.opcode == "mad" and "wide" in modifiers and place == 2:
                bits = 2 * width
            row = self.of_operand(operand, bits, rows)
            if row is None:
                return None
            row_sources.append(row)
        if "wide" in modifiers:
            return self._multiply_wide(instruction, row_sources, is_hint)
        return _combine(instruction, row_sources)

    def _widen(
        self, instruction: Instruction, row: Row, is_signed: bool, is_hint: bool
    ) -> Row | None:
        if extends_exactly(row, is_signed) or is_hint:
            return widened(row, is_signed)
        if self._may_assume(instruction):
            self.assumed.add(id(instruction))
            return widened(row, is_signed)
        return None

    def _convert(
        self, instruction: Instruction, rows: Mapping[str, Row], is_hint: bool
    ) -> Row | None:
        types = [name for name in instruction.modifiers if name in _WIDTH]
        if len(types) != 2:
            return None
        to, source = _WIDTH[types[0]], types[1]
        row = self.of_operand(instruction.operands[1], _WIDTH[source], rows)
        if row is None or row.bits == to:
            return row
        if row.bits > to:
            return _narrowed(row, to)
        return self._widen(instruction, row, source[0] == "s", is_hint)

    def _multiply_wide(
        self, instruction: Instruction, sources: list[Row], is_hint: bool
    ) -> Row | None:
        is_signed = instruction.type[0] == "s"
        wide = [self._widen(instruction, row, is_signed, is_hint) for row in sources[:2]]
        if wide[0] is None or wide[1] is None:
            return None
        product = _multiply(wide[0], wide[1])
        if product is None or len(sources) < 3:
            return product
        return _add(product, sources[2])


def _combine(instruction: Instruction, rows: list[Row]) -> Row | None:
    amount = rows[1].constant if len(rows) > 1 else None
    match instruction.opcode:
        case "mov":
            return rows[0]
        case "cvta":
            if "shared" in instruction.modifiers:
                return _add(rows[0], unknown(rows[0].bits))
            return rows[0]
        case "add":
            return _add(*rows)
        case "sub":
            return _subtract(*rows)
        case "mul":
            return _multiply(*rows)
        case "mad":
            product = _multiply(rows[0], rows[1])
            return None if product is None else _add(product, rows[2])
        case "neg":
            return _subtract(constant(0, rows[0].bits), rows[0])
        case "not":
            return _not(rows[0])
        case "shl" if amount is not None and 0 <= amount < rows[0].bits:
            return _scale(rows[0], 1 << amount)
        case "shr" if amount is not None and amount >= 0:
            return _shift_right(rows[0], amount, instruction.type[0] == "s")
        case "bfe" if instruction.type[0] == "u" and amount is not None:
            length = rows[2].constant
            if length is None or not 0 <= amount < rows[0].bits or not 0 < length < rows[0].bits:
                return None
            shifted = _shift_right(rows[0], amount, False)
            return None if shifted is None else _and(shifted, (1 << length) - 1)
        case "and" if amount is not None:
            return _and(rows[0], amount)
        case "and" if rows[0].constant is not None:
            return _and(rows[1], rows[0].constant)
        case "or":
            return _or(*rows)
        case "xor" if amount is not None:
            return _bitwise(rows[0], amount, int.__xor__, 0)
    return None
