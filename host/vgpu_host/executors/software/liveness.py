"""Live registers at the start of each block (backward data flow)."""

from __future__ import annotations

from .cfg import Block
from .ir import definitions, uses


def live_in(blocks: list[Block]) -> list[frozenset[str]]:
    """Registers whose value at the start of a block may still be read.

    A predicated write keeps the old value for some lanes, so it counts as a read as well.
    """
    reads: list[set[str]] = []
    writes: list[set[str]] = []
    for block in blocks:
        read: set[str] = set()
        written: set[str] = set()
        for instruction in block.instructions:
            defined = definitions(instruction)
            used = uses(instruction) + (defined if instruction.predicate else [])
            read.update(name for name in used if name not in written)
            written.update(defined)
        reads.append(read)
        writes.append(written)
    live: list[set[str]] = [set() for _ in blocks]
    changed = True
    while changed:
        changed = False
        for index in range(len(blocks) - 1, -1, -1):
            out: set[str] = set()
            for successor in blocks[index].successors:
                out |= live[successor]
            now = reads[index] | (out - writes[index])
            if now != live[index]:
                live[index] = now
                changed = True
    return [frozenset(names) for names in live]
