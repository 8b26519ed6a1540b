"""Mutations of PTX text: what a broken or hostile compiler might hand to the software GPU."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

from vgpu_host.nvrtc import compile_ptx

from .case import Case
from .generator import generate
from .templates import FAMILIES
from .where import INPUT_BYTES

KERNELS = Path(__file__).parents[2] / "guest" / "workloads" / "kernels"

_TOKEN = re.compile(r"\s+|%?[\w$]+|.", re.S)
_NUMBER = re.compile(r"(?<![\w%.$])-?(?:0x[0-9a-fA-F]+|\d+)(?!\w)")
_REGISTER = re.compile(r"%[a-z]+\d+")
_EXTREMES = (
    "0", "1", "-1", "2147483647", "-2147483648", "4294967295", "4294967296", "0x7fffffffffffffff",
    "-9223372036854775808", "0xffffffffffffffff", "340282366920938463463374607431768211456",
    "3", "7", "31", "32", "33", "65535", "65536", "1048576", "0f7FC00000", "0d7FF8000000000000",
)  # fmt: skip
_TYPES = ("u8", "s8", "b8", "u16", "s16", "b16", "u32", "s32", "b32", "u64", "s64", "b64", "f16",
          "f16x2", "bf16", "bf16x2", "f32", "f64", "pred", "tf32", "e4m3x2", "b128")  # fmt: skip
_TYPE = re.compile(rf"\.(?:{'|'.join(_TYPES)})\b")
_JUNK = (
    "{",
    "}",
    ";",
    ":",
    "(",
    ")",
    "[",
    "]",
    ",",
    "@",
    "!",
    "|",
    "+",
    '"',
    "\0",
    "%",
    "é",
    "//",
    "/*",
    "<9>",
)

Mutation = Callable[[random.Random, str], str]


def _on_token(change: Callable[[random.Random, list[str], int], None]) -> Mutation:
    def mutate(rng: random.Random, text: str) -> str:
        tokens = _TOKEN.findall(text)
        places = [index for index, token in enumerate(tokens) if not token.isspace()]
        change(rng, tokens, rng.choice(places))
        return "".join(tokens)

    return mutate


def _delete(rng: random.Random, tokens: list[str], at: int) -> None:
    del tokens[at]


def _duplicate(rng: random.Random, tokens: list[str], at: int) -> None:
    tokens.insert(at, tokens[at])


def _swap(rng: random.Random, tokens: list[str], at: int) -> None:
    other = rng.randrange(len(tokens))
    tokens[at], tokens[other] = tokens[other], tokens[at]


def _insert(rng: random.Random, tokens: list[str], at: int) -> None:
    tokens.insert(at, rng.choice(_JUNK))


def _substitute(pattern: re.Pattern[str], choose: Callable[[random.Random, str], str]) -> Mutation:
    def mutate(rng: random.Random, text: str) -> str:
        found = list(pattern.finditer(text))
        if not found:
            return text
        place = rng.choice(found)
        return text[: place.start()] + choose(rng, text) + text[place.end() :]

    return mutate


def _lines(change: Callable[[random.Random, list[str], int], None]) -> Mutation:
    def mutate(rng: random.Random, text: str) -> str:
        lines = text.split("\n")
        change(rng, lines, rng.randrange(len(lines)))
        return "\n".join(lines)

    return mutate


def _move_line(rng: random.Random, lines: list[str], at: int) -> None:
    lines.insert(rng.randrange(len(lines)), lines.pop(at))


def _template(rng: random.Random, lines: list[str], at: int) -> None:
    """An instruction with operands that may not suit it at all."""
    name, *operands = rng.choice(FAMILIES[rng.choice(sorted(FAMILIES))]).split()
    registers = sorted(set(_REGISTER.findall("\n".join(lines)))) or ["%r0"]
    listed = ", ".join(rng.choice(registers) for _ in operands)
    lines.insert(at, f"{name} {listed};")


def _cut(rng: random.Random, text: str) -> str:
    return text[: rng.randrange(len(text))]


MUTATIONS: tuple[tuple[int, Mutation], ...] = (
    (3, _on_token(_delete)),
    (2, _on_token(_duplicate)),
    (2, _on_token(_swap)),
    (2, _on_token(_insert)),
    (6, _substitute(_NUMBER, lambda rng, text: rng.choice(_EXTREMES))),
    (6, _substitute(_REGISTER, lambda rng, text: rng.choice(_REGISTER.findall(text)))),
    (4, _substitute(_TYPE, lambda rng, text: "." + rng.choice(_TYPES))),
    (4, _lines(lambda rng, lines, at: lines.__delitem__(at))),
    (2, _lines(lambda rng, lines, at: lines.insert(at, lines[at]))),
    (3, _lines(_move_line)),
    (3, _lines(_template)),
    (1, _cut),
)


@cache
def real_kernels() -> tuple[str, ...]:
    """PTX that NVRTC makes of the workloads' kernels."""
    names = ("vector_add", "matrix_multiply", "tree_reduction", "histogram")
    found = [KERNELS / f"{name}.cu" for name in names]
    return tuple(
        compile_ptx(path.read_text(), name=path.name).decode().rstrip("\0")
        for path in found
        if path.exists()
    )


def mutate(seed: int) -> Case:
    """A mutated program; the same for the same seed."""
    rng = random.Random(f"mutation {seed}")
    if rng.random() < 0.25 and real_kernels():
        text = rng.choice(real_kernels())
        recipes = (f"seed {seed} {INPUT_BYTES}", "fill a5 8192", "fill 00 4096")
        case = Case(
            text, (2, 1, 1), rng.choice(((32, 1, 1), (40, 1, 1), (16, 16, 1))), (33,), recipes
        )
    else:
        case = generate(seed)
    text = case.text
    weights = [weight for weight, _ in MUTATIONS]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        ((_, change),) = rng.choices(MUTATIONS, weights)
        if text:
            text = change(rng, text)
    return replace(case, text=text)
