"""Control-flow graph: blocks in an order that lets divergent lanes reconverge.

Blocks are numbered in a topological order in which every loop is contiguous. Lanes that wait are
always resumed lowest block first, which reconverges them for any graph, irreducible ones included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .errors import UnsupportedError
from .ir import HOLDS, Body, Instruction, Label, Symbol

_ENDS = ("bra", "ret", "exit")


def is_barrier(instruction: Instruction) -> bool:
    """Whether the warp is suspended here until the other warps of the CTA arrive."""
    return instruction.opcode in ("bar", "barrier") and "warp" not in instruction.modifiers


@dataclass(slots=True)
class Block:
    """A basic block; `successors[0]` is the branch target, a fall-through comes second."""

    instructions: list[Instruction] = field(default_factory=list)
    successors: list[int] = field(default_factory=list)
    predecessors: list[int] = field(default_factory=list)
    in_loop: bool = False

    @property
    def last(self) -> Instruction:
        """The instruction that ends the block."""
        return self.instructions[-1]

    @property
    def hold(self) -> str:
        """The step at the start of the block at which lanes may stay, or ''."""
        first = self.instructions[0].opcode
        return first if first in HOLDS else ""


def build_blocks(body: Body) -> list[Block]:
    """Cut a body into blocks and number them in execution order (see the module docstring)."""
    blocks: list[Block] = [Block()]
    labels: dict[str, int] = {}
    for item in body.items:
        if isinstance(item, Label):
            if blocks[-1].instructions:
                blocks.append(Block())
            labels[item.name] = len(blocks) - 1
            continue
        if item.opcode in HOLDS and blocks[-1].instructions:
            blocks.append(Block())
        blocks[-1].instructions.append(item)
        if item.opcode in _ENDS or is_barrier(item):
            blocks.append(Block())
    if not blocks[-1].instructions or blocks[-1].last.opcode not in ("ret", "exit"):
        blocks[-1].instructions.append(Instruction("ret", (), ()))
    for index, block in enumerate(blocks):
        block.successors = _successors(block, index, labels)
    order, loops = _order(blocks)
    number = {old: new for new, old in enumerate(order)}
    ordered = [blocks[old] for old in order]
    for new, block in enumerate(ordered):
        block.successors = [number[old] for old in block.successors]
        block.in_loop = order[new] in loops
    for index, block in enumerate(ordered):
        for successor in block.successors:
            ordered[successor].predecessors.append(index)
    return ordered


def _successors(block: Block, index: int, labels: dict[str, int]) -> list[int]:
    last = block.last
    if last.opcode == "bra":
        (target,) = last.operands
        if not isinstance(target, Symbol) or target.name not in labels:
            raise UnsupportedError("undefined branch target", last.position, last.text)
        taken = labels[target.name]
        if last.predicate is None or taken == index + 1:
            return [taken]
        return [taken, index + 1]
    if last.opcode in ("ret", "exit"):
        return [index + 1] if last.predicate else []
    return [index + 1]


def _order(blocks: list[Block]) -> tuple[list[int], set[int]]:
    """Reachable blocks in loop-contiguous topological order, and those that lie in a loop."""
    order: list[int] = []
    loops: set[int] = set()
    reachable = {0}
    work = [0]
    while work:
        for successor in blocks[work.pop()].successors:
            if successor not in reachable:
                reachable.add(successor)
                work.append(successor)

    def visit(nodes: list[int], entry: int, cut: frozenset[int]) -> None:
        inside = set(nodes)

        def edges(node: int) -> list[int]:
            return [s for s in blocks[node].successors if s in inside and s not in cut]

        roots = [entry] + [node for node in nodes if node != entry]
        for component in reversed(strongly_connected(roots, edges)):
            if len(component) == 1:
                node = component[0]
                order.append(node)
                if node in blocks[node].successors:
                    loops.add(node)
                continue
            members = set(component)
            loops.update(members)
            header = entry
            if entry not in members:
                entered = [
                    successor
                    for node in reachable - members
                    for successor in blocks[node].successors
                    if successor in members and successor not in cut
                ]
                header = min(entered or component)
            visit(sorted(component), header, cut | {header})

    visit(sorted(reachable), 0, frozenset())
    return order, loops


def strongly_connected(roots: list[int], edges: Callable[[int], list[int]]) -> list[list[int]]:
    """Tarjan's algorithm without recursion; components come in reverse topological order."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    components: list[list[int]] = []
    for root in roots:
        if root in index:
            continue
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        work = [(root, iter(edges(root)))]
        while work:
            node, successors = work[-1]
            descended = False
            for successor in successors:
                if successor not in index:
                    index[successor] = low[successor] = len(index)
                    stack.append(successor)
                    on_stack.add(successor)
                    work.append((successor, iter(edges(successor))))
                    descended = True
                    break
                if successor in on_stack:
                    low[node] = min(low[node], index[successor])
            if descended:
                continue
            work.pop()
            if work:
                parent = work[-1][0]
                low[parent] = min(low[parent], low[node])
            if low[node] == index[node]:
                component: list[int] = []
                while not component or component[-1] != node:
                    component.append(stack.pop())
                    on_stack.discard(component[-1])
                components.append(component)
    return components


def post_dominators(blocks: list[Block]) -> list[int]:
    """Immediate post-dominator of each block; `len(blocks)` stands for the end of the kernel."""
    count = len(blocks)
    successors = [
        [*block.successors, count] if block.last.opcode in ("ret", "exit") else block.successors[:]
        for block in blocks
    ]
    reaches_end = {count}
    changed = True
    while changed:
        changed = False
        for node in range(count):
            if node not in reaches_end and any(s in reaches_end for s in successors[node]):
                reaches_end.add(node)
                changed = True
    for node in range(count):
        if node not in reaches_end:
            successors[node].append(count)
    everything = (1 << (count + 1)) - 1
    sets = [everything] * count + [1 << count]
    changed = True
    while changed:
        changed = False
        for node in range(count - 1, -1, -1):
            common = everything
            for successor in successors[node]:
                common &= sets[successor]
            common |= 1 << node
            if common != sets[node]:
                sets[node] = common
                changed = True
    return [_nearest(sets, node, count) for node in range(count)]


def _nearest(sets: list[int], node: int, count: int) -> int:
    strict = sets[node] & ~(1 << node)
    size = strict.bit_count()
    for candidate in range(count + 1):
        if strict >> candidate & 1 and sets[candidate].bit_count() == size:
            return candidate
    return count
