"""Finds the functions and variables of a PTX module without looking inside function bodies.

So a module of thousands of kernels loads quickly; `parser` takes one function at a time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property

from .debug_lines import DebugLines
from .declarations import is_declaration, parse_declaration, split_declarators
from .errors import CudaResult, PtxError, UnsupportedError
from .ir import Variable
from .ptx_text import matching_brace, next_of, shorten, skip_space, strip_comments
from .statement import Statement

_FUNCTION = re.compile(r"\.(entry|func)\b")


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
        position = skip_space(text, position)
        if position >= len(text):
            return
        stop = next_of(text, position, ";{")
        statement = text[position:stop]
        function = _FUNCTION.search(statement)
        if function:
            position = _index_function(source, position, stop, function[1] == "entry")
        elif statement.startswith(".section"):
            position = matching_brace(text, stop) + 1
        elif is_declaration(statement):
            stop = next_of(text, position, ";")
            for part in split_declarators(text[position:stop]):
                for variable in parse_declaration(part, position):
                    source.variables[variable.name] = variable
            position = stop + 1
        elif statement.startswith((".alias", ".pragma", ".weak", ".extern", ".visible")):
            raise UnsupportedError("unsupported directive", position, shorten(statement))
        else:
            raise UnsupportedError("expected a directive", position, shorten(statement))


def _index_function(source: ModuleSource, start: int, stop: int, is_entry: bool) -> int:
    text = source.text
    header = text[start:stop]
    name_match = re.search(
        r"\.entry\s+([\w$]+)" if is_entry else r"\.func\s*(?:\([^)]*\)\s*)?([\w$]+)", header
    )
    if not name_match:
        raise UnsupportedError("expected a function name", start, shorten(header))
    name = name_match[1]
    if stop < len(text) and text[stop] == ";":
        source.declared.add(name)
        return stop + 1
    end = matching_brace(text, stop)
    source.functions[name] = FunctionSource(name, is_entry, start, stop + 1, end)
    return end + 1
