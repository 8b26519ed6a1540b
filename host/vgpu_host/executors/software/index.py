"""Finds the functions and variables of a PTX module without looking inside function bodies.

So a module of thousands of kernels loads quickly; `parser` takes one function at a time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property

from .debug_lines import DebugLines
from .directives import Directive, directives
from .errors import CudaResult, PtxError, UnsupportedError
from .ir import Variable
from .ptx_text import strip_comments
from .statement import Statement


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


@dataclass(frozen=True, slots=True)
class Header:
    """What the first three directives of a module say, and where in its text they end."""

    version: tuple[int, int]
    target: str
    end: int


def read_header(text: str) -> Header:
    """Read .version, .target and .address_size.

    Raises:
        PtxError: One of them is missing, or addresses are not of 64 bits.
    """
    version = re.search(r"^\s*\.version\s+(\d+)\.(\d+)", text)
    if not version:
        raise PtxError(CudaResult.INVALID_IMAGE, "not PTX: it does not start with .version")
    target = re.search(r"^\s*\.target\s+([\w, ]+)", text, re.M)
    if not target:
        raise PtxError(CudaResult.INVALID_PTX, "line 1: .version is not followed by .target")
    width = re.search(r"^\s*\.address_size\s+(\d+)", text, re.M)
    if not width or width[1] != "64":
        raise PtxError(CudaResult.INVALID_PTX, ".address_size 64 is required")
    return Header(
        (int(version[1]), int(version[2])),
        target[1].split(",")[0].strip(),
        max(version.end(), target.end(), width.end()),
    )


def index_module(image: bytes) -> ModuleSource:
    """Index functions and module-scope variables of a PTX module.

    Raises:
        PtxError: the text is not PTX (`INVALID_IMAGE`) or is malformed (`INVALID_PTX`).
        UnicodeDecodeError: it is no text at all.
    """
    source = ModuleSource(image)
    header = read_header(source.text)
    source.version, source.target = header.version, header.target
    try:
        for directive in directives(source.text, header.end):
            _index_directive(source, directive)
    except UnsupportedError as error:
        line = source.line(error.position)
        raise PtxError(
            CudaResult.INVALID_PTX, f"line {line}: {error.reason}: {error.text}"
        ) from None
    return source


def _index_directive(source: ModuleSource, directive: Directive) -> None:
    if directive.kind == "variables":
        for variable in directive.variables():
            if not variable.external or variable.name not in source.variables:
                source.variables[variable.name] = variable
    elif directive.body is not None:
        name, is_entry = directive.function, directive.kind == "entry"
        source.functions[name] = FunctionSource(
            name, is_entry, directive.start, directive.body + 1, directive.end - 1
        )
    elif directive.kind != "section":
        source.declared.add(directive.function)
