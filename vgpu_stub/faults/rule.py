"""Rules: which fault, when, how often. Read from command lines, TOML, JSON and Python alike.

A rule is checked in full when it is made: an unknown kind, selector or parameter, or a value that
makes no sense, is refused with what would be right.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.commands import COMMANDS
from vgpu_stub.faults.kinds import KINDS, Kind, Value, near, parse_value
from vgpu_stub.faults.points import TO_DEVICE, TO_HOST

#: Offsets in BAR0 of the registers that can be read, by name.
REGISTERS: Final = {
    name.removeprefix("REG_"): offset
    for name, offset in vars(abi).items()
    if name.startswith("REG_") and name != "REG_DOORBELL"
}
#: Least value of each selector that is a number.
_LEAST: Final = {"nth": 1.0, "every": 1.0}
_VERSION_SUFFIX: Final = re.compile(r"(_v\d+|_ptsz|_ptds)+$")


class FaultRuleError(ValueError):
    """A rule makes no sense; the text says what is wrong and what would be right."""


@dataclass(frozen=True)
class Selectors:
    """When a rule applies. None selects everything; how often is counted by channel or device.

    Attributes:
        device: Name of the device, such as "gpu0".
        channel: Number of the channel.
        process: Name or pid of the guest process.
        register: Name of a register in the data sheet, such as STATUS.
        opcode: Command (LAUNCH_KERNEL) or CUDA function that it carries (cuLaunchKernel).
        direction: "to_device" or "to_host", of the data.
        after_bytes: Only where more than so many bytes of the channel would be allocated.
        nth: Only at the nth event that matches, counted from 1.
        every: At each event whose number is a multiple.
        probability: At each event with this probability, from 0 to 1.
        seed: Of the random numbers for `probability`.
        after_s: Not before so many seconds after the rule was added.
        times: At most so often; 0 is until the rule is cleared, None what the kind says.
    """

    device: str | None = None
    channel: int | None = None
    process: str | None = None
    register: str | None = None
    opcode: str | None = None
    direction: str | None = None
    after_bytes: int | None = None
    nth: int | None = None
    every: int | None = None
    probability: float | None = None
    seed: int = 0
    after_s: float = 0.0
    times: int | None = None


_UNSELECTED: Final = {f.name: f.default for f in fields(Selectors)}
_SELECTOR_TYPES: Final[dict[str, type]] = {
    "device": str,
    "channel": int,
    "process": str,
    "register": str,
    "opcode": str,
    "direction": str,
    "after_bytes": int,
    "nth": int,
    "every": int,
    "probability": float,
    "seed": int,
    "after_s": float,
    "times": int,
}


@cache
def opcodes_of(name: str) -> frozenset[int]:
    """Opcodes that a name selects: a command of the ABI, or a CUDA function that commands carry.

    Raises:
        FaultRuleError: There is no such command or function.
    """
    plain = _VERSION_SUFFIX.sub("", name)
    found = {c.opcode for c in COMMANDS if plain.upper() == c.name or plain in c.cuda}
    if not found:
        known = [c.name for c in COMMANDS] + sorted({f for c in COMMANDS for f in c.cuda})
        raise FaultRuleError(
            f"opcode {name!r} is no command and no CUDA function; {near(name, known)}"
        )
    return frozenset(found)


@dataclass(frozen=True)
class Rule:
    """One fault to inject.

    Attributes:
        kind: Name of the kind.
        selectors: When.
        parameters: Every parameter of the kind, with its default where none was given.
        id: Number by which it is cleared; 0 before it is added to an injector.
    """

    kind: str
    selectors: Selectors = field(default_factory=Selectors)
    parameters: Mapping[str, Value] = field(default_factory=dict)
    id: int = 0

    @classmethod
    def make(cls, kind: str, /, **values: Value) -> Self:
        """A rule from selectors and parameters by name.

        Raises:
            FaultRuleError: Kind, names or values make no sense.
        """
        known = KINDS.get(kind)
        if known is None:
            raise FaultRuleError(f"there is no fault {kind!r}; {near(kind, KINDS)}")
        selected: dict[str, Any] = {}
        given: dict[str, Value] = {p.name: p.default for p in known.parameters}
        for name, value in values.items():
            if not isinstance(value, bool | int | float | str):
                raise FaultRuleError(f"{kind}: {name} is one value, not {value!r}")
            try:
                parameter = known.parameter(name)
                if parameter:
                    given[name] = parameter.parse(value)
                elif name in known.selectors:
                    selected[name] = parse_value(
                        name, value, _SELECTOR_TYPES[name], _LEAST.get(name, 0.0)
                    )
                else:
                    names = [*(p.name for p in known.parameters), *known.selectors]
                    raise FaultRuleError(f"{kind} has no {name!r}; it has {', '.join(names)}")
            except FaultRuleError:
                raise
            except ValueError as error:
                raise FaultRuleError(f"{kind}: {error}") from None
        selectors = Selectors(**selected)
        _check(known, selectors)
        return cls(kind, selectors, given)

    @classmethod
    def parse(cls, text: str) -> Self:
        """A rule from a command line: `completion-lost:opcode=cuMemAlloc,nth=3`.

        Raises:
            FaultRuleError: It makes no sense.
        """
        kind, _, rest = text.strip().partition(":")
        values: dict[str, Value] = {}
        for part in filter(None, rest.split(",")):
            name, equals, value = part.partition("=")
            if not equals or not value:
                raise FaultRuleError(f"{text!r}: write {name.strip() or 'NAME'}=VALUE")
            if name.strip() in values:
                raise FaultRuleError(f"{text!r} says {name.strip()} twice")
            values[name.strip()] = value.strip()
        return cls.make(kind, **values)

    @property
    def times(self) -> int:
        """How often it fires at most; 0 is until it is cleared."""
        selectors = self.selectors
        if selectors.times is not None:
            return selectors.times
        if selectors.every is not None or selectors.probability is not None:
            return 0
        return KINDS[self.kind].times

    def matches_place(self, device: str, channel: int, process: str, pid: int) -> bool:
        """Whether it may be about events of a channel."""
        wanted = self.selectors
        return (
            wanted.device in (None, device)
            and wanted.channel in (None, channel)
            and wanted.process in (None, process, str(pid))
        )

    def matches(self, **event: Value | None) -> bool:
        """Whether it is about such an event, whatever was counted.

        Args:
            event: `device`, `channel`, `opcode` (number), `process` (name), `pid`, `register`
                (name), `direction`, `bytes` (allocated with this event); what a place does not
                know is None or left out, and then no rule that selects by it matches.
        """
        wanted = self.selectors
        for name in ("device", "channel", "register", "direction"):
            value = getattr(wanted, name)
            if value is not None and value != event.get(name):
                return False
        if wanted.after_bytes is not None and not wanted.after_bytes < int(event.get("bytes") or 0):
            return False
        if wanted.process is not None and wanted.process not in (
            event.get("process"),
            str(event.get("pid")),
        ):
            return False
        names = (wanted.opcode,) if wanted.opcode is not None else KINDS[self.kind].commands
        return not names or any(event.get("opcode") in opcodes_of(name) for name in names)

    def to_json(self) -> dict[str, Any]:
        """The rule as plain data; `from_json` is the inverse."""
        selected = {f.name: getattr(self.selectors, f.name) for f in fields(Selectors)}
        kept = {k: v for k, v in selected.items() if v != _UNSELECTED[k]}
        return {"id": self.id, "kind": self.kind, **kept, **self.parameters}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """A rule from plain data: kind, and selectors and parameters by name.

        Raises:
            FaultRuleError: It makes no sense.
        """
        values = dict(data)
        kind = values.pop("kind", None)
        number = values.pop("id", 0)
        if not isinstance(kind, str):
            raise FaultRuleError(f'a fault needs a kind, such as kind = "completion-lost": {data}')
        if not isinstance(number, int):
            raise FaultRuleError(f"the id of a rule is a whole number, not {number!r}")
        made = cls.make(kind, **values)
        return cls(made.kind, made.selectors, made.parameters, number)

    def __str__(self) -> str:
        """The rule as `parse` reads it."""
        data = self.to_json()
        kind = data.pop("kind")
        del data["id"]
        defaults = {p.name: p.default for p in KINDS[self.kind].parameters}
        words = [f"{k}={v}" for k, v in data.items() if defaults.get(k) != v]
        return f"{kind}:{','.join(words)}" if words else str(kind)


def _check(kind: Kind, selectors: Selectors) -> None:
    if selectors.register is not None and selectors.register not in REGISTERS:
        raise FaultRuleError(
            f"there is no register {selectors.register!r}; {near(selectors.register, REGISTERS)}"
        )
    if selectors.nth is not None and selectors.every is not None:
        raise FaultRuleError(f"{kind.name}: nth is one event and every is many; say one of them")
    if selectors.probability is not None and not 0 < selectors.probability <= 1:
        raise FaultRuleError(
            f"{kind.name}: probability is above 0 and at most 1, not {selectors.probability}"
        )
    if selectors.opcode is not None:
        opcodes_of(selectors.opcode)
    if selectors.direction not in (None, TO_DEVICE, TO_HOST):
        raise FaultRuleError(
            f"{kind.name}: direction is {TO_DEVICE} or {TO_HOST}, not {selectors.direction!r}"
        )
    if selectors.channel is not None and selectors.channel >= abi.CHANNEL_COUNT:
        raise FaultRuleError(f"{kind.name}: channels go from 0 to {abi.CHANNEL_COUNT - 1}")


def load_rules(path: Path) -> list[Rule]:
    """Rules of a TOML file: one `[[fault]]` table each, with `kind`, selectors and parameters.

    Raises:
        FaultRuleError: The file cannot be read, or a rule makes no sense; the text says which.
    """
    try:
        data = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FaultRuleError(f"{path}: {error}") from error
    tables = data.pop("fault", [])
    if data or not isinstance(tables, list):
        names = ", ".join(data) or "fault"
        raise FaultRuleError(f"{path}: write each fault as a [[fault]] table; found {names}")
    rules = []
    for number, table in enumerate(tables, 1):
        try:
            rules.append(Rule.from_json(table))
        except FaultRuleError as error:
            raise FaultRuleError(f"{path}: fault {number}: {error}") from None
    return rules
