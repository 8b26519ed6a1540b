"""PTX as text: without comments, cut at braces, labels and semicolons.

Every piece keeps its offset in the text, from which errors get their line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from .errors import UnsupportedError

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
_DEBUG_LINE = re.compile(r"^[ \t]*\.(?:loc|file)\b[^\n]*", re.M)
_LABEL = re.compile(r"([A-Za-z_$%][\w$]*)\s*:(?!:)")
_TABLE = re.compile(r"\s*\.(branchtargets|callprototype|calltargets)\b([^;]*);")
_SPACE = re.compile(r"\s*")


class Kind(Enum):
    """What a piece of a function body is."""

    OPEN = auto()
    CLOSE = auto()
    LABEL = auto()
    #: A label whose table of targets or prototypes follows: `.branchtargets A, B`.
    TABLE = auto()
    STATEMENT = auto()


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a function body; `label` names a label or a table, `text` is the rest."""

    kind: Kind
    position: int
    text: str = ""
    label: str = ""


def cut(text: str, position: int, end: int) -> Iterator[Piece]:
    """The pieces of a function body that lies from `position` to `end`.

    Raises:
        UnsupportedError: a statement does not end.
    """
    while (position := skip_space(text, position)) < end:
        character = text[position]
        if character in "{}":
            yield Piece(Kind.OPEN if character == "{" else Kind.CLOSE, position)
            position += 1
        elif label := _LABEL.match(text, position):
            table = _TABLE.match(text, label.end())
            if table:
                yield Piece(Kind.TABLE, position, table.group().strip(), label[1])
            else:
                yield Piece(Kind.LABEL, position, label=label[1])
            position = (table or label).end()
        else:
            stop = text.find(";", position, end)
            if stop < 0:
                raise UnsupportedError("statement without ;", position, text[position:end][:80])
            yield Piece(Kind.STATEMENT, position, text[position:stop].strip())
            position = stop + 1


def strip_comments(text: str) -> str:
    """Blank comments and debug lines, keeping every newline so that line numbers stay right."""
    text = _COMMENT.sub(lambda match: "\n" * match.group().count("\n"), text)
    return _DEBUG_LINE.sub("", text)


def skip_space(text: str, position: int) -> int:
    """The first offset from `position` on that is no white space."""
    found = _SPACE.match(text, position)
    return found.end() if found else position


def next_of(text: str, position: int, characters: str) -> int:
    """The offset of the next of some characters; UnsupportedError if there is none."""
    found = re.compile(f"[{characters}]").search(text, position)
    if not found:
        raise UnsupportedError("unexpected end of text", position, shorten(text[position:]))
    return found.start()


def matching_brace(text: str, opening: int) -> int:
    """The offset of the brace that closes another; UnsupportedError if there is none."""
    depth = 0
    for found in re.compile(r'[{}]|"[^"\n]*"').finditer(text, opening):
        if found.group() == "{":
            depth += 1
        elif found.group() == "}":
            depth -= 1
            if depth == 0:
                return found.start()
    raise UnsupportedError("no closing brace", opening, shorten(text[opening:]))


def shorten(text: str) -> str:
    """Text for an error message: one line, not too long."""
    return " ".join(text.split())[:120]


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
