"""Statements of PTX made ready to run, one function after the other."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import TYPE_CHECKING

from . import floats, integers, warps
from .floats import IndeterminateError, Loose
from .memory import LOCAL_WINDOW, SHARED_WINDOW, FaultError, Region
from .softfloat import FORMATS
from .text import SIZES, Code, NotUnderstoodError, Statement, Variable, number
from .threads import BARRIER, CALL, EXIT, JUMP, PLAIN, RETURN, WARP, Frame, Registers, Step, Thread

if TYPE_CHECKING:
    from .reference import Interpreter

_FLOATING = frozenset((*FORMATS, *floats.PACKED))
_SPECIALS = frozenset(
    ["%laneid", "%warpid", "%cc", "WARP_SZ"]
    + [f"%{n}.{axis}" for n in ("tid", "ntid", "ctaid", "nctaid") for axis in "xyz"]
    + [f"%lanemask_{relation}" for relation in ("eq", "lt", "le", "gt", "ge")]
)

_Read = Callable[[int], int]
_ATOMICS: dict[str, Callable[[_Read], Callable[..., int]]] = {
    "add": lambda read: lambda old, b: old + b,
    "and": lambda read: lambda old, b: old & b,
    "or": lambda read: lambda old, b: old | b,
    "xor": lambda read: lambda old, b: old ^ b,
    "min": lambda read: lambda old, b: min(read(old), read(b)),
    "max": lambda read: lambda old, b: max(read(old), read(b)),
    "exch": lambda read: lambda old, b: b,
    "cas": lambda read: lambda old, b, c: c if old == b else old,
    "inc": lambda read: lambda old, b: 0 if old >= b else old + 1,
    "dec": lambda read: lambda old, b: b if old == 0 or old > b else old - 1,
}


class Translator:
    """Makes the statements of one function ready to run."""

    def __init__(self, interpreter: Interpreter, code: Code) -> None:
        self.interpreter = interpreter
        self.code = code

    def step(self, statement: Statement) -> Step:
        """A statement as something to run."""
        guard, sense = statement.guard, 1
        if guard.startswith("!"):
            guard, sense = guard[1:], 0
        if guard and self.code.registers.get(guard) != "pred":
            raise NotUnderstoodError(statement.text)
        try:
            kind, run = self._make(statement)
        except (LookupError, ValueError, StopIteration, TypeError, AttributeError) as error:
            raise NotUnderstoodError(f"{statement.text}: {error!r}") from error
        return Step(kind, guard, sense, run, statement)

    def _make(self, statement: Statement) -> tuple[int, Callable[..., object]]:
        opcode = statement.opcode
        if opcode == "bra":
            target = self.code.labels[statement.operands[0]]
            return JUMP, lambda registers: target
        if opcode == "brx":
            return JUMP, self._table(statement)
        if opcode in ("exit", "ret"):
            return (EXIT if opcode == "exit" else RETURN), lambda: None
        if opcode == "call":
            return CALL, self._call(statement)
        if opcode in ("bar", "barrier") and "warp" not in statement.modifiers:
            return BARRIER, self._barrier(statement)
        if opcode in warps.OPCODES or (opcode == "bar" and "warp" in statement.modifiers):
            return WARP, warps.make(statement, self._target_mask, self.code.registers)
        if opcode in ("membar", "fence"):
            return PLAIN, lambda thread, registers: None
        maker = {
            "ld": self._load, "st": self._store, "atom": self._atomic, "red": self._atomic,
            "mov": self._move, "cvta": self._cvta, "cvt": self._convert,
            "setp": self._setp, "set": self._set,
        }.get(opcode)  # fmt: skip
        if maker:
            return PLAIN, maker(statement)
        if "cc" in statement.modifiers or opcode in ("addc", "subc", "madc"):
            return PLAIN, self._carried(statement)
        return PLAIN, self._operation(statement)

    # -- operands ---------------------------------------------------------------------------------

    def source(self, operand: str, ptx_type: str) -> Callable[[Registers], int]:
        """What reads an operand."""
        if operand in self.code.registers:
            have, want = self.code.registers[operand], ptx_type
            if (have == "pred") != (want == "pred") or SIZES[have] < SIZES[want]:
                raise ValueError(f"{operand} as {ptx_type}")
            if SIZES[have] == SIZES[want]:
                return itemgetter(operand)
            mask = (1 << 8 * SIZES[want]) - 1
            return lambda registers: registers[operand] & mask
        if operand.startswith("!"):
            inner = self.source(operand[1:], "pred")
            return lambda registers: 1 - inner(registers)
        if operand[0] == "%" or operand == "WARP_SZ":
            return itemgetter(operand)
        name, _, offset = operand.partition("+")
        name = name.strip()
        if name in self.interpreter.symbols:
            value = self.interpreter.symbols[name] + (number(offset.strip()) if offset else 0)
        else:
            value = self._literal(operand, ptx_type)
        return lambda registers: value

    def _literal(self, operand: str, ptx_type: str) -> int:
        floating = operand[:2] in ("0f", "0d")
        if floating != (ptx_type in ("f32", "f64")) or (ptx_type in _FLOATING and not floating):
            raise ValueError("literal of another type")
        if floating and operand[:2] != {"f32": "0f", "f64": "0d"}[ptx_type]:
            raise ValueError("literal of another type")
        return number(operand) & ((1 << 8 * SIZES[ptx_type]) - 1)

    def _target_mask(self, operand: str) -> int:
        return (1 << (1 if self.code.registers[operand] == "pred" else self._bits(operand))) - 1

    def _bits(self, operand: str) -> int:
        return 8 * SIZES[self.code.registers[operand]]

    # -- computing --------------------------------------------------------------------------------

    def _operation(self, statement: Statement) -> Callable[..., object]:
        ptx_type = next((n for n in reversed(statement.modifiers) if n in SIZES), "b32")
        floating = ptx_type in _FLOATING and statement.opcode in floats.OPERATIONS
        if floating:
            types, function = floats.OPERATIONS[statement.opcode](statement, ptx_type)
        elif statement.opcode == "slct" and ptx_type == "f32":
            types, function = floats.slct(statement, ptx_type)
        else:
            types, function = integers.OPERATIONS[statement.opcode](statement, ptx_type)
        target, *operands = statement.operands
        if statement.opcode == "lop3" and "|" in target:
            return self._logic_and_predicate(statement, function)
        moves = statement.opcode in ("selp", "slct")
        return self._apply(target, operands, types, function, loose=floating or moves)

    def _apply(
        self,
        target: str,
        operands: list[str],
        types: tuple[str, ...],
        function: Callable[..., int],
        loose: bool = False,
    ) -> Callable[[Thread, Registers], None]:
        sources = [self.source(o, t) for o, t in zip(operands, types, strict=True)]
        mask = self._target_mask(target)

        def plain(thread: Thread, registers: Registers) -> None:
            values = [source(registers) for source in sources]
            if not loose:
                for value in values:
                    if type(value) is Loose:
                        raise IndeterminateError("the payload of a NaN")
            result = function(*values)
            registers[target] = result if type(result) is Loose else result & mask

        return plain

    def _logic_and_predicate(
        self, statement: Statement, function: Callable[..., int]
    ) -> Callable[..., object]:
        """`lop3` that also tells whether its result is not zero."""
        first, _, second = statement.operands[0].partition("|")
        *operands, predicate = statement.operands[1:]
        sources = [self.source(o, "b32") for o in operands]
        other, combine = self.source(predicate, "pred"), self._combination(statement)

        def plain(thread: Thread, registers: Registers) -> None:
            more = other(registers)
            values = [source(registers) for source in sources]
            if any(type(value) is Loose for value in values):
                raise IndeterminateError("the payload of a NaN")
            result = function(*values) & 0xFFFF_FFFF
            registers[first] = result
            registers[second] = combine(int(result != 0), more)

        return plain

    def _carried(self, statement: Statement) -> Callable[..., object]:
        ptx_type = statement.modifiers[-1]
        types, function = integers.carried(statement, ptx_type)
        target, *operands = statement.operands
        sources = [self.source(o, t) for o, t in zip(operands, types, strict=True)]
        keeps = "cc" in statement.modifiers

        def plain(thread: Thread, registers: Registers) -> None:
            result, carry = function(*(source(registers) for source in sources), registers["%cc"])
            registers[target] = result
            if keeps:
                registers["%cc"] = carry

        return plain

    def _convert(self, statement: Statement) -> Callable[..., object]:
        kinds = [name for name in statement.modifiers if name in SIZES]
        target, *operands = statement.operands
        if _FLOATING & set(kinds):
            types, function = floats.convert(statement)
            return self._apply(target, operands, types, function, loose=True)
        goal, start = kinds
        function = integers.convert(start, goal, "sat" in statement.modifiers)
        return self._apply(target, operands, (start,), function)

    def _setp(self, statement: Statement) -> Callable[..., object]:
        ptx_type = statement.modifiers[-1]
        if ptx_type in floats.PACKED:
            return self._setp_of_halves(statement, floats.PACKED[ptx_type])
        compare = self._comparison(statement, ptx_type)
        target, a, b, *third = statement.operands
        first, _, second = target.partition("|")
        sources = [self.source(o, ptx_type) for o in (a, b)]
        combine = self._combination(statement)
        other = self.source(third[0], "pred") if third else None
        floating = ptx_type in _FLOATING

        def plain(thread: Thread, registers: Registers) -> None:
            values = [source(registers) for source in sources]
            if not floating and any(type(value) is Loose for value in values):
                raise IndeterminateError("the payload of a NaN")
            result = int(compare(*values))
            more = other(registers) if other else 0
            registers[first] = combine(result, more)
            if second:
                registers[second] = combine(1 - result, more)

        return plain

    def _setp_of_halves(self, statement: Statement, half: str) -> Callable[..., object]:
        compare, combine = self._comparison(statement, half), self._combination(statement)
        target, a, b, *third = statement.operands
        names = target.split("|")
        sources = [self.source(o, "b32") for o in (a, b)]
        other = self.source(third[0], "pred") if third else None

        def plain(thread: Thread, registers: Registers) -> None:
            x, y = (int(source(registers)) for source in sources)
            more = other(registers) if other else 0
            for at, name in zip((0, 16), names, strict=True):
                result = compare(x >> at & 0xFFFF, y >> at & 0xFFFF)
                registers[name] = combine(int(result), more)

        return plain

    def _comparison(self, statement: Statement, ptx_type: str) -> Callable[[int, int], bool]:
        condition = statement.modifiers[0]
        if ptx_type in FORMATS:
            return floats.comparison(condition, ptx_type, "ftz" in statement.modifiers)
        return integers.comparison(condition, ptx_type)

    def _combination(self, statement: Statement) -> Callable[[int, int], int]:
        combinations: dict[str, Callable[[int, int], int]] = {
            "and": lambda a, b: a & b,
            "or": lambda a, b: a | b,
            "xor": lambda a, b: a ^ b,
        }
        name = next((n for n in statement.modifiers if n in combinations), "")
        return combinations.get(name, lambda a, b: a)

    def _set(self, statement: Statement) -> Callable[..., object]:
        goal, ptx_type = statement.modifiers[-2:]
        compare = self._comparison(statement, ptx_type)
        combine = self._combination(statement)
        true = FORMATS["f32"].one if goal == "f32" else 0xFFFF_FFFF
        target, *operands = statement.operands
        types = (ptx_type, ptx_type, "pred")[: len(operands)]

        def choose(a: int, b: int, more: int = 0) -> int:
            return true if combine(int(compare(a, b)), more) else 0

        return self._apply(target, operands, types, choose, loose=ptx_type in _FLOATING)

    def _move(self, statement: Statement) -> Callable[..., object]:
        ptx_type = statement.modifiers[0]
        target, origin = statement.operands
        bits = 8 * SIZES[ptx_type]
        if origin.startswith("{"):
            parts = [part.strip() for part in origin.strip("{}").split(",")]
            each = bits // len(parts)
            return self._pack(target, [self.source(part, f"b{each}") for part in parts], each)
        if target.startswith("{"):
            return self._unpack(
                [part.strip() for part in target.strip("{}").split(",")],
                self.source(origin, ptx_type),
                bits,
            )
        if origin in self.code.registers and self._bits(origin) != self._bits(target):
            raise ValueError("mov between sizes")
        return self._apply(target, [origin], (ptx_type,), lambda value: value, loose=True)

    def _pack(
        self, target: str, sources: list[Callable[[Registers], int]], each: int
    ) -> Callable[..., object]:
        def plain(thread: Thread, registers: Registers) -> None:
            result = mask = 0
            for index, source in enumerate(sources):
                value = source(registers)
                result |= int(value) << index * each
                if type(value) is Loose:
                    mask |= value.mask << index * each
            registers[target] = Loose.of(result, mask) if mask else result

        return plain

    def _unpack(
        self, targets: list[str], source: Callable[[Registers], int], bits: int
    ) -> Callable[..., object]:
        each = bits // len(targets)
        low = (1 << each) - 1

        def plain(thread: Thread, registers: Registers) -> None:
            value = source(registers)
            open_bits = value.mask if type(value) is Loose else 0
            for index, target in enumerate(targets):
                part = int(value) >> index * each & low
                mask = open_bits >> index * each & low
                if target != "_":
                    registers[target] = Loose.of(part, mask) if mask else part

        return plain

    # -- memory -----------------------------------------------------------------------------------

    def _cvta(self, statement: Statement) -> Callable[..., object]:
        window = {"shared": SHARED_WINDOW, "local": LOCAL_WINDOW}
        base = next((window[name] for name in statement.modifiers if name in window), 0)
        sign = -1 if "to" in statement.modifiers else 1
        return self._apply(
            statement.operands[0], [statement.operands[1]], ("u64",), lambda a: a + sign * base
        )

    def _address(self, operand: str) -> Callable[[Registers], int]:
        inner = operand.strip("[] ")
        base, _, offset = inner.partition("+")
        base = base.strip()
        if base in self.code.registers:
            read = self.source(base, f"u{self._bits(base)}")
        else:
            read = self.source(base, "u64")
        extra = number(offset.strip()) if offset else 0

        def address(registers: Registers) -> int:
            value = read(registers)
            if type(value) is Loose:
                raise IndeterminateError("the payload of a NaN")
            return value + extra

        return address

    def _region(self, thread: Thread, space: str, address: int) -> tuple[Region, int]:
        """The region of an address, and the address in it."""
        if space == "shared":
            return thread.block.shared, address
        if space == "local":
            return thread.local, address
        if address >= LOCAL_WINDOW:
            return thread.local, address - LOCAL_WINDOW
        if address >= SHARED_WINDOW:
            return thread.block.shared, address - SHARED_WINDOW
        for region in self.interpreter.regions:
            if 0 <= address - region.base < len(region.data):
                return region, address
        raise FaultError(f"illegal address {address:#x}")

    def _space(self, statement: Statement) -> str:
        for name in ("shared", "local", "param"):
            if name in statement.modifiers:
                return name
        return "global"

    def _parameter(self, operand: str, size: int) -> Callable[[Thread], tuple[Region, int]]:
        base, _, offset = operand.strip("[] ").partition("+")
        base, extra = base.strip(), number(offset.strip()) if offset else 0

        def find(thread: Thread) -> tuple[Region, int]:
            parameters = thread.frame.parameters
            if base not in parameters:
                declared = self.code.variables[base]
                parameters[base] = Region(0, bytearray(declared.size), bytearray(declared.size))
            return parameters[base], extra

        return find

    def _place(
        self, statement: Statement, operand: str, size: int
    ) -> Callable[[Thread, Registers], tuple[Region, int]]:
        space = self._space(statement)
        if space == "param":
            find = self._parameter(operand, size)
            return lambda thread, registers: find(thread)
        address = self._address(operand)
        return lambda thread, registers: self._region(thread, space, address(registers))

    def _touch(self, thread: Thread, region: Region, address: int, size: int, kind: str) -> None:
        if self.interpreter.strict and region.touched is not None:
            epoch = self.interpreter.epoch if region is thread.block.shared else 0
            region.touch(address, size, epoch, thread.number, kind)

    def _load(self, statement: Statement) -> Callable[..., object]:
        ptx_type = statement.modifiers[-1]
        size = SIZES[ptx_type]
        target, operand = statement.operands
        targets = [part.strip() for part in target.strip("{}").split(",")]
        place = self._place(statement, operand, size)
        read = integers.reader(ptx_type) if ptx_type[0] == "s" else None
        masks = [self._target_mask(name) for name in targets]

        def plain(thread: Thread, registers: Registers) -> None:
            region, address = place(thread, registers)
            region.place(address, size * len(targets))
            self._touch(thread, region, address, size * len(targets), "read")
            for index, name in enumerate(targets):
                value = region.load(address + index * size, size)
                registers[name] = (read(value) if read else value) & masks[index]

        return plain

    def _store(self, statement: Statement) -> Callable[..., object]:
        ptx_type = statement.modifiers[-1]
        size = SIZES[ptx_type]
        operand, origin = statement.operands
        origins = [part.strip() for part in origin.strip("{}").split(",")]
        place = self._place(statement, operand, size)
        sources = [self.source(name, ptx_type) for name in origins]

        def plain(thread: Thread, registers: Registers) -> None:
            values = [source(registers) for source in sources]
            region, address = place(thread, registers)
            region.place(address, size * len(values))
            self._touch(thread, region, address, size * len(values), "write")
            for index, value in enumerate(values):
                if type(value) is Loose:
                    raise IndeterminateError("the payload of a NaN")
                region.store(address + index * size, size, value)

        return plain

    def _atomic(self, statement: Statement) -> Callable[..., object]:
        ptx_type = statement.modifiers[-1]
        size, bits = SIZES[ptx_type], integers.width(ptx_type)
        operands = list(statement.operands)
        target = operands.pop(0) if statement.opcode == "atom" else ""
        place = self._place(statement, operands[0], size)
        sources = [self.source(name, ptx_type) for name in operands[1:]]
        name = next(n for n in statement.modifiers if n in _ATOMICS)
        function = _ATOMICS[name](integers.reader(ptx_type))
        #: What is returned depends on the order of threads, so it must be the only one there.
        kind = "write" if target and target != "_" else f"atomic {name}"

        def plain(thread: Thread, registers: Registers) -> None:
            values = [source(registers) for source in sources]
            if any(type(value) is Loose for value in values):
                raise IndeterminateError("the payload of a NaN")
            region, address = place(thread, registers)
            self._touch(thread, region, address, size, kind)
            old = region.load(address, size)
            region.store(address, size, function(old, *values) & ((1 << bits) - 1))
            if target and target != "_":
                registers[target] = old

        return plain

    # -- control ----------------------------------------------------------------------------------

    def _table(self, statement: Statement) -> Callable[..., object]:
        index = self.source(statement.operands[0], "u32")
        targets = [self.code.labels[n] for n in self.code.tables[statement.operands[1]]]

        def jump(registers: Registers) -> int:
            if index(registers) >= len(targets):
                raise IndeterminateError("beyond the branch table")
            return targets[index(registers)]

        return jump

    def _call(self, statement: Statement) -> Callable[..., object]:
        groups = [o for o in statement.operands if o.startswith("(")]
        (name,) = [o for o in statement.operands if not o.startswith("(")]
        callee = self.interpreter.program.functions[name]
        returned = statement.operands[0].startswith("(")
        lists = [
            [part.strip() for part in g.strip("()").split(",") if part.strip()] for g in groups
        ]
        results = lists.pop(0) if returned else []
        arguments = lists.pop(0) if lists else []
        formals: list[Variable] = [*callee.returns, *callee.parameters]
        actuals = [*results, *arguments]

        def enter(thread: Thread) -> None:
            outer = thread.frame
            passed: dict[str, Region] = {}
            for formal, actual in zip(formals, actuals, strict=True):
                if actual not in outer.parameters:
                    fresh = bytearray(formal.size)
                    outer.parameters[actual] = Region(0, fresh, bytearray(formal.size))
                passed[formal.name] = outer.parameters[actual]
            registers = {k: v for k, v in outer.registers.items() if k in _SPECIALS}
            thread.frames.append(Frame(self.interpreter.steps[name], registers, passed))

        return enter

    def _barrier(self, statement: Statement) -> Callable[..., object]:
        if "red" not in statement.modifiers:
            return lambda threads: None
        target, origin = statement.operands[0], statement.operands[-1]
        source = self.source(origin, "pred")
        kind = next(n for n in ("popc", "and", "or") if n in statement.modifiers)

        def reduce(threads: list[Thread]) -> None:
            votes = [source(thread.frame.registers) for thread in threads]
            result = {"popc": sum(votes), "and": int(all(votes)), "or": int(any(votes))}[kind]
            for thread in threads:
                thread.frame.registers[target] = result

        return reduce
