"""Where lanes of a warp may have to stay while other lanes, warps or blocks of the grid go on.

Most kernels need none of this: their barriers are those of the whole block, and the lanes of a warp
meet again by themselves. In the others, `arrange` puts a *hold* at the start of a block of the flow
graph: lanes wait there until it lets them pass.

- `AWAIT` follows a barrier that counts threads (`ARRIVE`): numbered, partial, or divergent ones.
- `SPIN` heads a loop that ends when another thread has written to memory: after some rounds the
  warp gives way to the others.
- `GATE` precedes an instruction with a member mask that lanes may reach by several ways, or at
  several times: it waits for the lanes that the mask names. Masks and the values to be exchanged
  are put down (`mask`, `mail`) on arrival; when the gate opens each lane is shown all values
  (`post`) and the lanes that it opened for (`members`).

The names hold a blank, so that no PTX can spell them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from .cfg import Block, build_blocks, is_barrier, strongly_connected
from .ir import (
    ARRIVE,
    AWAIT,
    BARRIER_RESULT,
    GATE,
    MEMBERS,
    SPIN,
    STORAGE,
    Body,
    Immediate,
    Instruction,
    Label,
    Operand,
    Register,
    Symbol,
    Vector,
    definitions,
    registers_of,
    uses,
)
from .liveness import live_in
from .uniformity import Analysis, analyze

#: Instructions with a member mask, and the place of the mask among their operands.
_MEMBER_MASK = {"shfl": -1, "vote": -1, "match": -1, "redux": -1, "bar": 0, "barrier": 0}
_ORDERED = frozenset(("volatile", "relaxed", "acquire"))


def arrange(body: Body, independent: bool, in_rows: bool) -> Analysis:
    """Cut a body into blocks and analyse it, with holds where lanes may have to stay.

    Args:
        body: the kernel; holds are put into it.
        independent: whether threads of a warp make progress apart from each other, as they do from
            compute capability 7.0 on: then lanes that leave a spinning loop do not wait for those
            that stay.
        in_rows: whether threads of a warp are a row of a block. Bodies with holds do not use it.
    """
    gated: set[str] = set()
    spinning: set[int] = set()
    holding = False
    while True:
        blocks = build_blocks(body)
        live = live_in(blocks)
        apart = _leaving(blocks, spinning) if independent else frozenset()
        analysis = analyze(body, blocks, live, in_rows and not holding, apart)
        headers = [] if holding else list(_spinning(blocks))
        classes = _gates(blocks, analysis) - gated
        counted = not holding and any(
            _counts(block.last, index, analysis)
            for index, block in enumerate(blocks)
            if is_barrier(block.last)
        )
        if not headers and not classes and not counted:
            return analysis
        gated |= classes
        edits = _Edits()
        for header in headers:
            first = blocks[header].instructions[0]
            hold = Instruction(SPIN, (), (), None, first.position, first.text)
            spinning.add(id(hold))
            edits.before[id(first)] = [hold]
        for index in analysis.masked:
            for instruction in blocks[index].instructions:
                if sync_class(instruction) in classes:
                    edits.gate(body, instruction)
        if not holding:
            edits.barriers = True
        edits.apply(body)
        holding = True


@dataclass
class _Edits:
    """What to put before and after which instructions of a body."""

    before: dict[int, list[Instruction]] = field(default_factory=dict)
    after: dict[int, Label] = field(default_factory=dict)
    barriers: bool = False

    def gate(self, body: Body, instruction: Instruction) -> None:
        """Put a gate before an instruction; of a predicated one it becomes part of a branch."""
        steps = self.before.setdefault(id(instruction), [])
        if predicate := instruction.predicate:
            label = f"%past.{id(instruction)}"
            skip = Register(predicate.name, not predicate.negated)
            instruction.predicate = None
            steps.append(
                replace(instruction, opcode="bra", modifiers=(), operands=(Symbol(label),))
            )
            steps[-1].predicate = skip
            self.after[id(instruction)] = Label(label)
        steps.extend(_gate(body, instruction))

    def apply(self, body: Body) -> None:
        items: list[Label | Instruction] = []
        for item in body.items:
            if isinstance(item, Label):
                items.append(item)
                continue
            items.extend(self.before.get(id(item), ()))
            if self.barriers and is_barrier(item):
                items.extend(_counted(body, item, len(items)))
            else:
                items.append(item)
            if id(item) in self.after:
                items.append(self.after[id(item)])
        body.items = items


# -- barriers -------------------------------------------------------------------------------------


def barrier_operands(barrier: Instruction) -> tuple[Operand, Operand]:
    """Number of a barrier, and the threads that it waits for (0 for all of the block)."""
    operands = barrier.operands
    if "red" in barrier.modifiers:
        operands = operands[1:-1]
    number = operands[0] if operands else Immediate(0)
    return number, operands[1] if len(operands) > 1 else Immediate(0)


def _counts(barrier: Instruction, index: int, analysis: Analysis) -> bool:
    """Whether a barrier is more than one of the whole block, at which warps arrive as a whole."""
    if "arrive" in barrier.modifiers or barrier_operands(barrier) != (Immediate(0), Immediate(0)):
        return True
    if index not in analysis.masked:
        return False
    aligned = barrier.opcode == "bar" or "aligned" in barrier.modifiers
    return not aligned or "red" in barrier.modifiers


def _counted(body: Body, barrier: Instruction, number: int) -> Iterator[Instruction]:
    """The steps of a barrier: arrive, wait, read the result."""
    token = Register(f"%token.{number}")
    body.registers[token.name] = "i64"
    reduces = "red" in barrier.modifiers
    source = (barrier.operands[-1],) if reduces else ()
    modifiers = (*barrier.modifiers, "aligned") if barrier.opcode == "bar" else barrier.modifiers
    yield replace(
        barrier,
        opcode=ARRIVE,
        modifiers=modifiers,
        operands=(token, *barrier_operands(barrier), *source),
    )
    if "arrive" not in barrier.modifiers:
        yield replace(barrier, opcode=AWAIT, operands=(token,))
    if reduces:
        yield replace(barrier, opcode=BARRIER_RESULT, operands=(barrier.operands[0], token))


# -- loops that wait for other threads ------------------------------------------------------------


def _loops(blocks: list[Block]) -> Iterator[tuple[int, set[int]]]:
    """Header and blocks of every loop, outer ones first; a loop's header is its lowest block."""
    work: list[tuple[list[int], frozenset[int]]] = [(list(range(len(blocks))), frozenset())]
    while work:
        nodes, cut = work.pop()
        inside = set(nodes)

        def edges(node: int, inside: set[int] = inside, cut: frozenset[int] = cut) -> list[int]:
            return [s for s in blocks[node].successors if s in inside and s not in cut]

        for component in strongly_connected(nodes, edges):
            header = min(component)
            if len(component) > 1 or header in edges(header):
                yield header, set(component)
                if len(component) > 1:
                    work.append((sorted(component), cut | {header}))


def _spinning(blocks: list[Block]) -> Iterator[int]:
    """Headers of the loops that end by what other threads do."""
    for header, members in _loops(blocks):
        instructions = [i for index in members for i in blocks[index].instructions]
        tainted = _tainted(instructions)
        if not tainted:
            continue
        for index in members:
            last = blocks[index].last
            leaves = any(s not in members for s in blocks[index].successors)
            if leaves and last.predicate and last.predicate.name in tainted:
                yield header
                break


def _tainted(instructions: list[Instruction]) -> set[str]:
    """Registers whose value comes from memory that other threads write."""
    read = _spread(instructions, [i for i in instructions if i.opcode in ("ld", "atom")])
    return _spread(instructions, [i for i in instructions if _watches(i, read)])


def _spread(instructions: list[Instruction], origins: list[Instruction]) -> set[str]:
    """Registers that depend on what some instructions write."""
    found = {name for instruction in origins for name in definitions(instruction)}
    changed = bool(found)
    while changed:
        changed = False
        for instruction in instructions:
            if not found.isdisjoint(uses(instruction)):
                new = set(definitions(instruction)) - found
                changed = changed or bool(new)
                found |= new
    return found


def _watches(instruction: Instruction, read: set[str]) -> bool:
    """Whether an instruction of a loop reads what another thread may write meanwhile.

    A compare-and-swap with a value that was `read` in the loop is an update that is tried again:
    whenever it fails another thread has succeeded, so it needs nobody to give way.
    """
    if instruction.opcode == "ld":
        return not _ORDERED.isdisjoint(instruction.modifiers)
    if instruction.opcode == "mbarrier":
        return any(name in instruction.modifiers for name in ("test_wait", "try_wait"))
    if instruction.opcode != "atom":
        return False
    if "cas" in instruction.modifiers:
        return read.isdisjoint(registers_of(instruction.operands[2]))
    return True


def _leaving(blocks: list[Block], spinning: set[int]) -> frozenset[int]:
    """Blocks at which lanes leave a spinning loop."""
    headers = {index for index, block in enumerate(blocks) if id(block.instructions[0]) in spinning}
    return frozenset(
        index
        for header, members in _loops(blocks)
        if header in headers
        for index in members
        if any(successor not in members for successor in blocks[index].successors)
    )


# -- member masks ---------------------------------------------------------------------------------


def sync_class(instruction: Instruction) -> str:
    """What instructions with member masks have in common that wait for each other, or ''."""
    if "sync" not in instruction.modifiers or instruction.opcode not in _MEMBER_MASK:
        return ""
    if instruction.opcode in ("bar", "barrier"):
        return "bar.warp.sync" if "warp" in instruction.modifiers else ""
    return ".".join((instruction.opcode, *instruction.modifiers))


def _gates(blocks: list[Block], analysis: Analysis) -> set[str]:
    """Classes of which some lanes may wait while others are still on their way.

    Lower blocks run first, so whoever is not there when an instruction runs waits in a later block.
    Only if a way leads from there to an instruction of the class, before all lanes meet again, is
    there something to wait for.
    """
    sites: dict[str, list[int]] = {}
    for index in sorted(analysis.masked):
        for instruction in blocks[index].instructions:
            name = sync_class(instruction)
            if name:
                sites.setdefault(name, []).append(index)
    return {
        name
        for name, indexes in sites.items()
        if any(
            _reaches(blocks, analysis, waiting, indexes)
            for index in set(indexes)
            for waiting in analysis.waiting.get(index, ())
            if waiting in analysis.masked and waiting != index
        )
    }


def _reaches(blocks: list[Block], analysis: Analysis, start: int, targets: Iterable[int]) -> bool:
    wanted = set(targets)
    found = {start}
    work = [start]
    while work:
        block = work.pop()
        if block in wanted:
            return True
        for successor in blocks[block].successors:
            if successor in analysis.masked and successor not in found:
                found.add(successor)
                work.append(successor)
    return False


def _gate(body: Body, instruction: Instruction) -> list[Instruction]:
    """The steps before an instruction that exchanges values, which then reads the posted ones."""
    name = sync_class(instruction)
    place = _MEMBER_MASK[instruction.opcode]
    mask, members = Register(f"%mask.{name}"), Register(f"{MEMBERS}{name}")
    body.registers[mask.name] = body.registers[members.name] = "i32"
    name_lanes = replace(
        instruction, opcode="mov", modifiers=("b32",), operands=(mask, instruction.operands[place])
    )
    gate = replace(instruction, opcode=GATE, modifiers=(name,), operands=(Vector((members,)), mask))
    if name == "bar.warp.sync":
        return [name_lanes, gate]
    mail, post = Register(f"%mail.{name}"), Register(f"%post.{name}")
    type_ = "pred" if instruction.opcode == "vote" else instruction.type
    body.registers[mail.name] = body.registers[post.name] = STORAGE[type_]
    put_down = replace(
        instruction, opcode="mov", modifiers=(type_,), operands=(mail, instruction.operands[1])
    )
    gate.operands = (Vector((members, post)), mask, mail)
    operands = list(instruction.operands)
    operands[1], operands[place] = post, members
    instruction.operands = tuple(operands)
    return [name_lanes, put_down, gate]
