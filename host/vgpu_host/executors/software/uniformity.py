"""Which values are the same in every lane of a warp, and which branches can split a warp.

A register is *uniform* when each lane that may read it sees the same value; it is then one scalar.
It is a *row* when the lanes' values differ by known constants (`affine`); its base is one scalar.
Otherwise it is a *vector* of 32 lanes. A block is *masked* when only part of a warp may be in it:
it lies between a divergent branch and the point where that branch's paths meet again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .affine import Row, Rows, meet, special_row, unknown
from .cfg import Block, is_barrier, post_dominators
from .ir import (
    ARRIVE,
    BITS,
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
    has_result,
    registers_of,
    uses,
)
from .versions import Version, version_of

_VECTOR_SPECIALS = ("%tid", "%laneid", "%lanemask")
_ALWAYS_VECTOR = frozenset(
    ("atom", "shfl", "match", "mma", "wmma", "wgmma", "ldmatrix", "movmatrix", "elect", GATE)
)
_ALWAYS_UNIFORM = frozenset(("activemask", "bar", "barrier"))
#: The same for all lanes with the same member mask, which is their last operand after `.sync`.
_BY_MEMBERS = frozenset(("vote", "redux"))
#: Instructions without a result that nobody notices all the same.
_SILENT = frozenset(
    ("bra", "ret", "exit", "membar", "fence", "prefetch", "prefetchu", "nanosleep", "pmevent")
)


@dataclass(slots=True)
class Analysis:
    """Result of the analysis; blocks are named by number.

    Attributes:
        rows: What is known of registers whose values are bases with offsets.
        hints: Rows that vectors are, as long as nothing wraps: worth a test, nothing more.
        by_base: Instructions (by identity) that compute with the bases of rows.
        assumed: Those of them that do so only as long as a sum does not wrap.
        versions: Second versions of blocks, for lanes that are in a row there.
    """

    blocks: list[Block]
    live: list[frozenset[str]]
    vectors: set[str]
    masked: set[int]
    divergent: set[int]
    waiting: dict[int, list[int]]
    constants: dict[str, int]
    in_rows: bool
    rows: dict[str, Row] = field(default_factory=dict)
    hints: dict[str, Row] = field(default_factory=dict)
    by_base: set[int] = field(default_factory=set)
    assumed: set[int] = field(default_factory=set)
    versions: dict[int, Version] = field(default_factory=dict)

    def needs_blend(self, register: str, block: int) -> bool:
        """Whether lanes that wait elsewhere still need the old value of `register`."""
        return any(register in self.live[other] for other in self.waiting.get(block, ()))

    def is_live_after(self, register: str, block: int) -> bool:
        """Whether a register may be read after a block."""
        return any(register in self.live[other] for other in self.blocks[block].successors)


def analyze(
    body: Body,
    blocks: list[Block],
    live: list[frozenset[str]],
    in_rows: bool,
    apart: frozenset[int] = frozenset(),
) -> Analysis:
    """Find the least set of vector registers and masked blocks, by fixpoint.

    Args:
        body: the kernel.
        blocks: its flow graph.
        live: registers that are live at the start of each block.
        in_rows: whether the threads of a warp are a row of a block's first dimension, whose size
            is a multiple of a warp's: then thread ids are rows.
        apart: blocks at which lanes part that do not wait for each other any more.
    """
    result = Analysis(blocks, live, set(), set(), set(), {}, _constants(blocks), in_rows)
    meets = post_dominators(blocks)
    latches = _latches(blocks)
    for index in apart:
        meets[index] = len(blocks)
    spread = _Spread(body, result)
    while True:
        spread.run()
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
            spread.finish()
            return result
        result.masked, result.divergent = masked, divergent
        result.waiting = _waiting(result, latches)


def _between(blocks: list[Block], branch: int, meet: int) -> set[int]:
    work = [successor for successor in blocks[branch].successors if successor != meet]
    found = set(work)
    while work:
        for successor in blocks[work.pop()].successors:
            if successor != meet and successor not in found:
                found.add(successor)
                work.append(successor)
    return found


def _waiting(result: Analysis, latches: list[int]) -> dict[int, list[int]]:
    """For each masked block those at which lanes may wait while other lanes run it.

    Only later blocks qualify, since the lowest block runs first. Either some lanes have gone past
    the block: from a branch that parts lanes, or from a block before it during which others waited
    for the block or before it. Or all have been in it, and some come back to it: by a latch below
    the block where the others wait, or by the branch that has led those there. Where a hold keeps
    lanes back none of this is so: they wait there, and a block runs for a part of its lanes.

    An earlier block qualifies where the ways of a loop meet again: lanes that went back to it by a
    branch that parts lanes, or from a masked block, wait for the others.
    """
    blocks, masked, divergent = result.blocks, result.masked, result.divergent
    holds = [index for index in sorted(masked) if blocks[index].hold]
    waiting: dict[int, list[int]] = {}
    count = len(blocks)
    meets = [
        index
        for index in range(count)
        if index not in masked
        and any(o >= index and (o in masked or o in divergent) for o in blocks[index].predecessors)
    ]

    def may_wait(other: int, block: int) -> bool:
        for origin in blocks[other].predecessors:
            if origin not in masked and origin not in divergent:
                continue
            if holds or latches[block] < other:
                return True
            if origin >= other and min(blocks[origin].successors) <= block:
                return True
            if origin < block and (
                origin in divergent or min(waiting[origin], default=count) <= block
            ):
                return True
        return False

    for block in sorted(masked):
        later = [other for other in range(block + 1, count) if may_wait(other, block)]
        waiting[block] = sorted({*holds, *(m for m in meets if m < block), *later})
    return waiting


def _latches(blocks: list[Block]) -> list[int]:
    """For each block the first block from which lanes go back to it or to a block before it."""
    latches = [len(blocks)] * len(blocks)
    for latch in range(len(blocks) - 1, -1, -1):
        for header in blocks[latch].successors:
            for index in range(header, latch + 1):
                latches[index] = latch
    return latches


class _Spread:
    """Grows the set of vectors, and lessens what is known of all else, until nothing changes.

    A register of which nothing is known yet is absent from `known`: it has not been reached.
    """

    def __init__(self, body: Body, result: Analysis) -> None:
        self._body = body
        self._result = result
        self._rows = Rows(lambda instruction: id(instruction) in self._repeatable)
        self._repeatable: set[int] = set()
        self._places = [
            (index, instruction)
            for index, block in enumerate(result.blocks)
            for instruction in block.instructions
            if definitions(instruction)
        ]
        self._users: dict[str, list[int]] = {}
        written: set[str] = set()
        for place, (_, instruction) in enumerate(self._places):
            written.update(definitions(instruction))
            # A predicated write leaves the old value to some lanes.
            for name in {
                *uses(instruction),
                *(definitions(instruction) if instruction.predicate else ()),
            }:
                self._users.setdefault(name, []).append(place)
        self.known = {name: self._uniform(name) for name in body.registers if name not in written}

    def _uniform(self, name: str) -> Row:
        return unknown(BITS[self._body.registers[name]])

    def run(self) -> None:
        """Go on until nothing changes, in the masked blocks found so far."""
        self._repeatable = _repeatable(self._body, self._result.blocks, self._result.masked)
        self._settle(range(len(self._places)))
        while unreached := [
            name
            for name in self._body.registers
            if name not in self.known and name not in self._result.vectors
        ]:
            # Written only by what reads itself: nobody else gives it a value.
            self.known[unreached[0]] = self._uniform(unreached[0])
            self._settle(self._users.get(unreached[0], ()))

    def _settle(self, places: Iterable[int]) -> None:
        queue = deque(places)
        queued = set(queue)
        while queue:
            place = queue.popleft()
            queued.discard(place)
            block, instruction = self._places[place]
            for name in definitions(instruction):
                if self._visit(name, block, instruction):
                    for user in self._users.get(name, ()):
                        if user not in queued:
                            queued.add(user)
                            queue.append(user)

    def _visit(self, name: str, block: int, instruction: Instruction) -> bool:
        """Update what is known of a register that an instruction writes; whether it changed."""
        vectors = self._result.vectors
        if name in vectors:
            return False
        old = self.known.get(name)
        new: Row | None
        if block in self._result.masked and self._result.needs_blend(name, block):
            new = None
        elif any(used not in self.known and used not in vectors for used in uses(instruction)):
            return False
        else:
            new = self._written(name, instruction)
        if new is not None and old is not None:
            new = meet(old, new)
        if new is None:
            vectors.add(name)
            self.known.pop(name, None)
            return True
        if new == old:
            return False
        self.known[name] = new
        return True

    def _written(self, name: str, instruction: Instruction) -> Row | None:
        if _is_vector(self._body, instruction, self._result):
            return None
        if instruction.predicate and self._differs(instruction.predicate.name):
            return None
        row = None
        if self._result.in_rows and instruction.operands[0] == Register(name):
            row = self._rows.of_result(instruction, self.known)
        if row is not None and _holds_row(self._body.registers[name], row):
            return row
        registers, specials = _deciding(instruction)
        if any(map(self._differs, registers)) or any(map(self._is_vector_operand, specials)):
            return None
        return self._uniform(name)

    def _differs(self, name: str) -> bool:
        row = self.known.get(name)
        return row is None or not row.is_uniform

    def _is_vector_operand(self, operand: Operand) -> bool:
        if not isinstance(operand, Special):
            return False
        if self._result.in_rows:
            row = special_row(operand.name)
            return row is None or not row.is_uniform
        return operand.name.startswith(_VECTOR_SPECIALS)

    def finish(self) -> None:
        """Put the rows and the instructions that compute with their bases into the result."""
        result = self._result
        if not result.in_rows:
            return
        result.rows = {name: row for name, row in self.known.items() if not row.is_uniform}
        result.constants |= {
            name: row.remainder for name, row in self.known.items() if row.constant is not None
        }
        self._rows.assumed.clear()
        for _, instruction in self._places:
            target = instruction.operands[0]
            if not isinstance(target, Register) or target.name in result.vectors:
                continue
            row = self._rows.of_result(instruction, self.known)
            if row is not None and _holds_row(self._body.registers[target.name], row):
                result.by_base.add(id(instruction))
        result.assumed = self._rows.assumed & result.by_base
        self._find_hints()
        for index in result.masked:
            block = result.blocks[index]
            version = version_of(block, self._body, result.vectors, self.known, result.hints)
            if version:
                result.versions[index] = version

    def _find_hints(self) -> None:
        """Rows of vectors, were it not for sums that may wrap."""
        hints = self._result.hints
        refused: set[str] = set()
        for _ in range(4):
            merged = {**self.known, **hints}
            for _, instruction in self._places:
                target = instruction.operands[0]
                if not isinstance(target, Register) or target.name not in self._result.vectors:
                    continue
                name = target.name
                if name in refused or any(
                    used not in merged and used not in refused and used in self._result.vectors
                    for used in uses(instruction)
                ):
                    continue
                row = self._rows.of_result(instruction, merged, is_hint=True)
                if row is not None and name in merged:
                    row = meet(merged[name], row)
                if row is None or not _holds_row(self._body.registers[name], row):
                    refused.add(name)
                    hints.pop(name, None)
                    merged.pop(name, None)
                else:
                    hints[name] = merged[name] = row


def _deciding(instruction: Instruction) -> tuple[list[str], Sequence[Operand]]:
    """Registers and other operands of which it depends whether all lanes get the same."""
    operands: Sequence[Operand]
    if instruction.opcode in _ALWAYS_UNIFORM:
        operands = ()
    elif instruction.opcode in _BY_MEMBERS:
        operands = instruction.operands[-1:] if "sync" in instruction.modifiers else ()
    elif instruction.opcode == ARRIVE:
        operands = instruction.operands[1:3]
    else:
        return uses(instruction), instruction.operands[1:]
    return [name for operand in operands for name in registers_of(operand)], ()


def _holds_row(storage: str, row: Row) -> bool:
    return storage == f"i{row.bits}"


def _is_vector(body: Body, instruction: Instruction, result: Analysis) -> bool:
    if instruction.opcode in _ALWAYS_VECTOR:
        return True
    if instruction.predicate and instruction.predicate.name in result.vectors:
        return True
    if instruction.opcode == "ld" and reads_local(body, instruction):
        return True
    if instruction.opcode == "mbarrier" and {"arrive", "arrive_drop"} & set(instruction.modifiers):
        return True
    return instruction.opcode in ("cvta", "isspacep") and "local" in instruction.modifiers


def reads_local(body: Body, instruction: Instruction) -> bool:
    """Whether a load or store is private to each lane: local memory or a function's own .param."""
    if "local" in instruction.modifiers:
        return True
    if "param" not in instruction.modifiers:
        return False
    # One with too few operands is refused when it is translated.
    place = 0 if instruction.opcode == "st" else 1
    operand = instruction.operands[place] if place < len(instruction.operands) else None
    if isinstance(operand, Address) and isinstance(operand.base, Symbol):
        return operand.base.name in body.variables
    return False


def _repeatable(body: Body, blocks: list[Block], masked: set[int]) -> set[int]:
    """Instructions before which nothing happens that a second start of the warp would repeat.

    Neither on a path that leads to them, nor to other lanes: where a warp is split, lanes that take
    another path may have run earlier blocks before. With holds the order of blocks says nothing.
    """

    def has_effect(instruction: Instruction) -> bool:
        if is_barrier(instruction) or instruction.opcode.startswith(("atom", "mbarrier")):
            return True
        if has_result(instruction) or instruction.opcode in _SILENT:
            return False
        return instruction.opcode != "st" or not reads_local(body, instruction)

    effects = [
        index for index in masked if any(has_effect(each) for each in blocks[index].instructions)
    ]
    first = min(effects, default=len(blocks))
    if effects and any(block.hold for block in blocks):
        first = 0
    late: set[int] = set()
    work = [0]
    found: set[int] = set()
    reached = set(work)
    while work:
        index = work.pop()
        effect = index in late or (index in masked and index > first)
        for instruction in blocks[index].instructions:
            if effect:
                found.discard(id(instruction))
            else:
                found.add(id(instruction))
            effect = effect or has_effect(instruction)
        for successor in blocks[index].successors:
            if successor not in reached or (effect and successor not in late):
                reached.add(successor)
                if effect:
                    late.add(successor)
                work.append(successor)
    return found


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
