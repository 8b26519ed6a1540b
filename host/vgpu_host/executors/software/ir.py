"""The form of a kernel between the PTX text and LLVM IR.

A `Body` is a flat list of labels and instructions with resolved names; `cfg` cuts it into blocks.
Registers carry the LLVM type that stores them, operands are small immutable values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

WARP_SIZE = 32
#: The register that holds the carry of extended-precision arithmetic (CC.CF).
CARRY = "%cc"
#: Steps that no PTX can spell; `holds` puts them in and says what they are for.
ARRIVE, AWAIT, BARRIER_RESULT = "barrier arrive", "barrier await", "barrier result"
SPIN, GATE = "spin pause", "sync gate"
#: Those at which lanes may stay; each begins a block.
HOLDS = frozenset((AWAIT, SPIN, GATE))
#: How registers begin that hold the lanes for which a gate has opened.
MEMBERS = "%members."

#: LLVM type that stores a PTX type. Half-precision values live in integers, as PTX does itself.
STORAGE = {
    "pred": "i1",
    **dict.fromkeys(("b8", "s8", "u8"), "i8"),
    **dict.fromkeys(("b16", "s16", "u16", "f16", "bf16"), "i16"),
    **dict.fromkeys(("b32", "s32", "u32", "f16x2", "bf16x2", "s16x2", "u16x2"), "i32"),
    **dict.fromkeys(("b64", "s64", "u64"), "i64"),
    "f32": "float",
    "f64": "double",
}
BITS = {"i1": 1, "i8": 8, "i16": 16, "i32": 32, "i64": 64, "float": 32, "double": 64, "half": 16}


def size_of(ptx_type: str) -> int:
    """Bytes that a value of a PTX fundamental type takes in memory."""
    return max(1, BITS[STORAGE[ptx_type]] // 8)


@dataclass(frozen=True, slots=True)
class Register:
    """A virtual register; `negated` for the `!%p` of a predicate operand."""

    name: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Special:
    """A read-only special register such as `%tid.x`."""

    name: str


@dataclass(frozen=True, slots=True)
class Immediate:
    """A literal: its bits, and `f32`/`f64` when written as a floating-point literal, else `int`."""

    bits: int
    kind: str = "int"


@dataclass(frozen=True, slots=True)
class Symbol:
    """The address of a variable, parameter or label, plus a byte offset."""

    name: str
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Address:
    """A memory operand `[base+offset]`; the offset is in bytes."""

    base: Register | Symbol | Immediate
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Vector:
    """A brace list `{a, b, ...}`."""

    items: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two destinations `value|predicate`."""

    first: Operand
    second: Operand


@dataclass(frozen=True, slots=True)
class Part:
    """An operand of a video instruction: bytes (`b0`, `b3210`) or halves (`h1`) of a word.

    Attributes:
        operand: The word.
        selector: The parts without the dot, "" for the whole word.
        negated: Whether `-` stands before it.
    """

    operand: Operand
    selector: str
    negated: bool = False


Operand: TypeAlias = Register | Special | Immediate | Symbol | Address | Vector | Pair | Part


@dataclass(slots=True)
class Instruction:
    """One PTX instruction with resolved operands; `position` is its offset in the module text."""

    opcode: str
    modifiers: tuple[str, ...]
    operands: tuple[Operand, ...]
    predicate: Register | None = None
    position: int = -1
    text: str = ""

    @property
    def type(self) -> str:
        """The last type modifier, which is the type of the operation."""
        for modifier in reversed(self.modifiers):
            if modifier in STORAGE:
                return modifier
        return ""


@dataclass(frozen=True, slots=True)
class Label:
    """A branch target."""

    name: str


@dataclass(slots=True)
class Variable:
    """A variable of a state space; `size` 0 for an `.extern` array."""

    name: str
    space: str
    type: str
    size: int
    alignment: int
    initializer: str = ""
    external: bool = False


@dataclass(frozen=True, slots=True)
class Parameter:
    """A formal parameter of a function, at `offset` in the parameter buffer."""

    name: str
    offset: int
    size: int
    alignment: int


@dataclass(slots=True)
class Body:
    """A parsed function: names are unique within it, scopes are gone."""

    name: str
    items: list[Label | Instruction] = field(default_factory=list)
    registers: dict[str, str] = field(default_factory=lambda: {CARRY: "i1"})
    variables: dict[str, Variable] = field(default_factory=dict)
    parameters: tuple[Parameter, ...] = ()
    returns: tuple[Parameter, ...] = ()
    max_threads: int = 0


_WITHOUT_RESULT = frozenset(
    [
        "st",
        "red",
        "bra",
        "brx",
        "ret",
        "exit",
        "trap",
        "membar",
        "fence",
        "call",
        "prefetch",
        "prefetchu",
        "nanosleep",
        "brkpt",
        "vprintf",
        "cp",
        "griddepcontrol",
        "applypriority",
        "discard",
        "__assertfail",
        "pmevent",
        "stmatrix",
        "setmaxnreg",
        AWAIT,
        SPIN,
    ]
)


_MBARRIER_RESULTS = {"arrive", "arrive_drop", "test_wait", "try_wait", "pending_count"}
_READS_CARRY = frozenset(("addc", "subc", "madc"))


def has_result(instruction: Instruction) -> bool:
    """Whether the first operand is written."""
    if instruction.opcode in ("bar", "barrier"):
        return "red" in instruction.modifiers
    if instruction.opcode == "mbarrier":
        return bool(_MBARRIER_RESULTS & set(instruction.modifiers))
    if instruction.opcode == "wmma":
        return "store" not in instruction.modifiers
    if instruction.opcode == "wgmma":
        return "mma_async" in instruction.modifiers
    return instruction.opcode not in _WITHOUT_RESULT


def registers_of(operand: Operand) -> list[str]:
    """Names of the registers an operand mentions."""
    match operand:
        case Register(name):
            return [name] if name != "_" else []
        case Address(Register(name)):
            return [name]
        case Vector(items):
            return [name for item in items for name in registers_of(item)]
        case Pair(first, second):
            return registers_of(first) + registers_of(second)
        case Part(inner):
            return registers_of(inner)
    return []


def definitions(instruction: Instruction) -> list[str]:
    """Registers that an instruction writes."""
    if not instruction.operands or not has_result(instruction):
        return []
    written = registers_of(instruction.operands[0])
    return [*written, CARRY] if "cc" in instruction.modifiers else written


def uses(instruction: Instruction) -> list[str]:
    """Registers that an instruction reads, its predicate included."""
    sources = instruction.operands[1:] if has_result(instruction) else instruction.operands
    names = [name for operand in sources for name in registers_of(operand)]
    if instruction.opcode == "wgmma" and has_result(instruction):
        names += registers_of(instruction.operands[0])  # it adds to them
    if instruction.opcode in _READS_CARRY:
        names.append(CARRY)
    if instruction.predicate:
        names.append(instruction.predicate.name)
    return names
