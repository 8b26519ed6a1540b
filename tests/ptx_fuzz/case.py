"""A fuzzing case: PTX with its launch in comments, so that one file says all there is to know.

The comments are `// grid:`, `// block:`, `// scalars:` and a `// buffer:` for each buffer, which is
passed as a pointer: `seed S N` is N bytes of edge values, `fill BYTE N`, or `hex BYTES`.
"""

from __future__ import annotations

import random
import re
import struct
from dataclasses import dataclass

Dim3 = tuple[int, int, int]

_FIELD = re.compile(r"^// (grid|block|scalars|buffer): (.*)$", re.M)

_HALVES = (0x0000, 0x8000, 0x3C00, 0xBC00, 0x7BFF, 0x0001, 0x0400, 0x7C00, 0xFC00, 0x7E00, 0x3555)
_SINGLES = (
    0x00000000, 0x80000000, 0x3F800000, 0xBF800000, 0x7F7FFFFF, 0x00000001, 0x00800000, 0x007FFFFF,
    0x7F800000, 0xFF800000, 0x7FC00000, 0x4B800000, 0x4F000000, 0xCF000000, 0x5F000000, 0x3F000000,
    0x3FC00000, 0x33800000, 0x477FF000, 0x38800000,
)  # fmt: skip
_DOUBLES = (
    0x0000000000000000, 0x8000000000000000, 0x3FF0000000000000, 0x7FEFFFFFFFFFFFFF, 1,
    0x0010000000000000, 0x7FF0000000000000, 0xFFF0000000000000, 0x7FF8000000000000,
    0x41E0000000000000, 0xC1E0000000000000, 0x43E0000000000000, 0x36A0000000000000,
    0x47EFFFFFE0000000, 0x3FE0000000000000, 0x4330000000000000,
)  # fmt: skip
_WORDS = (0, 1, 2, 31, 32, 33, 63, 64, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000)


def _word(rng: random.Random) -> int:
    """Eight bytes that are likely to hurt in one type or another."""
    match rng.randrange(8):
        case 0 | 1:
            return rng.getrandbits(64)
        case 2:
            return rng.choice(_DOUBLES)
        case 3 | 4:
            return rng.choice(_SINGLES) | rng.choice(_SINGLES) << 32
        case 5:
            low, high = (
                struct.unpack(
                    "<I", struct.pack("<f", rng.gauss(0, 1) * 10.0 ** rng.randint(-6, 6))
                )[0]
                for _ in range(2)
            )
            return int(low | high << 32)
        case 6:
            return sum(rng.choice(_HALVES) << 16 * i for i in range(4))
    return (rng.choice(_WORDS) | rng.choice(_WORDS) << 32) ^ rng.choice((0, (1 << 64) - 1))


def edge_data(seed: int, size: int) -> bytes:
    """Bytes full of edge values, the same for the same seed."""
    rng = random.Random(seed)
    return struct.pack(f"<{-(-size // 8)}Q", *(_word(rng) for _ in range(-(-size // 8))))[:size]


@dataclass(frozen=True, slots=True)
class Case:
    """One kernel, its launch, and the memory that it works on.

    Attributes:
        text: the PTX module, without the comments that tell the rest.
        grid: blocks in x, y, z.
        block: threads of a block in x, y, z.
        scalars: arguments after the pointers to the buffers.
        recipes: what the buffers hold at first.
    """

    text: str
    grid: Dim3
    block: Dim3
    scalars: tuple[int, ...]
    recipes: tuple[str, ...]

    def buffers(self) -> list[bytes]:
        """The buffers before the launch."""
        made = []
        for recipe in self.recipes:
            kind, *rest = recipe.split()
            if kind == "seed":
                made.append(edge_data(int(rest[0]), int(rest[1])))
            elif kind == "fill":
                made.append(bytes([int(rest[0], 16)]) * int(rest[1]))
            else:
                made.append(bytes.fromhex(rest[0]))
        return made

    @property
    def threads(self) -> int:
        """Threads of the whole launch."""
        x, y, z = self.block
        return x * y * z * self.grid[0] * self.grid[1] * self.grid[2]

    def write(self) -> str:
        """The text with everything else in comments."""
        lines = [
            f"// grid: {' '.join(map(str, self.grid))}",
            f"// block: {' '.join(map(str, self.block))}",
            f"// scalars: {' '.join(map(str, self.scalars))}",
            *(f"// buffer: {recipe}" for recipe in self.recipes),
        ]
        return "\n".join(lines) + "\n" + self.text


def read_case(text: str) -> Case:
    """Read what `Case.write` wrote.

    Raises:
        ValueError: there is no launch in it.
    """
    fields: dict[str, list[str]] = {"grid": [], "block": [], "scalars": [], "buffer": []}
    for name, value in _FIELD.findall(text):
        fields[name].append(value)
    if not fields["grid"] or not fields["block"]:
        raise ValueError("no // grid: and // block: in the text")

    def triple(value: str) -> Dim3:
        x, y, z = map(int, value.split())
        return x, y, z

    return Case(
        _FIELD.sub("", text).lstrip("\n"),
        triple(fields["grid"][0]),
        triple(fields["block"][0]),
        tuple(int(v) for v in fields["scalars"][0].split()) if fields["scalars"] else (),
        tuple(fields["buffer"]),
    )
