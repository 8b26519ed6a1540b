"""Statements of a whole warp or block: votes, matches, shuffles, reductions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .where import Where

if TYPE_CHECKING:
    from .generator import Program


def warp(program: Program, where: Where) -> None:
    """An instruction of the lanes that are known to be here."""
    if not where.mask:
        return program.plain(where)
    rng, writer, mask = program.rng, program.writer, where.mask
    r, p = writer.register, writer.register
    choices = [
        f"vote.sync.all.pred {p('p')}, {p('p')}, {mask};",
        f"vote.sync.any.pred {p('p')}, !{p('p')}, {mask};",
        f"vote.sync.uni.pred {p('p')}, {p('p')}, {mask};",
        f"vote.sync.ballot.b32 {r('r')}, {p('p')}, {mask};",
        f"match.any.sync.b32 {r('r')}, {_folded(program, 'r')}, {mask};",
        f"match.any.sync.b64 {r('r')}, {_folded(program, 'l')}, {mask};",
        f"match.all.sync.b32 {r('r')}|{p('p')}, {_folded(program, 'r')}, {mask};",
        f"match.all.sync.b64 {r('r')}|{p('p')}, {_folded(program, 'l')}, {mask};",
        f"bar.warp.sync {mask};",
    ]
    for name in (
        "add.u32",
        "add.s32",
        "min.u32",
        "max.u32",
        "min.s32",
        "max.s32",
        "and.b32",
        "or.b32",
        "xor.b32",
    ):
        choices.append(f"redux.sync.{name} {r('r')}, {r('r')}, {mask};")
    if mask == "-1" and not program.leaves:
        choices += _shuffles(program) * 4
    writer.line(rng.choice(choices))
    return None


def _folded(program: Program, letter: str) -> str:
    """A value of which several lanes are likely to have the same."""
    value = program.writer.fresh(letter)
    bits = {"r": 32, "l": 64}[letter]
    program.writer.line(f"and.b{bits} {value}, {program.writer.register(letter)}, 1;")
    return value


def _shuffles(program: Program) -> list[str]:
    rng, r, p = program.rng, program.writer.register, program.writer.register
    source = r(rng.choice("rrrf"))
    target = r(source[1])
    target = rng.choice((target, f"{target}|{p('p')}"))
    segment = rng.choice((0, 0, 0x1000, 0x1800, 0x1C00, 0x1E00, 0x1F00))
    if not program.full_warps:
        return [
            f"shfl.sync.up.b32 {target}, {source}, {rng.randrange(32)}, {segment}, -1;",
            f"shfl.sync.idx.b32 {target}, {source}, 0, 0x1f, -1;",
        ]
    lane = rng.choice((str(rng.randrange(32)), r("r"), "%n"))
    bound = rng.choice(
        (str(segment | 31), str(segment | 31), str(segment | rng.randrange(32)), r("r"))
    )
    mode = rng.choice(("bfly", "down", "idx"))
    return [
        f"shfl.sync.{mode}.b32 {target}, {source}, {lane}, {bound}, -1;",
        f"shfl.sync.up.b32 {target}, {source}, {lane}, {segment}, -1;",
    ]


def barrier_reduction(program: Program, where: Where) -> None:
    """`bar.red` of a whole block."""
    if not where.block or program.leaves:
        return program.plain(where)
    r = program.writer.register
    program.writer.line(
        program.rng.choice(
            (
                f"bar.red.popc.u32 {r('r')}, 0, {r('p')};",
                f"bar.red.and.pred {r('p')}, 0, !{r('p')};",
                f"bar.red.or.pred {r('p')}, 0, {r('p')};",
            )
        )
    )
    return None
