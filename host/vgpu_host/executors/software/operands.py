"""Operands of PTX instructions: registers by scope, literals, addresses, vectors."""

from __future__ import annotations

import re
import struct

from .errors import UnsupportedError
from .ir import Address, Immediate, Operand, Pair, Part, Register, Special, Symbol, Vector
from .ptx_text import split_operands

_INTEGER = re.compile(r"-?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|\d+)U?$")
_DECIMAL = re.compile(r"-?\d+(?:\.\d*(?:[eE][+-]?\d+)?|[eE][+-]?\d+)$")
_NUMBER = re.compile(r"-?\d")
#: What operands of video instructions have before and after the register.
_PART = re.compile(r"(?:(-)\s*)?(.+?)(?:\.(b[0-7]{1,4}|h[0-3]{1,2}))?$")
_ADDRESS = re.compile(r"\[\s*([^\]+\s]+)\s*(?:\+\s*(-?\w+))?\s*\]$")
_SYMBOL_OFFSET = re.compile(r"([A-Za-z_$][\w$]*)\s*(?:\+\s*(-?\w+))?$")
_FAMILY = re.compile(r"(%?[\w$]*?[A-Za-z_$])(\d+)$")
_SPECIAL = re.compile(
    r"%(?:n?tid|n?ctaid|n?clusterid|cluster_n?ctaid)(?:\.[xyz])?$|%(?:cluster_n?ctarank|"
    r"laneid|warpid|nwarpid|smid|nsmid|gridid|clock|clock_hi|"
    r"clock64|globaltimer|globaltimer_lo|globaltimer_hi|lanemask_(?:eq|le|lt|ge|gt)|"
    r"dynamic_smem_size|total_smem_size|envreg\d+|pm\d+)$"
)


class Scope:
    """Names declared between two braces, mapped to names that are unique in the function."""

    def __init__(self, parent: Scope | None, suffix: str) -> None:
        self.parent = parent
        self.suffix = suffix
        self.names: dict[str, tuple[str, str]] = {}
        self.families: dict[str, tuple[str, str]] = {}

    def find(self, name: str) -> tuple[str, str] | None:
        """The unique name and storage type (empty for a variable), or None if undeclared."""
        scope: Scope | None = self
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


class Operands:
    """Parses the operands of one function.

    Args:
        registers: gets the LLVM type of every register that is mentioned.
    """

    def __init__(self, registers: dict[str, str]) -> None:
        self._registers = registers

    def parse(self, text: str, position: int, scope: Scope) -> Operand:
        """An operand of a statement at `position`."""
        text = text.strip()
        if not text:
            raise UnsupportedError("empty operand", position)
        first = text[0]
        if first == "[":
            return self._address(text, position, scope)
        if first == "{":
            return Vector(tuple(self.parse(p, position, scope) for p in split_operands(text[1:-1])))
        if "|" in text:
            left, right = text.split("|", 1)
            return Pair(self.parse(left, position, scope), self.parse(right, position, scope))
        if first == "!":
            inner = self.parse(text[1:], position, scope)
            if isinstance(inner, Register):
                return Register(inner.name, True)
            raise UnsupportedError("! needs a predicate register", position, text)
        if text == "_":
            return Register("_")
        found = scope.find(text)
        if found:
            if not found[1]:
                return Symbol(found[0])
            self._registers[found[0]] = found[1]
            return Register(found[0])
        if _NUMBER.match(text):
            return parse_immediate(text, position)
        part = _PART.match(text)
        if part and (part[1] or part[3]):
            return Part(self.parse(part[2], position, scope), part[3] or "", bool(part[1]))
        if text == "WARP_SZ":
            return Immediate(32)
        if first == "%":
            if _SPECIAL.match(text):
                return Special(text)
            raise UnsupportedError("undeclared register", position, text)
        symbol = _SYMBOL_OFFSET.match(text)
        if symbol:
            inner_name = scope.find(symbol[1])
            name = inner_name[0] if inner_name else symbol[1]
            return Symbol(name, int(symbol[2] or "0", 0))
        raise UnsupportedError("cannot parse operand", position, text)

    def _address(self, text: str, position: int, scope: Scope) -> Address:
        found = _ADDRESS.match(text)
        if not found:
            raise UnsupportedError("unsupported memory operand", position, text)
        base = self.parse(found[1], position, scope)
        offset = int(found[2] or "0", 0)
        if isinstance(base, Register | Symbol | Immediate):
            return Address(base, offset)
        raise UnsupportedError("unsupported memory operand", position, text)


def parse_immediate(text: str, position: int = -1) -> Immediate:
    """Parse an integer, `0f`/`0d` hexadecimal or decimal floating-point literal."""
    if text[:2] in ("0f", "0F") and len(text) == 10:
        return Immediate(int(text[2:], 16), "f32")
    if text[:2] in ("0d", "0D") and len(text) == 18:
        return Immediate(int(text[2:], 16), "f64")
    if _DECIMAL.match(text):
        return Immediate(int.from_bytes(struct.pack("<d", float(text)), "little"), "f64")
    if _INTEGER.match(text):
        digits = text.rstrip("U")
        if re.match(r"-?0\d+$", digits):
            return Immediate(int(digits, 8))
        return Immediate(int(digits, 0))
    raise UnsupportedError("unsupported literal", position, text)
