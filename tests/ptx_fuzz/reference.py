"""A plain interpreter of PTX: one thread after the other, in Python integers.

A thread runs until it ends or needs others: at a barrier of its block, or at an instruction of its
warp. Threads of a warp meet at the same instruction with the same member mask; that is all the
convergence there is. Nothing here comes from the software GPU, and nothing is fast.
"""

from __future__ import annotations

from . import warps
from .case import Case
from .floats import IndeterminateError
from .memory import Region
from .text import SIZES, Code, Program, read_program
from .threads import (
    BARRIER,
    CALL,
    EXIT,
    JUMP,
    PLAIN,
    RETURN,
    WARP,
    Block,
    Frame,
    Registers,
    Step,
    Thread,
)
from .translate import Translator

#: Statements after which a thread counts as caught in a loop.
MOST_STEPS = 20_000


class Interpreter:
    """Runs one program on one input.

    Args:
        program: what to run.
        case: its launch.
        strict: whether to look for data races, at some cost.
    """

    def __init__(self, program: Program, case: Case, strict: bool = False) -> None:
        self.program = program
        self.case = case
        self.strict = strict
        self.epoch = 0
        self.buffers = [
            Region((index + 1) << 24, bytearray(data), None, {} if strict else None)
            for index, data in enumerate(case.buffers())
        ]
        self.regions = list(self.buffers)
        self.symbols: dict[str, int] = {}
        self._place_globals()
        self.shared_size = 0
        self.local_size = 0
        self.steps: dict[str, list[Step]] = {}
        for name, code in program.functions.items():
            self._place_own(code)
            self.steps[name] = [Translator(self, code).step(s) for s in code.statements]

    def _place_globals(self) -> None:
        at = 1 << 30
        for variable in self.program.variables.values():
            size = SIZES[variable.type]
            data = b"".join(v.to_bytes(size, "little") for v in variable.initial)
            self.symbols[variable.name] = at
            filled = bytearray(data.ljust(variable.size, b"\0"))
            self.regions.append(Region(at, filled, None, {} if self.strict else None))
            at += -(-variable.size // 256) * 256 + 256

    def _place_own(self, code: Code) -> None:
        for name, variable in code.variables.items():
            if variable.space == "shared":
                self.shared_size = -(-self.shared_size // 16) * 16
                self.symbols[name] = self.shared_size
                self.shared_size += variable.size
            elif variable.space == "local":
                self.local_size = -(-self.local_size // 16) * 16
                self.symbols[name] = self.local_size
                self.local_size += variable.size

    def run(self) -> list[bytes]:
        """Run all blocks; the contents of the buffers afterwards.

        Raises:
            IndeterminateError: PTX does not say what comes out.
            FaultError: an access outside of all memory.
        """
        grid, block = self.case.grid, self.case.block
        for index in range(grid[0] * grid[1] * grid[2]):
            self._run_block(index, grid, block)
        return [bytes(region.data) for region in self.buffers]

    # -- threads ----------------------------------------------------------------------------------

    def _run_block(self, index: int, grid: tuple[int, ...], shape: tuple[int, ...]) -> None:
        touched: dict[int, tuple[int, int, str]] | None = {} if self.strict else None
        shared = Region(0, bytearray(self.shared_size), bytearray(self.shared_size), touched)
        block = Block(index, shared)
        count = shape[0] * shape[1] * shape[2]
        for number_ in range(count):
            local = Region(0, bytearray(self.local_size), bytearray(self.local_size), None)
            thread = Thread(number_, index * count + number_, block, local)
            registers = self._specials(index, number_, grid, shape)
            kernel = self.program.kernel
            parameters = self._arguments(kernel)
            frame = Frame(self.steps[kernel.name], registers, parameters)
            thread.frames.append(frame)
            block.threads.append(thread)
        while not all(thread.ended for thread in block.threads):
            for thread in block.threads:
                if thread.waiting is None and not thread.ended:
                    self._advance(thread)
            if not self._meet(block):
                raise IndeterminateError("threads wait for each other")

    def _specials(
        self, index: int, thread: int, grid: tuple[int, ...], shape: tuple[int, ...]
    ) -> Registers:
        lane = thread % 32
        values = {"%laneid": lane, "%warpid": thread // 32, "%cc": 0, "WARP_SZ": 32}
        for name, at, extent in (("tid", thread, shape), ("ctaid", index, grid)):
            x, rest = at % extent[0], at // extent[0]
            for axis, value, size in zip(
                "xyz", (x, rest % extent[1], rest // extent[1]), extent, strict=True
            ):
                values[f"%{name}.{axis}"] = value
                values[f"%n{name}.{axis}"] = size
        values["%lanemask_eq"] = 1 << lane
        values["%lanemask_lt"] = (1 << lane) - 1
        values["%lanemask_le"] = (2 << lane) - 1
        values["%lanemask_gt"] = 0xFFFF_FFFF & ~((2 << lane) - 1)
        values["%lanemask_ge"] = 0xFFFF_FFFF & ~((1 << lane) - 1)
        return values

    def _arguments(self, code: Code) -> dict[str, Region]:
        """Values of the parameters: as `device` passes them, narrow ones are the last scalar."""
        values = [*(region.base for region in self.buffers), *self.case.scalars]
        regions = {}
        for index, parameter in enumerate(code.parameters):
            narrow = parameter.size < 8
            value = values[-1] if narrow else values[index % len(values)]
            size = min(parameter.size, 8)
            data = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
            regions[parameter.name] = Region(
                0, bytearray(data.ljust(parameter.size, b"\0")), None, None
            )
        return regions

    def _advance(self, thread: Thread) -> None:
        """Run a thread until it ends or waits."""
        frame = thread.frame
        while True:
            if frame.at >= len(frame.code):
                if self._leave(thread):
                    return
                frame = thread.frame
                continue
            step = frame.code[frame.at]
            thread.steps += 1
            if thread.steps > MOST_STEPS:
                raise IndeterminateError("runs too long")
            if step.guard and frame.registers[step.guard] != step.sense:
                frame.at += 1
                continue
            kind = step.kind
            if kind == PLAIN:
                step.run(thread, frame.registers)
                frame.at += 1
            elif kind == JUMP:
                frame.at = step.run(frame.registers)  # type: ignore[assignment]
            elif kind == EXIT:
                thread.ended = True
                return
            elif kind == RETURN:
                if self._leave(thread):
                    return
                frame = thread.frame
            elif kind == CALL:
                frame.at += 1
                step.run(thread)
                frame = thread.frame
            else:
                thread.waiting = step
                return

    def _leave(self, thread: Thread) -> bool:
        """Return from a function; whether that ends the thread."""
        thread.frames.pop()
        thread.ended = not thread.frames
        return thread.ended

    def _meet(self, block: Block) -> bool:
        """Let those go on who have met; whether anybody could."""
        alive = [thread for thread in block.threads if not thread.ended]
        moved = not alive
        for start in range(0, len(block.threads), 32):
            lanes = [t for t in block.threads[start : start + 32] if not t.ended]
            moved = self._meet_warp(lanes) or moved
        steps = [thread.waiting for thread in alive]
        if alive and all(step and step.kind == BARRIER for step in steps):
            if any(step is not steps[0] for step in steps):
                raise IndeterminateError("different barriers")
            assert steps[0]
            self.epoch += 1
            self._release(alive, steps[0])
            moved = True
        return moved

    def _meet_warp(self, lanes: list[Thread]) -> bool:
        moved = False
        for thread in lanes:
            step = thread.waiting
            if step is None or step.kind != WARP:
                continue
            mask = warps.members(step.statement, thread.frame.registers)
            group = [t for t in lanes if mask >> t.index % 32 & 1]
            if thread not in group:
                raise IndeterminateError("a lane is not a member of its own mask")
            if all(t.waiting is step for t in group):
                if any(warps.members(step.statement, t.frame.registers) != mask for t in group):
                    raise IndeterminateError("member masks differ")
                self._release(group, step)
                moved = True
        return moved

    def _release(self, threads: list[Thread], step: Step) -> None:
        step.run(threads)
        for thread in threads:
            thread.waiting = None
            thread.frame.at += 1


def run_reference(case: Case, strict: bool = False) -> list[bytes]:
    """What the buffers of a case must hold afterwards.

    Raises:
        NotUnderstoodError: the text is outside of what the interpreter knows.
        IndeterminateError: PTX does not say what comes out.
        FaultError: an access outside of all memory.
    """
    program = read_program(case.text)
    try:
        return Interpreter(program, case, strict).run()
    except KeyError as error:
        raise IndeterminateError(f"reads {error} before it is written") from error
