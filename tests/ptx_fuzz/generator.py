"""Random valid PTX kernels: a seed gives the program, its launch and its memory.

Programs end, have no data races, and read nothing that was not written. What they compute is stored
at the end; on the way they load, store, branch, loop, call, and exchange values within warps and
blocks. Each seed draws which features its program has, so that some programs do one thing a lot.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from .addresses import Addresses, Launch
from .case import Case, Dim3
from .control_statements import branch, call, function, leave, loop, split, switch, tangle
from .memory_statements import atomic, exchange, load, local, own_shared, reduce, store
from .templates import FAMILIES, POOLS, REGISTER_BITS
from .warp_statements import barrier_reduction, warp
from .where import ATOMIC_BYTES, INPUT_BYTES, Where
from .writer import Writer

HEADER = ".version 8.6\n.target sm_90\n.address_size 64\n"
_BLOCKS: tuple[Dim3, ...] = (
    (32, 1, 1), (1, 1, 1), (7, 1, 1), (33, 1, 1), (64, 1, 1), (40, 1, 1), (31, 1, 1), (96, 1, 1),
    (8, 4, 1), (5, 7, 1), (16, 3, 1), (32, 2, 1), (3, 3, 3), (1, 40, 1), (2, 16, 1), (4, 4, 4),
)  # fmt: skip
#: Blocks whose first dimension is whole warps: the software GPU has code of its own for them.
_ROWS: tuple[Dim3, ...] = ((32, 1, 1), (64, 1, 1), (96, 1, 1), (32, 2, 1), (32, 1, 2))
_GRIDS: tuple[Dim3, ...] = ((1, 1, 1), (1, 1, 1), (2, 1, 1), (3, 1, 1), (2, 2, 1), (1, 3, 1))


#: The uniform `n`: small, or so large that sums with it wrap within a warp.
_SCALARS = (0, 1, 3, 4, 17, 1000, 0xFFFF_FFF0, 0xFFFF_FFFF, 0x7FFF_FFF0, 0x8000_0001, 0x4000_0000)


class Program:
    """Makes one program.

    Args:
        seed: determines everything.
    """

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.seed = seed
        self.launch = Launch(rng.choice(_GRIDS), rng.choice(rng.choice((_ROWS, _BLOCKS))))
        self.writer = Writer(rng, dict(POOLS))
        self.addresses = Addresses(self.writer, self.launch)
        self.output = 0
        self.atomics = 0
        self.shared = 0
        self.local = 0
        self.budget = rng.choice((4, 8, 8, 12, 24))
        families = list(FAMILIES)
        self.families = rng.sample(families, rng.randint(2, len(families)))
        #: All single precision flushes, none does, or some.
        self.flushing = rng.choice(("all", "none", "some"))
        self.full_warps = self.launch.block_threads % 32 == 0
        #: Whether threads may have ended before the end.
        self.leaves = False
        self.functions: list[str] = []
        self.signatures: list[tuple[str, list[str], str]] = []
        chosen = rng.sample(list(STATEMENTS), rng.randint(3, len(STATEMENTS)))
        self.weights = {name: rng.choice((1.0, 2.0, 4.0)) for name in chosen}
        self.weights |= {"plain": rng.choice((2.0, 10.0)), "load": rng.choice((2.0, 6.0))}

    def make(self) -> Case:
        """The program and its launch."""
        rng, writer = self.rng, self.writer
        if "call" in self.weights:
            for _ in range(rng.randint(1, 2)):
                function(self)
        with writer.captured() as statements:
            self.statements(Where(True, "-1", 0), self.budget)
        used = self._used(statements)
        with writer.captured() as body:
            self._prologue(used)
            body += statements
            self._epilogue(used)
        text = [HEADER, *self.functions]
        text.append(
            ".visible .entry fuzz(.param .u64 input, .param .u64 output, .param .u64 atomics, "
            ".param .u64 n)\n{"
        )
        text += writer.declarations()
        if self.shared:
            text.append(f".shared .align 16 .b8 room[{self.shared}];")
        if self.local:
            text.append(f".local .align 16 .b8 own[{self.local}];")
        text += [*body, "ret;", "}"]
        return Case(
            "\n".join(text) + "\n",
            self.launch.grid,
            self.launch.block,
            (rng.choice(_SCALARS),),
            (
                f"seed {self.seed} {INPUT_BYTES}",
                f"fill a5 {max(self.output, 16)}",
                f"fill 00 {ATOMIC_BYTES}",
            ),
        )

    def _used(self, statements: list[str]) -> list[str]:
        """Registers of the pools that statements mention, in the order of their classes."""
        names = set(re.findall(r"%\w\d+", " ".join(statements)))
        return [
            f"%{letter}{number}"
            for letter, count in POOLS.items()
            for number in range(count)
            if f"%{letter}{number}" in names
        ]

    def _prologue(self, used: list[str]) -> None:
        line, rng = self.writer.line, self.rng
        line(".reg .b64 %input, %output, %atomics; .reg .b32 %n;")
        for name in ("input", "output", "atomics"):
            line(f"ld.param.u64 %{name}, [{name}];")
            if rng.random() < 0.5:
                line(f"cvta.to.global.u64 %{name}, %{name};")
        line("ld.param.u32 %n, [n];")
        self.addresses.prologue()
        if "local" in self.weights:
            self.local = 64
            for at in range(0, 64, 8):
                line(f"st.local.b64 [own+{at}], {rng.getrandbits(62)};")
        self._fill(used)

    def _fill(self, used: list[str]) -> None:
        """Give registers of the pools values: from memory, coordinates, or literals."""
        line, rng = self.writer.line, self.rng
        place, index = self.writer.fresh("l"), self.writer.fresh("r")
        raw = [self.writer.fresh("l") for _ in range(4)]
        line(f"rem.u32 {index}, %global, {INPUT_BYTES // 16 - 16};")
        line(f"mul.wide.u32 {place}, {index}, 16;")
        line(f"add.s64 {place}, {place}, %input;")
        line(f"ld.global.v2.u64 {{{raw[0]}, {raw[1]}}}, [{place}];")
        line(f"ld.global.v2.u64 {{{raw[2]}, {raw[3]}}}, [{place}+{16 * rng.randrange(1, 16)}];")
        for register in used:
            letter, source = register[1], rng.choice(raw)
            bits = REGISTER_BITS[letter]
            if letter == "p":
                line(f"setp.gt.s64 {register}, {source}, {rng.choice((0, 5, -1))};")
                continue
            choice = rng.random()
            if letter in "rl" and choice < 0.2:
                number = rng.choice(("%thread", "%global", "%n"))
                line(f"cvt.u{bits}.u32 {register}, {number};")
            elif choice < 0.35:
                kind = {"f": "f32", "d": "f64"}.get(letter, f"b{bits}")
                line(f"mov.{kind} {register}, {self.writer.literal(letter, bits)};")
            else:
                parts = ["_"] * (64 // bits)
                parts[rng.randrange(len(parts))] = register
                target = register if bits == 64 else "{" + ", ".join(parts) + "}"
                line(f"mov.b64 {target}, {source};")

    def _epilogue(self, used: list[str]) -> None:
        """Store what is in the registers of the pools: some as they are, the others folded."""
        line, fresh = self.writer.line, self.writer.fresh
        total = fresh("l")
        line(f"mov.u64 {total}, 0;")
        for register in used:
            letter = register[1]
            bits = 32 if letter == "p" else REGISTER_BITS[letter]
            value = register
            if letter == "p":
                value = fresh("r")
                line(f"selp.u32 {value}, 1, 0, {register};")
            elif letter in "fdxzyw":
                value = self.writer.cleaned(letter, register)
            if self.rng.random() < 0.15:
                line(f"st.global.b{bits} {self.slot(bits // 8)}, {value};")
                continue
            if bits < 64:
                narrow, value = value, fresh("l")
                line(f"cvt.u64.u{bits} {value}, {narrow};")
            line(f"xor.b64 {total}, {total}, {value};")
            line(f"mul.lo.u64 {total}, {total}, 0x9E3779B97F4A7C15;")
        line(f"st.global.b64 {self.slot(8, plain=True)}, {total};")

    def slot(self, size: int, plain: bool = False, width: int = 1) -> str:
        """A new part of the output with a place for each thread; its address operand."""
        start = self.output = -(-self.output // 16) * 16
        if plain:
            index, count = "%global", self.launch.threads
        else:
            index, count = self.addresses.owned(self.launch.threads, "launch")
        self.output += count * size * width
        base = self.writer.fresh("l")
        self.writer.line(f"add.s64 {base}, %output, {start};")
        return self.addresses.global_address(base, index, size * width, limit=True)

    def statements(self, where: Where, budget: int) -> None:
        """Write so many statements, as long as the program may have more."""
        names = list(self.weights)
        weights = [self.weights[name] for name in names]
        for _ in range(budget):
            if self.budget <= 0:
                return
            self.budget -= 1
            (name,) = self.rng.choices(names, weights)
            STATEMENTS[name](self, where)

    def guard(self) -> str:
        """Now and then a predicate for an instruction."""
        if self.rng.random() < 0.85:
            return ""
        return f"@{self.rng.choice(('', '!'))}{self.writer.register('p')} "

    def template(self) -> str:
        """An instruction of the families of this program."""
        rng = self.rng
        while True:
            family = rng.choice(self.families)
            template = rng.choice(FAMILIES[family])
            flushes = ".ftz" in template and "f32" in template
            single = "f32" in template and family == "single"
            if flushes and self.flushing == "none":
                continue
            if single and not flushes and self.flushing == "all":
                continue
            return template

    def plain(self, where: Where) -> None:
        """A few straight-line instructions."""
        for _ in range(self.rng.randint(1, 3)):
            self.writer.instruction(self.template(), self.guard())

    def carry(self, where: Where) -> None:
        """A sum, difference or product in three parts."""
        kind = self.rng.choice(("u32", "s32", "u64", "s64"))
        letter = "r" if kind.endswith("32") else "l"
        writer = self.writer
        name = self.rng.choice(("add", "sub", "mad.lo", "mad.hi"))
        more = " " + letter if name.startswith("mad") else ""
        stem, _, half = name.partition(".")
        half = f".{half}" if half else ""
        writer.instruction(f"{stem}{half}.cc.{kind} {letter} {letter} {letter}{more}")
        writer.instruction(f"{stem}c{half}.cc.{kind} {letter} {letter} {letter}{more}")
        writer.instruction(f"{stem}c{half}.{kind} {letter} {letter} {letter}{more}")

    def value(self, letter: str) -> str:
        """Integer bits of a class, now and then those of a floating-point number."""
        if self.rng.random() < 0.3:
            other = {"h": "xz", "r": "fyw", "l": "d"}[letter]
            return self.writer.clean(self.rng.choice(other))
        return self.writer.register(letter)


#: Every kind of statement; the last two are in every program.
STATEMENTS: dict[str, Callable[[Program, Where], None]] = {
    "store": store,
    "branch": branch,
    "loop": loop,
    "switch": switch,
    "leave": leave,
    "tangle": tangle,
    "split": split,
    "exchange": exchange,
    "own": own_shared,
    "local": local,
    "reduce": reduce,
    "atomic": atomic,
    "warp": warp,
    "call": call,
    "carry": Program.carry,
    "vote": barrier_reduction,
    "plain": Program.plain,
    "load": load,
}


def generate(seed: int) -> Case:
    """The program of a seed."""
    return Program(seed).make()
