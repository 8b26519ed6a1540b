"""Threads of the reference interpreter: where each one is and what it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .memory import Region
from .text import Statement

Registers = dict[str, int]

PLAIN, JUMP, EXIT, RETURN, CALL, BARRIER, WARP = range(7)


@dataclass(slots=True)
class Step:
    """A statement made ready to run."""

    kind: int
    guard: str
    sense: int
    run: Callable[..., object]
    statement: Statement


@dataclass(slots=True)
class Frame:
    """A function that is running."""

    code: list[Step]
    registers: Registers
    parameters: dict[str, Region]
    at: int = 0


@dataclass(slots=True)
class Thread:
    """One thread of a block."""

    index: int
    number: int
    block: Block
    local: Region
    frames: list[Frame] = field(default_factory=list)
    ended: bool = False
    steps: int = 0
    waiting: Step | None = None

    @property
    def frame(self) -> Frame:
        """The innermost function."""
        return self.frames[-1]


@dataclass(slots=True)
class Block:
    """A block of threads."""

    number: int
    shared: Region
    threads: list[Thread] = field(default_factory=list)
