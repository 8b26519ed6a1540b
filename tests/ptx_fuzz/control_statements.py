"""Statements that decide what runs: branches, loops, switches, device functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .addresses import Addresses
from .memory_statements import atomic, load, reduce, store
from .templates import POOLS
from .where import Where
from .writer import Writer

if TYPE_CHECKING:
    from .generator import Program


def _inside(program: Program, where: Where, mask: str = "") -> Where:
    return Where(False, mask, where.depth + 1)


def _uniform(program: Program) -> str:
    """A predicate that is the same in the whole block."""
    predicate, value = program.writer.fresh("p"), program.writer.fresh("r")
    special = program.rng.choice(("%ctaid.x", "%n", "%ntid.x"))
    program.writer.line(f"mov.u32 {value}, {special};")
    program.writer.line(f"and.b32 {value}, {value}, {program.rng.choice((1, 2, 3))};")
    program.writer.line(f"setp.eq.u32 {predicate}, {value}, {program.rng.randrange(2)};")
    return predicate


def _condition(program: Program) -> str:
    """A predicate that differs between threads, in one way or another."""
    choice = program.rng.random()
    if choice < 0.4:
        return program.writer.register("p")
    predicate = program.writer.fresh("p")
    if choice < 0.8:
        index = program.addresses.linear()
        relation = program.rng.choice(("lt.u32", "lt.s32", "eq.u32", "ge.u32", "ne.s32"))
        program.writer.line(f"setp.{relation} {predicate}, {index}, {program.rng.randrange(40)};")
    else:
        bit = program.writer.fresh("r")
        program.writer.line(f"and.b32 {bit}, {program.writer.register('r')}, 1;")
        program.writer.line(f"setp.ne.u32 {predicate}, {bit}, 0;")
    return predicate


def branch(program: Program, where: Where) -> None:
    """`if`, with or without `else`; in divergent code with the member masks of both sides."""
    if where.depth >= 3:
        return program.plain(where)
    writer, rng = program.writer, program.rng
    if rng.random() < 0.25:
        predicate, inside = _uniform(program), Where(where.block, where.mask, where.depth + 1)
        other = inside
    else:
        predicate = _condition(program)
        inside = other = _inside(program, where)
        if where.mask and "warp" in program.weights:
            mask, rest = writer.fresh("r"), writer.fresh("r")
            writer.line(f"vote.sync.ballot.b32 {mask}, {predicate}, {where.mask};")
            writer.line(f"vote.sync.ballot.b32 {rest}, !{predicate}, {where.mask};")
            inside, other = _inside(program, where, mask), _inside(program, where, rest)
    otherwise, end = writer.label(), writer.label()
    has_else = rng.random() < 0.5
    uni = ".uni" if inside.block and rng.random() < 0.5 else ""
    writer.line(f"@!{predicate} bra{uni} {otherwise};")
    program.statements(inside, rng.randint(1, 5))
    if has_else:
        writer.line(f"bra{uni} {end};")
    writer.line(f"{otherwise}:")
    if has_else:
        program.statements(other, rng.randint(1, 4))
    writer.line(f"{end}:")
    return None


def loop(program: Program, where: Where) -> None:
    """A loop of few rounds: as many for all threads, or not; with a `break` and a `continue`."""
    if where.depth >= 2:
        return program.plain(where)
    writer, rng = program.writer, program.rng
    counter, limit, again = writer.fresh("r"), writer.fresh("r"), writer.fresh("p")
    inside = _inside(program, where)
    choice = rng.randrange(4)
    if choice == 0:
        writer.line(f"mov.u32 {limit}, {rng.randint(1, 6)};")
        inside = Where(where.block, where.mask, where.depth + 1)
    elif choice == 1:
        writer.line(f"and.b32 {limit}, %n, 3; add.u32 {limit}, {limit}, 1;")
        inside = Where(where.block, where.mask, where.depth + 1)
    elif choice == 2:
        writer.line(f"and.b32 {limit}, %thread, {rng.choice((1, 3, 7))};")
    else:
        writer.line(f"and.b32 {limit}, {writer.register('r')}, {rng.choice((1, 3))};")
    walks = [program.addresses.walk() for _ in range(rng.choice((0, 0, 1, 2)))]
    head, end = writer.label("B"), writer.label("E")
    writer.line(f"mov.u32 {counter}, 0;")
    tested_first = choice >= 2
    writer.line(f"{head}:")
    if tested_first:
        writer.line(f"setp.ge.u32 {again}, {counter}, {limit};")
        writer.line(f"@{again} bra {end};")
    program.addresses.counters.append(counter)
    for fetch, _, _ in walks:
        writer.line(fetch)
    program.statements(inside, rng.randint(1, 5))
    for _, _, move in walks:
        writer.line(move)
    if not inside.block and rng.random() < 0.3:
        writer.line(f"@{_condition(program)} bra {end};")
    if not inside.block and rng.random() < 0.2:
        writer.line(f"add.u32 {counter}, {counter}, 1;")
        guard = writer.fresh("p")
        writer.line(f"setp.lt.u32 {guard}, {counter}, {limit};")
        writer.line(f"and.pred {guard}, {guard}, {writer.register('p')};")
        writer.line(f"@{guard} bra {head};")
    program.statements(inside, rng.randint(0, 2))
    program.addresses.counters.pop()
    writer.line(f"add.u32 {counter}, {counter}, 1;")
    if tested_first:
        writer.line(f"bra {head};")
    else:
        writer.line(f"setp.lt.u32 {again}, {counter}, {limit};")
        writer.line(f"@{again} bra {head};")
    writer.line(f"{end}:")
    return None


def tangle(program: Program, where: Where) -> None:
    """Blocks that branch to each other as they like, until their fuel is used up."""
    if where.depth >= 2:
        program.plain(where)
        return
    writer, rng = program.writer, program.rng
    fuel, empty, end = writer.fresh("r"), writer.fresh("p"), writer.label("E")
    labels = [writer.label("K") for _ in range(rng.randint(2, 4))]
    writer.line(f"mov.u32 {fuel}, {rng.randint(2, 9)};")
    if rng.random() < 0.5:
        writer.line(f"@{_condition(program)} bra {rng.choice(labels)};")
    program.addresses.counters.append(fuel)
    for label in labels:
        writer.line(f"{label}:")
        program.statements(_inside(program, where), rng.randint(1, 2))
        writer.line(f"sub.u32 {fuel}, {fuel}, 1; setp.eq.u32 {empty}, {fuel}, 0;")
        writer.line(f"@{empty} bra {end};")
        for _ in range(rng.randrange(3)):
            writer.line(f"@{_condition(program)} bra {rng.choice(labels)};")
        if rng.random() < 0.3:
            writer.line(f"bra {rng.choice(labels)};")
    program.addresses.counters.pop()
    writer.line(f"{end}:")


def split(program: Program, where: Where) -> None:
    """Some threads change memory while others compute addresses, in one order or the other."""
    if where.depth >= 3:
        program.plain(where)
        return
    writer, rng = program.writer, program.rng
    otherwise, end = writer.label(), writer.label()
    inside = _inside(program, where)
    sides = [rng.choice((reduce, atomic, store)), load]
    rng.shuffle(sides)
    writer.line(f"@{_condition(program)} bra {otherwise};")
    sides[0](program, inside)
    writer.line(f"bra {end};")
    writer.line(f"{otherwise}:")
    sides[1](program, inside)
    writer.line(f"{end}:")


def leave(program: Program, where: Where) -> None:
    """Some threads end early; afterwards nobody may count on their values."""
    if program.leaves or program.addresses.counters or program.rng.random() < 0.5:
        program.plain(where)
        return
    program.leaves = True
    how = program.rng.choice(("exit", "ret"))
    program.writer.line(f"@{_condition(program)} {how};")


def switch(program: Program, where: Where) -> None:
    """`brx.idx`, whose cases may fall through."""
    if where.depth >= 2:
        return program.plain(where)
    writer, rng = program.writer, program.rng
    index, end, table = writer.fresh("r"), writer.label("E"), writer.label("T")
    count = rng.randint(2, 4)
    power = 1 << (count.bit_length() - 1)
    source = rng.choice(("%thread", writer.register("r"), "%n"))
    writer.line(f"and.b32 {index}, {source}, {power - 1};")
    labels = [writer.label("S") for _ in range(count)]
    if rng.random() < 0.3:
        labels[-1] = labels[0]
    writer.line(f"{table}: .branchtargets {', '.join(labels)};")
    writer.line(f"{program.guard()}brx.idx {index}, {table};")
    for label in dict.fromkeys(labels):
        writer.line(f"{label}:")
        program.statements(_inside(program, where), rng.randint(1, 3))
        if rng.random() < 0.7:
            writer.line(f"bra {end};")
    writer.line(f"{end}:")
    return None


def function(program: Program) -> None:
    """A function of straight-line code with a branch or an early return."""
    rng = program.rng
    kinds = [rng.choice("rlf") for _ in range(rng.randint(1, 3))]
    result = rng.choice("rl")
    name = f"helper{len(program.functions)}"
    types = {"r": "b32", "l": "b64", "f": "f32"}
    outside, program.writer = program.writer, Writer(rng, dict(POOLS))
    outside_addresses = program.addresses
    program.addresses = Addresses(program.writer, program.launch)
    writer = program.writer
    for letter in ("h", "r", "l", "f", "d", "x", "z", "y", "w"):
        for number in range(POOLS[letter]):
            zero = {"f": "0f3F800000", "d": "0d4000000000000000"}.get(letter, str(number + 1))
            kind = {"f": "f32", "d": "f64", "h": "b16", "x": "b16", "z": "b16", "l": "b64"}.get(
                letter, "b32"
            )
            writer.line(f"mov.{kind} %{letter}{number}, {zero};")
    for number, letter in enumerate(kinds):
        writer.line(f"ld.param.{types[letter]} %{letter}{number}, [a{number}];")
    for number in range(POOLS["p"]):
        writer.line(f"setp.lt.s32 %p{number}, %r{number}, {rng.randrange(9)};")
    for _ in range(rng.randint(1, 5)):
        writer.instruction(program.template(), program.guard())
    if rng.random() < 0.5:
        value = program.value(result)
        writer.line(f"st.param.{types[result]} [out], {value};")
        writer.line(f"@{writer.register('p')} ret;")
    else:
        skip = writer.label()
        writer.line(f"@{writer.register('p')} bra {skip};")
        writer.instruction(program.template())
        writer.line(f"{skip}:")
    for _ in range(rng.randint(1, 3)):
        writer.instruction(program.template(), program.guard())
    value = program.value(result)
    writer.line(f"st.param.{types[result]} [out], {value};")
    formals = ", ".join(f".param .{types[c]} a{i}" for i, c in enumerate(kinds))
    program.functions.append(
        f".func (.param .{types[result]} out) {name}({formals})\n{{\n"
        + "\n".join([*writer.declarations(), *writer.lines, "ret;", "}"])
    )
    program.signatures.append((name, kinds, result))
    program.writer, program.addresses = outside, outside_addresses


def call(program: Program, where: Where) -> None:
    """A call of a device function."""
    name, kinds, result = program.rng.choice(program.signatures)
    types = {"r": "b32", "l": "b64", "f": "f32"}
    writer = program.writer
    values = [
        program.writer.register(letter) if letter != "f" else _safe_single(program)
        for letter in kinds
    ]
    writer.line("{")
    for number, letter in enumerate(kinds):
        writer.line(f".param .{types[letter]} in{number};")
        writer.line(f"st.param.{types[letter]} [in{number}], {values[number]};")
    writer.line(f".param .{types[result]} back;")
    uni = ".uni" if where.block else ""
    arguments = ", ".join(f"in{number}" for number in range(len(kinds)))
    writer.line(f"call{uni} (back), {name}, ({arguments});")
    writer.line(f"ld.param.{types[result]} {writer.register(result)}, [back];")
    writer.line("}")


def _safe_single(program: Program) -> str:
    value = program.writer.fresh("f")
    program.writer.line(f"mov.b32 {value}, {program.writer.clean('f')};")
    return value
