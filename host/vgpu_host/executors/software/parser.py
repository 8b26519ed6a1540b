"""PTX text to `Body`: one function at a time, scopes resolved.

`index_module` finds the functions and module variables without looking inside function bodies, so
that a module of thousands of kernels loads quickly; `parse_function` then parses one of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property

from .debug_lines import DebugLines
from .errors import CudaResult, PtxError, UnsupportedError
from .ir import (
    STORAGE,
    Address,
    Body,
    Immediate,
    Instruction,
    Label,
    Operand,
    Pair,
    Parameter,
    Register,
    Special,
    Symbol,
    Variable,
    Vector,
    size_of,
)
from .statement import Statement

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
_DEBUG_LINE = re.compile(r"^[ \t]*\.(?:loc|file)\b[^\n]*", re.M)
_FUNCTION = re.compile(r"\.(entry|func)\b")
_LABEL = re.compile(r"([A-Za-z_$%][\w$]*)\s*:(?!:)")
_SPACE = re.compile(r"\s*")
_DECLARATION = re.compile(
    r"(?:\.(?P<link>extern|visible|weak|common)\s+)?\.(?P<space>global|const|shared|local|param)\b"
    r"(?P<rest>.*)",
    re.S,
)
_DECLARATOR = re.compile(
    r"(?P<attributes>(?:\s*\.(?:align\s+\d+|v[24]|ptr(?:\s*\.\w+)?))*)"
    r"\s*\.(?P<type>\w+)(?P<after>(?:\s*\.(?:ptr|global|shared|const|local|align\s+\d+))*)"
    r"\s+(?P<name>[\w$%.]+)\s*(?P<array>(?:\[[^\]]*\]\s*)*)(?:=(?P<init>.*))?",
    re.S,
)
_INTEGER = re.compile(r"-?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|\d+)U?$")
_ADDRESS = re.compile(r"\[\s*([^\]+\s]+)\s*(?:\+\s*(-?\w+))?\s*\]$")
_SYMBOL_OFFSET = re.compile(r"([A-Za-z_$][\w$]*)\s*(?:\+\s*(-?\w+))?$")
_FAMILY = re.compile(r"(%?[\w$]*?[A-Za-z_$])(\d+)$")
_SPECIAL = re.compile(
    r"%(?:n?tid|n?ctaid)(?:\.[xyz])?$|%(?:laneid|warpid|nwarpid|smid|nsmid|gridid|clock|clock_hi|"
    r"clock64|globaltimer|globaltimer_lo|globaltimer_hi|lanemask_(?:eq|le|lt|ge|gt)|"
    r"dynamic_smem_size|total_smem_size|envreg\d+|pm\d+)$"
)


@dataclass(frozen=True, slots=True)
class FunctionSource:
    """Where one function lies in the module text: from its header on, and its body."""

    name: str
    is_entry: bool
    start: int
    body_start: int
    body_end: int


@dataclass
class ModuleSource:
    """The index of a module: functions by name, module variables, and the text when asked for."""

    image: bytes
    version: tuple[int, int] = (0, 0)
    target: str = ""
    functions: dict[str, FunctionSource] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)
    variables: dict[str, Variable] = field(default_factory=dict)

    @cached_property
    def text(self) -> str:
        """The text without comments, to which all offsets refer."""
        return strip_comments(self.image.decode())

    @cached_property
    def _debug_lines(self) -> DebugLines:
        return DebugLines(self.image.decode())

    def line(self, position: int) -> int:
        """One-based line number of an offset in the text."""
        return self.text.count("\n", 0, max(position, 0)) + 1

    def statement(self, position: int) -> Statement:
        """The statement that begins at an offset in the text."""
        text = self.text[position : self.text.find(";", position)]
        line = self.line(position)
        return Statement(line, " ".join(text.split()), self._debug_lines.source_of(line))


def strip_comments(text: str) -> str:
    """Blank comments and debug lines, keeping every newline so that line numbers stay right."""
    text = _COMMENT.sub(lambda match: "\n" * match.group().count("\n"), text)
    return _DEBUG_LINE.sub("", text)


def index_module(image: bytes) -> ModuleSource:
    """Index functions and module-scope variables of a PTX module.

    Raises:
        PtxError: the text is not PTX (`INVALID_IMAGE`) or is malformed (`INVALID_PTX`).
        UnicodeDecodeError: it is no text at all.
    """
    source = ModuleSource(image)
    version = re.search(r"^\s*\.version\s+(\d+)\.(\d+)", source.text)
    if not version:
        raise PtxError(CudaResult.INVALID_IMAGE, "not PTX: it does not start with .version")
    source.version = (int(version[1]), int(version[2]))
    target = re.search(r"^\s*\.target\s+([\w, ]+)", source.text, re.M)
    if not target:
        raise PtxError(CudaResult.INVALID_PTX, "line 1: .version is not followed by .target")
    source.target = target[1].split(",")[0].strip()
    width = re.search(r"^\s*\.address_size\s+(\d+)", source.text, re.M)
    if not width or width[1] != "64":
        raise PtxError(CudaResult.INVALID_PTX, ".address_size 64 is required")
    start = max(version.end(), target.end(), width.end())
    try:
        _index_declarations(source, start)
    except UnsupportedError as error:
        line = source.line(error.position)
        raise PtxError(
            CudaResult.INVALID_PTX, f"line {line}: {error.reason}: {error.text}"
        ) from None
    return source


def _index_declarations(source: ModuleSource, position: int) -> None:
    text = source.text
    while True:
        position = _skip_space(text, position)
        if position >= len(text):
            return
        stop = _next_of(text, position, ";{")
        statement = text[position:stop]
        function = _FUNCTION.search(statement)
        if function:
            position = _index_function(source, position, stop, function[1] == "entry")
        elif statement.startswith(".section"):
            position = _matching_brace(text, stop) + 1
        elif _DECLARATION.match(statement):
            stop = _next_of(text, position, ";")
            for part in _declarators(text[position:stop]):
                for variable in parse_declaration(part, position):
                    source.variables[variable.name] = variable
            position = stop + 1
        elif statement.startswith((".alias", ".pragma", ".weak", ".extern", ".visible")):
            raise UnsupportedError("unsupported directive", position, _shorten(statement))
        else:
            raise UnsupportedError("expected a directive", position, _shorten(statement))


def _index_function(source: ModuleSource, start: int, stop: int, is_entry: bool) -> int:
    text = source.text
    header = text[start:stop]
    name_match = re.search(
        r"\.entry\s+([\w$]+)" if is_entry else r"\.func\s*(?:\([^)]*\)\s*)?([\w$]+)", header
    )
    if not name_match:
        raise UnsupportedError("expected a function name", start, _shorten(header))
    name = name_match[1]
    if stop < len(text) and text[stop] == ";":
        source.declared.add(name)
        return stop + 1
    end = _matching_brace(text, stop)
    source.functions[name] = FunctionSource(name, is_entry, start, stop + 1, end)
    return end + 1


def _skip_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


def _next_of(text: str, position: int, characters: str) -> int:
    found = re.compile(f"[{characters}]").search(text, position)
    if not found:
        raise UnsupportedError("unexpected end of text", position, _shorten(text[position:]))
    return found.start()


def _matching_brace(text: str, opening: int) -> int:
    depth = 0
    for found in re.compile(r'[{}]|"[^"\n]*"').finditer(text, opening):
        if found.group() == "{":
            depth += 1
        elif found.group() == "}":
            depth -= 1
            if depth == 0:
                return found.start()
    raise UnsupportedError("no closing brace", opening, _shorten(text[opening:]))


def _shorten(text: str) -> str:
    return " ".join(text.split())[:120]


def parse_declaration(text: str, position: int = -1) -> list[Variable]:
    """Parse a variable declaration (one declarator, optional initialiser) of any state space."""
    declaration = _DECLARATION.match(text.strip())
    if not declaration:
        raise UnsupportedError("expected a variable declaration", position, _shorten(text))
    space = declaration["space"]
    declarator = _DECLARATOR.fullmatch(declaration["rest"].strip())
    if not declarator or declarator["type"] not in STORAGE:
        raise UnsupportedError("unsupported variable declaration", position, _shorten(text))
    return [_variable(space, declarator, declaration["link"] == "extern")]


def _variable(space: str, found: re.Match[str], external: bool) -> Variable:
    element = size_of(found["type"])
    width = re.search(r"\.v([24])", found["attributes"])
    element *= int(width[1]) if width else 1
    alignment = re.search(r"\.align\s+(\d+)", found["attributes"] + found["after"])
    size = element
    initializer = (found["init"] or "").strip()
    for count in re.findall(r"\[([^\]]*)\]", found["array"] or ""):
        if count.strip():
            size *= int(count, 0)
        elif initializer:
            size *= initializer.count(",") + 1
        else:
            size = 0
    return Variable(
        name=found["name"],
        space=space,
        type=found["type"],
        size=size,
        alignment=max(int(alignment[1]) if alignment else element, 1),
        initializer=initializer,
        external=external,
    )


def parse_parameters(text: str) -> tuple[Parameter, ...]:
    """Lay out a formal parameter list as the CUDA driver does: in order, each at its alignment."""
    parameters: list[Parameter] = []
    offset = 0
    for part in split_operands(text):
        if part.strip().startswith(".reg"):
            raise UnsupportedError("parameters in registers are not supported", -1, _shorten(part))
        for variable in parse_declaration(part):
            offset = -(-offset // variable.alignment) * variable.alignment
            parameters.append(Parameter(variable.name, offset, variable.size, variable.alignment))
            offset += variable.size
    return tuple(parameters)


def split_operands(text: str) -> list[str]:
    """Split at the commas that are outside any bracket."""
    if not any(bracket in text for bracket in "{[("):
        return [part.strip() for part in text.split(",")] if text.strip() else []
    parts: list[str] = []
    depth, start = 0, 0
    for index, character in enumerate(text):
        if character in "{[(":
            depth += 1
        elif character in "}])":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append(text[start:index].strip())
            start = index + 1
    if text[start:].strip():
        parts.append(text[start:].strip())
    return parts


class _Scope:
    """Names declared between two braces, mapped to names that are unique in the function."""

    def __init__(self, parent: _Scope | None, suffix: str) -> None:
        self.parent = parent
        self.suffix = suffix
        self.names: dict[str, tuple[str, str]] = {}
        self.families: dict[str, tuple[str, str]] = {}

    def find(self, name: str) -> tuple[str, str] | None:
        """The unique name and storage type (empty for a variable), or None if undeclared."""
        scope: _Scope | None = self
        family = _FAMILY.match(name)
        while scope:
            if name in scope.names:
                return scope.names[name]
            if family and family[1] in scope.families:
                prefix, storage = scope.families[family[1]]
                found = (prefix + family[2], storage)
                scope.names[name] = found
                return found
            scope = scope.parent
        return None


class _BodyParser:
    """Parses the statements of one function body."""

    def __init__(self, source: ModuleSource, function: FunctionSource) -> None:
        self.text = source.text
        self.function = function
        self.body = Body(function.name)
        self.scope = _Scope(None, "")
        self.scopes = 0
        self.targets: dict[str, list[str]] = {}
        self.branches: list[tuple[int, _Scope]] = []
        self.labels: set[str] = set()

    def parse(self) -> Body:
        self._header()
        position, end = self.function.body_start, self.function.body_end
        text = self.text
        while True:
            position = _skip_space(text, position)
            if position >= end:
                break
            character = text[position]
            if character == "{":
                self.scopes += 1
                self.scope = _Scope(self.scope, f".{self.scopes}")
                position += 1
            elif character == "}":
                if self.scope.parent is None:
                    raise UnsupportedError("unbalanced braces", position)
                self.scope = self.scope.parent
                position += 1
            elif label := _LABEL.match(text, position):
                position = label.end()
                position = self._label(label[1], position)
            else:
                stop = text.find(";", position, end)
                if stop < 0:
                    raise UnsupportedError("statement without ;", position, text[position:end][:80])
                self._checked_statement(text[position:stop].strip(), position)
                position = stop + 1
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
        name = re.escape(self.function.name)
        formal = re.search(rf"{name}\s*\((?P<list>.*?)\)\s*(?:\.|$)", header, re.S)
        if formal:
            self.body.parameters = parse_parameters(formal["list"])
        returns = re.search(r"\.func\s*\((?P<list>[^)]*)\)", header)
        if returns:
            self.body.returns = parse_parameters(returns["list"])

    def _label(self, name: str, position: int) -> int:
        table = re.compile(r"\s*\.(branchtargets|callprototype|calltargets)\b([^;]*);").match(
            self.text, position
        )
        if table:
            if table[1] != "branchtargets":
                raise UnsupportedError("indirect calls are not supported", position, table.group())
            self.targets[name] = [target.strip() for target in table[2].split(",")]
            return table.end()
        unique = name + self.scope.suffix
        if unique in self.labels:
            raise UnsupportedError("label defined twice", position, name)
        self.labels.add(unique)
        self.body.items.append(Label(unique))
        return position

    def _checked_statement(self, statement: str, position: int) -> None:
        try:
            self._statement(statement, position)
        except ValueError:
            raise UnsupportedError("cannot parse", position, _shorten(statement)) from None
        except UnsupportedError as error:
            detail = f" {error.text}" if error.text and error.text != _shorten(statement) else ""
            raise UnsupportedError(error.reason + detail, position, _shorten(statement)) from None

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
            opcode, tuple(modifiers), operands, predicate, position, _shorten(text)
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
            else:
                raise UnsupportedError("indirect calls are not supported", position, rest)
        if callee.startswith("%"):
            raise UnsupportedError("indirect calls are not supported", position, rest)
        return (Symbol(callee), Vector(returned), Vector(arguments))

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
        elif _DECLARATION.match(statement):
            for part in _declarators(statement):
                for variable in parse_declaration(part, position):
                    self._variable(variable)
        else:
            raise UnsupportedError("unsupported directive", position, _shorten(statement))

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
            raise UnsupportedError(
                "unsupported register declaration", position, _shorten(statement)
            )
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
        text = text.strip()
        if not text:
            raise UnsupportedError("empty operand", position)
        first = text[0]
        if first == "[":
            return self._address(text, position)
        if first == "{":
            return Vector(tuple(self._operand(p, position) for p in split_operands(text[1:-1])))
        if "|" in text:
            left, right = text.split("|", 1)
            return Pair(self._operand(left, position), self._operand(right, position))
        if first == "!":
            inner = self._operand(text[1:], position)
            if isinstance(inner, Register):
                return Register(inner.name, True)
            raise UnsupportedError("! needs a predicate register", position, text)
        if text == "_":
            return Register("_")
        found = self.scope.find(text)
        if found:
            if not found[1]:
                return Symbol(found[0])
            self.body.registers[found[0]] = found[1]
            return Register(found[0])
        if first.isdigit() or first == "-":
            return parse_immediate(text, position)
        if text == "WARP_SZ":
            return Immediate(32)
        if first == "%":
            if _SPECIAL.match(text):
                return Special(text)
            raise UnsupportedError("undeclared register", position, text)
        symbol = _SYMBOL_OFFSET.match(text)
        if symbol:
            inner_name = self.scope.find(symbol[1])
            name = inner_name[0] if inner_name else symbol[1]
            return Symbol(name, int(symbol[2] or "0", 0))
        raise UnsupportedError("cannot parse operand", position, text)

    def _address(self, text: str, position: int) -> Address:
        found = _ADDRESS.match(text)
        if not found:
            raise UnsupportedError("unsupported memory operand", position, text)
        base = self._operand(found[1], position)
        offset = int(found[2] or "0", 0)
        if isinstance(base, Register | Symbol | Immediate):
            return Address(base, offset)
        raise UnsupportedError("unsupported memory operand", position, text)

    def _resolve_branches(self) -> None:
        for index, scope_start in self.branches:
            instruction = self.body.items[index]
            assert isinstance(instruction, Instruction)
            target = instruction.operands[0] if instruction.operands else None
            if not isinstance(target, Symbol) or len(instruction.operands) != 1:
                raise UnsupportedError("expected one label", instruction.position, instruction.text)
            scope: _Scope | None = scope_start
            while scope and target.name + scope.suffix not in self.labels:
                scope = scope.parent
            if scope is None:
                raise UnsupportedError("undefined label", instruction.position, instruction.text)
            instruction.operands = (Symbol(target.name + scope.suffix),)


def _declarators(statement: str) -> list[str]:
    """Split `.shared .b32 a, b[4]` into one declaration per variable."""
    if "=" in statement or "," not in statement:
        return [statement]
    first, *others = split_operands(statement)
    prefix = re.match(r"(.*\.\w+\s+)[\w$%]+", first, re.S)
    return [first] + [(prefix[1] if prefix else "") + other for other in others]


def parse_immediate(text: str, position: int = -1) -> Immediate:
    """Parse an integer, `0f`/`0d` hexadecimal or decimal floating-point literal."""
    if text[:2] in ("0f", "0F") and len(text) == 10:
        return Immediate(int(text[2:], 16), "f32")
    if text[:2] in ("0d", "0D") and len(text) == 18:
        return Immediate(int(text[2:], 16), "f64")
    if _INTEGER.match(text):
        digits = text.rstrip("U")
        if re.match(r"-?0\d+$", digits):
            return Immediate(int(digits, 8))
        return Immediate(int(digits, 0))
    raise UnsupportedError("unsupported literal", position, text)


def parse_function(source: ModuleSource, name: str) -> Body:
    """Parse one function of an indexed module.

    Raises:
        UnsupportedError: with the position of the first statement that is not understood.
    """
    return _BodyParser(source, source.functions[name]).parse()
