"""What the integer and bit instructions of PTX compute, on unsigned Python integers.

Each entry of `OPERATIONS` looks at the modifiers of a statement and yields the types that its
sources are read as, and a function from those sources to the result. Written from the PTX manual.
"""

from __future__ import annotations

from collections.abc import Callable

from .text import SIZES, Statement

Function = Callable[..., int]
Operation = tuple[tuple[str, ...], Function]

_ONES = {1: 0xFF, 2: 0xFFFF, 4: 0xFFFF_FFFF, 8: 0xFFFF_FFFF_FFFF_FFFF}


def width(ptx_type: str) -> int:
    """Bits of a type."""
    return 8 * SIZES[ptx_type]


def signed(value: int, bits: int) -> int:
    """An unsigned pattern as a two's complement number."""
    return value - (1 << bits) if value >> (bits - 1) else value


def reader(ptx_type: str) -> Callable[[int], int]:
    """From the pattern of a value to the number that it is in a type."""
    bits = width(ptx_type)
    if ptx_type[0] == "s":
        return lambda value: value - (1 << bits) if value >> (bits - 1) else value
    return lambda value: value


def _clamped(value: int) -> int:
    return max(-(1 << 31), min((1 << 31) - 1, value))


def _add_sub(statement: Statement, ptx_type: str) -> Operation:
    sign = 1 if statement.opcode == "add" else -1
    if "sat" in statement.modifiers:
        read = reader(ptx_type)
        return (ptx_type,) * 2, lambda a, b: _clamped(read(a) + sign * read(b))
    return (ptx_type,) * 2, lambda a, b: a + sign * b


def _product(statement: Statement, ptx_type: str) -> Callable[[int, int], int]:
    read, bits = reader(ptx_type), width(ptx_type)
    if "hi" in statement.modifiers:
        return lambda a, b: (read(a) * read(b)) >> bits
    return lambda a, b: read(a) * read(b)


def _mul(statement: Statement, ptx_type: str) -> Operation:
    return (ptx_type,) * 2, _product(statement, ptx_type)


def _mad(statement: Statement, ptx_type: str) -> Operation:
    product = _product(statement, ptx_type)
    third = f"b{2 * width(ptx_type)}" if "wide" in statement.modifiers else ptx_type
    if "sat" in statement.modifiers:
        return (ptx_type, ptx_type, third), lambda a, b, c: _clamped(product(a, b) + signed(c, 32))
    return (ptx_type, ptx_type, third), lambda a, b, c: product(a, b) + c


def _mul24(statement: Statement, ptx_type: str) -> Operation:
    def low(value: int) -> int:
        value &= 0xFF_FFFF
        return signed(value, 24) if ptx_type == "s32" else value

    def product(a: int, b: int) -> int:
        whole = low(a) * low(b)
        return (whole >> 16 if "hi" in statement.modifiers else whole) & 0xFFFF_FFFF

    if statement.opcode == "mul24":
        return (ptx_type,) * 2, product
    if "sat" in statement.modifiers:
        return (ptx_type,) * 3, lambda a, b, c: _clamped(signed(product(a, b), 32) + signed(c, 32))
    return (ptx_type,) * 3, lambda a, b, c: product(a, b) + c


def _sad(statement: Statement, ptx_type: str) -> Operation:
    read = reader(ptx_type)
    return (ptx_type,) * 3, lambda a, b, c: abs(read(a) - read(b)) + c


def _div_rem(statement: Statement, ptx_type: str) -> Operation:
    read = reader(ptx_type)

    def divide(a: int, b: int) -> int:
        if b == 0:
            return -1  # left open by PTX; documented in docs/software-gpu.md
        x, y = read(a), read(b)
        quotient = abs(x) // abs(y)
        if (x < 0) != (y < 0):
            quotient = -quotient
        return quotient if statement.opcode == "div" else x - quotient * y

    return (ptx_type,) * 2, divide


def _unary(statement: Statement, ptx_type: str) -> Operation:
    read, bits = reader(ptx_type), width(ptx_type)
    functions: dict[str, Function] = {
        "neg": lambda a: -a,
        "abs": lambda a: abs(read(a)),
        "not": lambda a: ~a,
        "cnot": lambda a: int(a == 0),
        "popc": lambda a: a.bit_count(),
        "clz": lambda a: bits - a.bit_length(),
        "brev": lambda a: int(f"{a:0{bits}b}"[::-1], 2),
    }
    return (ptx_type,), functions[statement.opcode]


def _extreme(statement: Statement, ptx_type: str) -> Operation:
    read = reader(ptx_type)
    choose = min if statement.opcode == "min" else max
    return (ptx_type,) * 2, lambda a, b: choose(read(a), read(b))


def _logic(statement: Statement, ptx_type: str) -> Operation:
    functions: dict[str, Function] = {
        "and": lambda a, b: a & b,
        "or": lambda a, b: a | b,
        "xor": lambda a, b: a ^ b,
    }
    return (ptx_type,) * 2, functions[statement.opcode]


def _lop3(statement: Statement, ptx_type: str) -> Operation:
    def logic(a: int, b: int, c: int, table: int) -> int:
        result = 0
        for row in range(8):
            if table >> row & 1:
                x = a if row & 4 else ~a
                y = b if row & 2 else ~b
                z = c if row & 1 else ~c
                result |= x & y & z
        return result

    return ("b32", "b32", "b32", "u32"), logic


def _shift(statement: Statement, ptx_type: str) -> Operation:
    read, bits = reader(ptx_type), width(ptx_type)
    if statement.opcode == "shl":
        return (ptx_type, "u32"), lambda a, n: a << n if n < bits else 0
    return (ptx_type, "u32"), lambda a, n: read(a) >> min(n, bits)


def _shf(statement: Statement, ptx_type: str) -> Operation:
    def amount(c: int) -> int:
        return min(c, 32) if "clamp" in statement.modifiers else c & 31

    if "l" in statement.modifiers:
        return ("b32",) * 3, lambda a, b, c: ((b << 32 | a) << amount(c)) >> 32
    return ("b32",) * 3, lambda a, b, c: (b << 32 | a) >> amount(c)


def _bfe(statement: Statement, ptx_type: str) -> Operation:
    bits = width(ptx_type)

    def extract(a: int, b: int, c: int) -> int:
        position, length = b & 255, c & 255
        sign = 0
        if ptx_type[0] == "s" and length:
            sign = a >> min(position + length - 1, bits - 1) & 1
        inside = max(0, min(length, bits - position))
        field = a >> position & ((1 << inside) - 1)
        return field | (-1 << inside if sign else 0)

    return (ptx_type, "u32", "u32"), extract


def _bfi(statement: Statement, ptx_type: str) -> Operation:
    def insert(a: int, b: int, c: int, d: int) -> int:
        position, length = c & 255, d & 255
        mask = ((1 << length) - 1) << position
        return b & ~mask | a << position & mask

    return (ptx_type, ptx_type, "u32", "u32"), insert


def _bfind(statement: Statement, ptx_type: str) -> Operation:
    bits = width(ptx_type)

    def find(a: int) -> int:
        if ptx_type[0] == "s" and a >> (bits - 1):
            a ^= (1 << bits) - 1
        if a == 0:
            return -1
        return bits - a.bit_length() if "shiftamt" in statement.modifiers else a.bit_length() - 1

    return (ptx_type,), find


def _bmsk(statement: Statement, ptx_type: str) -> Operation:
    def amount(value: int) -> int:
        return min(value, 32) if "clamp" in statement.modifiers else value & 31

    return ("u32", "u32"), lambda a, b: ((1 << amount(b)) - 1) << amount(a)


def _szext(statement: Statement, ptx_type: str) -> Operation:
    def extend(a: int, b: int) -> int:
        length = min(b, 32) if "clamp" in statement.modifiers else b & 31
        field = a & ((1 << length) - 1)
        return signed(field, length) if ptx_type == "s32" and length else field

    return ("b32", "u32"), extend


def _fns(statement: Statement, ptx_type: str) -> Operation:
    def find(mask: int, base: int, offset: int) -> int:
        count = signed(offset, 32)
        if count == 0:
            return base if mask >> base & 1 else -1
        step = 1 if count > 0 else -1
        left = abs(count)
        position = base
        while 0 <= position < 32:
            left -= mask >> position & 1
            if left == 0:
                return position
            position += step
        return -1

    return ("b32", "b32", "s32"), find


_PICKS: dict[str, Callable[[int], tuple[int, ...]]] = {
    "f4e": lambda n: (n, n + 1, n + 2, n + 3),
    "b4e": lambda n: (n, (n - 1) % 8, (n - 2) % 8, (n - 3) % 8),
    "rc8": lambda n: (n,) * 4,
    "ecl": lambda n: tuple(max(i, n) for i in range(4)),
    "ecr": lambda n: tuple(min(i, n) for i in range(4)),
    "rc16": lambda n: (0, 1, 0, 1) if n % 2 == 0 else (2, 3, 2, 3),
}


def _prmt(statement: Statement, ptx_type: str) -> Operation:
    pick = next((_PICKS[name] for name in statement.modifiers if name in _PICKS), None)

    def permute(a: int, b: int, c: int) -> int:
        pool = (b << 32 | a).to_bytes(8, "little")
        if pick:
            return int.from_bytes(bytes(pool[i] for i in pick(c & 3)), "little")
        result = []
        for index in range(4):
            selector = c >> 4 * index & 15
            byte = pool[selector & 7]
            result.append(0xFF * (byte >> 7) if selector & 8 else byte)
        return int.from_bytes(bytes(result), "little")

    return ("b32",) * 3, permute


def _dp(statement: Statement, ptx_type: str) -> Operation:
    kinds = [name for name in statement.modifiers if name in ("u32", "s32")]
    first_bits = 8 if statement.opcode == "dp4a" else 16
    start = 2 if "hi" in statement.modifiers else 0

    def parts(value: int, bits: int, is_signed: bool) -> list[int]:
        fields = [value >> at & ((1 << bits) - 1) for at in range(0, 32, bits)]
        return [signed(field, bits) if is_signed else field for field in fields]

    def dot(a: int, b: int, c: int) -> int:
        x = parts(a, first_bits, kinds[0] == "s32")
        y = parts(b, 8, kinds[1] == "s32")[start:]
        return c + sum(i * j for i, j in zip(x, y, strict=False))

    return ("b32",) * 3, dot


def _selp(statement: Statement, ptx_type: str) -> Operation:
    return (ptx_type, ptx_type, "pred"), lambda a, b, p: a if p else b


def _slct(statement: Statement, ptx_type: str) -> Operation:
    value_type = statement.modifiers[-2]
    return (value_type, value_type, "s32"), lambda a, b, c: b if c >> 31 else a


OPERATIONS: dict[str, Callable[[Statement, str], Operation]] = {
    **dict.fromkeys(("add", "sub"), _add_sub),
    "mul": _mul,
    "mad": _mad,
    **dict.fromkeys(("mul24", "mad24"), _mul24),
    "sad": _sad,
    **dict.fromkeys(("div", "rem"), _div_rem),
    **dict.fromkeys(("neg", "abs", "not", "cnot", "popc", "clz", "brev"), _unary),
    **dict.fromkeys(("min", "max"), _extreme),
    **dict.fromkeys(("and", "or", "xor"), _logic),
    "lop3": _lop3,
    **dict.fromkeys(("shl", "shr"), _shift),
    "shf": _shf,
    "bfe": _bfe,
    "bfi": _bfi,
    "bfind": _bfind,
    "bmsk": _bmsk,
    "szext": _szext,
    "fns": _fns,
    "prmt": _prmt,
    **dict.fromkeys(("dp4a", "dp2a"), _dp),
    "selp": _selp,
    "slct": _slct,
}


def carried(
    statement: Statement, ptx_type: str
) -> tuple[tuple[str, ...], Callable[..., tuple[int, int]]]:
    """`add.cc`, `addc`, `sub.cc`, `subc`, `mad.cc`, `madc`: the carry comes last, and goes last."""
    bits = width(ptx_type)
    top = 1 << bits
    base = statement.opcode.removesuffix("c")
    takes = statement.opcode.endswith("c")
    if base in ("add", "sub"):
        sign = 1 if base == "add" else -1

        def total(a: int, b: int, carry: int) -> tuple[int, int]:
            result = a + sign * (b + (carry if takes else 0))
            return result % top, int(not 0 <= result < top)

        return (ptx_type,) * 2, total
    product = _product(statement, ptx_type)

    def multiply(a: int, b: int, c: int, carry: int) -> tuple[int, int]:
        result = product(a, b) % top + c + (carry if takes else 0)
        return result % top, int(result >= top)

    return (ptx_type,) * 3, multiply


_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "lo": lambda a, b: a < b,
    "ls": lambda a, b: a <= b,
    "hi": lambda a, b: a > b,
    "hs": lambda a, b: a >= b,
}


def comparison(condition: str, ptx_type: str) -> Callable[[int, int], bool]:
    """A condition of `setp` or `set` on integers."""
    read, compare = reader(ptx_type), _COMPARE[condition]
    return lambda a, b: compare(read(a), read(b))


def convert(source: str, target: str, saturate: bool) -> Callable[[int], int]:
    """`cvt` between integers: the number in the target's range, wrapped or clamped."""
    read, bits = reader(source), width(target)
    low, high = (
        (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if target[0] == "s" else (0, (1 << bits) - 1)
    )

    def change(a: int) -> int:
        value = read(a)
        if saturate:
            return max(low, min(high, value))
        value &= (1 << bits) - 1
        return signed(value, bits) if target[0] == "s" else value

    return change
