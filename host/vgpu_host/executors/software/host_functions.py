"""Functions of generated code that are made of instructions which not every processor has.

Generated code calls `@host.NAME` and is the same everywhere; the compiler adds the definitions that
suit the processor which it compiles for. There is one family: `dot.XY.N`, the four byte products
and sum of `dp4a` in each of N lanes, where X and Y say whether the bytes of its operands are signed
(`s`) or not (`u`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from .ir import WARP_SIZE

_CALL = re.compile(r"@host\.([\w.]+)\(")


def definitions(text: str, features: Mapping[str, bool]) -> str:
    """LLVM IR of the functions that a module calls.

    Args:
        text: the module, without them.
        features: what the processor has, by LLVM's names.
    """
    lines: list[str] = []
    declarations: set[str] = set()
    for name in sorted(set(_CALL.findall(text))):
        family, *parts = name.split(".")
        if family != "dot":
            raise ValueError(f"no function @host.{name}")
        signs, count = parts
        lines += _dot(signs[0] == "s", signs[1] == "s", int(count), features, declarations)
    return "\n".join([*lines, *sorted(declarations)]) + "\n"


def dot_name(is_signed: bool, other_is_signed: bool, count: int = WARP_SIZE) -> str:
    """Name of the function that makes four products of bytes and adds them up, in each lane.

    `count`, the number of lanes, is 16 or a multiple of it.
    """
    signs = "".join("s" if signed else "u" for signed in (is_signed, other_is_signed))
    return f"host.dot.{signs}.{count}"


def _dot(
    a_signed: bool,
    b_signed: bool,
    count: int,
    features: Mapping[str, bool],
    declarations: set[str],
) -> Iterator[str]:
    """The sum of %c and the products of the bytes of %a and %b."""
    whole = f"<{count} x i32>"
    name = dot_name(a_signed, b_signed, count)
    yield f"define internal {whole} @{name}({whole} %a, {whole} %b, {whole} %c) alwaysinline {{"
    if features.get("avx512vnni"):
        lanes, part = 16, _dot_vnni
    elif features.get("avxvnni"):
        lanes, part = 8, _dot_vnni
    else:
        lanes = 16 if features.get("avx512bw") else 8 if features.get("avx2") else 4
        part = _dot_pairs
    results = []
    for first in range(0, count, lanes):
        order = ", ".join(f"i32 {lane}" for lane in range(first, first + lanes))
        for operand in "abc":
            yield (
                f"%{operand}.{first} = shufflevector {whole} %{operand}, {whole} poison, "
                f"<{lanes} x i32> <{order}>"
            )
        yield from part(first, lanes, a_signed, b_signed, declarations)
        results.append(f"%r.{first}")
    while len(results) > 1:
        order = ", ".join(f"i32 {lane}" for lane in range(2 * lanes))
        joined = []
        for a, b in zip(results[::2], results[1::2], strict=True):
            yield (
                f"{a}.j{lanes} = shufflevector <{lanes} x i32> {a}, <{lanes} x i32> {b}, "
                f"<{2 * lanes} x i32> <{order}>"
            )
            joined.append(f"{a}.j{lanes}")
        results, lanes = joined, 2 * lanes
    yield f"ret {whole} {results[0]}"
    yield "}"


def _dot_vnni(
    first: int, lanes: int, a_signed: bool, b_signed: bool, declarations: set[str]
) -> Iterator[str]:
    """Of VPDPBUSD, which multiplies unsigned bytes by signed ones.

    Other bytes are shifted by 128 into the range that it takes, and what that makes too much is
    taken off: a sum of the other operand alone, which LLVM computes once for many products.
    """
    words, bytes_ = f"<{lanes} x i32>", f"<{4 * lanes} x i8>"
    call = f"@llvm.x86.avx512.vpdpbusd.{32 * lanes}"
    declarations.add(f"declare {words} {call}({words}, {bytes_}, {bytes_})")
    flip = f"splat (i8 {-128})"
    # The unsigned operand comes first; if both have the wrong sign, they change places.
    unsigned, signed = ("b", "a") if a_signed and not b_signed else ("a", "b")
    for operand in "ab":
        yield f"%{operand}.b.{first} = bitcast {words} %{operand}.{first} to {bytes_}"
    u, s = f"%{unsigned}.b.{first}", f"%{signed}.b.{first}"
    if a_signed != b_signed:
        yield f"%r.{first} = call {words} {call}({words} %c.{first}, {bytes_} {u}, {bytes_} {s})"
        return
    flipped = u if a_signed else s
    yield f"%f.{first} = xor {bytes_} {flipped}, {flip}"
    pair = (f"%f.{first}", s) if a_signed else (u, f"%f.{first}")
    excess = (flip, s) if a_signed else (u, flip)
    yield (
        f"%p.{first} = call {words} {call}({words} %c.{first}, {bytes_} {pair[0]}, "
        f"{bytes_} {pair[1]})"
    )
    yield (
        f"%e.{first} = call {words} {call}({words} zeroinitializer, {bytes_} {excess[0]}, "
        f"{bytes_} {excess[1]})"
    )
    yield f"%r.{first} = sub {words} %p.{first}, %e.{first}"


def _dot_pairs(
    first: int, lanes: int, a_signed: bool, b_signed: bool, declarations: set[str]
) -> Iterator[str]:
    """Of PMADDWD, which multiplies 16-bit numbers and adds pairs of products."""
    words, halves = f"<{lanes} x i32>", f"<{2 * lanes} x i16>"
    name = {16: "avx512.pmaddw.d.512", 8: "avx2.pmadd.wd", 4: "sse2.pmadd.wd"}[lanes]
    declarations.add(f"declare {words} @llvm.x86.{name}({halves}, {halves})")
    for operand, is_signed in (("a", a_signed), ("b", b_signed)):
        shift = "ashr" if is_signed else "lshr"
        head = f"%{operand}.{first}"
        yield f"{head}.h = bitcast {words} {head} to {halves}"
        yield f"{head}.up = shl {halves} {head}.h, splat (i16 8)"
        yield f"{head}.even = {shift} {halves} {head}.up, splat (i16 8)"
        yield f"{head}.odd = {shift} {halves} {head}.h, splat (i16 8)"
    for which in ("even", "odd"):
        yield (
            f"%{which}.{first} = call {words} @llvm.x86.{name}({halves} %a.{first}.{which}, "
            f"{halves} %b.{first}.{which})"
        )
    yield f"%s.{first} = add {words} %even.{first}, %odd.{first}"
    yield f"%r.{first} = add {words} %s.{first}, %c.{first}"
