"""What the floating-point instructions of PTX compute, on bit patterns.

Written from the PTX manual over `softfloat`. Instructions that the manual lets be approximate are
here only where docs/software-gpu.md promises the correctly rounded result.
"""

from __future__ import annotations

from collections.abc import Callable

from . import softfloat
from .integers import Function, Operation, reader, width
from .softfloat import F32, FORMATS, Format
from .text import SIZES, Statement

PACKED = {"f16x2": "f16", "bf16x2": "bf16"}
MODES = ("rn", "rz", "rm", "rp")
WHOLE = ("rni", "rzi", "rmi", "rpi")


class IndeterminateError(Exception):
    """PTX leaves open what comes out of the program, so it says nothing about right and wrong."""


class Loose(int):
    """A value of which PTX leaves open the bits of `mask`: a NaN whose payload it does not say."""

    mask: int

    @classmethod
    def of(cls, value: int, mask: int) -> Loose:
        """A value with the bits that are open."""
        made = cls(value)
        made.mask = mask
        return made


def loosen(bits: int, form: Format) -> int:
    """A result; as a NaN with open bits if it is one."""
    if bits & ~form.sign > form.infinity:
        return Loose.of(bits, form.sign | form.sign - 1)
    return bits


def mode_of(statement: Statement) -> str:
    """The rounding of a result, to nearest unless said otherwise."""
    return next((name for name in MODES if name in statement.modifiers), "rn")


def _core(statement: Statement, form: Format) -> Function:
    """The operation without flushing and clamping."""
    mode = mode_of(statement)
    opcode = statement.opcode
    keep = "NaN" in statement.modifiers
    match opcode:
        case "add":
            return lambda a, b: softfloat.add(a, b, form, mode)
        case "sub":
            return lambda a, b: softfloat.subtract(a, b, form, mode)
        case "mul":
            return lambda a, b: softfloat.multiply(a, b, form, mode)
        case "fma" | "mad":
            return lambda a, b, c: softfloat.fma(a, b, c, form, mode)
        case "div":
            return lambda a, b: softfloat.divide(a, b, form, mode)
        case "sqrt":
            return lambda a: softfloat.square_root(a, form, mode)
        case "rcp":
            return lambda a: softfloat.divide(form.one, a, form, mode)
        case "neg":
            return lambda a: a ^ form.sign
        case "abs":
            return lambda a: a & ~form.sign
        case "min" | "max" if "xorsign" in statement.modifiers:

            def signed_extreme(a: int, b: int) -> int:
                if softfloat.is_nan(a, form) or softfloat.is_nan(b, form):
                    raise IndeterminateError("the sign of a NaN")
                magnitude = softfloat.extreme(
                    a & ~form.sign, b & ~form.sign, form, opcode == "max", keep
                )
                return magnitude | (a ^ b) & form.sign

            return signed_extreme
        case "min" | "max":
            return lambda a, b: softfloat.extreme(a, b, form, opcode == "max", keep)
    raise KeyError(opcode)


_ARITY = {"fma": 3, "mad": 3, "sqrt": 1, "rcp": 1, "neg": 1, "abs": 1}
#: Operations whose flushed result depends on whether tiny is found before or after rounding.
_ROUNDS = frozenset(("add", "sub", "mul", "fma", "mad", "div", "rcp", "sqrt"))


def _scalar(statement: Statement, form: Format) -> Function:
    core = _core(statement, form)
    flushes = "ftz" in statement.modifiers
    clamps, relu = "sat" in statement.modifiers, "relu" in statement.modifiers
    least_normal = 1 << form.fraction

    def compute(*operands: int) -> int:
        values = [int(value) for value in operands]
        if flushes:
            values = [softfloat.flush(value, form) for value in values]
        result = core(*values)
        if flushes:
            if result & ~form.sign == least_normal and statement.opcode in _ROUNDS - {"add", "sub"}:
                raise IndeterminateError("whether a number is tiny before or after rounding")
            result = softfloat.flush(result, form)
        if clamps:
            result = softfloat.saturate(result, form)
        if relu and not softfloat.is_nan(result, form) and result & form.sign:
            result = 0
        return loosen(result, form)

    return compute


def halves(function: Function) -> Function:
    """A function of halves on each half of packed ones."""

    def both(*operands: int) -> int:
        parts = [function(*(int(value) >> at & 0xFFFF for value in operands)) for at in (0, 16)]
        result = parts[0] | parts[1] << 16
        mask = sum(0xFFFF << 16 * i for i, part in enumerate(parts) if isinstance(part, Loose))
        return Loose.of(result, mask) if mask else result

    return both


def arithmetic(statement: Statement, ptx_type: str) -> Operation:
    """`add sub mul fma mad div sqrt rcp min max neg abs` of any format."""
    form = FORMATS[PACKED.get(ptx_type, ptx_type)]
    function = _scalar(statement, form)
    count = _ARITY.get(statement.opcode, 2)
    return (ptx_type,) * count, halves(function) if ptx_type in PACKED else function


def copysign(statement: Statement, ptx_type: str) -> Operation:
    """`copysign`: the sign of a, the magnitude of b."""
    form = FORMATS[ptx_type]

    def copy(a: int, b: int) -> int:
        if isinstance(a, Loose):
            raise IndeterminateError("the sign of a NaN")
        return loosen(int(a) & form.sign | int(b) & ~form.sign, form)

    return (ptx_type,) * 2, copy


def testp(statement: Statement, ptx_type: str) -> Operation:
    """`testp`: the class of a number."""
    form = FORMATS[ptx_type]
    kind = statement.modifiers[0]

    def test(a: int) -> int:
        a = int(a) & ~form.sign
        exponent = a & form.infinity
        return int(
            {
                "finite": exponent != form.infinity,
                "infinite": a == form.infinity,
                "number": a <= form.infinity,
                "notanumber": a > form.infinity,
                "normal": 0 < exponent < form.infinity,
                "subnormal": exponent == 0 and a != 0,
            }[kind]
        )

    return (ptx_type,), test


def slct(statement: Statement, ptx_type: str) -> Operation:
    """`slct` by an f32: the first operand where it is not below zero (and is a number)."""
    value_type = statement.modifiers[-2]
    if value_type == "ftz":
        value_type = statement.modifiers[0]

    def choose(a: int, b: int, c: int) -> int:
        c = int(c)
        if "ftz" in statement.modifiers:
            c = softfloat.flush(c, F32)
        at_least = softfloat.compare(c, 0, F32)
        return a if at_least is not None and at_least >= 0 else b

    return (value_type, value_type, "f32"), choose


def comparison(condition: str, ptx_type: str, flushes: bool) -> Callable[[int, int], bool]:
    """A condition of `setp` or `set` on numbers of one format."""
    form = FORMATS[ptx_type]
    signs = {"eq": (0,), "ne": (-1, 1), "lt": (-1,), "le": (-1, 0), "gt": (1,), "ge": (0, 1)}

    def compare(a: int, b: int) -> bool:
        a, b = int(a), int(b)
        if flushes:
            a, b = softfloat.flush(a, form), softfloat.flush(b, form)
        order = softfloat.compare(a, b, form)
        if condition in ("num", "nan"):
            return (order is None) == (condition == "nan")
        if order is None:
            return condition.endswith("u")
        return order in signs[condition.removesuffix("u")]

    return compare


OPERATIONS: dict[str, Callable[[Statement, str], Operation]] = {
    **dict.fromkeys(
        ("add", "sub", "mul", "fma", "mad", "div", "sqrt", "rcp", "neg", "abs", "min", "max"),
        arithmetic,
    ),
    "copysign": copysign,
    "testp": testp,
}


def convert(statement: Statement) -> Operation:
    """`cvt` where the source or the target is a floating-point type."""
    target, source = [name for name in statement.modifiers if name in SIZES]
    if target in PACKED:
        return _pack(statement, PACKED[target])
    if source in FORMATS and target in FORMATS:
        return (source,), _float_to_float(statement, FORMATS[source], FORMATS[target])
    if source in FORMATS:
        return (source,), _float_to_integer(statement, source, target)
    return (source,), _integer_to_float(statement, source, target)


def _clamp(statement: Statement, bits: int, form: Format) -> int:
    if "sat" in statement.modifiers:
        return softfloat.saturate(bits, form)
    if "relu" in statement.modifiers and not softfloat.is_nan(bits, form) and bits & form.sign:
        return 0
    return bits


def _float_to_float(statement: Statement, source: Format, target: Format) -> Function:
    whole = next((name for name in WHOLE if name in statement.modifiers), None)
    mode = mode_of(statement)
    flushes = "ftz" in statement.modifiers

    def change(a: int) -> int:
        a = int(a)
        if flushes and source is F32:
            a = softfloat.flush(a, source)
        if whole:
            a = softfloat.round_to_integral(a, source, whole)
        a = softfloat.convert(a, source, target, mode)
        if flushes and target is F32:
            a = softfloat.flush(a, target)
        return loosen(_clamp(statement, a, target), target)

    return change


def _pack(statement: Statement, half: str) -> Operation:
    narrow = _float_to_float(statement, F32, FORMATS[half])

    def pack(high: int, low: int) -> int:
        parts = [narrow(low), narrow(high)]
        mask = sum(0xFFFF << 16 * i for i, part in enumerate(parts) if isinstance(part, Loose))
        result = parts[0] | parts[1] << 16
        return Loose.of(result, mask) if mask else result

    return ("f32", "f32"), pack


def _float_to_integer(statement: Statement, source: str, target: str) -> Function:
    form, bits = FORMATS[source], width(target)
    mode = next(name for name in WHOLE if name in statement.modifiers)
    low, high = 0, (1 << bits) - 1
    if target[0] == "s":
        low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    nan = (low or 1 << (bits - 1)) if source == "f64" or bits == 64 else 0

    def change(a: int) -> int:
        a = int(a)
        if "ftz" in statement.modifiers and source == "f32":
            a = softfloat.flush(a, form)
        if softfloat.is_nan(a, form):
            return nan
        if softfloat.is_infinite(a, form):
            return low if a & form.sign else high
        return max(low, min(high, softfloat.to_integer(a, form, mode)))

    return change


def _integer_to_float(statement: Statement, source: str, target: str) -> Function:
    read, form, mode = reader(source), FORMATS[target], mode_of(statement)
    return lambda a: _clamp(statement, softfloat.from_integer(read(a), form, mode), form)
