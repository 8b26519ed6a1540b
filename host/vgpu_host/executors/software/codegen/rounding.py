"""Directed rounding from round-to-nearest results.

The host computes with round-to-nearest. The error of that result is found exactly (by error-free
transformations), and where it points the wrong way the result moves by one unit in the last place.
"""

from __future__ import annotations

from vgpu_host.executors.software.ir import BITS

from .emitter import Emitter, Value, integer, real


def round_directed(
    emitter: Emitter, opcode: str, mode: str, operands: list[Value], nearest: Value
) -> Value:
    """The result of `opcode` rounded toward zero (`rz`), down (`rm`) or up (`rp`)."""
    error = _error(emitter, opcode, operands, nearest)
    return adjust(emitter, mode, nearest, error)


def _error(emitter: Emitter, opcode: str, operands: list[Value], nearest: Value) -> Value:
    """A number with the sign of (exact result - nearest)."""
    match opcode:
        case "add":
            return sum_error(emitter, operands[0], operands[1], nearest)
        case "sub":
            return sum_error(emitter, operands[0], emitter.op("fneg", operands[1]), nearest)
        case "mul":
            negated = emitter.op("fneg", nearest)
            return emitter.intrinsic("fma", operands[0], operands[1], negated)
        case "div":
            negated = emitter.op("fneg", nearest)
            rest = emitter.intrinsic("fma", negated, operands[1], operands[0])
            return emitter.intrinsic("copysign", rest, _sign_product(emitter, rest, operands[1]))
        case "sqrt":
            return emitter.intrinsic("fma", emitter.op("fneg", nearest), nearest, operands[0])
        case "fma" if nearest.type == "float":
            a, b, c = (emitter.cast("fpext", value, "double") for value in operands)
            product = emitter.op("fmul", a, b)
            total = emitter.op("fadd", product, c)
            tail = sum_error(emitter, product, c, total)
            difference = emitter.op("fsub", total, emitter.cast("fpext", nearest, "double"))
            exact = emitter.compare("fcmp oeq", difference, real(0.0, "double"))
            return emitter.select(exact, tail, difference)
    raise emitter.refuse(f"directed rounding of {opcode} on this type is not supported")


def _sign_product(emitter: Emitter, a: Value, b: Value) -> Value:
    kind = f"i{BITS[a.type]}"
    return emitter.bits(emitter.op("xor", emitter.bits(a, kind), emitter.bits(b, kind)), a.type)


def sum_error(emitter: Emitter, a: Value, b: Value, total: Value) -> Value:
    """The exact rounding error of a + b (Knuth's two-sum)."""
    virtual_b = emitter.op("fsub", total, a)
    virtual_a = emitter.op("fsub", total, virtual_b)
    rest_b = emitter.op("fsub", b, virtual_b)
    rest_a = emitter.op("fsub", a, virtual_a)
    return emitter.op("fadd", rest_a, rest_b)


def adjust(emitter: Emitter, mode: str, nearest: Value, error: Value) -> Value:
    """Move `nearest` one unit toward the wanted side when the sign of `error` demands it."""
    kind = f"i{BITS[nearest.type]}"
    zero = real(0.0, error.type)
    bits = emitter.bits(nearest, kind)
    negative = emitter.compare("icmp slt", bits, integer(0, kind))
    below = emitter.compare("fcmp olt", error, zero)
    above = emitter.compare("fcmp ogt", error, zero)
    if mode == "rm":
        wrong = below
    elif mode == "rp":
        wrong = above
    else:
        wrong = emitter.select(negative, above, below)
    outward = negative if mode == "rm" else emitter.invert(negative)
    if mode == "rz":
        step = integer(-1, kind)
    else:
        step = emitter.select(outward, integer(1, kind), integer(-1, kind))
    moved = emitter.op("add", bits, step)
    return emitter.bits(emitter.select(wrong, moved, bits), nearest.type)
