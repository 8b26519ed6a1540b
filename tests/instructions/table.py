"""The instruction table: every instruction and type that the software GPU takes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from . import comparisons, conversions, floating, integers, videos, warps
from .rows import Row


def _families() -> Iterator[Iterator[Row]]:
    for family in (integers, floating, conversions, comparisons, warps, videos):
        yield family.rows()


@cache
def table() -> tuple[Row, ...]:
    """All rows, each name once."""
    found = {row.name: row for family in _families() for row in family}
    return tuple(found.values())


@cache
def by_opcode() -> dict[str, tuple[Row, ...]]:
    """The rows of each instruction."""
    groups: dict[str, list[Row]] = {}
    for row in table():
        groups.setdefault(row.opcode, []).append(row)
    return {opcode: tuple(rows) for opcode, rows in sorted(groups.items())}
