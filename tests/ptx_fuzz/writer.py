"""Writes PTX text: registers by class, operands with edge values, fresh temporaries and labels."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from .templates import REGISTER_TYPES

_EDGES = (0, 1, 2, 3, 7, 31, 32, 33, 255, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000)
_SINGLE_EDGES = (0, 0x80000000, 0x3F800000, 0x7F800000, 0x00000001, 0x7FC00000, 0x40490FDB)


class Writer:
    """Lines of PTX and the registers that they use.

    Args:
        rng: where all choices come from.
        pools: how many registers of each class programs share among their statements.
    """

    def __init__(self, rng: random.Random, pools: dict[str, int]) -> None:
        self.rng = rng
        self.pools = pools
        self.lines: list[str] = []
        self.counts = dict.fromkeys(REGISTER_TYPES, 0) | pools
        self.labels = 0

    def line(self, text: str) -> None:
        """Append a line."""
        self.lines.append(text)

    def register(self, letter: str) -> str:
        """A register of the pool."""
        return f"%{letter}{self.rng.randrange(self.pools[letter])}"

    def fresh(self, letter: str) -> str:
        """A register for one use."""
        self.counts[letter] += 1
        return f"%{letter}{self.counts[letter] - 1}"

    def label(self, stem: str = "L") -> str:
        """A new label."""
        self.labels += 1
        return f"{stem}{self.labels}"

    def declarations(self) -> list[str]:
        """What declares all registers."""
        return [
            f".reg .{REGISTER_TYPES[letter]} %{letter}<{count}>;"
            for letter, count in self.counts.items()
            if count
        ]

    def literal(self, letter: str, bits: int) -> str:
        """A literal of a class."""
        rng = self.rng
        if letter == "f":
            value = rng.choice(_SINGLE_EDGES) if rng.random() < 0.4 else _single(rng)
            return f"0f{value:08X}"
        if letter == "d":
            return f"0d{struct.unpack('<Q', struct.pack('<d', rng.gauss(0, 100)))[0]:016X}"
        if rng.random() < 0.6:
            value = rng.choice(_EDGES) & ((1 << bits) - 1)
        else:
            value = rng.getrandbits(rng.choice((4, 8, bits)))
        if rng.random() < 0.3 and value < 1 << (bits - 1):
            return str(-value)
        return hex(value) if rng.random() < 0.3 else str(value)

    def operand(self, letter: str) -> str:
        """A source of a class: mostly a register, now and then a literal."""
        if letter.startswith("%"):
            return letter
        if letter.startswith("#"):
            return str(self.rng.randrange(int(letter[1:])))
        if letter.startswith("!"):
            return (
                f"!{self.register(letter[1:])}" if self.rng.random() < 0.5 else self.register("p")
            )
        bits = {"h": 16, "r": 32, "l": 64, "f": 32, "d": 64}.get(letter)
        if bits and self.rng.random() < 0.18:
            return self.literal(letter, bits)
        return self.register(letter)

    def place(self, letters: str) -> str:
        """A destination: a class, `p|p`, or `{r,r}`."""
        if "|" in letters:
            first = self.register(letters[0])
            others = [f"%p{i}" for i in range(self.pools["p"]) if f"%p{i}" != first]
            return f"{first}|{self.rng.choice(others)}"
        if letters.startswith("{"):
            return self._list(letters)
        return self.register(letters)

    def _list(self, letters: str) -> str:
        classes = letters.strip("{}").split(",")
        chosen = self.rng.sample(
            range(self.pools[classes[0]]), min(len(classes), self.pools[classes[0]])
        )
        names = [f"%{classes[0]}{index}" for index in chosen]
        names += ["_"] * (len(classes) - len(names))
        return "{" + ", ".join(names) + "}"

    def instruction(self, template: str, guard: str = "") -> None:
        """Fill a template from the pools."""
        name, target, *sources = template.split()
        operands = [self.place(target)]
        for source in sources:
            if source.startswith("{"):
                parts = source.strip("{}").split(",")
                operands.append("{" + ", ".join(self.register(part) for part in parts) + "}")
            elif name.startswith("cvt"):
                operands.append(self.register(source))
            else:
                operands.append(self.operand(source))
        self.line(f"{guard}{name} {', '.join(operands)};")

    def clean(self, letter: str) -> str:
        """A floating-point register as integers whose bits PTX defines: a NaN becomes one NaN."""
        register = self.register(letter)
        return self.cleaned(letter, register)

    def cleaned(self, letter: str, register: str) -> str:
        """The same of a register that is given."""
        kinds = {
            "f": ("f32", "b32", "r"),
            "d": ("f64", "b64", "l"),
            "x": ("f16", "b16", "h"),
            "z": ("bf16", "b16", "h"),
        }
        if letter in "yw":
            half = "x" if letter == "y" else "z"
            low, high = self.fresh(half), self.fresh(half)
            self.line(f"mov.b32 {{{low}, {high}}}, {register};")
            parts = [self.cleaned(half, low), self.cleaned(half, high)]
            result = self.fresh("r")
            self.line(f"mov.b32 {result}, {{{parts[0]}, {parts[1]}}};")
            return result
        kind, bits, to = kinds[letter]
        nan, result = self.fresh("p"), self.fresh(to)
        self.line(f"setp.nan.{kind} {nan}, {register}, {register};")
        payload = {"f": "0x7fc00000", "d": "0x7ff8000000000000", "x": "0x7e00", "z": "0x7fc0"}[
            letter
        ]
        self.line(f"mov.{bits} {result}, {register};")
        self.line(f"@{nan} mov.{bits} {result}, {payload};")
        return result

    @contextmanager
    def captured(self) -> Iterator[list[str]]:
        """Lines written inside go to a list of their own."""
        outside, self.lines = self.lines, []
        try:
            yield self.lines
        finally:
            self.lines = outside


def _single(rng: random.Random) -> int:
    value = rng.gauss(0, 1) * 10.0 ** rng.randint(-3, 6)
    return int(struct.unpack("<I", struct.pack("<f", value))[0])
