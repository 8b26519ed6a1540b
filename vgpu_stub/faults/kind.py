"""What a kind of fault is: a description; what makes it happen is where its point is."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from vgpu_stub.faults.cuda_errors import cuda_error
from vgpu_stub.faults.points import COMMAND, Point

#: What a parameter or a selector may hold.
Value = bool | int | float | str


@dataclass(frozen=True)
class Parameter:
    """A number, a word or a CUDA error that a kind can be told.

    Attributes:
        name: As rules write it.
        default: Its value where a rule says nothing; its type is the parameter's type.
        summary: What it does, with its unit.
        choices: The words allowed; empty for any value.
        least: Smallest number allowed.
        cuda_error: Whether the value names a CUresult; it is kept as its number.
    """

    name: str
    default: Value
    summary: str
    choices: tuple[str, ...] = ()
    least: float = 0
    cuda_error: bool = False

    def parse(self, value: Value) -> Value:
        """The value as this parameter keeps it, from a file, a command line or Python.

        Raises:
            ValueError: It does not fit; the text says what would.
        """
        if self.cuda_error:
            return cuda_error(str(value))
        if self.choices:
            if value not in self.choices:
                raise ValueError(f"{self.name} is {_one_of(self.choices)}, not {value!r}")
            return value
        return parse_value(self.name, value, type(self.default), self.least)


@dataclass(frozen=True)
class Kind:
    """One fault.

    Attributes:
        name: In kebab case, a noun of what is seen.
        point: Where it happens.
        summary: What the device does, in one sentence.
        guest_sees: What driver and library make of it.
        parameters: What it can be told.
        selectors: By what its rules can select.
        times: How often a rule fires that says nothing of it; 0 is until it is cleared.
        commands: What it happens to unless a rule selects an opcode; empty for every command.
    """

    name: str
    point: Point
    summary: str
    guest_sees: str
    parameters: tuple[Parameter, ...] = ()
    selectors: tuple[str, ...] = COMMAND
    times: int = 1
    commands: tuple[str, ...] = ()

    def parameter(self, name: str) -> Parameter | None:
        """The parameter of that name."""
        return next((p for p in self.parameters if p.name == name), None)


def parse_value(name: str, value: Value, wanted: type, least: float = 0) -> Value:
    """A value of the wanted type from one of that type or from text.

    Raises:
        ValueError: It is none, or below `least`.
    """
    if wanted is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        word = str(value).lower()
        if word not in words:
            raise ValueError(f"{name} is true or false, not {value!r}")
        return words[word]
    if wanted is str:
        if value == "" or isinstance(value, bool):
            raise ValueError(f"{name} wants a word, not {value!r}")
        return str(value)
    try:
        if isinstance(value, bool) or (wanted is int and isinstance(value, float)):
            raise ValueError
        number: int | float = int(str(value), 0) if wanted is int else float(value)
        if not math.isfinite(number):
            raise ValueError
    except ValueError:
        what = "a whole number" if wanted is int else "a number"
        raise ValueError(f"{name} is {what}, not {value!r}") from None
    if not number >= least:
        raise ValueError(f"{name} is at least {least:g}, not {value!r}")
    return number


def near(name: str, known: Iterable[str]) -> str:
    """What to say behind an unknown name: the known ones like it, or all when none is."""
    names = list(known)
    close = get_close_matches(name, names, 3, 0.5)
    return f"near are {', '.join(close)}" if close else f"there are {', '.join(sorted(names))}"


def _one_of(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


def delay(milliseconds: float, summary: str) -> Parameter:
    """The parameter `delay_ms`."""
    return Parameter("delay_ms", float(milliseconds), summary)
