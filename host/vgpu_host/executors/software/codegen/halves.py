"""Half precision (`f16`, `bf16`): kept in 16-bit integers, computed in wider types.

Sums, products and quotients of halves are rounded correctly when single precision is rounded
again, because single precision has more than twice their digits. Results of wider operations go
through single precision rounded to odd, which keeps what the last rounding needs to know.
"""

from __future__ import annotations

from collections.abc import Callable

from vgpu_host.executors.software.ir import BITS

from .emitter import Emitter, Value, integer, real
from .rounding import adjust, sum_error

HALVES = ("f16", "bf16")
PACKED = {"f16x2": "f16", "bf16x2": "bf16"}
_LARGEST_SUBNORMAL = {"f16": 0x03FF, "bf16": 0x007F}
_NAN = 0x7FFF


def to_single(emitter: Emitter, value: Value, ptx_type: str) -> Value:
    """A half (an i16) as a float."""
    if ptx_type == "f16":
        return emitter.cast("fpext", emitter.bits(value, "half"), "float")
    wide = emitter.op("shl", emitter.cast("zext", value, "i32"), integer(16, "i32"))
    return emitter.bits(wide, "float")


def from_single(emitter: Emitter, value: Value, ptx_type: str, mode: str | None = None) -> Value:
    """A float rounded to a half (an i16), to nearest even or in a directed `mode`."""
    if ptx_type == "f16":
        narrow = emitter.cast("fptrunc", value, "half")
    else:
        narrow = _brain_from_single(emitter, value)
    if mode:
        exact = to_single(emitter, emitter.bits(narrow, "i16"), ptx_type)
        narrow = adjust(emitter, mode, narrow, emitter.op("fsub", value, exact))
    result = emitter.bits(narrow, "i16")
    if ptx_type == "f16":
        return result
    # Rounding in integers would carry a NaN over to zero.
    is_nan = emitter.compare("fcmp uno", value, value)
    return emitter.select(is_nan, integer(_NAN, "i16"), result)


def _brain_from_single(emitter: Emitter, value: Value) -> Value:
    bits = emitter.bits(value, "i32")
    upper = emitter.op("lshr", bits, integer(16, "i32"))
    odd = emitter.op("and", upper, integer(1, "i32"))
    bias = emitter.op("add", odd, integer(0x7FFF, "i32"))
    rounded = emitter.op("lshr", emitter.op("add", bits, bias), integer(16, "i32"))
    return emitter.cast("trunc", rounded, "i16")


def from_double(emitter: Emitter, value: Value, ptx_type: str, mode: str | None = None) -> Value:
    """A double rounded once to a half (an i16)."""
    single = emitter.cast("fptrunc", value, "float")
    rest = emitter.op("fsub", value, emitter.cast("fpext", single, "double"))
    return from_single(emitter, to_odd(emitter, single, rest), ptx_type, mode)


def to_odd(emitter: Emitter, nearest: Value, error: Value) -> Value:
    """The result rounded to odd, given that to nearest and its error (exact - nearest).

    It is cut off toward zero, and its last bit is set if anything was lost.
    """
    kind = f"i{BITS[nearest.type]}"
    cut = emitter.bits(adjust(emitter, "rz", nearest, error), kind)
    inexact = emitter.compare("fcmp one", error, real(0.0, error.type))
    lost = emitter.cast("zext", inexact, kind)
    return emitter.bits(emitter.op("or", cut, lost), nearest.type)


def fuse(emitter: Emitter, operands: list[Value], ptx_type: str) -> Value:
    """a * b + c of halves, rounded once (an i16)."""
    a, b, c = (
        emitter.cast("fpext", to_single(emitter, value, ptx_type), "double") for value in operands
    )
    product = emitter.op("fmul", a, b)  # exact
    total = emitter.op("fadd", product, c)
    error = sum_error(emitter, product, c, total)
    return from_double(emitter, to_odd(emitter, total, error), ptx_type)


def flush(emitter: Emitter, value: Value, ptx_type: str) -> Value:
    """Subnormal halves (i16) become zeros of their sign."""
    magnitude = emitter.op("and", value, integer(0x7FFF, "i16"))
    limit = integer(_LARGEST_SUBNORMAL[ptx_type], "i16")
    tiny = emitter.compare("icmp ule", magnitude, limit)
    return emitter.select(tiny, emitter.op("and", value, integer(0x8000, "i16")), value)


def for_each_half(
    emitter: Emitter, operands: list[Value], function: Callable[[list[Value]], Value]
) -> Value:
    """Apply a function of i16 values to the low and the high halves of i32 values."""
    shift = integer(16, "i32")
    low = function([emitter.cast("trunc", value, "i16") for value in operands])
    high = function([emitter.cast("trunc", emitter.op("lshr", v, shift), "i16") for v in operands])
    high = emitter.op("shl", emitter.cast("zext", high, "i32"), shift)
    return emitter.op("or", emitter.cast("zext", low, "i32"), high)
