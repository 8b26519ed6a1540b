"""Which values are the same in every lane of a warp, and which branches can split a warp.

A register is *uniform* when each lane that may read it sees the same value; it is then one scalar.
Otherwise it is a *vector* of 32 lanes. A block is *masked* when only part of a warp may be in it:
it lies between a divergent branch and the point where that branch's paths meet again.
"""

from __future__ import annotations

from dataclasses import dataclass

from .cfg import Block, post_dominators
from .ir import (
    ARRIVE,
    GATE,
    Address,
    Body,
    Immediate,
    Instruction,
    Operand,
    Register,
    Special,
    Symbol,
    definitions,
    registers_of,
    uses,
)

_VECTOR_SPECIALS = ("%tid", "%laneid", "%lanemask")
_ALWAYS_VECTOR = frozenset(("atom", "shfl", "match", "mma", "wmma", "ldmatrix", "movmatrix", GATE))
_ALWAYS_UNIFORM = frozenset(("activemask", "bar", "barrier"))
#: The same for all lanes with the same member mask, which is their last operand after `.sync`.
_BY_MEMBERS = frozenset(("vote", "redux"))


@dataclass(slots=True)
class Analysis:
    """Result of the analysis; blocks are named by number."""

    blocks: list[Block]
    live: list[frozenset[str]]
    vectors: set[str]
    masked: set[int]
    divergent: set[int]
    waiting: dict[int, list[int]]
    constants: dict[str, int]

    def needs_blend(self, register: str, block: int) -> bool:
        """Whether lanes that wait elsewhere still need the old value of `register`."""
        return any(register in self.live[other] for other in self.waiting.get(block, ()))


def analyze(
    body: Body,
    blocks: list[Block],
    live: list[frozenset[str]],
    apart: frozenset[int] = frozenset(),
) -> Analysis:
    """Find the least set of vector registers and masked blocks, by fixpoint.

    Lanes that part at a block of `apart` do not wait for each other any more.
    """
    result = Analysis(blocks, live, set(), set(), set(), {}, _constants(blocks))
    meets = post_dominators(blocks)
    for index in apart:
        meets[index] = len(blocks)
    while True:
        _spread(body, result)
        divergent = {
            index
            for index, block in enumerate(blocks)
            if block.last.opcode in ("bra", "ret", "exit")
            and block.last.predicate
            and block.last.predicate.name in result.vectors
        }
        masked = result.masked | {
            inside for index in divergent for inside in _between(blocks, index, meets[index])
        }
        if masked == result.masked and divergent == result.divergent:
            return result
        result.masked, result.divergent = masked, divergent
        result.waiting = {index: _waiting(result, index) for index in masked}


def _between(blocks: list[Block], branch: int, meet: int) -> set[int]:
    work = [successor for successor in blocks[branch].successors if successor != meet]
    found = set(work)
    while work:
        for successor in blocks[work.pop()].successors:
            if successor != meet and successor not in found:
                found.add(successor)
                work.append(successor)
    return found


def _waiting(result: Analysis, block: int) -> list[int]:
    """Blocks at which lanes may wait while other lanes run `block`.

    Only later blocks qualify, since the lowest block runs first. Lanes that came from `block`
    itself do not wait in its next block, nor anywhere if `block` runs only once. Where a hold keeps
    some lanes back none of this is so: they wait there, and a block runs for a part of its lanes.
    """
    blocks = result.blocks
    holds = [index for index in sorted(result.masked) if blocks[index].hold]

    def may_wait(other: int) -> bool:
        for origin in result.blocks[other].predecessors:
            if origin not in result.masked and origin not in result.divergent:
                continue
            passes_on = origin == block and origin not in result.divergent
            if not passes_on or holds or (blocks[block].in_loop and other != block + 1):
                return True
        return False

    later = [other for other in range(block + 1, len(blocks)) if may_wait(other)]
    return sorted({*holds, *later})


def _spread(body: Body, result: Analysis) -> None:
    """Grow the set of vector registers until nothing changes."""
    vectors = result.vectors
    changed = True
    while changed:
        changed = False
        for index, block in enumerate(result.blocks):
            for instruction in block.instructions:
                for name in definitions(instruction):
                    if name in vectors:
                        continue
                    if _is_vector(body, instruction, vectors) or (
                        index in result.masked and result.needs_blend(name, index)
                    ):
                        vectors.add(name)
                        changed = True


def _is_vector(body: Body, instruction: Instruction, vectors: set[str]) -> bool:
    if instruction.opcode in _ALWAYS_VECTOR:
        return True
    if instruction.predicate and instruction.predicate.name in vectors:
        return True
    if instruction.opcode in _ALWAYS_UNIFORM:
        return False
    if instruction.opcode in _BY_MEMBERS:
        mask = instruction.operands[-1:] if "sync" in instruction.modifiers else ()
        return any(name in vectors for operand in mask for name in registers_of(operand))
    if instruction.opcode == ARRIVE:
        names = [name for operand in instruction.operands[1:3] for name in registers_of(operand)]
        return any(name in vectors for name in names)
    if instruction.opcode == "ld" and reads_local(body, instruction):
        return True
    if instruction.opcode in ("cvta", "isspacep") and "local" in instruction.modifiers:
        return True
    if any(name in vectors for name in uses(instruction)):
        return True
    return any(_is_vector_operand(operand) for operand in instruction.operands[1:])


def _is_vector_operand(operand: Operand) -> bool:
    return isinstance(operand, Special) and operand.name.startswith(_VECTOR_SPECIALS)


def reads_local(body: Body, instruction: Instruction) -> bool:
    """Whether a load or store is private to each lane: local memory or a function's own .param."""
    if "local" in instruction.modifiers:
        return True
    if "param" not in instruction.modifiers:
        return False
    operand = instruction.operands[0 if instruction.opcode == "st" else 1]
    if isinstance(operand, Address) and isinstance(operand.base, Symbol):
        return operand.base.name in body.variables
    return False


def _constants(blocks: list[Block]) -> dict[str, int]:
    """Registers with a single, unconditional definition by an integer literal."""
    values: dict[str, int] = {}
    count: dict[str, int] = {}
    for block in blocks:
        for instruction in block.instructions:
            for name in definitions(instruction):
                count[name] = count.get(name, 0) + 1
            match instruction:
                case Instruction("mov", _, (Register(name), Immediate(bits, "int")), None):
                    values[name] = bits
    return {name: bits for name, bits in values.items() if count[name] == 1}
