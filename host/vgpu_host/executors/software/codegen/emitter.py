"""Writes LLVM IR text for one kernel: values, casts, register reads and writes.

A `Value` is either a scalar that all lanes share or a vector of 32 lanes; operations on mixed
operands widen the scalar. Instruction families build on this class and know nothing of masks beyond
`active`, the lanes that take part in the current instruction.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vgpu_host.executors.software.errors import UnsupportedError
from vgpu_host.executors.software.ir import (
    BITS,
    STORAGE,
    WARP_SIZE,
    Body,
    Immediate,
    Instruction,
    Operand,
    Register,
    Special,
    Symbol,
)
from vgpu_host.executors.software.layout import Layout
from vgpu_host.executors.software.translation import Translation
from vgpu_host.executors.software.uniformity import Analysis
from vgpu_host.executors.software.zeros import Zeros

from .subnormals import Flushing, flushing_of, is_flushed_by_instruction

if TYPE_CHECKING:
    from vgpu_host.executors.software.affine import Row
    from vgpu_host.executors.software.versions import Version

    from .instrument import Instruments

LANES = range(WARP_SIZE)


@dataclass(frozen=True, slots=True)
class Value:
    """An LLVM value: its text, its element type and whether it is a 32-lane vector."""

    ref: str
    type: str
    vector: bool = False

    @property
    def llvm_type(self) -> str:
        """The LLVM type of the whole value."""
        return f"<{WARP_SIZE} x {self.type}>" if self.vector else self.type

    def __str__(self) -> str:
        return f"{self.llvm_type} {self.ref}"


def integer(number: int, type_: str) -> Value:
    """A scalar integer constant, wrapped to the width of its type."""
    bits = BITS[type_]
    if bits == 1:
        return Value("true" if number & 1 else "false", type_)
    number &= (1 << bits) - 1
    return Value(str(number - (1 << bits) if number >> (bits - 1) else number), type_)


def real(number: float, type_: str = "float") -> Value:
    """A scalar floating-point constant."""
    if type_ == "float":
        number = struct.unpack("<f", struct.pack("<f", number))[0]
    return Value(f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}", type_)


def lanes(numbers: list[int], type_: str) -> Value:
    """A constant vector with one integer per lane."""
    items = ", ".join(str(integer(number, type_)) for number in numbers)
    return Value(f"<{items}>", type_, True)


class Emitter:
    """Text of one LLVM function under construction."""

    def __init__(
        self,
        body: Body,
        analysis: Analysis,
        layout: Layout,
        translation: Translation,
        read_special: Callable[[Emitter, str], Value],
    ) -> None:
        self.read_special = read_special
        self.body = body
        self.analysis = analysis
        self.zeros = Zeros(analysis.blocks, analysis.constants)
        self.layout = layout
        self.translation = translation
        #: What checkers add, if there are any.
        self.instruments: Instruments | None = None
        self.lines: list[str] = []
        self.cold: list[str] = []
        self.allocas: dict[str, str] = {}
        self.declarations: set[str] = set()
        self.functions: dict[str, str] = {}
        self.counter = 0
        self.block = 0
        #: Registers that were written in this block, and those of them that are in their slots.
        self._written: dict[str, Value] = {}
        self._stored: set[str] = set()
        #: Registers that other blocks may read; None for any.
        self._lasting: frozenset[str] | None = None
        self.mask = Value("%mask.start", "i1", True)
        self.mask_bits = Value("%mask.start.bits", "i32")
        self.guard: Value | None = None
        #: Whether registers that are rows are read and written as their bases.
        self.by_base = False
        #: The version of the block that is emitted, and vectors that are rows there for now.
        self.version: Version | None = None
        self.rows_now: dict[str, Row] = {}
        self._bases: dict[str, Value] = {}
        self.flushing = flushing_of(body)
        self.instruction = Instruction("", (), ())

    # -- text -------------------------------------------------------------------------------------

    def line(self, text: str) -> None:
        """Append one line."""
        self.lines.append(text)

    def name(self, stem: str = "t") -> str:
        """A fresh local name without the `%`."""
        self.counter += 1
        return f"{stem}{self.counter}"

    def define(self, expression: str, type_: str, vector: bool = False) -> Value:
        """Append `%x = expression` and return it as a value."""
        name = self.name()
        self.lines.append(f"%{name} = {expression}")
        return Value(f"%{name}", type_, vector)

    def label(self, name: str) -> None:
        """Start a new LLVM basic block."""
        self.lines.append(f"{name}:")

    def stack(self, name: str, llvm_type: str) -> str:
        """A stack slot of the function, created on first use."""
        slot = f'%"{name}"'
        self.allocas.setdefault(slot, llvm_type)
        return slot

    def refuse(self, reason: str) -> UnsupportedError:
        """An error that names the current instruction."""
        return UnsupportedError(reason, self.instruction.position, self.instruction.text)

    # -- values -----------------------------------------------------------------------------------

    def widen(self, value: Value) -> Value:
        """The value as a vector."""
        if value.vector:
            return value
        if value.ref[0] != "%":
            return Value(f"splat ({value})", value.type, True)
        one = self.define(
            f"insertelement <{WARP_SIZE} x {value.type}> poison, {value}, i32 0", value.type, True
        )
        return self.define(
            f"shufflevector {one}, {one.llvm_type} poison, <{WARP_SIZE} x i32> zeroinitializer",
            value.type,
            True,
        )

    def unify(self, *values: Value) -> tuple[Value, ...]:
        """Widen all values if any of them is a vector."""
        if any(value.vector for value in values):
            return tuple(self.widen(value) for value in values)
        return values

    def op(self, operation: str, *values: Value, type_: str = "") -> Value:
        """An LLVM instruction whose operands have one type, e.g. `op("add", a, b)`."""
        values = self.unify(*values)
        operands = ", ".join([str(values[0]), *(value.ref for value in values[1:])])
        return self.define(f"{operation} {operands}", type_ or values[0].type, values[0].vector)

    def compare(self, condition: str, a: Value, b: Value) -> Value:
        """An `icmp` or `fcmp`, e.g. `compare("icmp ult", a, b)`."""
        return self.op(condition, a, b, type_="i1")

    def select(self, condition: Value, a: Value, b: Value) -> Value:
        """`a` where the condition holds, else `b`."""
        if condition.vector or a.vector or b.vector:
            a, b = self.widen(a), self.widen(b)
            if condition.vector or condition.ref[0] != "%":
                condition = self.widen(condition)
        return self.define(f"select {condition}, {a}, {b}", a.type, a.vector)

    def invert(self, value: Value) -> Value:
        """Bitwise complement."""
        return self.op("xor", value, integer(-1, value.type))

    def cast(self, operation: str, value: Value, type_: str) -> Value:
        """An LLVM conversion such as `zext`, `trunc`, `sitofp`."""
        if value.type == type_:
            return value
        to = Value("", type_, value.vector).llvm_type
        return self.define(f"{operation} {value} to {to}", type_, value.vector)

    def bits(self, value: Value, type_: str) -> Value:
        """Reinterpret as another type of the same width."""
        return self.cast("bitcast", value, type_)

    def resize(self, value: Value, type_: str, signed: bool = False) -> Value:
        """Truncate or extend an integer; floating-point types are reinterpreted."""
        have, want = BITS[value.type], BITS[type_]
        if have == want:
            return self.bits(value, type_)
        if value.type in ("float", "double"):
            value = self.bits(value, f"i{have}")
        if have > want:
            return self.bits(self.cast("trunc", value, f"i{want}"), type_)
        return self.bits(self.cast("sext" if signed else "zext", value, f"i{want}"), type_)

    def intrinsic(self, name: str, *values: Value, extra: str = "", type_: str = "") -> Value:
        """Call `llvm.<name>` for its operand type; `extra` is a trailing scalar operand."""
        values = self.unify(*values)
        first = values[0]
        suffix = mangle(first)
        result = Value("", type_ or first.type, first.vector)
        if type_:
            suffix = f"{mangle(result)}.{suffix}"
        types = [value.llvm_type for value in values] + ([extra.split()[0]] if extra else [])
        self.declarations.add(
            f"declare {result.llvm_type} @llvm.{name}.{suffix}({', '.join(types)})"
        )
        arguments = ", ".join([str(value) for value in values] + ([extra] if extra else []))
        return self.define(
            f"call {result.llvm_type} @llvm.{name}.{suffix}({arguments})",
            result.type,
            result.vector,
        )

    def call_function(
        self,
        name: str,
        arguments: Sequence[Value],
        results: Sequence[str],
        build: Callable[[list[Value]], list[Value]],
    ) -> list[Value]:
        """Call a function of the kernel's module, from vectors to vectors.

        Args:
            name: what tells the function from all others; the first call makes it.
            arguments: its operands, all of them vectors.
            results: element types of its results.
            build: emits its body, from its parameters to its results.
        """
        kinds = [Value("", type_, True).llvm_type for type_ in results]
        kind = kinds[0] if len(kinds) == 1 else f"{{ {', '.join(kinds)} }}"
        if name not in self.functions:
            self.functions[name] = ""
            self._define_function(name, kind, arguments, build)
        passed = ", ".join(str(argument) for argument in arguments)
        result = self.define(f'call {kind} @"{name}"({passed})', results[0], True)
        if len(kinds) == 1:
            return [result]
        return [
            self.define(f"extractvalue {kind} {result.ref}, {index}", type_, True)
            for index, type_ in enumerate(results)
        ]

    def _define_function(
        self,
        name: str,
        kind: str,
        arguments: Sequence[Value],
        build: Callable[[list[Value]], list[Value]],
    ) -> None:
        caller, self.lines = self.lines, []
        parameters = [Value(f"%{self.name('p')}", value.type, True) for value in arguments]
        values = build(parameters)
        result = values[0]
        if len(values) > 1:
            result = Value("poison", "", True)
            for index, value in enumerate(values):
                ref = self.define(f"insertvalue {kind} {result.ref}, {value}, {index}", "").ref
                result = Value(ref, "")
        self.line(f"ret {kind} {result.ref}")
        head = f'define internal {kind} @"{name}"({", ".join(map(str, parameters))})'
        self.functions[name] = "\n".join(
            [f"{head} noinline {self.function_attributes} {{", *self.lines, "}"]
        )
        self.lines = caller

    @property
    def function_attributes(self) -> str:
        """Attributes of every function that has to do with vectors."""
        by_thread = self.flushing is Flushing.THREAD
        subnormals = ' "denormal-fp-math"="preserve-sign,preserve-sign"' if by_thread else ""
        return f'nounwind "prefer-vector-width"="512" "min-legal-vector-width"="512"{subnormals}'

    def lane_bits(self, mask: Value) -> Value:
        """A vector of i1 as an i32 with one bit per lane."""
        return self.define(f"bitcast {self.widen(mask)} to i32", "i32")

    # -- registers --------------------------------------------------------------------------------

    def is_vector(self, register: str) -> bool:
        """Whether a register holds one value per lane."""
        return register in self.analysis.vectors

    def begin_block(self, index: int, lasting: frozenset[str] | None) -> None:
        """Start a block of the flow graph.

        Args:
            index: which one.
            lasting: Registers that are read after it. Others stay LLVM values and get no slot,
                which spares LLVM most of its work of undoing slots. None where the code of the
                block may be entered in its middle, or is none of the flow graph.
        """
        self.block = index
        self._written.clear()
        self._stored.clear()
        self._lasting = lasting

    def slot(self, register: str) -> tuple[str, Value]:
        """Stack slot of a register, where its value is, and a value of its type."""
        place, like = self._slot(register)
        if register in self.rows_now:
            self._spread_out(register)
        value = self._written.pop(register, None)
        if value is not None and register not in self._stored:
            self.line(f"store {value}, ptr {place}")
        return place, like

    def _slot(self, register: str) -> tuple[str, Value]:
        storage = self.body.registers[register]
        like = Value("", storage, self.is_vector(register))
        return self.stack(f"r.{register}", like.llvm_type), like

    def load_register(self, register: str) -> Value:
        """The register's value; of a row its base, where the instruction computes with bases."""
        row = self.row_of(register)
        value = self._bases[register] if register in self.rows_now else self.load_plain(register)
        if row is None or self.by_base:
            return value
        return self.op("add", value, lanes(list(row.offsets), value.type))

    def load_plain(self, register: str) -> Value:
        """What was written to a register, as it was written."""
        value = self._written.get(register)
        if value is None:
            slot, like = self._slot(register)
            value = self.define(f"load {like.llvm_type}, ptr {slot}", like.type, like.vector)
        return value

    def row_of(self, register: str) -> Row | None:
        """What is known of a register whose value is a base with offsets."""
        return self.rows_now.get(register) or self.analysis.rows.get(register)

    def write_base(self, register: str, base: Value, row: Row) -> None:
        """A vector becomes a row, in the version of a block that is emitted."""
        self.rows_now[register] = row
        self._bases[register] = base
        self._written.pop(register, None)

    def end_version(self) -> None:
        """Forget what holds in one version of a block only."""
        self.version = None
        self.rows_now.clear()
        self._bases.clear()
        self._written.clear()
        self._stored.clear()

    def _spread_out(self, register: str) -> None:
        """Put a row that is none any more, or that others read, into its vector."""
        by_base, self.by_base = self.by_base, False
        value = self.load_register(register)
        self.by_base = by_base
        if self.analysis.needs_blend(register, self.block):
            value = self.select(self.mask, value, self.load_plain(register))
        self.line(f"store {value}, ptr {self._slot(register)[0]}")

    def read(self, operand: Operand, ptx_type: str) -> Value:
        """An operand as a value of the LLVM type that stores `ptx_type`, flushed if need be."""
        value = self._read(operand, ptx_type)
        return self.flush(value) if self._flushes(value) else value

    def _flushes(self, value: Value) -> bool:
        return value.type == "float" and is_flushed_by_instruction(self.instruction, self.flushing)

    def flush(self, value: Value) -> Value:
        """Subnormal floats become zeros of their sign."""
        if self.flushing is Flushing.THREAD:
            return self.intrinsic("canonicalize", value)
        bits = self.bits(value, "i32")
        exponent = self.op("and", bits, integer(0x7F800000, "i32"))
        tiny = self.compare("icmp eq", exponent, integer(0, "i32"))
        zero = self.op("and", bits, integer(1 << 31, "i32"))
        return self.bits(self.select(tiny, zero, bits), "float")

    def _read(self, operand: Operand, ptx_type: str) -> Value:
        type_ = STORAGE[ptx_type]
        match operand:
            case Register("_"):
                return integer(0, type_) if type_ not in ("float", "double") else real(0.0, type_)
            case Register(name, negated):
                value = self.resize(self.load_register(name), type_)
                return self.invert(value) if negated else value
            case Immediate():
                return self.immediate(operand, type_)
            case Symbol(name, offset):
                return self.resize(self.symbol(name, offset), type_)
            case Special(name):
                return self.resize(self.special(name), type_)
        raise self.refuse("unsupported operand")

    def immediate(self, literal: Immediate, type_: str) -> Value:
        """A literal as a value of an LLVM type."""
        if type_ == "double":
            if literal.kind == "f64":
                return self.bits(integer(literal.bits, "i64"), "double")
            if literal.kind == "f32":
                return real(struct.unpack("<f", struct.pack("<I", literal.bits))[0], "double")
            return real(float(literal.bits), "double")
        if type_ == "float":
            if literal.kind == "f64":
                number = struct.unpack("<d", struct.pack("<Q", literal.bits))[0]
                return real(number)
            if literal.kind == "int":
                return real(float(literal.bits))
            return self.bits(integer(literal.bits, "i32"), "float")
        return integer(literal.bits, type_)

    def symbol(self, name: str, offset: int) -> Value:
        """The address of a variable in its own state space, as an i64."""
        layout = self.layout
        for table in (layout.shared, layout.local, layout.parameters):
            if name in table:
                return integer(table[name] + offset, "i64")
        if name in layout.globals:
            start = Value(f"%global.{layout.globals.index(name)}", "i64")
            return self.op("add", start, integer(offset, "i64")) if offset else start
        raise self.refuse(f"unknown symbol {name}")

    def special(self, name: str) -> Value:
        """A special register, as an i32 (or i64)."""
        return self.read_special(self, name)

    def write(self, operand: Operand, value: Value, signed: bool = False) -> None:
        """Write a result; lanes that are off keep the old value when anything still needs it."""
        if not isinstance(operand, Register):
            raise self.refuse("unsupported destination")
        if operand.name == "_":
            return
        if self._flushes(value):
            value = self.flush(value)
        like = Value("", self.body.registers[operand.name], self.is_vector(operand.name))
        value = self.resize(value, like.type, signed)
        row = self.version.rows.get(id(self.instruction)) if self.version else None
        if row:
            self.write_base(operand.name, value, row)
            if self.analysis.is_live_after(operand.name, self.block):
                self._spread_out(operand.name)
            return
        if operand.name in self.rows_now:
            if self.guard is not None:
                self._spread_out(operand.name)
            del self.rows_now[operand.name], self._bases[operand.name]
        if like.vector:
            value = self.widen(value)
        elif value.vector:
            raise AssertionError(f"uniform register {operand.name} gets a vector")
        keep: Value | None = None
        blends = like.vector and self.analysis.needs_blend(operand.name, self.block)
        if blends:
            keep = self.active()
        elif self.guard is not None:
            keep = self.guard if not like.vector else self.widen(self.guard)
        if keep is not None:
            old = self.load_plain(operand.name)
            value = self.select(keep, value, old)
        if self._lasting is None:
            self.line(f"store {value}, ptr {self._slot(operand.name)[0]}")
            return
        self._written[operand.name] = value
        self._stored.discard(operand.name)
        if blends or operand.name in self._lasting:
            self._stored.add(operand.name)
            self.line(f"store {value}, ptr {self._slot(operand.name)[0]}")

    def active(self) -> Value:
        """The lanes that execute the current instruction, as a vector of i1."""
        if self.guard is None:
            return self.mask
        return self.op("and", self.mask, self.widen(self.guard))

    def active_bits(self) -> Value:
        """The lanes that execute the current instruction, one bit each."""
        return self.mask_bits if self.guard is None else self.lane_bits(self.active())


def mangle(value: Value) -> str:
    """The suffix by which LLVM names an overloaded intrinsic."""
    scalar = {"float": "f32", "double": "f64", "half": "f16"}.get(value.type, value.type)
    return f"v{WARP_SIZE}{scalar}" if value.vector else scalar
