"""Which registers are zero where they are read, as accumulators are before their first product.

Every way back from a place must come to a `mov` of zero before it comes to another definition.
Lanes that are off may hold something else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .cfg import Block
from .ir import Immediate, Instruction, Operand, Register, definitions


class Zeros:
    """What is known of a kernel's registers.

    Args:
        blocks: Its flow graph.
        constants: Registers that never hold anything but one integer.
    """

    def __init__(self, blocks: Sequence[Block], constants: Mapping[str, int]) -> None:
        self._blocks = blocks
        self._constants = constants
        self._at_start: dict[tuple[int, str], bool] = {}

    def is_zero(self, block: int, instruction: Instruction, operand: Operand) -> bool:
        """Whether an operand is zero when an instruction of a block reads it."""
        instructions = self._blocks[block].instructions
        here = next(at for at, other in enumerate(instructions) if other is instruction)
        return self._before(block, here, operand)

    def _before(self, block: int, end: int, operand: Operand) -> bool:
        if isinstance(operand, Immediate):
            return operand.bits == 0
        if not isinstance(operand, Register) or operand.negated:
            return False
        if operand.name in self._constants:
            return self._constants[operand.name] == 0
        found = self._defined(block, end, operand.name)
        return self._enters(block, operand.name) if found is None else found

    def _defined(self, block: int, end: int, name: str) -> bool | None:
        """Whether the last definition in a part of a block is zero; None if there is none."""
        instructions = self._blocks[block].instructions
        for at in reversed(range(end)):
            before = instructions[at]
            if name in definitions(before):
                is_move = before.opcode == "mov" and before.predicate is None
                return is_move and self._before(block, at, before.operands[1])
        return None

    def _enters(self, block: int, name: str) -> bool:
        """Whether a register is zero at the start of a block, however that is reached."""
        if (block, name) in self._at_start:
            return self._at_start[block, name]
        # Registers that are moved in a circle would ask for each other.
        self._at_start[block, name] = False
        seen, work, result = {block}, [block], True
        while work and result:
            current = work.pop()
            # The first block is entered from outside, where nothing is defined.
            result = current != 0
            for other in self._blocks[current].predecessors:
                found = self._defined(other, len(self._blocks[other].instructions), name)
                if found is None and other not in seen:
                    seen.add(other)
                    work.append(other)
                result = result and found is not False
        self._at_start[block, name] = result
        return result
