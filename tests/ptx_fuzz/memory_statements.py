"""Statements that touch memory: loads, stores, shared and local memory, atomics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .templates import POOLS
from .where import ATOMIC_BYTES, INPUT_BYTES, Where

if TYPE_CHECKING:
    from .generator import Program

_LOADS = (
    ("u8", 1, "hrl"), ("s8", 1, "hrl"), ("u16", 2, "hrl"), ("s16", 2, "hrl"), ("b16", 2, "hx"),
    ("u32", 4, "rl"), ("s32", 4, "rl"), ("b32", 4, "rfy"), ("f32", 4, "f"), ("u64", 8, "l"),
    ("b64", 8, "ld"), ("f64", 8, "d"), ("b8", 1, "h"), ("f32", 4, "f"), ("u32", 4, "r"),
)  # fmt: skip
_STORES = (
    ("u8", 1, "hr"), ("u16", 2, "h"), ("s16", 2, "hr"), ("b32", 4, "r"), ("u32", 4, "rl"),
    ("b64", 8, "l"), ("s64", 8, "l"), ("b8", 1, "hr"),
)  # fmt: skip


def load(program: Program, where: Where) -> None:
    """A load from the input, at an address of any shape."""
    rng, writer = program.rng, program.writer
    kind, size, letters = rng.choice(_LOADS)
    letter = rng.choice(letters)
    width = rng.choice((1, 1, 1, 2, 4)) if size >= 2 else rng.choice((1, 1, 2, 4))
    if size * width > 16:
        width = 16 // size
    count = INPUT_BYTES // (size * width)
    index, guard = program.addresses.bounded(count, may_guard=True)
    place = program.addresses.global_address("%input", index, size * width, limit=not guard)
    space = rng.choice((".global", ".global", ".global.nc", ".global.ca", ""))
    name = f"ld{space}{f'.v{width}' if width > 1 else ''}.{kind}"
    if width > 1:
        names = [f"%{letter}{i}" for i in range(POOLS[letter])]
        rng.shuffle(names)
        names = (names + [writer.fresh(letter) for _ in range(width)])[:width]
        target = "{" + ", ".join(names) + "}"
    else:
        target = writer.register(letter)
    if guard and rng.random() < 0.5:
        skip = writer.label()
        writer.line(f"@!{guard} bra {skip};")
        writer.line(f"{name} {target}, {place};")
        writer.line(f"{skip}:")
    else:
        writer.line(f"{f'@{guard} ' if guard else ''}{name} {target}, {place};")


def store(program: Program, where: Where) -> None:
    """A store to places of the output that are each thread's own."""
    kind, size, letters = program.rng.choice(_STORES)
    letter = program.rng.choice(letters)
    width = program.rng.choice((1, 1, 2, 4))
    if size * width > 16:
        width = 1
    values = [program.value(letter) for _ in range(width)]
    place = program.slot(size, width=width)
    listed = values[0] if width == 1 else "{" + ", ".join(values) + "}"
    vector = f".v{width}" if width > 1 else ""
    space = program.rng.choice((".global", ".global", ""))
    program.writer.line(f"{program.guard()}st{space}{vector}.{kind} {place}, {listed};")


def local(program: Program, where: Where) -> None:
    """A store to and a load from local memory."""
    rng, writer = program.rng, program.writer
    kind, size, letters = rng.choice(_STORES)
    index, guard = program.addresses.bounded(64 // size, may_guard=True)
    place, space = program.addresses.window_address("own", "local", index, size)
    value = program.value(rng.choice(letters))
    writer.line(f"{f'@{guard} ' if guard else ''}st{space}.{kind} {place}, {value};")
    kind, size, letters = rng.choice(_LOADS)
    index, guard = program.addresses.bounded(64 // size, may_guard=True)
    place, space = program.addresses.window_address("own", "local", index, size)
    target = writer.register(rng.choice(letters))
    writer.line(f"{f'@{guard} ' if guard else ''}ld{space}.{kind} {target}, {place};")


def _room(program: Program, size: int) -> int:
    """Space in shared memory; its start, which is left free of other uses."""
    start = -(-program.shared // 16) * 16
    program.shared = start + size
    return start


def _shared_index(program: Program, start: int, index: str, size: int) -> str:
    if start % size == 0 and start:
        moved = program.writer.fresh("r")
        program.writer.line(f"add.u32 {moved}, {index}, {start // size};")
        return moved
    return index


def exchange(program: Program, where: Where) -> None:
    """Each thread stores, the block meets, each loads what another one stored."""
    if not where.block or program.leaves:
        return own_shared(program, where)
    rng, writer = program.rng, program.writer
    size = rng.choice((1, 2, 4, 4, 8))
    letter = {1: "r", 2: "h", 4: "r", 8: "l"}[size]
    threads = program.launch.block_threads
    value = program.value(letter)
    own, count = program.addresses.owned(threads, "block")
    start = _room(program, count * size)
    if program.shared > 16_000:
        program.shared = start
        return program.plain(where)
    place, space = program.addresses.window_address(
        "room", "shared", _shared_index(program, start, own, size), size
    )
    kind = f"u{8 * size}"
    writer.line(f"st{space}.{kind} {place}, {value};")
    writer.line(rng.choice(("bar.sync 0;", "barrier.sync 0;", "barrier.sync.aligned 0;")))
    if own not in ("%thread",):
        # Not every place may have been written: read the own one of a thread by its number.
        program.addresses.index()
        index = own
    else:
        index, _ = program.addresses.bounded(threads, may_guard=False)
    place, space = program.addresses.window_address(
        "room", "shared", _shared_index(program, start, index, size), size
    )
    writer.line(f"ld{space}.{kind} {writer.register(letter)}, {place};")
    writer.line("bar.sync 0;")
    return None


def own_shared(program: Program, where: Where) -> None:
    """A thread stores to its own place and loads it again, perhaps narrower."""
    rng, writer = program.rng, program.writer
    if program.shared > 12_000:
        return program.plain(where)
    own, count = program.addresses.owned(program.launch.block_threads, "block")
    start = _room(program, count * 8)
    index = _shared_index(program, start, own, 8)
    place, space = program.addresses.window_address("room", "shared", index, 8)
    writer.line(f"st{space}.b64 {place}, {program.value('l')};")
    kind, size, letters = rng.choice(_LOADS)
    place, space = program.addresses.window_address("room", "shared", index, 8)
    if space and size < 8 and "+" not in place:
        place = f"{place[:-1]}+{size * rng.randrange(8 // size)}]"
    guard = program.guard()
    writer.line(f"{guard}ld{space}.{kind} {writer.register(rng.choice(letters))}, {place};")
    return None


def _atomic_operation(program: Program) -> tuple[str, int, str]:
    return program.rng.choice(
        (
            ("add.u32", 4, "r"), ("add.s32", 4, "r"), ("min.s32", 4, "r"), ("max.u32", 4, "r"),
            ("and.b32", 4, "r"), ("or.b32", 4, "r"), ("xor.b32", 4, "r"), ("add.u64", 8, "l"),
            ("min.u64", 8, "l"), ("max.s64", 8, "l"), ("xor.b64", 8, "l"), ("min.u32", 4, "r"),
        )
    )  # fmt: skip


def reduce(program: Program, where: Where) -> None:
    """`red` of many threads on few places, where the order makes no difference."""
    if program.atomics + 64 > ATOMIC_BYTES:
        return program.plain(where)
    operation, size, letter = _atomic_operation(program)
    value = program.value(letter)
    index, guard = program.addresses.bounded(64 // size, may_guard=True)
    base = program.writer.fresh("l")
    program.writer.line(f"add.s64 {base}, %atomics, {program.atomics};")
    program.atomics += 64
    place = program.addresses.global_address(base, index, size, limit=not guard)
    space = program.rng.choice((".global", ".global", "", ".relaxed.gpu.global"))
    program.writer.line(f"{f'@{guard} ' if guard else ''}red{space}.{operation} {place}, {value};")
    return None


def atomic(program: Program, where: Where) -> None:
    """`atom` on a place that no other thread uses, and what it returns."""
    operation, size, letter = program.rng.choice(
        (
            _atomic_operation(program), ("exch.b32", 4, "r"), ("cas.b32", 4, "r"),
            ("inc.u32", 4, "r"), ("dec.u32", 4, "r"), ("exch.b64", 8, "l"), ("cas.b64", 8, "l"),
        )
    )  # fmt: skip
    arguments = [program.value(letter)]
    if operation.startswith("cas"):
        arguments.insert(0, program.rng.choice((arguments[0], "0", hex(0xA5A5A5A5))))
    if where.block and program.rng.random() < 0.4 and program.shared < 12_000:
        own, count = program.addresses.owned(program.launch.block_threads, "block")
        start = _room(program, count * 8)
        index = _shared_index(program, start, own, size) if size == 8 else own
        if size == 4:
            index = program.writer.fresh("r")
            program.writer.line(f"mad.lo.u32 {index}, {own}, 2, {start // 4};")
        place, space = program.addresses.window_address("room", "shared", index, size)
        program.writer.line(f"st{space}.b{8 * size} {place}, {program.value(letter)};")
    else:
        place, space = program.slot(size), program.rng.choice((".global", ""))
    target = program.writer.register(letter)
    listed = ", ".join(arguments)
    program.writer.line(f"{program.guard()}atom{space}.{operation} {target}, {place}, {listed};")
