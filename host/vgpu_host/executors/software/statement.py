"""A statement of a PTX text, for messages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Statement:
    """Where something is in the program.

    Attributes:
        line: One-based line of the PTX text.
        text: The statement.
        source: `file:line` of the source, "" where the PTX does not say.
    """

    line: int
    text: str
    source: str

    def __str__(self) -> str:
        source = f" ({self.source})" if self.source else ""
        return f"PTX line {self.line}{source}: {self.text}"
