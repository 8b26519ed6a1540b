"""Holds: blocks at which lanes stay until a barrier, a member mask or another warp lets them go on.

The scheduler of `control` visits a hold like any block and runs it for the lanes that may pass; the
others stay. When nobody can go on the warp *stalls*: it saves itself and returns, and the driver
loop of `concurrent` calls it again after the other warps. `vgpu_host.executors.software.holds` says
what the holds are for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vgpu_host.executors.software.cfg import Block
from vgpu_host.executors.software.ir import (
    ARRIVE,
    AWAIT,
    BARRIER_RESULT,
    GATE,
    SPIN,
    Immediate,
    Instruction,
    Operand,
    Register,
    Vector,
)

from .access import end_kernel
from .concurrent import BLOCKED, MOVED
from .emitter import Value, integer
from .state import FAULT_TRAP, WORKER

if TYPE_CHECKING:
    from .control import ControlFlow

#: Rounds of a loop that waits for other threads, before the warp lets them run.
_SPINS = 64
_ZERO = integer(0, "i32")
_STEPS = frozenset((ARRIVE, AWAIT, BARRIER_RESULT, GATE, SPIN))


def needs_holds(blocks: list[Block]) -> bool:
    """Whether a kernel has any of the steps that no PTX can spell."""
    return any(i.opcode in _STEPS for block in blocks for i in block.instructions)


class Holds:
    """Emits the holds of a kernel and what belongs to them."""

    def __init__(self, flow: ControlFlow) -> None:
        self._flow = flow
        self._emitter = flow.emitter
        self._blocks = flow.blocks
        self._all = [index for index, block in enumerate(flow.blocks) if block.hold]
        self._masked = [index for index in self._all if flow.is_masked(index)]
        analysis = flow.analysis
        self._meets = [
            index
            for index, block in enumerate(flow.blocks)
            if not flow.is_masked(index)
            and not block.hold
            and any(
                origin in analysis.masked or origin in analysis.divergent
                for origin in block.predecessors
            )
        ]
        stops = [*self._all, *self._meets]
        self._first = min(stops, default=len(flow.blocks))
        self._stops = sorted(stops)
        self._alive = self._slot("lanes alive", "i32")
        self._stuck = self._slot("lanes stuck", "i32")
        self._budget = self._slot("spins left", "i32")
        self._progress = self._slot("progress", "i1")
        self._moved = self._slot("moved", "i1")

    def _slot(self, name: str, type_: str) -> str:
        return self._emitter.stack(name, type_)

    # -- visiting ---------------------------------------------------------------------------------

    def enter(self, index: int) -> None:
        """Begin a hold: run it for the lanes that may pass."""
        emitter = self._emitter
        step = self._blocks[index].instructions[0]
        emitter.instruction, emitter.guard = step, None
        if self._flow.is_masked(index):
            bits = emitter.define(f"load i32, ptr %wait{index}", "i32")
            empty = emitter.compare("icmp eq", bits, _ZERO)
            emitter.line(f"br {empty}, label %visit{index + 1}, label %check{index}")
            emitter.label(f"check{index}")
            ready = self._ready_lanes(step, bits)
            rest = emitter.op("and", bits, emitter.invert(ready))
            emitter.line(f"store {rest}, ptr %wait{index}")
            none = emitter.compare("icmp eq", ready, _ZERO)
            emitter.line(f"br {none}, label %visit{index + 1}, label %run{index}")
            emitter.label(f"run{index}")
            emitter.mask_bits = ready
            emitter.mask = emitter.define(f"bitcast {ready} to <32 x i1>", "i1", True)
        else:
            self.enter_meet(index, f"check{index}")
            emitter.label(f"check{index}")
            passes = self._passes(step)
            emitter.line(f"br {passes}, label %run{index}, label %visit{index + 1}")
            emitter.label(f"run{index}")
            emitter.line(f"store i1 false, ptr %wait{index}")
            emitter.mask_bits = Value("%mask.start.bits", "i32")
            emitter.mask = Value("%mask.start", "i1", True)
        emitter.line(f"store i1 true, ptr {self._progress}")
        emitter.line(f"store i1 true, ptr {self._moved}")
        self._publish_stuck(_ZERO)
        if emitter.instruments and step.opcode == AWAIT:
            emitter.instruments.passes()

    def enter_meet(self, index: int, following: str) -> None:
        """Go on at `following` if a block is due and no lanes are held, who belong there too."""
        emitter = self._emitter
        pending = emitter.define(f"load i1, ptr %wait{index}", "i1")
        if not self._masked:
            emitter.line(f"br {pending}, label %{following}, label %visit{index + 1}")
            return
        emitter.line(f"br {pending}, label %meet{index}, label %visit{index + 1}")
        emitter.label(f"meet{index}")
        none = emitter.compare("icmp eq", self._held(self._masked), _ZERO)
        emitter.line(f"br {none}, label %{following}, label %stall")

    def _held(self, holds: list[int]) -> Value:
        """Lanes that some masked holds keep back."""
        emitter = self._emitter
        bits = _ZERO
        for index in holds:
            waiting = emitter.define(f"load i32, ptr %wait{index}", "i32")
            bits = emitter.op("or", waiting, bits)
        return bits

    def _ready_lanes(self, step: Instruction, bits: Value) -> Value:
        emitter = self._emitter
        if step.opcode == GATE:
            return self._gate(step, bits)
        if step.opcode == AWAIT:
            token = emitter.read(step.operands[0], "b64")
            if token.vector:
                return self._passed_lanes(token, bits)
        return emitter.select(self._passes(step), bits, _ZERO)

    def _passed_lanes(self, token: Value, bits: Value) -> Value:
        emitter = self._emitter
        slot = self._slot("token lanes", "<32 x i64>")
        emitter.line(f"store {token}, ptr {slot}")
        return emitter.define(
            f"call i32 @barrier_passed_lanes(ptr %worker, ptr {slot}, {bits})", "i32"
        )

    def _passes(self, step: Instruction) -> Value:
        """Whether all lanes may pass a hold that does not tell them apart."""
        emitter = self._emitter
        if step.opcode == AWAIT:
            token = emitter.read(step.operands[0], "b64")
            if token.vector:
                bits = Value("%mask.start.bits", "i32")
                return emitter.compare("icmp eq", self._passed_lanes(token, bits), bits)
            return emitter.define(f"call i1 @barrier_passed(ptr %worker, {token})", "i1")
        assert step.opcode == SPIN, step.opcode
        left = emitter.define(f"load i32, ptr {self._budget}", "i32")
        some = emitter.compare("icmp ne", left, _ZERO)
        less = emitter.op("sub", left, emitter.cast("zext", some, "i32"))
        emitter.line(f"store {less}, ptr {self._budget}")
        return some

    # -- member masks -----------------------------------------------------------------------------

    def _class(self, step: Instruction) -> list[int]:
        return [
            index
            for index in self._masked
            if self._blocks[index].hold == GATE
            and self._blocks[index].instructions[0].modifiers == step.modifiers
        ]

    def _opened(self, step: Instruction) -> str:
        return self._slot(f"open {step.modifiers[0]}", "i32")

    def _gate(self, step: Instruction, bits: Value) -> Value:
        """Lanes that may pass: all those that their masks name have arrived, or are gone."""
        emitter = self._emitter
        going = emitter.define(f"load i32, ptr {self._opened(step)}", "i32")
        arrived = emitter.op("and", self._held(self._class(step)), emitter.invert(going))
        alive = emitter.define(f"load i32, ptr {self._alive}", "i32")
        missing = emitter.op("and", alive, emitter.invert(arrived))
        mask = emitter.read(step.operands[1], "b32")
        complete = emitter.compare("icmp eq", emitter.op("and", mask, missing), _ZERO)
        if mask.vector:
            ready = emitter.op("and", emitter.lane_bits(complete), bits)
            chosen = emitter.define(f"bitcast {ready} to <32 x i1>", "i1", True)
            named = emitter.select(chosen, mask, _ZERO)
            union = "llvm.vector.reduce.or.v32i32"
            emitter.declarations.add(f"declare i32 @{union}(<32 x i32>)")
            new = emitter.define(f"call i32 @{union}({named})", "i32")
        else:
            new = emitter.select(complete, emitter.op("or", mask, bits), _ZERO)
        self._open(step, emitter.op("and", new, arrived))
        opened = emitter.define(f"load i32, ptr {self._opened(step)}", "i32")
        left = emitter.op("and", opened, emitter.invert(bits))
        emitter.line(f"store {left}, ptr {self._opened(step)}")
        return emitter.op("and", opened, bits)

    def _open(self, step: Instruction, lanes: Value) -> None:
        """Let lanes of a class pass, and show what they have put down."""
        emitter = self._emitter
        slot = self._opened(step)
        opened = emitter.define(f"load i32, ptr {slot}", "i32")
        emitter.line(f"store {emitter.op('or', opened, lanes)}, ptr {slot}")
        chosen = emitter.define(f"bitcast {lanes} to <32 x i1>", "i1", True)
        shown = step.operands[0]
        assert isinstance(shown, Vector)
        members = emitter.op("and", emitter.read(step.operands[1], "b32"), lanes)
        self._show(shown.items[0], chosen, members)
        if len(step.operands) > 2:
            self._show(shown.items[1], chosen, emitter.read(step.operands[2], "b64"))

    def _show(self, post: Operand, lanes: Value, value: Value) -> None:
        emitter = self._emitter
        assert isinstance(post, Register)
        place, like = emitter.slot(post.name)
        new = emitter.widen(emitter.resize(value, like.type))
        old = emitter.load_register(post.name)
        emitter.line(f"store {emitter.select(lanes, new, old)}, ptr {place}")

    # -- the end of a round -----------------------------------------------------------------------

    def leave(self, lanes: Value) -> None:
        """Lanes end."""
        emitter = self._emitter
        alive = emitter.define(f"load i32, ptr {self._alive}", "i32")
        emitter.line(f"store {emitter.op('and', alive, emitter.invert(lanes))}, ptr {self._alive}")
        self._add("live", emitter.op("sub", _ZERO, emitter.intrinsic("ctpop", lanes)))

    def _add(self, field: str, amount: Value) -> None:
        emitter = self._emitter
        place = emitter.define(f"getelementptr i8, ptr %worker, i64 {WORKER[field]}", "ptr")
        old = emitter.define(f"load i32, ptr {place.ref}", "i32")
        emitter.line(f"store {emitter.op('add', old, amount)}, ptr {place.ref}")

    def _publish_stuck(self, lanes: Value) -> None:
        """Say how many lanes cannot come to a barrier before others of their warp have passed it.

        They wait where the ways of the warp meet. A barrier of the whole block takes them for
        arrived, as GPUs do that count warps.
        """
        if not any(self._blocks[index].hold == AWAIT for index in self._masked):
            return
        emitter = self._emitter
        old = emitter.define(f"load i32, ptr {self._stuck}", "i32")
        emitter.line(f"store {lanes}, ptr {self._stuck}")
        self._add("stuck", emitter.op("sub", lanes, old))

    def emit_end(self) -> None:
        """End a visit of all blocks: the kernel is over, or somebody is held."""
        emitter = self._emitter
        held = self._held(self._masked)
        for index in self._all:
            if index not in self._masked:
                pending = emitter.define(f"load i1, ptr %wait{index}", "i1")
                held = emitter.op("or", emitter.cast("zext", pending, "i32"), held)
        none = emitter.compare("icmp eq", held, _ZERO)
        emitter.line(f"br {none}, label %done, label %stall")
        emitter.label("stall")
        progress = emitter.define(f"load i1, ptr {self._progress}", "i1")
        emitter.line(f"store i1 false, ptr {self._progress}")
        emitter.line(f"br {progress}, label %visit{self._first}, label %idle")
        emitter.label("idle")
        self._force_gates()
        self._suspend()

    def _force_gates(self) -> None:
        """Let the lanes of a gate go on alone when those that are missing cannot come any more."""
        emitter = self._emitter
        gates = [index for index in self._masked if self._blocks[index].hold == GATE]
        if not gates:
            return
        others = self._held([index for index in self._masked if index not in gates])
        none = emitter.compare("icmp eq", others, _ZERO)
        emitter.line(f"br {none}, label %force{gates[0]}, label %suspend")
        for index, following in zip(gates, [*gates[1:], None], strict=True):
            emitter.label(f"force{index}")
            bits = emitter.define(f"load i32, ptr %wait{index}", "i32")
            some = emitter.compare("icmp ne", bits, _ZERO)
            onward = "suspend" if following is None else f"force{following}"
            emitter.line(f"br {some}, label %forced{index}, label %{onward}")
            emitter.label(f"forced{index}")
            step = self._blocks[index].instructions[0]
            emitter.instruction = step
            if emitter.instruments:
                emitter.instruments.gives_up(bits)
            self._open(step, self._held(self._class(step)))
            emitter.line(f"br label %visit{self._first}")
        emitter.label("suspend")

    def _suspend(self) -> None:
        emitter = self._emitter
        awaiting = [index for index in self._masked if self._blocks[index].hold == AWAIT]
        if awaiting:
            alive = emitter.define(f"load i32, ptr {self._alive}", "i32")
            stuck = emitter.op("and", alive, emitter.invert(self._held(self._masked)))
            some = emitter.compare("icmp ne", self._held(awaiting), _ZERO)
            count = emitter.select(some, emitter.intrinsic("ctpop", stuck), _ZERO)
            self._publish_stuck(count)
        for place, name, like in self._state():
            value = emitter.define(f"load {like.llvm_type}, ptr {place}", like.type, like.vector)
            pointer = self._flow.saved(name, like)
            emitter.line(f"store {value}, ptr {pointer.ref}, align 4")
        moved = emitter.define(f"load i1, ptr {self._moved}", "i1")
        result = emitter.select(moved, integer(MOVED, "i32"), integer(BLOCKED, "i32"))
        emitter.line(f"ret {result}")

    def _state(self) -> list[tuple[str, str, Value]]:
        """What a stalled warp keeps: place, name in the context, and type."""
        flow = self._flow
        state = [
            (self._alive, "lanes alive", Value("", "i32")),
            (self._stuck, "lanes stuck", Value("", "i32")),
        ]
        for slot in flow.checked():
            state.append((slot, slot, Value("", "i32")))
        for index in self._stops:
            state.append((f"%wait{index}", f"wait {index}", flow.wait_type(index)))
        live = {name for index in self._stops for name in flow.analysis.live[index]}
        for register in sorted(live - flow.resident):
            slot, like = self._emitter.slot(register)
            state.append((slot, register, like))
        return state

    def emit_resumption(self) -> None:
        """Emit the block at which a stalled warp goes on."""
        emitter = self._emitter
        emitter.label("resume.held")
        for place, name, like in self._state():
            pointer = self._flow.saved(name, like)
            value = emitter.define(
                f"load {like.llvm_type}, ptr {pointer.ref}, align 4", like.type, like.vector
            )
            emitter.line(f"store {value}, ptr {place}")
        emitter.line(f"br label %visit{self._first}")

    def emit_start(self) -> list[str]:
        """Set up what every call needs; returns what a warp needs that starts."""
        self._emitter.line(f"store i32 {_SPINS}, ptr {self._budget}")
        return [
            f"store i32 %mask.start.bits, ptr {self._alive}",
            f"store i1 true, ptr {self._moved}",
        ]

    # -- barriers ---------------------------------------------------------------------------------

    def emit_step(self, instruction: Instruction) -> bool:
        """Emit a step that is no instruction of PTX; says whether it was one."""
        if instruction.opcode not in _STEPS:
            return False
        emitter = self._emitter
        emitter.instruction, emitter.guard = instruction, None
        if instruction.opcode == ARRIVE:
            self._arrive(instruction)
        elif instruction.opcode == BARRIER_RESULT:
            self._write_result(instruction)
        return True

    def _arrive(self, step: Instruction) -> None:
        emitter = self._emitter
        self._check_modifiers(step)
        if emitter.instruments:
            emitter.instruments.arrives(step)
        target, *numbers = step.operands[:3]
        number, count = (emitter.read(operand, "b32") for operand in numbers)
        self._check_range(numbers[0], number, 15, 0, "barrier numbers go from 0 to 15")
        self._check_range(
            numbers[1], count, 1024, 31, "the threads of a barrier are a multiple of 32"
        )
        bits = emitter.mask_bits
        votes = _ZERO
        if len(step.operands) > 3:
            votes = emitter.lane_bits(emitter.read(step.operands[3], "pred"))
        aligned = integer("aligned" in step.modifiers, "i1")
        alive = emitter.define(f"load i32, ptr {self._alive}", "i32")
        common = f"{bits}, {alive}, {aligned}, {votes}"
        if not number.vector and not count.vector:
            token = emitter.define(
                f"call i64 @barrier_arrive(ptr %worker, {number}, {count}, {common})", "i64"
            )
            emitter.write(target, token)
            return
        slots = []
        for name, value in (("number", number), ("count", count)):
            slots.append(self._slot(f"barrier {name}", "<32 x i32>"))
            emitter.line(f"store {emitter.widen(value)}, ptr {slots[-1]}")
        tokens = self._slot("barrier tokens", "<32 x i64>")
        emitter.line(
            f"call void @barrier_arrive_lanes(ptr %worker, ptr {slots[0]}, ptr {slots[1]}, "
            f"ptr {tokens}, {common})"
        )
        emitter.write(target, emitter.define(f"load <32 x i64>, ptr {tokens}", "i64", True))

    def _check_modifiers(self, step: Instruction) -> None:
        allowed = {"sync", "arrive", "red", "popc", "and", "or", "u32", "pred", "aligned", "cta"}
        unknown = set(step.modifiers) - allowed
        if unknown or not {"sync", "arrive", "red"} & set(step.modifiers):
            raise self._emitter.refuse(f"modifiers {'.'.join(step.modifiers)} are not supported")
        if "arrive" in step.modifiers and step.operands[2] == Immediate(0):
            raise self._emitter.refuse("bar.arrive needs a number of threads")

    def _check_range(self, operand: object, value: Value, most: int, odd: int, reason: str) -> None:
        """Refuse a literal that is no such number; end the kernel at a value that is none."""
        emitter = self._emitter
        if isinstance(operand, Immediate):
            if operand.bits > most or operand.bits & odd:
                raise emitter.refuse(reason)
            return
        wrong = emitter.compare("icmp ugt", value, integer(most, "i32"))
        if odd:
            part = emitter.op("and", value, integer(odd, "i32"))
            wrong = emitter.op("or", wrong, emitter.compare("icmp ne", part, _ZERO))
        if value.vector:
            bad = emitter.op("and", emitter.lane_bits(wrong), emitter.mask_bits)
        else:
            bad = emitter.select(wrong, emitter.mask_bits, _ZERO)
        end_kernel(emitter, bad, integer(0, "i64"), FAULT_TRAP)

    def _write_result(self, step: Instruction) -> None:
        """`bar.red`: what the lanes of the barrier have voted."""
        emitter = self._emitter
        target, token_operand = step.operands
        token = emitter.read(token_operand, "b64")
        if token.vector:
            lane = emitter.intrinsic("cttz", emitter.mask_bits, extra="i1 false")
            token = emitter.define(f"extractelement {token}, {lane}", "i64")
        kind = next(name for name in ("popc", "and", "or") if name in step.modifiers)
        result = emitter.define(f"call i32 @barrier_{kind}(ptr %worker, {token})", "i32")
        if kind != "popc":
            result = emitter.cast("trunc", result, "i1")
        emitter.write(target, result)
