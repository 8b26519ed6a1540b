"""Atomic operations across blocks: what they return must be explained by some order of them.

Each operation leads from the value that it returned to a value that its operand determines. All of
them took place one after the other if and only if these steps form one path through all of them,
from the first value of the cell to the last: a question of degrees and of connection.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from . import reference
from .formats import encode, flushed
from .integers import LOGIC
from .program import VERSION, Machine, register_type
from .rows import WIDTHS, bits_of, number

BLOCKS, THREADS, CELLS = 8, 64, 4
COUNT = BLOCKS * THREADS


@dataclass(frozen=True, eq=False)
class Atomic:
    """One atomic operation.

    Attributes:
        operation: Operation and type, such as `add.u32`.
        kind: Type of the operands and of the result.
        space: `global` or `shared`.
        first: Bits that the cells hold in the beginning.
        step: From the old bits and the bits of the operands to the new bits.
        operands: Bits of one or two operands for each thread.
    """

    operation: str
    kind: str
    space: str
    first: int
    step: Callable[..., int]
    operands: Sequence[tuple[int, ...]]
    target: str = "sm_61"
    cells: int = CELLS

    @property
    def name(self) -> str:
        """The instruction as it is written."""
        return f"atom.{self.space}.{self.operation}"


def numeric(kind: str, function: Callable[..., float]) -> Callable[..., int]:
    """A step on bits from one on numbers."""

    def step(old: int, *operands: int) -> int:
        return bits_of(function(number(old, kind), *(number(x, kind) for x in operands)), kind)

    return step


def increment(old: int, limit: int) -> int:
    """`inc`: wraps to 0 at the limit."""
    return 0 if old >= limit else old + 1


def decrement(old: int, limit: int) -> int:
    """`dec`: wraps to the limit at 0."""
    return limit if old == 0 or old > limit else old - 1


def swap(old: int, compared: int, new: int) -> int:
    """`cas`."""
    return new if old == compared else old


def add_halves(old: int, addend: int) -> int:
    """`add.noftz.f16x2`."""
    halves = [
        encode(reference.add(number(old >> s & 0xFFFF, "f16"), value, "f16"), "f16") << s
        for s, value in ((s, number(addend >> s & 0xFFFF, "f16")) for s in (0, 16))
    ]
    return halves[0] | halves[1]


def atomics() -> Iterator[Atomic]:
    """Every operation and type, in global and in shared memory."""
    for space in ("global", "shared"):
        for kind in ("u32", "s32", "u64", "s64", "b32", "b64"):
            yield from _integers(kind, space)
        for kind, target in (("b16", "sm_70"), ("b32", "sm_61"), ("b64", "sm_61")):
            yield Atomic(f"cas.{kind}", kind, space, 0, swap, _random(2, 3), target)
        for kind in ("f32", "f64"):
            floats = [(encode(float(value % 64) / 4, kind),) for (value,) in _random(1, 1 << 20)]
            add = numeric(kind, lambda a, b, k=kind: reference.add(a, b, k))
            yield Atomic(f"add.{kind}", kind, space, encode(0.5, kind), add, floats)
        tiny = [(value,) for (value,) in _random(1, 0x400000)]
        plain = numeric("f32", lambda a, b: reference.add(a, b, "f32"))
        flush = numeric("f32", lambda a, b: flushed(flushed(a, "f32") + flushed(b, "f32"), "f32"))
        step = flush if space == "global" else plain
        yield Atomic("add.f32 of subnormal numbers", "f32", space, 0x700000, step, tiny)
        small = [encode(float(value) / 8, "f16") for (value,) in _random(1, 16)]
        words = [(low | small[-1 - i] << 16,) for i, low in enumerate(small)]
        yield Atomic("add.noftz.f16x2", "b32", space, 0, add_halves, words)
        one = [(value,) for value in small]
        half = numeric("f16", lambda a, b: reference.add(a, b, "f16"))
        yield Atomic("add.noftz.f16", "f16", space, 0, half, one, "sm_70")


def _integers(kind: str, space: str) -> Iterator[Atomic]:
    bits = WIDTHS[kind]
    values = _random(1, 1 << bits)
    if kind[0] == "b":
        for name, function in LOGIC.items():
            first = 0 if name == "or" else (1 << bits) - 1
            yield Atomic(
                f"{name}.{kind}", kind, space, first, function, _sparse(values, name, bits)
            )
        yield Atomic(f"exch.{kind}", kind, space, 7, lambda old, new: new, values)
        return
    middle = 1 << bits - 2
    if kind != "s64":
        add = numeric(kind, lambda a, b: a + b)
        yield Atomic(f"add.{kind}", kind, space, 1, add, values)
    yield Atomic(f"min.{kind}", kind, space, middle, numeric(kind, min), values)
    yield Atomic(f"max.{kind}", kind, space, middle, numeric(kind, max), values)
    if kind == "u32":
        limits = [(value + 5,) for (value,) in _random(1, 4)]
        yield Atomic("inc.u32", kind, space, 3, increment, limits)
        yield Atomic("dec.u32", kind, space, 3, decrement, limits)


def _random(count: int, limit: int) -> list[tuple[int, ...]]:
    generator = random.Random(limit * 2 + count)
    return [tuple(generator.randrange(limit) for _ in range(count)) for _ in range(COUNT)]


def _sparse(values: list[tuple[int, ...]], name: str, bits: int) -> list[tuple[int, ...]]:
    """Operands that change one bit, so that most operations change something."""
    ones = (1 << bits) - 1
    single = [1 << value % bits for (value,) in values]
    return [(value ^ ones if name == "and" else value,) for value in single]


def program(atomic: Atomic) -> str:
    """PTX with a kernel that sets the cells, and one in which each thread does its operation."""
    kind, size = atomic.kind, WIDTHS[atomic.kind] // 8
    register = register_type(kind)
    stored = register if kind in ("f32", "f64") else f"b{8 * size}"
    shared = atomic.space == "shared"
    declared = f".reg .{register} %a, %b, %d, %s;"
    names = ["%a", "%b"][: len(atomic.operands[0])]
    operation = atomic.operation.split()[0]
    begin = f"mov.b{8 * size} %s, {_literal(atomic)};"
    lines = [
        f".version {VERSION}\n.target {atomic.target}\n.address_size 64",
        ".visible .entry start(.param .u64 inputs, .param .u64 results) {",
        f".reg .b32 %i; .reg .b64 %x; {declared}",
        "mov.u32 %i, %tid.x; ld.param.u64 %x, [results]; mad.wide.u32 %x, %i, 8, %x;",
        f"{begin} st.global.{stored} [%x+{8 * COUNT}], %s; ret; }}",
        ".visible .entry run(.param .u64 inputs, .param .u64 results) {",
        f".reg .pred %p; .reg .b32 %i, %n, %t, %c; .reg .b64 %x, %y, %z; {declared}",
        f".shared .align 8 .b64 room[{CELLS}];" if shared else "",
        "mov.u32 %n, %ctaid.x; mov.u32 %t, %tid.x;",
        f"mad.lo.u32 %i, %n, {THREADS}, %t; and.b32 %c, %i, {CELLS - 1};",
        "ld.param.u64 %x, [inputs]; mad.wide.u32 %x, %i, 8, %x;",
        *(
            f"ld.global.{stored} {name}, [%x+{8 * COUNT * index}];"
            for index, name in enumerate(names)
        ),
        f"ld.param.u64 %y, [results]; add.u64 %y, %y, {8 * COUNT};",
    ]
    if shared:
        lines += [
            f"mov.u64 %z, room; mad.wide.u32 %z, %c, 8, %z; {begin}",
            f"setp.lt.u32 %p, %t, {CELLS}; @%p st.shared.{stored} [%z], %s; bar.sync 0;",
        ]
    else:
        lines.append("mad.wide.u32 %z, %c, 8, %y;")
    lines += [
        f"atom.{atomic.space}.{operation} %d, [%z], {', '.join(names)};",
        "ld.param.u64 %x, [results]; mad.wide.u32 %x, %i, 8, %x;",
        f"st.global.{stored} [%x], %d;",
    ]
    if shared:
        lines += [
            f"bar.sync 0; ld.shared.{stored} %s, [%z];",
            f"mad.lo.u32 %c, %n, {CELLS}, %c; mad.wide.u32 %y, %c, 8, %y;",
            f"@%p st.global.{stored} [%y], %s;",
        ]
    return "\n".join([*lines, "ret; }"]) + "\n"


def _literal(atomic: Atomic) -> str:
    if atomic.kind in ("f32", "f64"):
        digits = WIDTHS[atomic.kind] // 4
        return f"0{'f' if digits == 8 else 'd'}{atomic.first:0{digits}X}"
    return str(atomic.first)


def run(machine: Machine, atomic: Atomic) -> list[str]:
    """Run an operation in all threads; what no order of them explains, in words.

    Raises:
        CudaError: It cannot be translated, or the kernel fails.
    """
    shared = atomic.space == "shared"
    cells = CELLS * (BLOCKS if shared else 1)
    columns = zip(*atomic.operands, strict=True)
    inputs = b"".join(np.array(column, np.uint64).tobytes() for column in columns)
    launches = (("start", 1, cells), ("run", BLOCKS, THREADS))
    data = machine.run(program(atomic), launches, inputs, 8 * (COUNT + cells))
    fields = np.frombuffer(data, np.uint64) & np.uint64((1 << WIDTHS[atomic.kind]) - 1)
    values = [int(value) for value in fields]
    problems = []
    for cell in range(cells):
        block, column = divmod(cell, CELLS)
        threads = range(block * THREADS, (block + 1) * THREADS) if shared else range(COUNT)
        steps = Counter(
            (values[i], atomic.step(values[i], *atomic.operands[i]))
            for i in threads
            if i % CELLS == column
        )
        problem = explain(steps, atomic.first, values[COUNT + cell])
        if problem:
            problems.append(f"cell {cell}: {problem}")
    return problems


def explain(steps: Counter[tuple[int, int]], first: int, last: int) -> str:
    """Why steps do not form one path from the first to the last value; "" if they do."""
    balance: Counter[int] = Counter({first: 1})
    balance[last] -= 1
    followers: dict[int, set[int]] = {}
    for (old, new), count in steps.items():
        balance[old] -= count
        balance[new] += count
        followers.setdefault(old, set()).add(new)
        followers.setdefault(new, set())
    for value, missing in balance.items():
        if missing:
            return f"the value {value:#x} comes up {missing} times more than it is taken on"
    reached, waiting = {first}, [first]
    while waiting:
        for value in followers.get(waiting.pop(), ()):
            if value not in reached:
                reached.add(value)
                waiting.append(value)
    unreached = set(followers) - reached
    return f"nothing leads to {min(unreached):#x}" if unreached else ""
