"""Addresses in many shapes: indexes from coordinates, bounds, widening, and one place per thread.

The software GPU looks for lanes whose addresses lie in a row. So here are rows, and everything that
looks like one and is none: sums that wrap before they are widened, indexes that are cut, reversed,
folded, or come from two coordinates.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from .case import Dim3
from .writer import Writer


@dataclass(frozen=True, slots=True)
class Launch:
    """Shape of the launch that a program is made for."""

    grid: Dim3
    block: Dim3

    @property
    def block_threads(self) -> int:
        """Threads of a block."""
        return self.block[0] * self.block[1] * self.block[2]

    @property
    def threads(self) -> int:
        """Threads of the launch."""
        return self.block_threads * self.grid[0] * self.grid[1] * self.grid[2]


class Addresses:
    """Writes address computations for a kernel; `%thread` and `%global` hold linear numbers."""

    def __init__(self, writer: Writer, launch: Launch) -> None:
        self.writer = writer
        self.launch = launch
        self.rng: random.Random = writer.rng
        #: Counters of the loops around the current statement.
        self.counters: list[str] = []

    def prologue(self) -> None:
        """Compute the linear numbers of the thread in its block and in the launch."""
        line = self.writer.line
        line(".reg .b32 %thread, %global, %cta;")
        line("mov.u32 %thread, %tid.z; mov.u32 %cta, %ntid.y; mov.u32 %global, %tid.y;")
        line("mad.lo.u32 %thread, %thread, %cta, %global; mov.u32 %cta, %ntid.x;")
        line("mov.u32 %global, %tid.x; mad.lo.u32 %thread, %thread, %cta, %global;")
        line("mov.u32 %cta, %ctaid.y; mov.u32 %global, %nctaid.x;")
        line("mul.lo.u32 %cta, %cta, %global; mov.u32 %global, %ctaid.x;")
        line("add.u32 %cta, %cta, %global;")
        line(f"mad.lo.u32 %global, %cta, {self.launch.block_threads}, %thread;")

    def _special(self) -> str:
        name = self.writer.fresh("r")
        special = self.rng.choice(("tid.x", "tid.x", "tid.x", "tid.y", "ctaid.x", "laneid"))
        self.writer.line(f"mov.u32 {name}, %{special};")
        return name

    def _step(self) -> str:
        rng = self.rng
        return rng.choice(
            (
                "1",
                "1",
                "2",
                "3",
                "4",
                "-1",
                "5",
                "32",
                "0x40000000",
                "0x80000000",
                str(rng.randrange(64)),
            )
        )

    def linear(self) -> str:
        """a * coordinate + b * coordinate + c, which may wrap."""
        rng, line, fresh = self.rng, self.writer.line, self.writer.fresh
        choice = rng.randrange(6)
        if choice == 0:
            total = rng.choice(("%thread", "%global"))
        elif choice == 1:
            a, b, c, total = (fresh("r") for _ in range(4))
            line(f"mov.u32 {a}, %ctaid.x; mov.u32 {b}, %ntid.x; mov.u32 {c}, %tid.x;")
            line(f"mad.lo.{rng.choice(('u32', 's32'))} {total}, {a}, {b}, {c};")
        elif choice == 2 and self.counters:
            total = fresh("r")
            line(
                f"mad.lo.u32 {total}, {rng.choice(self.counters)}, {self._step()}, "
                f"{self._special()};"
            )
        else:
            total = self._special()
            for _ in range(rng.randrange(2)):
                more = fresh("r")
                line(f"mad.lo.s32 {more}, {self._special()}, {self._step()}, {total};")
                total = more
        if rng.random() < 0.5:
            scaled = fresh("r")
            how = rng.choice(
                (
                    f"mul.lo.u32 {scaled}, {total}, {self._step()};",
                    f"shl.b32 {scaled}, {total}, {rng.randrange(5)};",
                )
            )
            line(how)
            total = scaled
        if rng.random() < 0.25:
            mixed = fresh("r")
            how = rng.choice(
                (
                    f"add.u32 {mixed}, {total}, %n;",
                    f"sub.u32 {mixed}, {total}, %n;",
                    f"sub.s32 {mixed}, %n, {total};",
                    f"mul.lo.u32 {mixed}, {total}, %n;",
                    f"mad.lo.s32 {mixed}, {self._special()}, %n, {total};",
                )
            )
            line(how)
            total = mixed
        if rng.random() < 0.6:
            moved = fresh("r")
            offset = rng.choice((1, 1, 2, 5, 31, 32, 100, 0x7FFFFFFF, 0xFFFFFFF0))
            line(
                f"{rng.choice(('add', 'sub'))}.{rng.choice(('u32', 's32'))} "
                f"{moved}, {total}, {offset};"
            )
            total = moved
        return total

    def index(self) -> str:
        """Some u32: linear, linear with something done to it, or from the pool."""
        rng, line, fresh = self.rng, self.writer.line, self.writer.fresh
        if rng.random() < 0.12:
            return self.writer.register("r")
        total = self.linear()
        if rng.random() < 0.55:
            return total
        result, half = fresh("r"), fresh("h")
        twist = rng.choice(
            (
                f"shr.u32 {result}, {total}, {rng.randrange(1, 6)};",
                f"shr.s32 {result}, {total}, {rng.randrange(1, 32)};",
                f"xor.b32 {result}, {total}, {rng.choice((1, 2, 3, 7, 31, 32))};",
                f"and.b32 {result}, {total}, {rng.choice((1, 3, 15, 31, -2, -4, -32))};",
                f"or.b32 {result}, {total}, {rng.choice((1, 4, 64))};",
                f"not.b32 {result}, {total};",
                f"neg.s32 {result}, {total};",
                f"cvt.u16.u32 {half}, {total}; add.u16 {half}, {half}, "
                f"{rng.choice((1, 0xFFFE, 0x8000))}; cvt.u32.u16 {result}, {half};",
                f"cvt.u16.u32 {half}, {total}; mul.lo.u16 {half}, {half}, "
                f"{rng.choice((3, 257, 4096))}; cvt.s32.s16 {result}, {half};",
                f"cvt.u32.u8 {result}, {total};",
                f"cvt.s32.s8 {result}, {total};",
                f"rem.u32 {result}, {total}, {rng.choice((3, 7, 32, 33))};",
                f"div.u32 {result}, {total}, {rng.choice((2, 3, 8))};",
                f"min.u32 {result}, {total}, {rng.choice((5, 31, 40))};",
                f"max.s32 {result}, {total}, {rng.choice((0, 7, -3))};",
                f"bfe.u32 {result}, {total}, {rng.randrange(4)}, {rng.randrange(1, 9)};",
                f"bfi.b32 {result}, {total}, {rng.randrange(8)}, "
                f"{rng.randrange(1, 6)}, {rng.randrange(1, 9)};",
                f"mad.lo.u32 {result}, {total}, {total}, {rng.randrange(9)};",
                f"selp.b32 {result}, {total}, {rng.randrange(9)}, {self.writer.register('p')};",
            )
        )
        line(twist)
        return result

    def bounded(self, count: int, may_guard: bool) -> tuple[str, str]:
        """An index below `count`, and the predicate under which it is (empty: always)."""
        rng, line, fresh = self.rng, self.writer.line, self.writer.fresh
        index = self.index()
        result = fresh("r")
        power = 1 << (count.bit_length() - 1)
        choice = rng.randrange(5 if may_guard else 3)
        if choice == 0:
            line(f"and.b32 {result}, {index}, {power - 1};")
        elif choice == 1:
            line(f"rem.u32 {result}, {index}, {count};")
        elif choice == 2:
            line(f"min.u32 {result}, {index}, {count - 1};")
        else:
            guard = fresh("p")
            line(f"setp.lt.u32 {guard}, {index}, {count};")
            return index, guard
        return result, ""

    def owned(self, count: int, scope: str) -> tuple[str, int]:
        """An index that is another one for each thread, and how many such indexes there are."""
        rng, line, fresh = self.rng, self.writer.line, self.writer.fresh
        number = "%global" if scope == "launch" else "%thread"
        power = 1 << max(count - 1, 1).bit_length()
        result, other = fresh("r"), fresh("r")
        choice = rng.randrange(9)
        if choice <= 2:
            return number, count
        if choice == 3:
            line(f"sub.u32 {result}, {count - 1}, {number};")
            return result, count
        if choice == 4:
            line(f"xor.b32 {result}, {number}, {rng.randrange(power)};")
            return result, power
        if choice == 5:
            line(f"mul.lo.u32 {other}, {number}, {rng.randrange(1, 64, 2)};")
            line(f"and.b32 {result}, {other}, {power - 1};")
            return result, power
        if choice == 6:
            line(f"add.u32 {other}, {number}, {rng.randrange(count)};")
            line(f"rem.u32 {result}, {other}, {count};")
            return result, count
        if choice == 7:
            line(f"brev.b32 {other}, {number};")
            line(f"shr.u32 {result}, {other}, {32 - power.bit_length() + 1};")
            return result, power
        stride = rng.choice((2, 3, 5))
        line(f"mad.lo.u32 {result}, {number}, {stride}, {rng.randrange(stride)};")
        return result, count * stride

    def global_address(self, base: str, index: str, size: int, limit: bool) -> str:
        """`[register+offset]` of an element behind a 64-bit base; the index is below 2^31.

        `limit` says that the index is small in every lane, so that other ways to widen are right.
        """
        rng, line, fresh = self.rng, self.writer.line, self.writer.fresh
        address, wide, narrow = fresh("l"), fresh("l"), fresh("r")
        displaced = 0
        if limit and rng.random() < 0.3:
            displaced = rng.choice((1, 2, 5, 32))
            line(f"sub.u32 {narrow}, {index}, {displaced};")
            line(f"mul.wide.s32 {wide}, {narrow}, {size}; add.s64 {address}, {base}, {wide};")
            return f"[{address}+{displaced * size}]"
        shift = size.bit_length() - 1
        choice = rng.randrange(6 if limit else 4)
        if choice == 0:
            line(f"mul.wide.u32 {wide}, {index}, {size}; add.s64 {address}, {base}, {wide};")
        elif choice == 1:
            line(f"mad.wide.u32 {address}, {index}, {size}, {base};")
        elif choice == 2:
            line(f"cvt.u64.u32 {wide}, {index}; shl.b64 {wide}, {wide}, {shift};")
            line(f"add.u64 {address}, {wide}, {base};")
        elif choice == 3:
            line(f"cvt.u64.u32 {wide}, {index}; mad.lo.s64 {address}, {wide}, {size}, {base};")
        elif choice == 4:
            line(f"shl.b32 {narrow}, {index}, {shift}; cvt.u64.u32 {wide}, {narrow};")
            line(f"add.s64 {address}, {base}, {wide};")
        else:
            line(f"mul.wide.s32 {wide}, {index}, {size}; add.s64 {address}, {wide}, {base};")
        return f"[{address}]"

    def walk(self) -> tuple[str, str, str]:
        """A pointer into the input that loops may move: a load, what it loads, and the move.

        There is room for a dozen moves.
        """
        rng, line, fresh = self.rng, self.writer.line, self.writer.fresh
        kind, letter, size = rng.choice((("u32", "r", 4), ("u64", "l", 8), ("f32", "f", 4)))
        pointer, offset = fresh("l"), fresh("l")
        number = rng.choice(("%thread", "%thread", "%tid.x", "%laneid"))
        index = fresh("r")
        line(f"mov.u32 {index}, {number}; mul.wide.u32 {offset}, {index}, {size};")
        line(f"add.s64 {pointer}, %input, {offset};")
        line(f"add.s64 {pointer}, {pointer}, 512;")
        step = rng.choice((size, 4 * size, -size, 32, -32))
        target = self.writer.register(letter)
        return (
            f"ld.global.{kind} {target}, [{pointer}];",
            target,
            (f"add.s64 {pointer}, {pointer}, {step};"),
        )

    def window_address(self, symbol: str, space: str, index: str, size: int) -> tuple[str, str]:
        """Address of an element of a shared or local array, and the space to name (or none)."""
        rng, line, fresh = self.rng, self.writer.line, self.writer.fresh
        base, wide, address = fresh("l"), fresh("l"), fresh("l")
        choice = rng.randrange(4)
        if choice == 0 and space == "shared":
            low, place = fresh("r"), fresh("r")
            line(f"mov.u32 {low}, {symbol}; mad.lo.u32 {place}, {index}, {size}, {low};")
            return f"[{place}]", ".shared"
        if choice == 1 and space == "shared":
            low, scaled, place = fresh("r"), fresh("r"), fresh("r")
            back = rng.choice((4, 8, 64)) * size
            line(f"mov.u32 {low}, {symbol}; mul.lo.u32 {scaled}, {index}, {size};")
            line(f"sub.u32 {scaled}, {scaled}, {back}; add.u32 {place}, {scaled}, {low};")
            line(f"add.u32 {place}, {place}, {back};")
            return f"[{place}]", ".shared"
        line(f"mov.u64 {base}, {symbol};")
        if choice == 2:
            line(f"cvta.{space}.u64 {base}, {base};")
        line(f"mul.wide.u32 {wide}, {index}, {size}; add.s64 {address}, {base}, {wide};")
        return f"[{address}]", "" if choice == 2 else f".{space}"
