"""Declarations of variables and parameters, in modules and in functions."""

from __future__ import annotations

import re

from .errors import UnsupportedError
from .ir import STORAGE, Parameter, Variable, size_of
from .ptx_text import shorten, split_operands

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
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9]\d*|0[bB][01]+")
_MOST_ALIGNED = 1 << 16


def is_declaration(statement: str) -> bool:
    """Whether a statement declares a variable."""
    return _DECLARATION.match(statement) is not None


def parse_declaration(text: str, position: int = -1) -> list[Variable]:
    """Parse a variable declaration (one declarator, optional initialiser) of any state space."""
    declaration = _DECLARATION.match(text.strip())
    if not declaration:
        raise UnsupportedError("expected a variable declaration", position, shorten(text))
    space = declaration["space"]
    declarator = _DECLARATOR.fullmatch(declaration["rest"].strip())
    if not declarator or declarator["type"] not in STORAGE:
        raise UnsupportedError("unsupported variable declaration", position, shorten(text))
    try:
        return [_variable(space, declarator, declaration["link"] == "extern", text)]
    except UnsupportedError as error:
        raise UnsupportedError(error.reason, position, error.text) from None


def _number(digits: str, what: str, text: str) -> int:
    digits = digits.strip().removesuffix("U")
    if not _NUMBER.fullmatch(digits):
        raise UnsupportedError(f"{what} {digits!r} is not a number of 0 or more", -1, shorten(text))
    return int(digits, 8 if digits[0] == "0" and digits.isdigit() else 0)


def _alignment(digits: str, text: str) -> int:
    alignment = _number(digits, "alignment", text)
    if not 0 < alignment <= _MOST_ALIGNED or alignment & (alignment - 1):
        reason = f"alignment {alignment} is not a power of two up to {_MOST_ALIGNED}"
        raise UnsupportedError(reason, -1, shorten(text))
    return alignment


def _variable(space: str, found: re.Match[str], external: bool, text: str) -> Variable:
    element = size_of(found["type"])
    width = re.search(r"\.v([24])", found["attributes"])
    element *= int(width[1]) if width else 1
    stated = re.search(r"\.align\s+(\d+)", found["attributes"] + found["after"])
    alignment = _alignment(stated[1], text) if stated else element
    size = element
    initializer = (found["init"] or "").strip()
    for count in re.findall(r"\[([^\]]*)\]", found["array"] or ""):
        if count.strip():
            size *= _number(count, "array size", text)
        elif initializer:
            size *= initializer.count(",") + 1
        else:
            size = 0
    return Variable(
        name=found["name"],
        space=space,
        type=found["type"],
        size=size,
        alignment=alignment,
        initializer=initializer,
        external=external,
    )


def parse_parameters(text: str) -> tuple[Parameter, ...]:
    """Lay out a formal parameter list as the CUDA driver does: in order, each at its alignment."""
    parameters: list[Parameter] = []
    offset = 0
    for part in split_operands(text):
        if part.strip().startswith(".reg"):
            raise UnsupportedError("parameters in registers are not supported", -1, shorten(part))
        for variable in parse_declaration(part):
            offset = -(-offset // variable.alignment) * variable.alignment
            parameters.append(Parameter(variable.name, offset, variable.size, variable.alignment))
            offset += variable.size
    return tuple(parameters)


def split_declarators(statement: str) -> list[str]:
    """Split `.shared .b32 a, b[4]` into one declaration per variable."""
    if "=" in statement or "," not in statement:
        return [statement]
    first, *others = split_operands(statement)
    prefix = re.match(r"(.*\.\w+\s+)[\w$%]+", first, re.S)
    return [first] + [(prefix[1] if prefix else "") + other for other in others]
