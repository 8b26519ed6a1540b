"""Table of the instructions that can be translated: opcode to handler and allowed modifiers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vgpu_host.executors.software.ir import Instruction

from .emitter import Emitter
from .fallback import assume_no_wrap

Handler = Callable[[Emitter, Instruction], None]


@dataclass(frozen=True, slots=True)
class Entry:
    """A handler and the modifiers that it understands; any other modifier is refused."""

    handler: Handler
    modifiers: frozenset[str]


TABLE: dict[str, Entry] = {}

INTEGERS = "u16 s16 u32 s32 u64 s64"
BITS = "b16 b32 b64"
FLOATS = "f16 f16x2 bf16 bf16x2 f32 f64"


def handles(opcodes: str, modifiers: str) -> Callable[[Handler], Handler]:
    """Register a handler for some opcodes (blank separated) with the modifiers it understands."""

    def register(handler: Handler) -> Handler:
        for opcode in opcodes.split():
            TABLE[opcode] = Entry(handler, frozenset(modifiers.split()))
        return handler

    return register


def emit(emitter: Emitter, instruction: Instruction) -> None:
    """Translate one instruction that is not a branch.

    Raises:
        UnsupportedError: no handler, or a modifier that the handler does not understand.
    """
    emitter.instruction = instruction
    entry = TABLE.get(instruction.opcode)
    if entry is None:
        raise emitter.refuse(
            f"instruction {instruction.opcode} is not supported: no profile has it"
        )
    unknown = [name for name in instruction.modifiers if name not in entry.modifiers]
    if unknown:
        raise emitter.refuse(f"modifier .{unknown[0]} of {instruction.opcode} is not supported")
    emitter.guard = None
    if instruction.predicate:
        emitter.guard = emitter.read(instruction.predicate, "pred")
    if emitter.instruments:
        emitter.instruments.before(instruction)
    emitter.by_base = id(instruction) in emitter.analysis.by_base or (
        emitter.version is not None and id(instruction) in emitter.version.rows
    )
    if id(instruction) in emitter.analysis.assumed:
        assume_no_wrap(emitter, instruction)
    try:
        entry.handler(emitter, instruction)
    except (ArithmeticError, LookupError, ValueError, StopIteration):
        raise emitter.refuse("wrong number or kind of operands or modifiers") from None
    emitter.guard = None
    emitter.by_base = False
