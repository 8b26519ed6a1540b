"""Control flow of a warp: branches, waiting lanes, barriers and their resumption.

A masked block has a word of lanes that wait for it; the scheduler visits blocks in order and runs
those with waiting lanes. Blocks outside divergent regions jump directly. A barrier saves the live
registers and the waiting lanes in the warp's context and returns a resume number to the driver.
"""

from __future__ import annotations

from dataclasses import dataclass

from vgpu_host.executors.software.arena import round_up
from vgpu_host.executors.software.cfg import Block, is_barrier
from vgpu_host.executors.software.ir import BITS, WARP_SIZE, Immediate, Instruction, registers_of

from .access import end_kernel, trap
from .counting import count_block
from .emitter import Emitter, Value, integer
from .holds import Holds, needs_holds
from .registry import emit, handles
from .state import (
    CONTEXT_ALIGNMENT,
    FAULT_NO_FUNCTION,
    FAULT_STACK,
    FAULT_STOPPED,
    FAULT_TRAP,
    LAUNCH,
    WORKER,
    worker_field,
)
from .versions import second_version

#: Live registers at the starts of all blocks together, beyond which a kernel's registers stay in
#: memory: LLVM would merge most of them in most blocks, for minutes. CUB's segmented sort has
#: 100,000, the largest attention kernel of llama.cpp 27,000.
_MOST_LIVE = 40000


@dataclass(frozen=True, slots=True)
class Suspension:
    """A barrier: where the warp goes on, and what it has saved."""

    number: int
    block: int
    target: int
    masked: bool
    registers: tuple[str, ...]
    waiting: tuple[int, ...]
    barrier: Instruction


class ControlFlow:
    """Emits the blocks of a kernel one after the other."""

    def __init__(self, emitter: Emitter) -> None:
        self.emitter = emitter
        self.analysis = emitter.analysis
        self.blocks = emitter.analysis.blocks
        self.suspensions: list[Suspension] = []
        self.context: dict[str, int] = {}
        self.context_size = 0
        #: Registers that always live in the context, and are no values of LLVM.
        self.resident: frozenset[str] = frozenset()
        if sum(map(len, self.analysis.live)) > _MOST_LIVE:
            self.resident = frozenset().union(*self.analysis.live)
        if emitter.instruments:
            emitter.instruments.ending_lanes = self.ending_lanes
        #: What keeps lanes from going on; most kernels have nothing of the kind.
        self.holds = Holds(self) if needs_holds(self.blocks) else None

    def emit_blocks(self) -> None:
        """Emit every block, then the end of the kernel."""
        for index, block in enumerate(self.blocks):
            self._enter(index)
            version = self.analysis.versions.get(index)
            if version:
                with second_version(self.emitter, version):
                    self._emit_steps(index, block)
            if not version or version.entry:
                self._emit_steps(index, block)
        self.emitter.begin_block(len(self.blocks), None)
        self.emitter.label(f"visit{len(self.blocks)}")
        if self.holds:
            self.holds.emit_end()
        else:
            self.emitter.line("br label %done")

    def _emit_steps(self, index: int, block: Block) -> None:
        ending = block.last.opcode in ("bra", "ret", "exit") or is_barrier(block.last)
        for instruction in block.instructions[: -1 if ending else None]:
            if not (self.holds and self.holds.emit_step(instruction)):
                emit(self.emitter, instruction)
        self.emitter.instruction = block.last
        self._leave(index, block)

    def is_masked(self, block: int) -> bool:
        """Whether only some lanes may be in a block."""
        return block in self.analysis.masked

    def _enter(self, index: int) -> None:
        emitter = self.emitter
        lasting = self._live_at(*self.blocks[index].successors)
        emitter.begin_block(index, None if self.holds else frozenset(lasting))
        emitter.label(f"visit{index}")
        if self.holds and self.blocks[index].hold:
            self.holds.enter(index)
        elif self.is_masked(index):
            bits = emitter.define(f"load i32, ptr %wait{index}", "i32")
            empty = emitter.compare("icmp eq", bits, integer(0, "i32"))
            emitter.line(f"br i1 {empty.ref}, label %visit{index + 1}, label %run{index}")
            emitter.label(f"run{index}")
            emitter.mask_bits = emitter.define(f"load i32, ptr %wait{index}", "i32")
            emitter.line(f"store i32 0, ptr %wait{index}")
            emitter.mask = emitter.define(
                f"bitcast {emitter.mask_bits} to <{WARP_SIZE} x i1>", "i1", True
            )
        else:
            if self.holds:
                self.holds.enter_meet(index, f"run{index}")
            else:
                pending = emitter.define(f"load i1, ptr %wait{index}", "i1")
                emitter.line(f"br i1 {pending.ref}, label %run{index}, label %visit{index + 1}")
            emitter.label(f"run{index}")
            emitter.line(f"store i1 false, ptr %wait{index}")
            emitter.mask_bits = Value("%mask.start.bits", "i32")
            emitter.mask = Value("%mask.start", "i1", True)
        if emitter.translation.count:
            count_block(emitter)

    def _leave(self, index: int, block: Block) -> None:
        last = block.last
        if is_barrier(last):
            self._suspend(index, block, last)
            return
        target: int | None = None
        other: int | None = None
        if last.opcode in ("ret", "exit"):
            other = block.successors[0] if block.successors else None
        else:
            target = block.successors[0]
            other = block.successors[1] if len(block.successors) > 1 else None
        conditional = last.predicate is not None and len(block.successors) == (
            1 if last.opcode in ("ret", "exit") else 2
        )
        if last.opcode not in ("bra", "ret", "exit"):
            conditional = False
        if any(s is not None and s <= index for s in (target, other)):
            self._poll_stop()
        if not conditional:
            self._go(index, target)
        elif index in self.analysis.divergent:
            self._diverge(index, last, target, other)
        else:
            self._branch(index, last, target, other)

    def _poll_stop(self) -> None:
        """Leave when the watchdog has asked all kernels to stop; done on every backward branch."""
        emitter = self.emitter
        pointer = emitter.define(f"getelementptr i8, ptr %launch, i64 {LAUNCH['stop']}", "ptr")
        stop = emitter.define(f"load volatile i32, ptr {pointer.ref}", "i32")
        end_kernel(emitter, stop, integer(0, "i64"), FAULT_STOPPED)

    def _go(self, index: int, target: int | None) -> None:
        """Continue at `target` (None ends the lanes) with all lanes of the block."""
        if target is None:
            self._end_lanes(self.emitter.mask_bits)
            following = f"visit{index + 1}" if self.is_masked(index) else "done"
            self.emitter.line(f"br label %{following}")
        elif not self.is_masked(index) and not self.is_masked(target):
            if self.blocks[target].hold:
                self.emitter.line(f"store i1 true, ptr %wait{target}")
                self.emitter.line(f"br label %visit{target}")
            else:
                self.emitter.line(f"br label %run{target}")
        else:
            self._wait(target, self.emitter.mask_bits)
            self._visit(index, target)

    def _end_lanes(self, bits: Value) -> None:
        if self.holds:
            self.holds.leave(bits)
        if self.emitter.instruments:
            self.emitter.instruments.ends(bits)

    def _visit(self, index: int, target: int) -> None:
        emitter = self.emitter
        if target > index:
            emitter.line(f"br label %visit{index + 1}")
            return
        missing = self._missing(index, target)
        if missing is None:
            emitter.line(f"br label %visit{target}")
        else:
            none = emitter.compare("icmp eq", missing, integer(0, "i32"))
            emitter.line(f"br {none}, label %visit{target}, label %visit{index + 1}")

    def _missing(self, index: int, target: int) -> Value | None:
        """Lanes that go back from `index` to `target` have to wait for; None if there are none.

        Where the ways of a warp meet, a block runs for all of them. Who is not there yet waits in a
        later block, and comes back by itself.
        """
        if self.is_masked(target):
            return None
        later = {*self.analysis.waiting.get(index, ()), *self.blocks[index].successors}
        waiting: Value | None = None
        for block in sorted(later):
            if block > index and self.is_masked(block):
                bits = self.emitter.define(f"load i32, ptr %wait{block}", "i32")
                waiting = bits if waiting is None else self.emitter.op("or", waiting, bits)
        return waiting

    def _wait(self, target: int, bits: Value) -> None:
        """Add lanes to those that wait for a block."""
        emitter = self.emitter
        if self.is_masked(target):
            old = emitter.define(f"load i32, ptr %wait{target}", "i32")
            emitter.line(f"store {emitter.op('or', old, bits)}, ptr %wait{target}")
        else:
            some = emitter.compare("icmp ne", bits, integer(0, "i32"))
            old = emitter.define(f"load i1, ptr %wait{target}", "i1")
            emitter.line(f"store {emitter.op('or', old, some)}, ptr %wait{target}")

    def _branch(self, index: int, last: Instruction, target: int | None, other: int | None) -> None:
        """A branch that all lanes take the same way."""
        emitter = self.emitter
        assert last.predicate is not None
        condition = emitter.read(last.predicate, "pred")
        taken, fallen = emitter.name("taken"), emitter.name("fallen")
        emitter.line(f"br {condition}, label %{taken}, label %{fallen}")
        emitter.label(taken)
        self._go(index, target)
        emitter.label(fallen)
        self._go(index, other)

    def _diverge(
        self, index: int, last: Instruction, target: int | None, other: int | None
    ) -> None:
        """A branch that may split the warp."""
        emitter = self.emitter
        assert last.predicate is not None
        condition = emitter.lane_bits(emitter.read(last.predicate, "pred"))
        taken = emitter.op("and", condition, emitter.mask_bits)
        fallen = emitter.op("xor", taken, emitter.mask_bits)
        backward: list[tuple[int, Value]] = []
        for destination, bits in ((target, taken), (other, fallen)):
            if destination is None:
                self._end_lanes(bits)
                continue
            self._wait(destination, bits)
            if destination <= index:
                backward.append((destination, bits))
        for destination, bits in sorted(backward, key=lambda entry: entry[0]):
            some = emitter.compare("icmp ne", bits, integer(0, "i32"))
            missing = self._missing(index, destination)
            if missing is not None:
                none = emitter.compare("icmp eq", missing, integer(0, "i32"))
                some = emitter.op("and", some, none)
            onward = emitter.name("onward")
            emitter.line(f"br {some}, label %visit{destination}, label %{onward}")
            emitter.label(onward)
        emitter.line(f"br label %visit{index + 1}")

    # -- barriers ---------------------------------------------------------------------------------

    def _suspend(self, index: int, block: Block, barrier: Instruction) -> None:
        emitter = self.emitter
        self._check_barrier(barrier)
        if emitter.instruments:
            emitter.instruments.barrier()
        target = block.successors[0]
        reduces = "red" in barrier.modifiers
        if reduces:
            self._contribute(barrier)
        masked = self.is_masked(index) or self.is_masked(target)
        self._wait(target, emitter.mask_bits)
        waiting = self._waiting(index)
        live = self._live_at(*waiting) - self.resident
        number = len(self.suspensions) + 1
        suspension = Suspension(
            number, index, target, masked, tuple(sorted(live)), waiting, barrier
        )
        self.suspensions.append(suspension)
        for register in suspension.registers:
            slot, like = emitter.slot(register)
            value = emitter.define(f"load {like.llvm_type}, ptr {slot}", like.type, like.vector)
            emitter.line(f"store {value}, ptr {self.saved(register, like).ref}, align 4")
        for other in suspension.waiting:
            like = self.wait_type(other)
            value = emitter.define(f"load {like.type}, ptr %wait{other}", like.type)
            emitter.line(f"store {value}, ptr {self.saved(f'wait {other}', like).ref}")
        for slot in self.checked():
            value = emitter.define(f"load i32, ptr {slot}", "i32")
            emitter.line(f"store {value}, ptr {self.saved(slot, value).ref}")
        emitter.line(f"ret i32 {number}")

    def _waiting(self, index: int) -> tuple[int, ...]:
        """Blocks at which lanes may be when `index` ends with a barrier; they are nowhere else."""
        target = self.blocks[index].successors[0]
        return tuple(sorted({target, *self.analysis.waiting.get(index, ())}))

    def ending_lanes(self) -> Value:
        """Lanes that wait while others run a block, and have nothing left to do but to end."""
        emitter, index = self.emitter, self.emitter.block
        bits, others = integer(0, "i32"), emitter.mask_bits
        at_end = [block for block in self.analysis.waiting.get(index, ()) if self._only_ends(block)]
        for block in self.analysis.waiting.get(index, ()):
            if self.is_masked(block):
                waiting = emitter.define(f"load i32, ptr %wait{block}", "i32")
                others = emitter.op("or", others, waiting)
                if block in at_end:
                    bits = emitter.op("or", bits, waiting)
        # All that are not elsewhere wait where the ways of the warp meet.
        if any(not self.is_masked(block) for block in at_end):
            rest = emitter.op("and", Value("%mask.start.bits", "i32"), emitter.invert(others))
            bits = emitter.op("or", bits, rest)
        return bits

    def _only_ends(self, index: int) -> bool:
        block = self.blocks[index]
        return block.last.opcode in ("ret", "exit") and len(block.instructions) == 1

    def checked(self) -> tuple[str, ...]:
        """Slots of type i32 that checkers want to have kept where a warp waits."""
        return self.emitter.instruments.kept() if self.emitter.instruments else ()

    def _live_at(self, *blocks: int) -> set[str]:
        return {name for block in blocks for name in self.analysis.live[block]}

    def emit_residents(self) -> list[str]:
        """Say where registers are that live in the context; returns what sets them to zero."""
        zeroing = []
        for register in sorted(self.resident):
            slot, like = self.emitter.slot(register)
            del self.emitter.allocas[slot]
            size = BITS[like.type] // 8 * (WARP_SIZE if like.vector else 1) or 4
            self.context_size = round_up(self.context_size, min(CONTEXT_ALIGNMENT, max(8, size)))
            place, self.context_size = self.context_size, self.context_size + size
            self.emitter.line(f"{slot} = getelementptr i8, ptr %context, i64 {place}")
            zeroing.append(f"store {like.llvm_type} zeroinitializer, ptr {slot}")
        return zeroing

    def _check_barrier(self, barrier: Instruction) -> None:
        emitter = self.emitter
        allowed = {"sync", "red", "popc", "and", "or", "u32", "pred", "aligned", "cta"}
        unknown = set(barrier.modifiers) - allowed
        if unknown or not {"sync", "red"} & set(barrier.modifiers):
            raise emitter.refuse(f"modifiers {'.'.join(barrier.modifiers)} are not supported")
        operands = barrier.operands
        if "red" in barrier.modifiers:
            operands = (operands[1], *operands[2:-1])
        if operands and operands[0] != Immediate(0):
            raise emitter.refuse("only barrier 0 is supported")
        if len(operands) > 1:
            raise emitter.refuse("barriers of part of a block are not supported")

    def _contribute(self, barrier: Instruction) -> None:
        """Add this warp's lanes to the reduction of `bar.red`; the result is read on resumption."""
        emitter = self.emitter
        target, source = barrier.operands[0], barrier.operands[-1]
        if any(self.analysis.needs_blend(name, emitter.block) for name in registers_of(target)):
            raise emitter.refuse("bar.red in divergent code is not supported")
        active = emitter.mask_bits
        bits = emitter.op("and", emitter.lane_bits(emitter.read(source, "pred")), active)
        all_set = emitter.cast("zext", emitter.compare("icmp eq", bits, active), "i32")
        any_set = emitter.cast("zext", emitter.compare("icmp ne", bits, integer(0, "i32")), "i32")
        for name, operation, value in (
            ("vote_or", "or", any_set),
            ("vote_and", "and", all_set),
            ("vote_count", "add", emitter.intrinsic("ctpop", bits)),
        ):
            pointer = self._vote(name, 0)
            old = emitter.define(f"load i32, ptr {pointer.ref}", "i32")
            emitter.line(f"store {emitter.op(operation, old, value)}, ptr {pointer.ref}")

    def _vote(self, name: str, rounds_ago: int) -> Value:
        """Where a reduction is kept: the rounds between barriers use two places in turn."""
        emitter = self.emitter
        number = worker_field(emitter, "round", "i32")
        odd = emitter.op(
            "and", emitter.op("add", number, integer(rounds_ago, "i32")), Value("1", "i32")
        )
        start = emitter.define(f"getelementptr i8, ptr %worker, i64 {WORKER[name]}", "ptr")
        return emitter.define(f"getelementptr i32, ptr {start.ref}, {odd}", "ptr")

    def _write_reduction(self, suspension: Suspension) -> None:
        emitter = self.emitter
        barrier = suspension.barrier
        emitter.block, emitter.instruction, emitter.guard = suspension.block, barrier, None
        kind = next(name for name in ("popc", "and", "or") if name in barrier.modifiers)
        pointer = self._vote({"popc": "vote_count"}.get(kind, f"vote_{kind}"), 1)
        result = emitter.define(f"load i32, ptr {pointer.ref}", "i32")
        if kind != "popc":
            result = emitter.cast("trunc", result, "i1")
        emitter.write(barrier.operands[0], result)

    def wait_type(self, block: int) -> Value:
        """Type of the word that says who waits for a block."""
        return Value("", "i32" if self.is_masked(block) else "i1")

    def saved(self, name: str, like: Value) -> Value:
        """Where the context keeps something of a warp that does not run."""
        if name not in self.context:
            size = max(4, BITS[like.type] // 8 * (WARP_SIZE if like.vector else 1))
            self.context[name] = self.context_size
            self.context_size += -(-size // 8) * 8
        return self.emitter.define(
            f"getelementptr i8, ptr %context, i64 {self.context[name]}", "ptr"
        )

    def emit_resumptions(self) -> None:
        """Emit the blocks that restore a suspended warp."""
        emitter = self.emitter
        for suspension in self.suspensions:
            emitter.label(f"resume{suspension.number}")
            for register in suspension.registers:
                slot, like = emitter.slot(register)
                pointer = self.saved(register, like)
                value = emitter.define(
                    f"load {like.llvm_type}, ptr {pointer.ref}, align 4", like.type, like.vector
                )
                emitter.line(f"store {value}, ptr {slot}")
            for other in suspension.waiting:
                like = self.wait_type(other)
                pointer = self.saved(f"wait {other}", like)
                value = emitter.define(f"load {like.type}, ptr {pointer.ref}", like.type)
                emitter.line(f"store {value}, ptr %wait{other}")
            for slot in self.checked():
                pointer = self.saved(slot, Value("", "i32"))
                value = emitter.define(f"load i32, ptr {pointer.ref}", "i32")
                emitter.line(f"store {value}, ptr {slot}")
            if "red" in suspension.barrier.modifiers:
                self._write_reduction(suspension)
            if self.is_masked(suspension.block):
                self._visit(suspension.block, suspension.target)
            else:
                emitter.line(f"br label %visit{suspension.target}")


@handles("trap brkpt", "stack-overflow no-function")
def emit_trap(emitter: Emitter, instruction: Instruction) -> None:
    """`trap`: end the kernel with an error; `subroutines` says of which kind."""
    codes = {"stack-overflow": FAULT_STACK, "no-function": FAULT_NO_FUNCTION}
    trap(emitter, codes.get("".join(instruction.modifiers), FAULT_TRAP))


@handles("nanosleep pmevent", "u32")
def emit_nothing(emitter: Emitter, instruction: Instruction) -> None:
    """Hints about time and profiling, to which doing nothing is a full answer."""
