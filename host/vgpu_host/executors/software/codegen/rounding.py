"""Directed rounding: `.rz`, `.rm`, `.rp`.

Arithmetic is done by the host in the rounding mode asked for: a small function sets the mode in the
control register, computes, and sets it back, so that no other arithmetic moves into its reach.
Conversions find the exact error of the result to nearest instead, and move it by one unit in the
last place where the error points the wrong way.
"""

from __future__ import annotations

from string import Template

from vgpu_host.executors.software.ir import BITS

from .emitter import Emitter, Value, integer, mangle, real

#: Bits 13 and 14 of the x86 control and status register, and LLVM's name of the mode.
_MODES = {"rm": (1 << 13, "downward"), "rp": (2 << 13, "upward"), "rz": (3 << 13, "towardzero")}
_MODE_MASK = 3 << 13

_FUNCTION = Template(
    """define internal $kind @"$name"($parameters) noinline strictfp $attributes {
  %old = alloca i32
  %new = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %old)
  %mode = load i32, ptr %old
  %kept = and i32 %mode, $others
  %set = or i32 %kept, $bits
  store i32 %set, ptr %new
  call void @llvm.x86.sse.ldmxcsr(ptr %new)
  %result = call $kind @$intrinsic($arguments,
    metadata !"round.$mode", metadata !"fpexcept.strict") strictfp
  call void @llvm.x86.sse.ldmxcsr(ptr %old)
  ret $kind %result
}"""
)


def round_directed(emitter: Emitter, operation: str, mode: str, operands: list[Value]) -> Value:
    """`fadd fsub fmul fdiv sqrt fma` rounded toward zero (`rz`), down (`rm`) or up (`rp`)."""
    operands = list(emitter.unify(*operands))
    like = operands[0]
    kind = like.llvm_type
    intrinsic = f"llvm.experimental.constrained.{operation}.{mangle(like)}"
    name = f"round.{operation}.{mode}.{mangle(like)}"
    if name not in emitter.functions:
        bits, llvm_mode = _MODES[mode]
        parameters = ", ".join(f"{kind} %p{index}" for index in range(len(operands)))
        emitter.functions[name] = _FUNCTION.substitute(
            kind=kind,
            name=name,
            parameters=parameters,
            arguments=parameters,
            attributes=emitter.function_attributes,
            others=~_MODE_MASK,
            bits=bits,
            intrinsic=intrinsic,
            mode=llvm_mode,
        )
        types = ", ".join([kind] * len(operands))
        emitter.declarations.add(f"declare {kind} @{intrinsic}({types}, metadata, metadata)")
    passed = ", ".join(map(str, operands))
    return emitter.define(f'call {kind} @"{name}"({passed})', like.type, like.vector)


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
