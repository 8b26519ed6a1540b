"""Second versions of masked blocks, for warps whose lanes are in a row where they may part.

Lanes of a loop that may leave it one by one have registers of their own, which cannot be rows
(`affine`) whatever the lanes do. But most often all of them go on together. So a block in such a
loop has a second version: it tests at its start that registers are rows as far as the lanes in the
block are concerned, and goes on computing with their bases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .affine import Row, Rows
from .cfg import Block, is_barrier
from .ir import Address, Body, Instruction, Register, definitions, uses

#: The bases of 32 bits that a version takes: so far below the largest number that sums of them and
#: of constants do not wrap.
BASE_LIMIT = 1 << 30


@dataclass(frozen=True, slots=True)
class Version:
    """What the second version of a block takes for granted, and makes of it.

    Attributes:
        entry: Rows that registers have to be at the start.
        rows: The row that an instruction (by identity) computes, from bases.
    """

    entry: dict[str, Row]
    rows: dict[int, Row] = field(default_factory=dict)


def version_of(
    block: Block,
    body: Body,
    vectors: set[str],
    known: Mapping[str, Row],
    hints: Mapping[str, Row],
) -> Version | None:
    """The second version of a masked block in a loop; None if no memory access gains by it.

    Args:
        block: the block.
        body: the kernel.
        vectors: registers that are no rows in general.
        known: rows of all other registers.
        hints: rows that vectors are likely to be.
    """
    if not block.in_loop or block.hold or is_barrier(block.last):
        return None
    now = dict(known)
    for name, hint in hints.items():
        top = BASE_LIMIT - 1 if hint.bits == 32 else (1 << 64) - 1
        now[name] = Row(hint.bits, hint.offsets, 1, 0, top)
    entry: dict[str, Row] = {}
    version = Version(entry)
    fresh = set(hints)
    rows = Rows(lambda instruction: False)
    gains = False
    for instruction in block.instructions:
        row = _row_of(instruction, rows, now, vectors, body)
        by_base = list(uses(instruction)) if row else []
        address = _address_register(instruction)
        if address in vectors and address in now:
            by_base.append(address)
            gains = True
        entry.update((name, now[name]) for name in by_base if name in fresh)
        for name in definitions(instruction):
            fresh.discard(name)
            if name in vectors:
                now.pop(name, None)
        if row:
            version.rows[id(instruction)] = row
            now[definitions(instruction)[0]] = row
    return version if gains else None


def _row_of(
    instruction: Instruction, rows: Rows, now: Mapping[str, Row], vectors: set[str], body: Body
) -> Row | None:
    target = instruction.operands[0] if instruction.operands else None
    if not isinstance(target, Register) or target.name not in vectors or instruction.predicate:
        return None
    row = rows.of_result(instruction, now)
    if row is None or body.registers[target.name] != f"i{row.bits}":
        return None
    return row


def _address_register(instruction: Instruction) -> str:
    """The register that a load or store of memory that lanes share takes its address from."""
    if instruction.opcode not in ("ld", "ldu", "st") or "local" in instruction.modifiers:
        return ""
    operand = instruction.operands[0 if instruction.opcode == "st" else 1]
    if isinstance(operand, Address) and isinstance(operand.base, Register):
        return operand.base.name
    return ""
