"""The stages of a kernel's translation as text for people.

Each stage is what the next ones start from: the pieces of the text, the body with its calls
inlined, the flow graph, what is known of registers and memory, LLVM IR, the IR as optimised, and
assembly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum

from .affine import Row
from .cfg import Block
from .codegen.subnormals import Flushing, flushing_of
from .errors import CudaResult, PtxError
from .index import ModuleSource
from .ir import (
    WARP_SIZE,
    Address,
    Body,
    Immediate,
    Instruction,
    Label,
    Operand,
    Pair,
    Part,
    Register,
    Special,
    Symbol,
    Vector,
    definitions,
)
from .jit import Compiler
from .ptx_text import cut
from .translator import Lowering, refusals
from .uniformity import Analysis

_FLUSHING = {
    Flushing.NEVER: "kept",
    Flushing.THREAD: "flushed, as a mode of the host thread",
    Flushing.INSTRUCTION: "flushed by the instructions that ask for it",
}


class Stage(StrEnum):
    """A stage of translation, in their order."""

    TOKENS = "tokens"
    BODY = "body"
    BLOCKS = "blocks"
    LIVENESS = "liveness"
    UNIFORMITY = "uniformity"
    LAYOUT = "layout"
    LLVM = "llvm"
    OPTIMIZED = "optimized"
    ASSEMBLY = "assembly"


class KernelDump:
    """Shows the stages of one kernel; every stage is made once."""

    def __init__(self, source: ModuleSource, name: str, lowering: Lowering) -> None:
        self._source = source
        self._name = name
        self._lowering = lowering
        self._shown: tuple[str, str] | None = None

    def show(self, stage: Stage) -> str:
        """A stage as text that ends with a newline.

        Raises:
            PtxError: The kernel is refused before or at this stage.
        """
        try:
            with refusals(self._source, self._name):
                return self._show(stage)
        except RuntimeError as error:
            log = f"{self._name}: types do not fit together: {error}"
            raise PtxError(CudaResult.INVALID_PTX, log) from error

    def _show(self, stage: Stage) -> str:
        lowering = self._lowering
        match stage:
            case Stage.TOKENS:
                return _text(format_pieces(self._source, self._name))
            case Stage.BODY:
                return _text(format_body(lowering.body, self._source))
            case Stage.BLOCKS:
                return _text(format_blocks(lowering.analysis.blocks))
            case Stage.LIVENESS:
                return _text(format_liveness(lowering))
            case Stage.UNIFORMITY:
                return _text(format_uniformity(lowering.body, lowering.analysis))
            case Stage.LAYOUT:
                return _text(format_layout(lowering))
            case Stage.LLVM:
                return lowering.text.llvm
            case Stage.OPTIMIZED:
                return self._compiled()[0]
            case Stage.ASSEMBLY:
                return self._compiled()[1]

    def _compiled(self) -> tuple[str, str]:
        if self._shown is None:
            text = self._lowering.text
            self._shown = Compiler().show(text.llvm, optimize=not text.is_large)
        return self._shown


def _text(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"


def format_pieces(source: ModuleSource, name: str) -> Iterator[str]:
    """The pieces of a function's text, each with its line."""
    function = source.functions[name]
    for piece in cut(source.text, function.body_start, function.body_end):
        text = f"{piece.label} {' '.join(piece.text.split())}".strip()
        yield f"{source.line(piece.position):>6}  {piece.kind.name.lower():<9}  {text}".rstrip()


def format_operand(operand: Operand) -> str:
    """An operand as PTX has it, with the names that are unique in the kernel."""
    match operand:
        case Register(name, negated):
            return f"!{name}" if negated else name
        case Special(name):
            return name
        case Immediate(bits, "f32"):
            return f"0f{bits:08X}"
        case Immediate(bits, "f64"):
            return f"0d{bits:016X}"
        case Immediate(bits):
            return str(bits)
        case Symbol(name, offset):
            return f"{name}{offset:+}" if offset else name
        case Address(base, offset):
            return f"[{format_operand(base)}{f'{offset:+}' if offset else ''}]"
        case Vector(items):
            return "{" + ", ".join(map(format_operand, items)) + "}"
        case Pair(first, second):
            return f"{format_operand(first)}|{format_operand(second)}"
        case Part(inner, selector, negated):
            return f"{'-' * negated}{format_operand(inner)}{selector and '.' + selector}"


def format_instruction(instruction: Instruction) -> str:
    """An instruction as PTX has it."""
    guard = f"@{format_operand(instruction.predicate)} " if instruction.predicate else ""
    name = ".".join((instruction.opcode, *instruction.modifiers))
    operands = ", ".join(map(format_operand, instruction.operands))
    return f"{guard}{name} {operands}".rstrip()


def format_body(body: Body, source: ModuleSource) -> Iterator[str]:
    """Parameters, variables and instructions, each with its line of the PTX text."""
    limit = f", at most {body.max_threads} threads a block" if body.max_threads else ""
    yield f"kernel {body.name}{limit}"
    for parameter in body.parameters:
        yield f"  parameter {parameter.name}: {parameter.size} bytes at {parameter.offset}"
    for variable in body.variables.values():
        size = f"{variable.size} bytes" if variable.size else "dynamic size"
        yield f"  {variable.space} {variable.name}: {size}, aligned to {variable.alignment}"
    for item in body.items:
        if isinstance(item, Label):
            yield f"{item.name}:"
        else:
            line = source.line(item.position) if item.position >= 0 else ""
            yield f"{line:>6}  {format_instruction(item)}"


def format_blocks(blocks: Sequence[Block]) -> Iterator[str]:
    """The flow graph, in the order in which blocks are run."""
    for index, block in enumerate(blocks):
        where = " or ".join(map(str, block.successors)) or "the end"
        yield f"block {index}, then {where}" + (" (in a loop)" if block.in_loop else "")
        yield from (f"    {format_instruction(instruction)}" for instruction in block.instructions)


def format_liveness(lowering: Lowering) -> Iterator[str]:
    """Registers whose value may still be read when a block starts."""
    for index, live in enumerate(lowering.analysis.live):
        yield from _wrapped(f"block {index}: ", _by_number(live) or ["nothing"])
    yield f"32-bit registers that are live at once: {lowering.registers}"


def format_uniformity(body: Body, analysis: Analysis) -> Iterator[str]:
    """What is the same in all lanes of a warp, and where lanes may part and wait."""
    kinds: dict[str, list[str]] = defaultdict(list)
    instructions = [each for block in analysis.blocks for each in block.instructions]
    for name in _by_number({name for each in instructions for name in definitions(each)}):
        kind = "vector" if name in analysis.vectors else "uniform"
        if name in analysis.rows:
            kind = "row"
        elif name in analysis.hints:
            kind = "vector, likely a row"
        row = analysis.rows.get(name) or analysis.hints.get(name)
        offsets = f", {_offsets(row)}" if row else ""
        kinds[f"{kind} {body.registers[name]}{offsets}: "].append(name)
    for head, names in sorted(kinds.items()):
        yield from _wrapped(head, names)
    for instruction in instructions:
        if id(instruction) in analysis.assumed:
            yield f"assumes that no lane's sum wraps: {format_instruction(instruction)}"
    if analysis.constants:
        constants = [f"{name}={value}" for name, value in sorted(analysis.constants.items())]
        yield from _wrapped("constant: ", constants)
    for index, block in enumerate(analysis.blocks):
        yield (
            f"block {index}: "
            + (
                "for some lanes of a warp"
                if index in analysis.masked
                else "for all lanes of a warp"
            )
            + (", which may part at its end" if index in analysis.divergent else "")
        )
        if waiting := analysis.waiting.get(index):
            yield f"    others may wait at: {', '.join(map(str, waiting))}"
        blended = {
            name
            for instruction in block.instructions
            for name in definitions(instruction)
            if index in analysis.masked and analysis.needs_blend(name, index)
        }
        if blended:
            yield from _wrapped("    keeps values of others in: ", _by_number(blended))


def _offsets(row: Row) -> str:
    """What lanes add to the base of a row."""
    step = row.offsets[1] - row.offsets[0]
    if row.offsets == tuple(step * lane for lane in range(WARP_SIZE)):
        return "base + lane" if step == 1 else f"base + {step} x lane"
    return f"base + {' '.join(map(str, row.offsets))}"


def format_layout(lowering: Lowering) -> Iterator[str]:
    """Where parameters and variables are, and what becomes of subnormal numbers."""
    layout = lowering.frame
    yield f"parameters: {layout.parameter_size} bytes"
    yield from (f"    {name} at {offset}" for name, offset in layout.parameters.items())
    for space, table, size in (
        ("shared", layout.shared, layout.shared_size),
        ("local", layout.local, layout.local_size),
    ):
        yield f"{space} memory: {size} bytes"
        yield from (f"    {name} at {offset}" for name, offset in table.items())
    if layout.globals:
        yield from _wrapped("module variables: ", layout.globals)
    yield f"subnormals of single precision: {_FLUSHING[flushing_of(lowering.body)]}"


def _by_number(names: Iterable[str]) -> list[str]:
    """Names in order, %r2 before %r10."""

    def key(name: str) -> tuple[str, int, str]:
        stem = name.rstrip("0123456789")
        return stem, int(name[len(stem) :] or 0), name

    return sorted(names, key=key)


def _wrapped(head: str, words: Sequence[str], width: int = 100) -> Iterator[str]:
    line = head
    for word in words:
        if len(line) + len(word) > width and line.strip():
            yield line.rstrip()
            line = " " * len(head)
        line += f"{word} "
    yield line.rstrip()
