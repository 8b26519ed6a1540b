"""Links PTX texts to one: what is external in one of them is found in another.

What no other module can see keeps its name unless that is taken. Names that several modules define
are errors, unless all but one of the definitions are weak; the result is what NVIDIA's linker
answers in each case. Debug information does not survive: line numbers would be of several texts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .declarations import parse_parameters
from .directives import Directive, directives
from .errors import CudaResult, PtxError, UnsupportedError
from .index import read_header
from .inline import SYSTEM_CALLS
from .module import index_image
from .profiles import Profile
from .ptx_text import strip_comments

_WEAK = ("weak", "common")


@dataclass(frozen=True, slots=True)
class _Symbol:
    """A function or variable in one of the parts, defined or only declared."""

    name: str
    part: int
    directive: Directive
    shape: object  # what has to agree between a declaration and its definition
    defined: bool

    @property
    def is_private(self) -> bool:
        """Whether no other part sees it; kernels are seen by the program in any case."""
        return self.directive.linkage == "" and self.directive.kind != "entry"


def link(parts: Sequence[tuple[str, bytes]], profile: Profile) -> bytes:
    """Link PTX texts, each with the name that the log calls it by.

    Returns:
        One PTX text; the only one there is stays as it is.

    Raises:
        PtxError: A text cannot run on a device of this profile (see `index_image`), or they do
            not fit together (`INVALID_SOURCE`).
    """
    texts = []
    names = [name or f"Input {number}" for number, (name, _) in enumerate(parts, 1)]
    for name, image in zip(names, (image.rstrip(b"\0") for _, image in parts), strict=True):
        try:
            index_image(image, profile)
        except PtxError as error:
            raise PtxError(error.result, f"{name}: {error.log}") from None
        texts.append(strip_comments(image.decode()))
    symbols = [
        symbol
        for number, text in enumerate(texts)
        for symbol in _symbols(number, text, names[number])
    ]
    definitions = _definitions(symbols, names)
    _check_references(symbols, definitions, texts, names)
    if len(parts) == 1:
        return parts[0][1].rstrip(b"\0")
    headers = [read_header(text) for text in texts]
    version = max((header.version for header in headers), default=(7, 0))
    target = max((header.target for header in headers), key=_target_key, default="sm_30")
    merged = [f".version {version[0]}.{version[1]}\n.target {target}\n.address_size 64\n"]
    taken = Counter(symbol.name for symbol in symbols if not symbol.is_private)
    for number, text in enumerate(texts):
        own = [symbol for symbol in symbols if symbol.part == number]
        merged.append(_adapted(text, headers[number].end, own, definitions, taken))
    return "".join(merged).encode()


def _target_key(target: str) -> tuple[int, str]:
    digits = re.sub(r"\D", "", target)
    return int(digits), target


def _symbols(part: int, text: str, name: str) -> list[_Symbol]:
    try:
        return _declared(part, text)
    except UnsupportedError as error:
        reason = f"{name}: {error.reason}: {error.text}"
        raise PtxError(CudaResult.INVALID_PTX, reason) from error


def _declared(part: int, text: str) -> list[_Symbol]:
    found = []
    for directive in directives(text, read_header(text).end):
        external = directive.linkage == "extern"
        if directive.kind == "variables":
            for variable in directive.variables():
                if not (external and variable.space == "shared"):  # the launch's dynamic memory
                    size = variable.size or None
                    found.append(_Symbol(variable.name, part, directive, size, not external))
        elif directive.kind != "section":
            prototype, defined = _prototype(directive.header), directive.body is not None
            found.append(_Symbol(directive.function, part, directive, prototype, defined))
    return found


def _prototype(header: str) -> object:
    lists = re.findall(r"\(([^)]*)\)", header)
    return tuple(
        tuple((place.offset, place.size) for place in parse_parameters(one)) for one in lists if one
    )


def _definitions(symbols: list[_Symbol], names: list[str]) -> dict[str, _Symbol]:
    """The one definition of each name that several parts see."""
    chosen: dict[str, _Symbol] = {}
    errors = []
    for symbol in symbols:
        if symbol.is_private or not symbol.defined:
            continue
        first = chosen.setdefault(symbol.name, symbol)
        if first is symbol or symbol.directive.linkage in _WEAK:
            continue
        if first.directive.linkage not in _WEAK:
            errors.append(
                f"Multiple definition of '{symbol.name}' in '{names[symbol.part]}', "
                f"first defined in '{names[first.part]}'"
            )
        chosen[symbol.name] = symbol
    for symbol in symbols:
        definition = chosen.get(symbol.name)
        if symbol.is_private or definition is None or symbol.shape == definition.shape:
            continue
        if symbol.shape is not None and definition.shape is not None:
            what = "Size" if symbol.directive.kind == "variables" else "Prototype"
            errors.append(
                f"{what} doesn't match for '{symbol.name}' in '{names[symbol.part]}', "
                f"defined in '{names[definition.part]}'"
            )
    _refuse(errors)
    return chosen


def _check_references(
    symbols: list[_Symbol], definitions: dict[str, _Symbol], texts: list[str], names: list[str]
) -> None:
    """Every name that is only declared and yet used has a definition."""
    private = {(symbol.part, symbol.name) for symbol in symbols if symbol.defined}
    errors = []
    for symbol in symbols:
        known = symbol.name in definitions or (symbol.part, symbol.name) in private
        if symbol.defined or known or symbol.name in SYSTEM_CALLS:
            continue
        uses = len(_word(symbol.name).findall(texts[symbol.part]))
        declarations = sum(
            other.name == symbol.name and other.part == symbol.part for other in symbols
        )
        if uses > declarations:
            errors.append(f"Undefined reference to '{symbol.name}' in '{names[symbol.part]}'")
    _refuse(list(dict.fromkeys(errors)))


def _refuse(errors: list[str]) -> None:
    if errors:
        log = "\n".join(f"error   : {error}" for error in errors)
        raise PtxError(CudaResult.INVALID_SOURCE, log)


def _word(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w$%.]){re.escape(name)}(?![\w$])")


def _adapted(
    text: str,
    start: int,
    own: list[_Symbol],
    definitions: dict[str, _Symbol],
    taken: Counter[str],
) -> str:
    """A part without what other parts define, its private names unlike all names before."""
    pieces = []
    position = start
    needed = {
        symbol.directive.start
        for symbol in own
        if symbol.is_private or definitions.get(symbol.name, symbol) is symbol
    }
    superfluous = {(symbol.directive.start, symbol.directive.end) for symbol in own}
    superfluous = {place for place in superfluous if place[0] not in needed}
    sections = {(d.start, d.end) for d in directives(text, start) if d.kind == "section"}
    for begin, end in sorted(superfluous | sections):
        pieces.append(text[position:begin])
        position = end
    pieces.append(text[position:])
    adapted = "".join(pieces)
    for name in dict.fromkeys(symbol.name for symbol in own if symbol.is_private):
        taken[name] += 1
        if taken[name] > 1:
            adapted = _word(name).sub(f"{name}$link{taken[name]}", adapted)
    return adapted
