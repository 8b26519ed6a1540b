"""The reference interpreter's own small reader of PTX text: statements, declarations, scopes.

It takes what the generator writes and what the reducer leaves of it, one kernel and its device
functions. It shares nothing with the translator's parser, so that one does not hide the mistakes of
the other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

SIZES = {
    "pred": 1,
    "b8": 1, "s8": 1, "u8": 1,
    "b16": 2, "s16": 2, "u16": 2, "f16": 2, "bf16": 2,
    "b32": 4, "s32": 4, "u32": 4, "f32": 4, "f16x2": 4, "bf16x2": 4,
    "b64": 8, "s64": 8, "u64": 8, "f64": 8,
}  # fmt: skip

_MOST_REGISTERS = 10_000
#: Bytes of a variable.
_MOST_BYTES = 1 << 20
_TOKEN = re.compile(r"//[^\n]*|[{};]|[^{};/\"]+|/|\"[^\"]*\"")
_VARIABLE = re.compile(
    r"\.(?P<space>param|shared|local|global|const)\s+(?:\.align\s+\d+\s+)?\.(?P<type>\w+)\s+"
    r"(?P<name>[\w$%]+)\s*(?:\[\s*(?P<count>\d+)\s*\])?\s*(?:=\s*(?P<init>.*))?$",
    re.S,
)
_ANY_LABELS = re.compile(r"\s*[A-Za-z_$][\w$]*\s*:(?!:)")
_LABEL = re.compile(r"\s*([A-Za-z_$][\w$]*)\s*:(?!:)")


class NotUnderstoodError(Exception):
    """The text is not of the subset that the interpreter knows, or makes no sense."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of a state space; `initial` are the values of its elements."""

    name: str
    space: str
    type: str
    size: int
    initial: tuple[int, ...] = ()


@dataclass(slots=True)
class Statement:
    """One instruction: `operands` are texts in which register names are unique already."""

    opcode: str
    modifiers: tuple[str, ...]
    operands: tuple[str, ...]
    guard: str = ""
    text: str = ""


@dataclass(slots=True)
class Code:
    """A kernel or a device function."""

    name: str
    parameters: list[Variable]
    returns: list[Variable]
    statements: list[Statement] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    tables: dict[str, list[str]] = field(default_factory=dict)
    registers: dict[str, str] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)


@dataclass(slots=True)
class Program:
    """A module: its kernel, its functions, its variables."""

    kernel: Code
    functions: dict[str, Code]
    variables: dict[str, Variable]


def split_operands(text: str) -> tuple[str, ...]:
    """Operands between commas that are outside brackets."""
    parts, depth, start = [], 0, 0
    for index, character in enumerate(text):
        depth += (character in "{[(") - (character in "}])")
        if character == "," and depth == 0:
            parts.append(text[start:index].strip())
            start = index + 1
    if text[start:].strip():
        parts.append(text[start:].strip())
    return tuple(parts)


def number(text: str) -> int:
    """An integer literal, or the bits of a `0f` or `0d` one."""
    try:
        if text[:2] in ("0f", "0d"):
            return int(text[2:], 16)
        return int(text.rstrip("U"), 0)
    except ValueError:
        raise NotUnderstoodError(f"not a number: {text}") from None


def _variable(text: str) -> Variable:
    found = _VARIABLE.match(text.strip())
    if not found or found["type"] not in SIZES:
        raise NotUnderstoodError(f"declaration {text.strip()!r}")
    initial = tuple(number(v.strip()) for v in (found["init"] or "").strip(" {}").split(",") if v)
    size = SIZES[found["type"]] * int(found["count"] or 1)
    if size > _MOST_BYTES:
        raise NotUnderstoodError(f"declaration {text.strip()!r}")
    return Variable(found["name"], found["space"], found["type"], size, initial)


class _Scope:
    def __init__(self, parent: _Scope | None, suffix: str) -> None:
        self.parent, self.suffix = parent, suffix
        self.names: dict[str, str] = {}

    def find(self, name: str) -> str | None:
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.parent
        return None


class _Reader:
    """Reads the body of one function, token by token."""

    def __init__(self, code: Code) -> None:
        self.code = code
        self.scope = _Scope(None, "")
        self.scopes = 0
        self.branches: list[tuple[Statement, _Scope]] = []

    def open(self) -> None:
        self.scopes += 1
        self.scope = _Scope(self.scope, f".{self.scopes}")

    def close(self) -> None:
        if self.scope.parent is None:
            raise NotUnderstoodError("too many closing braces")
        self.scope = self.scope.parent

    def statement(self, text: str) -> None:
        text = self._labels(text).strip()
        if not text:
            return
        if text.startswith(".reg"):
            self._registers(text)
        elif text.startswith("."):
            variable = _variable(text)
            unique = variable.name + self.scope.suffix
            self.scope.names[variable.name] = unique
            self.code.variables[unique] = variable
        else:
            self._instruction(text)

    def _labels(self, text: str) -> str:
        while found := _LABEL.match(text):
            rest = text[found.end() :]
            table = re.match(r"\s*\.branchtargets\s+(.*)", rest, re.S)
            if table:
                names = [name.strip() for name in table[1].split(",")]
                self.code.tables[found[1]] = names
                return ""
            name = found[1] + self.scope.suffix
            if name in self.code.labels:
                raise NotUnderstoodError(f"label {name} twice")
            self.code.labels[name] = len(self.code.statements)
            text = rest
        return text

    def _registers(self, text: str) -> None:
        found = re.match(r"\.reg\s+\.(\w+)\s+(.*)", text, re.S)
        if not found or found[1] not in SIZES:
            raise NotUnderstoodError(text)
        for part in found[2].split(","):
            family = re.match(r"\s*(%?[\w$]+?)(?:<(\d+)>)?\s*$", part)
            if not family:
                raise NotUnderstoodError(text)
            names = [family[1]]
            if family[2]:
                if int(family[2]) > _MOST_REGISTERS:
                    raise NotUnderstoodError(text)
                names = [f"{family[1]}{index}" for index in range(int(family[2]))]
            for name in names:
                unique = name + self.scope.suffix
                self.scope.names[name] = unique
                self.code.registers[unique] = found[1]

    def _resolve(self, operand: str) -> str:
        def replace(found: re.Match[str]) -> str:
            return self.scope.find(found[0]) or found[0]

        return re.sub(r"(?<![\w.])[A-Za-z_%$][\w$]*", replace, operand)

    def _instruction(self, text: str) -> None:
        guard = ""
        full = text
        if text[0] == "@":
            guard, _, text = text[1:].partition(" ")
            guard = self._resolve(guard)
        name, _, rest = " ".join(text.split()).partition(" ")
        opcode, *modifiers = name.split(".")
        operands = split_operands(rest)
        if opcode not in ("bra", "brx"):
            operands = tuple(self._resolve(operand) for operand in operands)
        elif opcode == "brx":
            operands = (self._resolve(operands[0]), *operands[1:])
        statement = Statement(opcode, tuple(modifiers), operands, guard, full)
        self.code.statements.append(statement)
        if opcode == "bra":
            self.branches.append((statement, self.scope))

    def finish(self) -> None:
        for statement, start in self.branches:
            scope: _Scope | None = start
            while scope and statement.operands[0] + scope.suffix not in self.code.labels:
                scope = scope.parent
            if scope is None:
                raise NotUnderstoodError(f"no label {statement.operands[0]}")
            statement.operands = (statement.operands[0] + scope.suffix,)
        for names in self.code.tables.values():
            if any(name not in self.code.labels for name in names):
                raise NotUnderstoodError("no label of a branch table")


def _function(header: str) -> Code:
    if entry := re.search(r"\.entry\s+([\w$]+)\s*\((.*)\)\s*$", header, re.S):
        returns, name, parameters = "", entry[1], entry[2]
    else:
        found = re.search(r"\.func\s*(?:\(([^)]*)\))?\s*([\w$]+)\s*\((.*)\)\s*$", header, re.S)
        if not found:
            raise NotUnderstoodError(f"header {header!r}")
        returns, name, parameters = found[1] or "", found[2], found[3]
    return Code(
        name,
        [_variable(part) for part in split_operands(parameters)],
        [_variable(part) for part in split_operands(returns)],
    )


def read_program(text: str) -> Program:
    """Read a module.

    Raises:
        NotUnderstoodError: it is not of the subset that the interpreter knows.
    """
    text = re.sub(r"^\s*\.(version|target|address_size)\b[^\n]*", "", text, flags=re.M)
    kernel: Code | None = None
    functions: dict[str, Code] = {}
    variables: dict[str, Variable] = {}
    reader: _Reader | None = None
    depth = 0
    pending = ""
    for token in _TOKEN.findall(text):
        if token.startswith("//"):
            continue
        if token == ";":
            if reader:
                reader.statement(pending)
            elif pending.strip():
                variable = _variable(pending.strip())
                variables[variable.name] = variable
            pending = ""
        elif token == "{" and (reader is None) and "=" not in pending:
            code = _function(pending.strip())
            reader, pending, depth = _Reader(code), "", 1
        elif token == "{" and reader and not _ANY_LABELS.sub("", pending).strip():
            reader.statement(pending)
            reader.open()
            pending, depth = "", depth + 1
        elif token == "}" and reader and not pending.strip():
            depth -= 1
            if depth:
                reader.close()
                continue
            reader.finish()
            functions[reader.code.name] = reader.code
            kernel, reader = reader.code, None
        elif token == "}" and reader and not _ANY_LABELS.sub("", pending).strip():
            raise NotUnderstoodError("label before a closing brace")
        else:
            pending += token
    if kernel is None or reader or pending.strip():
        raise NotUnderstoodError("no kernel, or something open at the end")
    return Program(kernel, functions, variables)
