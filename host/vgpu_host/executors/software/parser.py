"""The text of one function to `Body`: scopes resolved, branch tables and guards spelled out."""

from __future__ import annotations

import re

from .declarations import is_declaration, parse_declaration, parse_parameters, split_declarators
from .errors import UnsupportedError
from .index import FunctionSource, ModuleSource
from .ir import (
    STORAGE,
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
from .operands import Operands, Scope
from .ptx_text import Kind, Piece, cut, shorten, split_operands


class _BodyParser:
    """Parses the statements of one function body."""

    def __init__(self, source: ModuleSource, function: FunctionSource) -> None:
        self.text = source.text
        self.function = function
        self.body = Body(function.name)
        self.operands = Operands(self.body.registers)
        self.scope = Scope(None, "")
        self.scopes = 0
        self.targets: dict[str, list[str]] = {}
        self.branches: list[tuple[int, Scope]] = []
        self.labels: set[str] = set()
        #: Names of prototypes and of lists of functions, for calls by pointers.
        self.callees: set[str] = set()

    def parse(self) -> Body:
        self._header()
        for piece in cut(self.text, self.function.body_start, self.function.body_end):
            match piece.kind:
                case Kind.OPEN:
                    self.scopes += 1
                    self.scope = Scope(self.scope, f".{self.scopes}")
                case Kind.CLOSE:
                    if self.scope.parent is None:
                        raise UnsupportedError("unbalanced braces", piece.position)
                    self.scope = self.scope.parent
                case Kind.LABEL:
                    self._label(piece)
                case Kind.TABLE:
                    self._table(piece)
                case Kind.STATEMENT:
                    self._checked_statement(piece.text, piece.position)
        self._resolve_branches()
        return self.body

    def _header(self) -> None:
        header = self.text[self.function.start : self.function.body_start - 1]
        limit = re.search(r"\.(?:maxntid|reqntid)\s+([\d, ]+)", header)
        if limit:
            product = 1
            for number in limit[1].split(","):
                if number.strip():
                    product *= int(number)
            self.body.max_threads = product
        cluster = re.search(r"\.reqnctapercluster\s+([\d, ]+)", header)
        if cluster and any(int(number) != 1 for number in cluster[1].split(",")):
            text = cluster.group().strip()
            raise UnsupportedError("a cluster has one block", self.function.start, text)
        name = re.escape(self.function.name)
        formal = re.search(rf"{name}\s*\((?P<list>.*?)\)\s*(?:\.|$)", header, re.S)
        if formal:
            self.body.parameters = parse_parameters(formal["list"])
        returns = re.search(r"\.func\s*\((?P<list>[^)]*)\)", header)
        if returns:
            self.body.returns = parse_parameters(returns["list"])

    def _table(self, piece: Piece) -> None:
        kind, *targets = piece.text.rstrip(";").replace(",", " ").split()
        if kind != ".branchtargets":
            self.callees.add(piece.label)
            return
        if not targets:
            raise UnsupportedError("expected labels", piece.position, piece.text)
        self.targets[piece.label] = targets

    def _label(self, piece: Piece) -> None:
        unique = piece.label + self.scope.suffix
        if unique in self.labels:
            raise UnsupportedError("label defined twice", piece.position, piece.label)
        self.labels.add(unique)
        self.body.items.append(Label(unique))

    def _checked_statement(self, statement: str, position: int) -> None:
        try:
            self._statement(statement, position)
        except ValueError:
            raise UnsupportedError("cannot parse", position, shorten(statement)) from None
        except UnsupportedError as error:
            detail = f" {error.text}" if error.text and error.text != shorten(statement) else ""
            raise UnsupportedError(error.reason + detail, position, shorten(statement)) from None

    def _statement(self, statement: str, position: int) -> None:
        if not statement:
            return
        if statement[0] == ".":
            self._directive(statement, position)
            return
        text = statement
        predicate = None
        if statement[0] == "@":
            guard, _, statement = statement.partition(" ")
            if not statement:
                raise UnsupportedError("predicate without an instruction", position, text)
            operand = self._operand(guard[1:], position)
            if not isinstance(operand, Register):
                raise UnsupportedError("predicate is not a register", position, text)
            predicate, statement = operand, statement.strip()
        name, *remainder = statement.split(None, 1)
        rest = remainder[0] if remainder else ""
        opcode, *modifiers = name.split(".")
        if opcode == "call":
            operands = self._call(rest, position)
        else:
            operands = tuple(self._operand(part, position) for part in split_operands(rest))
        instruction = Instruction(
            opcode, tuple(modifiers), operands, predicate, position, shorten(text)
        )
        if opcode == "brx":
            self._branch_table(instruction)
            return
        if opcode == "bra":
            self.branches.append((len(self.body.items), self.scope))
        if predicate and opcode in ("bar", "barrier") and "warp" not in modifiers:
            self._guarded(instruction, predicate)
        else:
            self.body.items.append(instruction)

    def _guarded(self, instruction: Instruction, predicate: Register) -> None:
        """A predicated instruction as a branch around it."""
        after = f"%after.{len(self.body.items)}"
        skip = Register(predicate.name, not predicate.negated)
        position, text = instruction.position, instruction.text
        self.body.items.append(Instruction("bra", (), (Symbol(after),), skip, position, text))
        instruction.predicate = None
        self.body.items.append(instruction)
        self.body.items.append(Label(after))

    def _call(self, rest: str, position: int) -> tuple[Operand, ...]:
        returned: tuple[Operand, ...] = ()
        arguments: tuple[Operand, ...] = ()
        callee = ""
        for part in split_operands(rest):
            if part.startswith("("):
                values = tuple(self._operand(v, position) for v in split_operands(part[1:-1]))
                if callee:
                    arguments = values
                else:
                    returned = values
            elif not callee:
                callee = part
            elif part not in self.callees:
                raise UnsupportedError("undefined prototype", position, part)
        target = self._operand(callee, position)
        if not isinstance(target, Symbol | Register):
            raise UnsupportedError("a call needs a function or a register", position, callee)
        return (target, Vector(returned), Vector(arguments))

    def _branch_table(self, brx: Instruction) -> None:
        index, table = brx.operands
        if not isinstance(table, Symbol) or table.name not in self.targets:
            raise UnsupportedError(
                "brx.idx without .branchtargets before it", brx.position, brx.text
            )
        targets = self.targets[table.name]
        predicate = f"%brx.{len(self.body.items)}"
        self.body.registers[predicate] = "i1"
        for number, label in enumerate(targets):
            last = number == len(targets) - 1
            if not last or brx.predicate:
                compare = Instruction(
                    "setp",
                    ("eq", "and", "u32") if brx.predicate else ("eq", "u32"),
                    (Register(predicate), index, Immediate(number))
                    + ((brx.predicate,) if brx.predicate else ()),
                    None,
                    brx.position,
                    brx.text,
                )
                self.body.items.append(compare)
            self.branches.append((len(self.body.items), self.scope))
            guard = Register(predicate) if not last or brx.predicate else None
            self.body.items.append(
                Instruction("bra", (), (Symbol(label),), guard, brx.position, brx.text)
            )

    def _directive(self, statement: str, position: int) -> None:
        if statement.startswith(".reg"):
            self._registers(statement, position)
        elif statement.startswith((".pragma", ".branchtargets")):
            return
        elif is_declaration(statement):
            for part in split_declarators(statement):
                for variable in parse_declaration(part, position):
                    self._variable(variable)
        else:
            raise UnsupportedError("unsupported directive", position, shorten(statement))

    def _variable(self, variable: Variable) -> None:
        plain = variable.name
        variable.name = plain + self.scope.suffix
        if variable.space == "shared" and not variable.external:
            variable.name = f"{self.function.name}::{variable.name}"
        if variable.space == "param":
            variable.space = "local"
        self.body.variables[variable.name] = variable
        self.scope.names[plain] = (variable.name, "")

    def _registers(self, statement: str, position: int) -> None:
        found = re.match(r"\.reg\s+\.(\w+)\s+(.*)", statement, re.S)
        if not found or found[1] not in STORAGE:
            raise UnsupportedError("unsupported register declaration", position, shorten(statement))
        storage = STORAGE[found[1]]
        for name in found[2].split(","):
            name = name.strip()
            family = re.match(r"(%?[\w$]+)<(\d+)>$", name)
            if family:
                prefix = family[1]
                self.scope.families[prefix] = (prefix + self.scope.suffix, storage)
            else:
                unique = name + self.scope.suffix
                self.scope.names[name] = (unique, storage)

    def _operand(self, text: str, position: int) -> Operand:
        return self.operands.parse(text, position, self.scope)

    def _resolve_branches(self) -> None:
        for index, scope_start in self.branches:
            instruction = self.body.items[index]
            assert isinstance(instruction, Instruction)
            target = instruction.operands[0] if instruction.operands else None
            if not isinstance(target, Symbol) or len(instruction.operands) != 1:
                raise UnsupportedError("expected one label", instruction.position, instruction.text)
            scope: Scope | None = scope_start
            while scope and target.name + scope.suffix not in self.labels:
                scope = scope.parent
            if scope is None:
                raise UnsupportedError("undefined label", instruction.position, instruction.text)
            instruction.operands = (Symbol(target.name + scope.suffix),)


def parse_function(source: ModuleSource, name: str) -> Body:
    """Parse one function of an indexed module.

    Raises:
        UnsupportedError: with the position of the first statement that is not understood.
    """
    return _BodyParser(source, source.functions[name]).parse()
