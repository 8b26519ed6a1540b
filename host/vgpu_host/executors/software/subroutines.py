"""Functions that cannot be inlined: recursive ones, and those that are called by pointers.

The body of each stands once in the kernel, behind its end. A call puts the arguments into a mailbox
in local memory, the registers that a recursive caller needs again and the number of the place to
return to onto the thread's stack, and branches; a return branches by that number. So nothing but
branches is left, which part and join lanes like any other. Variables of such a function lie on the
stack, above them what its calls keep; `alloca` takes memory from the other end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from .arena import round_up
from .cfg import build_blocks, strongly_connected
from .errors import UnsupportedError
from .index import ModuleSource
from .inline import SYSTEM_CALLS, NeedsStackError, inline_calls, renamed
from .ir import (
    Address,
    Body,
    Immediate,
    Instruction,
    Label,
    Operand,
    Register,
    Symbol,
    Variable,
    Vector,
)
from .liveness import live_in
from .parser import parse_function

#: Bytes of stack of a thread. The odd 64 bytes spread the stacks of a warp over the cache.
STACK_BYTES = 64 * 1024 + 64
#: Addresses of functions are multiples of this, by their place in the module.
FUNCTION_STEP = 16
#: What a call keeps beside registers: the top of the stack, and the number of the return.
_LINK_BYTES = 16

_STACK, _MAIL = "%stack", "%mail"
_SP, _TOP, _RETURN = Register("%sp"), Register("%top"), Register("%return")
_TEST, _WORD = Register("%stack.test"), Register("%stack.word")
_ON_STACK = ("alloca", "stacksave", "stackrestore")
_TAKEN = re.compile(r"\bmov\.[bu]64\s+[%\w$]+\s*,\s*([A-Za-z_$][\w$]*)\s*;")
_NAME = re.compile(r"[A-Za-z_$][\w$]*")
_STORED = {"i8": "b8", "i16": "b16", "i32": "b32", "i64": "b64", "float": "f32", "double": "f64"}


def function_addresses(source: ModuleSource) -> dict[str, int]:
    """What stands for the address of each function of a module."""
    return {
        name: (index + 1) * FUNCTION_STEP
        for index, name in enumerate(source.functions)
        if not source.functions[name].is_entry
    }


def assemble(source: ModuleSource, name: str) -> Body:
    """Parse a kernel, with all that it calls in it.

    Raises:
        UnsupportedError: something in it cannot be run.
    """

    def load(callee: str) -> Body | None:
        return parse_function(source, callee) if callee in source.functions else None

    try:
        body = inline_calls(parse_function(source, name), load)
    except NeedsStackError:
        body = None
    if body is None or any(i.opcode in _ON_STACK for i in _instructions(body)):
        body = _Assembly(source, name, load).body
    _resolve_addresses(body, source)
    return body


def _instructions(body: Body) -> Iterator[Instruction]:
    return (item for item in body.items if isinstance(item, Instruction))


def _resolve_addresses(body: Body, source: ModuleSource) -> None:
    """Put numbers for the addresses of functions."""
    if not any(not function.is_entry for function in source.functions.values()):
        return
    addresses = function_addresses(source)
    for instruction in _instructions(body):
        match instruction:
            case Instruction("mov", operands=(target, Symbol(name, offset))) if (
                name in addresses and name not in body.variables
            ):
                instruction.operands = (target, Immediate(addresses[name] + offset))


@dataclass
class _Routine:
    """A function in the kernel, or the kernel itself, whose variables are not on the stack.

    Attributes:
        frame: Offsets of its variables on the stack.
        frame_size: Bytes of them.
        kept: Registers that each of its calls (by identity) keeps on the stack.
        need: Bytes of stack that it takes at most, those of what it calls not counted.
        sites: Numbers of the calls of it.
    """

    body: Body
    suffix: str
    frame: dict[str, int] = field(default_factory=dict)
    frame_size: int = 0
    kept: dict[int, list[str]] = field(default_factory=dict)
    need: int = 0
    sites: list[int] = field(default_factory=list)
    items: list[Label | Instruction] = field(default_factory=list)

    def place(self, name: str, offset: int = 0) -> Address:
        """Where a variable is in local memory."""
        if name in self.frame:
            return Address(_SP, self.frame[name] + offset)
        return Address(Symbol(name), offset)


class _Assembly:
    """A kernel with functions behind it."""

    def __init__(self, source: ModuleSource, name: str, load: Callable[[str], Body | None]) -> None:
        self._source = source
        self._load = load
        self._addresses = function_addresses(source)
        self._temporaries = 0
        self._sites = 0
        self._mail_size = 16
        self._origin = Instruction("", (), ())
        apart = self._plan(name)
        kernel = _Routine(inline_calls(parse_function(source, name), load, frozenset(apart)), "")
        self._routines = {function: self._routine(function, frozenset(apart)) for function in apart}
        self.body = kernel.body
        self.body.registers.update({r.name: "i64" for r in (_SP, _TOP, _WORD)})
        self.body.registers.update({_RETURN.name: "i32", _TEST.name: "i1"})
        for routine in (kernel, *self._routines.values()):
            _split_guarded_calls(routine.body)
            self._keep(routine)
        for routine in (kernel, *self._routines.values()):
            self._emit_items(routine)
        start = Symbol(_STACK)
        self.body.items = [
            self._step("mov", "u64", _SP, start),
            self._step("mov", "u64", _TOP, replace(start, offset=STACK_BYTES)),
            *kernel.items,
            self._step("exit", ""),
        ]
        for routine in self._routines.values():
            if routine.sites:
                self.body.items += self._emit_routine(routine)
        for routine in self._routines.values():
            self.body.registers.update(routine.body.registers)
            for variable in routine.body.variables.values():
                if variable.name not in routine.frame:
                    self.body.variables[variable.name] = variable
        for variable_name, size in ((_STACK, STACK_BYTES), (_MAIL, self._mail_size)):
            self.body.variables[variable_name] = Variable(variable_name, "local", "b8", size, 16)

    # -- which functions ----------------------------------------------------------------------

    def _plan(self, kernel: str) -> list[str]:
        """The functions that stand apart, and which of them can come back to themselves."""
        calls: dict[str, list[str]] = {}
        on_stack: set[str] = set()
        by_pointer: set[str] = set()
        work = [kernel]
        while work:
            name = work.pop()
            if name in calls:
                continue
            callees: list[str] = []
            for instruction in _instructions(parse_function(self._source, name)):
                if instruction.opcode in _ON_STACK:
                    on_stack.add(name)
                if instruction.opcode != "call":
                    continue
                target = instruction.operands[0]
                if isinstance(target, Symbol):
                    callees += [target.name] if target.name in self._addresses else []
                else:
                    by_pointer |= self._taken()
                    callees += sorted(self._taken())
            calls[name] = callees
            work += callees
        names = list(calls)
        numbers = {name: index for index, name in enumerate(names)}
        components = strongly_connected(
            list(range(len(names))), lambda index: [numbers[c] for c in calls[names[index]]]
        )
        self._component = {
            names[index]: place for place, part in enumerate(components) for index in part
        }
        self._recursive = {
            names[index]
            for part in components
            for index in part
            if len(part) > 1 or names[index] in calls[names[index]]
        }
        apart = (self._recursive | by_pointer | on_stack) - {kernel}
        return [name for name in names if name in apart]

    def _taken(self) -> set[str]:
        """Functions whose address is taken somewhere in the module."""
        if not hasattr(self, "_taken_names"):
            found = set(_TAKEN.findall(self._source.text))
            for variable in self._source.variables.values():
                found.update(_NAME.findall(variable.initializer))
            self._taken_names = found & set(self._addresses)
        return self._taken_names

    def _routine(self, name: str, apart: frozenset[str]) -> _Routine:
        plain = inline_calls(parse_function(self._source, name), self._load, apart)
        suffix = f"@{name}"
        formals = (*plain.returns, *plain.parameters)
        local = {v.name: v.name + suffix for v in plain.variables.values() if v.space == "local"}
        local.update({formal.name: formal.name + suffix for formal in formals})
        labels = {i.name: i.name + suffix for i in plain.items if isinstance(i, Label)}
        body = Body(name)
        body.registers = {n + suffix: storage for n, storage in plain.registers.items()}
        body.parameters, body.returns = plain.parameters, plain.returns
        for variable in plain.variables.values():
            unique = local.get(variable.name, variable.name)
            body.variables[unique] = replace(variable, name=unique)
        body.items = [
            Label(item.name + suffix)
            if isinstance(item, Label)
            else renamed(item, suffix, {**local, **labels})
            for item in plain.items
        ]
        routine = _Routine(body, suffix)
        printed = {
            operand.name
            for instruction in _instructions(body)
            if instruction.opcode in SYSTEM_CALLS
            for operand in instruction.operands
            if isinstance(operand, Symbol)
        }
        places = [(formal.name + suffix, formal.size, formal.alignment) for formal in formals]
        places += [
            (variable.name, variable.size, variable.alignment)
            for variable in body.variables.values()
            if variable.space == "local" and variable.name not in printed
        ]
        for place, size, alignment in places:
            start = round_up(routine.frame_size, max(alignment, 8))
            routine.frame[place] = start
            routine.frame_size = round_up(start + size, 16)
        return routine

    def _keep(self, routine: _Routine) -> None:
        """Find what the calls of a function keep, if it can be called again meanwhile."""
        body = routine.body
        calls = [i for i in _instructions(body) if i.opcode == "call"]
        after: dict[int, frozenset[str]] = {}
        if calls and body.name in self._recursive:
            cut = replace(body, items=[])
            for item in body.items:
                cut.items.append(item)
                if isinstance(item, Instruction) and item.opcode == "call":
                    cut.items.append(Label(f"%after.{len(cut.items)}"))
            blocks = build_blocks(cut)
            live = live_in(blocks)
            after = {
                id(block.last): live[block.successors[0]] for block in blocks if block.successors
            }
        routine.need = routine.frame_size + _LINK_BYTES
        for call in calls:
            kept = sorted(after.get(id(call), ())) if self._comes_back(body.name, call) else []
            routine.kept[id(call)] = kept
            routine.need = max(routine.need, self._bump(routine, kept))

    def _comes_back(self, caller: str, call: Instruction) -> bool:
        target = call.operands[0]
        if not isinstance(target, Symbol):
            return True
        return self._component.get(target.name) == self._component[caller]

    @staticmethod
    def _bump(routine: _Routine, kept: list[str]) -> int:
        return round_up(routine.frame_size + 8 * len(kept) + _LINK_BYTES, 16)

    # -- instructions -------------------------------------------------------------------------

    def _step(self, opcode: str, modifiers: str, *operands: Operand) -> Instruction:
        origin = self._origin
        return Instruction(
            opcode,
            tuple(modifiers.split(".")) if modifiers else (),
            operands,
            None,
            origin.position,
            origin.text,
        )

    def _branch(self, label: str, test: Register | None = None) -> Instruction:
        return replace(self._step("bra", "", Symbol(label)), predicate=test)

    def _fail(self, modifiers: str, test: Register | None = None) -> Instruction:
        return replace(self._step("trap", modifiers), predicate=test)

    def _temporary(self, storage: str) -> Register:
        self._temporaries += 1
        name = f"%stack.{self._temporaries}"
        self.body.registers[name] = storage
        return Register(name)

    def _copy(
        self, to: Address, source: Address, size: int, alignment: int
    ) -> Iterator[Instruction]:
        offset = 0
        while offset < size:
            unit = 8
            while unit > alignment or unit > size - offset:
                unit //= 2
            word = self._temporary(f"i{8 * unit}")
            place = replace(source, offset=source.offset + offset)
            yield self._step("ld", f"local.b{8 * unit}", word, place)
            place = replace(to, offset=to.offset + offset)
            yield self._step("st", f"local.b{8 * unit}", place, word)
            offset += unit

    def _mail(self, sizes: list[int]) -> list[Address]:
        """Places for values that pass between functions."""
        places, end = [], 0
        for size in sizes:
            places.append(Address(Symbol(_MAIL), end))
            end += round_up(size, 16)
        self._mail_size = max(self._mail_size, end)
        return places

    def _emit_items(self, routine: _Routine) -> None:
        for item in routine.body.items:
            if isinstance(item, Label):
                routine.items.append(item)
                continue
            self._origin = item
            if item.opcode == "call":
                routine.items += self._emit_call(routine, item)
            elif item.opcode in _ON_STACK:
                routine.items += self._emit_stack_step(routine, item)
            elif item.opcode == "ret" and routine.suffix:
                routine.items.append(self._branch(f"%leave{routine.suffix}", item.predicate))
            elif routine.suffix:
                routine.items += self._on_stack(routine, item)
            else:
                routine.items.append(item)

    def _on_stack(self, routine: _Routine, item: Instruction) -> Iterator[Instruction]:
        """An instruction with its variables on the stack."""
        operands: list[Operand] = []
        modifiers = item.modifiers
        for operand in item.operands:
            match operand:
                case Address(Symbol(name, inner), offset) if name in routine.frame:
                    operands.append(routine.place(name, inner + offset))
                    modifiers = tuple(
                        "local" if part.startswith("param") else part for part in modifiers
                    )
                case Symbol(name, offset) if name in routine.frame:
                    address = self._temporary("i64")
                    distance = Immediate(routine.frame[name] + offset)
                    yield self._step("add", "s64", address, _SP, distance)
                    operands.append(address)
                case _:
                    operands.append(operand)
        yield replace(item, operands=tuple(operands), modifiers=modifiers)

    def _emit_stack_step(self, routine: _Routine, item: Instruction) -> Iterator[Instruction]:
        type_ = item.type or "u64"
        if item.predicate:
            raise UnsupportedError("predicated alloca is not supported", item.position, item.text)
        if item.opcode == "stacksave":
            yield self._step("mov", type_, item.operands[0], _TOP)
        elif item.opcode == "stackrestore":
            yield self._step("mov", "u64", _TOP, item.operands[0])
        else:
            alignment = 16
            if len(item.operands) > 2 and isinstance(item.operands[2], Immediate):
                alignment = max(alignment, item.operands[2].bits)
            yield self._step("cvt", f"u64.{type_}", _WORD, item.operands[1])
            yield self._step("sub", "s64", _TOP, _TOP, _WORD)
            yield self._step("and", "b64", _TOP, _TOP, Immediate(-alignment & (1 << 64) - 1))
            yield from self._check(routine)
            yield self._step("mov", type_, item.operands[0], _TOP)

    def _check(self, routine: _Routine) -> Iterator[Instruction]:
        """End the kernel where the stack is not large enough."""
        yield self._step("sub", "s64", _WORD, _TOP, _SP)
        yield self._step("setp", "lt.s64", _TEST, _WORD, Immediate(routine.need))
        yield self._fail("stack-overflow", _TEST)

    # -- calls --------------------------------------------------------------------------------

    def _emit_call(self, routine: _Routine, call: Instruction) -> Iterator[Label | Instruction]:
        target, returned, arguments = call.operands
        assert isinstance(returned, Vector) and isinstance(arguments, Vector)
        results = [self._variable(routine, operand) for operand in returned.items]
        actuals = [self._variable(routine, operand) for operand in arguments.items]
        places = self._mail([size for _, size, _ in actuals])
        for (name, size, alignment), place in zip(actuals, places, strict=True):
            yield from self._copy(place, routine.place(name), size, alignment)
        self._sites += 1
        site = self._sites
        kept = routine.kept[id(call)]
        bump = self._bump(routine, kept)
        for number, register in enumerate(kept):
            yield from self._save(register, Address(_SP, routine.frame_size + 8 * number))
        yield self._step("st", "local.b64", Address(_SP, bump - 8), _TOP)
        yield self._step("st", "local.b32", Address(_SP, bump - 16), Immediate(site))
        yield self._step("add", "s64", _SP, _SP, Immediate(bump))
        if isinstance(target, Symbol):
            callee = self._routines[target.name]
            if not self._fits(callee, results, actuals):
                raise UnsupportedError("wrong call arguments", call.position, call.text)
            callee.sites.append(site)
            yield self._branch(f"%enter{callee.suffix}")
        else:
            yield from self._emit_choice(target, site, results, actuals)
        yield Label(f"%back.{site}")
        yield self._step("add", "s64", _SP, _SP, Immediate(-bump & (1 << 64) - 1))
        yield self._step("ld", "local.b64", _TOP, Address(_SP, bump - 8))
        for number, register in enumerate(kept):
            yield from self._restore(register, Address(_SP, routine.frame_size + 8 * number))
        places = self._mail([size for _, size, _ in results])
        for (name, size, alignment), place in zip(results, places, strict=True):
            yield from self._copy(routine.place(name), place, size, alignment)

    def _emit_choice(
        self,
        target: Operand,
        site: int,
        results: list[tuple[str, int, int]],
        actuals: list[tuple[str, int, int]],
    ) -> Iterator[Instruction]:
        """Go where a pointer points to."""
        for name in sorted(self._taken()):
            callee = self._routines[name]
            if self._fits(callee, results, actuals):
                callee.sites.append(site)
                address = Immediate(self._addresses[name])
                yield self._step("setp", "eq.u64", _TEST, target, address)
                yield self._branch(f"%enter{callee.suffix}", _TEST)
        yield self._fail("no-function")

    def _variable(self, routine: _Routine, operand: Operand) -> tuple[str, int, int]:
        """Name, size and alignment of what is passed."""
        variables = routine.body.variables
        if isinstance(operand, Symbol):
            if operand.name in variables:
                variable = variables[operand.name]
                return operand.name, variable.size, variable.alignment
            for formal in (*routine.body.returns, *routine.body.parameters):
                if formal.name + routine.suffix == operand.name and routine.suffix:
                    return operand.name, formal.size, formal.alignment
        raise UnsupportedError(
            "call arguments must be .param variables", self._origin.position, self._origin.text
        )

    @staticmethod
    def _fits(
        callee: _Routine, results: list[tuple[str, int, int]], actuals: list[tuple[str, int, int]]
    ) -> bool:
        return [size for _, size, _ in results] == [f.size for f in callee.body.returns] and [
            size for _, size, _ in actuals
        ] == [f.size for f in callee.body.parameters]

    def _save(self, register: str, place: Address) -> Iterator[Instruction]:
        storage = self._storage(register)
        source = Register(register)
        if storage == "i1":
            word = self._temporary("i32")
            yield self._step("selp", "b32", word, Immediate(1), Immediate(0), source)
            yield self._step("st", "local.b32", place, word)
        else:
            yield self._step("st", f"local.{_STORED[storage]}", place, source)

    def _restore(self, register: str, place: Address) -> Iterator[Instruction]:
        storage = self._storage(register)
        target = Register(register)
        if storage == "i1":
            word = self._temporary("i32")
            yield self._step("ld", "local.b32", word, place)
            yield self._step("setp", "ne.u32", target, word, Immediate(0))
        else:
            yield self._step("ld", f"local.{_STORED[storage]}", target, place)

    def _storage(self, register: str) -> str:
        for routine in self._routines.values():
            if register in routine.body.registers:
                return routine.body.registers[register]
        return self.body.registers[register]

    def _emit_routine(self, routine: _Routine) -> Iterator[Label | Instruction]:
        body, suffix = routine.body, routine.suffix
        self._origin = next(_instructions(body), self._origin)
        yield Label(f"%enter{suffix}")
        yield from self._check(routine)
        places = self._mail([formal.size for formal in body.parameters])
        for formal, place in zip(body.parameters, places, strict=True):
            to = routine.place(formal.name + suffix)
            yield from self._copy(to, place, formal.size, formal.alignment)
        yield from routine.items
        yield Label(f"%leave{suffix}")
        places = self._mail([formal.size for formal in body.returns])
        for formal, place in zip(body.returns, places, strict=True):
            source = routine.place(formal.name + suffix)
            yield from self._copy(place, source, formal.size, formal.alignment)
        yield self._step("ld", "local.b32", _RETURN, Address(_SP, -16))
        for site in routine.sites[:-1]:
            yield self._step("setp", "eq.u32", _TEST, _RETURN, Immediate(site))
            yield self._branch(f"%back.{site}", _TEST)
        yield self._branch(f"%back.{routine.sites[-1]}")


def _split_guarded_calls(body: Body) -> None:
    """Make a predicated call a branch around a call."""
    items: list[Label | Instruction] = []
    for item in body.items:
        if isinstance(item, Label) or item.opcode != "call" or not item.predicate:
            items.append(item)
            continue
        skip = Register(item.predicate.name, not item.predicate.negated)
        label = f"%past.{body.name}.{len(items)}"
        branch = replace(
            item, opcode="bra", operands=(Symbol(label),), predicate=skip, modifiers=()
        )
        items += [branch, replace(item, predicate=None), Label(label)]
    body.items = items
