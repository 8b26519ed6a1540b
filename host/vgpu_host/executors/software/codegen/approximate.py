"""The functions that a GPU evaluates approximately, at least as accurately as PTX promises."""

from __future__ import annotations

from .emitter import Emitter, Value, integer, real

#: Polynomial for 2**x on [-0.5, 0.5], highest power first: the least relative error that is 0 at
#: 0, which is 2e-9, and 2e-8 with these coefficients in single precision.
_EXP2 = (1.5353362e-4, 1.3398875e-3, 9.6184369e-3, 5.5503324e-2, 2.4022648e-1, 6.9314718e-1, 1.0)
_LIBRARY = {"lg2": "log2", "sin": "sin", "cos": "cos", "tanh": "tanh"}


def approximate(emitter: Emitter, opcode: str, value: Value) -> Value:
    """`ex2 lg2 sin cos tanh` of a value."""
    if opcode == "ex2" and value.type == "float":
        return _exp2(emitter, value)
    return emitter.intrinsic(_LIBRARY.get(opcode, "exp2"), value)


def _exp2(emitter: Emitter, value: Value) -> Value:
    """Polynomial on the fraction, then scaling by two powers of two that cannot overflow early."""
    low = emitter.intrinsic("maximumnum", value, real(-152.0))
    clamped = emitter.intrinsic("minimumnum", low, real(129.0))
    whole = emitter.intrinsic("rint", clamped)
    fraction = emitter.op("fsub", clamped, whole)
    result = real(_EXP2[0])
    for coefficient in _EXP2[1:]:
        result = emitter.intrinsic("fma", result, fraction, real(coefficient))
    exponent = emitter.cast("fptosi", whole, "i32")
    half = emitter.op("ashr", exponent, integer(1, "i32"))
    for part in (half, emitter.op("sub", exponent, half)):
        biased = emitter.op("add", part, integer(127, "i32"))
        scale = emitter.bits(emitter.op("shl", biased, integer(23, "i32")), "float")
        result = emitter.op("fmul", result, scale)
    is_nan = emitter.compare("fcmp uno", value, value)
    return emitter.select(is_nan, value, result)
