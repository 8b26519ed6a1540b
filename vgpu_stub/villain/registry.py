"""The registry of attacks: what each is called, which rule it breaks, and what must come of it.

An attack is a function that does what a rule forbids and checks the device's answer. It raises
`Violation` where the answer is wrong; whether everybody else was left alone is for the runner.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from vgpu_stub.villain.guest.scene import Scene

#: Longest run of an attack, unless it says otherwise, in seconds.
DEADLINE_S: Final = 10.0


class Violation(Exception):  # noqa: N818  # it is a finding, not an error of this program
    """The device broke its own rule; the text says what came and what the rule wants."""


class NotPossible(Exception):  # noqa: N818  # the attack cannot be tried on this machine
    """The attack cannot be tried here; the text says why."""


class Verdict(Enum):
    """What came of an attack."""

    PASS = "PASS"  #: the rule holds, and nobody else was harmed
    FAIL = "FAIL"  #: the rule is broken, somebody was harmed, or something leaked
    WEDGED = "WEDGED"  #: the attack or the device did not come back, not even when run alone
    SKIP = "SKIP"  #: it could not be tried here


class Stage(Enum):
    """What is set up before an attack begins."""

    SOCKET = "socket"  #: nothing: the attack connects by itself
    DEVICE = "device"  #: a connected and enabled device without channels
    CHANNEL = "channel"  #: also an attacked channel and its sibling, both with work to do


class Harm(Enum):
    """What an attack may break of its own; everything else must go on working."""

    NOTHING = "nothing"
    CHANNEL = "channel"  #: the attacked channel fails; its sibling does not
    DEVICE = "device"  #: the attacked device needs a reset
    CONNECTION = "connection"  #: the attacker's connection is closed


@dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
        id: Its name, "area.what-is-done".
        section: Section of the data sheet, or of the specification, that has the rule.
        rule: The rule, in a sentence.
        expects: What the device must do.
        covers: Rules of the data sheet by number (`vgpu_stub.villain.sheet`).
        stage: What is set up for it.
        harm: What it may break of its own.
        deadline_s: Longest run in seconds.
        run: Does it.
    """

    id: str
    section: str
    rule: str
    expects: str
    covers: tuple[str, ...]
    stage: Stage
    harm: Harm
    deadline_s: float
    run: Callable[[Scene], None]

    @property
    def area(self) -> str:
        """The part of its name before the first dot."""
        return self.id.split(".", 1)[0]


@dataclass(frozen=True)
class Outcome:
    """The verdict on one attack.

    Attributes:
        attack: The attack.
        verdict: What came of it.
        reason: Why it is not PASS, "" when it is.
        seconds: How long it ran, health check included.
    """

    attack: Attack
    verdict: Verdict
    reason: str
    seconds: float


_attacks: dict[str, Attack] = {}


def add(attack: Attack) -> None:
    """Enter an attack.

    Raises:
        ValueError: Its name is taken.
    """
    if attack.id in _attacks:
        raise ValueError(f"there are two attacks {attack.id}")
    _attacks[attack.id] = attack


def attack(
    id: str,
    section: str,
    rule: str,
    expects: str,
    *,
    covers: Sequence[str] = (),
    stage: Stage = Stage.CHANNEL,
    harm: Harm = Harm.NOTHING,
    deadline_s: float = DEADLINE_S,
) -> Callable[[Callable[[Scene], None]], Callable[[Scene], None]]:
    """Enter the decorated function as an attack; the arguments are those of `Attack`."""

    def enter(run: Callable[[Scene], None]) -> Callable[[Scene], None]:
        add(Attack(id, section, rule, expects, tuple(covers), stage, harm, deadline_s, run))
        return run

    return enter


def attacks(patterns: Sequence[str] = ()) -> list[Attack]:
    """Attacks whose names match one of the patterns, in the order of their entry; all for none."""
    return [a for a in _attacks.values() if not patterns or _matches(a.id, patterns)]


@contextlib.contextmanager
def only_for_now() -> Iterator[None]:
    """Forget what is entered within, at its end."""
    before = dict(_attacks)
    try:
        yield
    finally:
        _attacks.clear()
        _attacks.update(before)


def find(id: str) -> Attack:
    """The attack of that name; KeyError when there is none."""
    return _attacks[id]


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def batches(chosen: Sequence[Attack]) -> Iterator[list[Attack]]:
    """Attacks that run one after the other on one connection: the same area and the same stage."""
    grouped: dict[tuple[str, Stage], list[Attack]] = {}
    for entry in chosen:
        grouped.setdefault((entry.area, entry.stage), []).append(entry)
    yield from grouped.values()
