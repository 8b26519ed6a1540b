"""Cuts the text of a PTX module into its directives: functions, variables, debug sections."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .declarations import is_declaration, parse_declaration, split_declarators
from .errors import UnsupportedError
from .ir import Variable
from .ptx_text import matching_brace, next_of, shorten, skip_space

_FUNCTION = re.compile(r"\.(entry|func)\b")
_NAME = re.compile(r"\.(?:entry|func\s*(?:\([^)]*\))?)\s*([\w$]+)")
_LINKAGE = re.compile(r"\.(extern|visible|weak|common)\b")


@dataclass(frozen=True, slots=True)
class Directive:
    """A directive of a module.

    Attributes:
        kind: "entry", "func", "variables", or "section" for what debuggers read.
        header: Its text up to the body or semicolon.
        start: Where it begins in the module's text.
        body: Where the brace of a function's body is; None without a body.
        end: Where it ends: behind its semicolon or closing brace.
    """

    kind: str
    header: str
    start: int
    body: int | None
    end: int

    @property
    def linkage(self) -> str:
        """How other modules see it: "extern", "visible", "weak", "common", or "" if not at all."""
        found = _LINKAGE.match(self.header)
        return found[1] if found else ""

    @property
    def function(self) -> str:
        """The name of the function.

        Raises:
            UnsupportedError: It has none.
        """
        found = _NAME.search(self.header)
        if not found:
            raise UnsupportedError("expected a function name", self.start, shorten(self.header))
        return found[1]

    def variables(self) -> list[Variable]:
        """The variables that it declares."""
        parts = split_declarators(self.header)
        return [variable for part in parts for variable in parse_declaration(part, self.start)]


def directives(text: str, position: int) -> Iterator[Directive]:
    """The directives of a module, without its comments, from an offset on.

    Raises:
        UnsupportedError: There is one that is not supported, or something else.
    """
    while (start := skip_space(text, position)) < len(text):
        stop = next_of(text, start, ";{")
        header = text[start:stop]
        function = _FUNCTION.search(header)
        body = None
        if function and text[stop] == ";":
            kind, position = function[1], stop + 1
        elif function:
            kind, body, position = function[1], stop, matching_brace(text, stop) + 1
        elif header.startswith(".section"):
            kind, position = "section", matching_brace(text, stop) + 1
        elif is_declaration(header):
            kind, stop = "variables", next_of(text, start, ";")
            header, position = text[start:stop], stop + 1
        elif header.startswith((".alias", ".pragma", ".weak", ".extern", ".visible")):
            raise UnsupportedError("unsupported directive", start, shorten(header))
        else:
            raise UnsupportedError("expected a directive", start, shorten(header))
        yield Directive(kind, header, start, body, position)
