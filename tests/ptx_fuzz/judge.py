"""Judges cases: what the software GPU makes of them beside what it must make of them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from .case import Case
from .device import Outcome, Runner
from .floats import IndeterminateError
from .memory import FaultError
from .reference import run_reference
from .text import NotUnderstoodError

#: Errors that PTX which loads may end with: CUDA's of memory, traps, assertions, time and limits.
_DOCUMENTED = ("700", "701", "702", "710", "716", "719", "launch refused")
#: Ways to translate; see `Runner`.
WAYS = ("optimised", "general", "checked")
_TINY = "whether a number is tiny"


class Verdict(Enum):
    """How a case ended."""

    #: As it must.
    RIGHT = "right"
    #: PTX leaves open what comes out.
    OPEN = "open"
    #: Refused cleanly, as a mutation may be.
    REFUSED = "refused"
    #: Ended with a documented CUDA error, as a mutation may.
    FAULTED = "faulted"
    #: Another result than the reference interpreter's.
    WRONG = "wrong"
    #: A valid program was refused or ended with an error.
    REJECTED = "rejected"
    #: A checker found something in a program that has nothing wrong.
    ACCUSED = "accused"
    #: It wrote where it must not.
    TOUCHED = "touched"
    #: An exception that is no documented error.
    RAISED = "raised"
    #: The process died.
    CRASHED = "crashed"
    #: The process had to be stopped.
    HUNG = "hung"
    #: The generator made a program that means nothing: a bug of the fuzzer.
    INVALID = "invalid"

    @property
    def is_failure(self) -> bool:
        """Whether somebody must look at it."""
        return self not in (Verdict.RIGHT, Verdict.OPEN, Verdict.REFUSED, Verdict.FAULTED)


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and what there is to say about it."""

    verdict: Verdict
    detail: str = ""


class Judge:
    """Runs cases in this process."""

    def __init__(self) -> None:
        self._runners: dict[str, Runner] = {}
        self._canaries = [(data, bytearray(data)) for data in map(os.urandom, (1 << 12, 1 << 18))]

    def close(self) -> None:
        """Give back the devices."""
        for runner in self._runners.values():
            runner.close()

    def _runner(self, how: str) -> Runner:
        if how not in self._runners:
            self._runners[how] = Runner(how)
        return self._runners[how]

    def program(self, case: Case, *, ways: Iterable[str] = WAYS, strict: bool = False) -> Judgement:
        """A valid program: the result must be that of the reference, in all translations."""
        try:
            expected = run_reference(case, strict)
        except IndeterminateError as error:
            is_known = str(error).startswith(_TINY)
            return Judgement(Verdict.OPEN if is_known else Verdict.INVALID, str(error))
        except (NotUnderstoodError, FaultError) as error:
            return Judgement(Verdict.INVALID, f"{type(error).__name__}: {error}")
        for how in ways:
            found = self._compare(how, case, expected)
            if found.verdict is not Verdict.RIGHT:
                return found
        return Judgement(Verdict.RIGHT)

    def _compare(self, name: str, case: Case, expected: list[bytes]) -> Judgement:
        try:
            outcome = self._runner(name).run(case)
        except Exception as error:
            return Judgement(Verdict.RAISED, f"{name}: {error!r}")
        if outcome.error:
            return Judgement(Verdict.REJECTED, f"{name}: {outcome.error}")
        if not outcome.guards_intact or not self._canaries_intact():
            return Judgement(Verdict.TOUCHED, name)
        if outcome.findings:
            return Judgement(Verdict.ACCUSED, f"{name}: {outcome.findings[0]}")
        assert outcome.buffers is not None
        for index, (got, want) in enumerate(zip(outcome.buffers, expected, strict=True)):
            if got != want:
                at = next(
                    i for i, pair in enumerate(zip(got, want, strict=True)) if pair[0] != pair[1]
                )
                start = at // 8 * 8
                return Judgement(
                    Verdict.WRONG,
                    f"{name}: buffer {index} at {start}: got {got[start : start + 8].hex()}, "
                    f"expected {want[start : start + 8].hex()}",
                )
        return Judgement(Verdict.RIGHT)

    def mutation(self, case: Case) -> Judgement:
        """A program that may be anything: it must be refused, or end without harm.

        What it computes is not looked at: much of what it does PTX does not define.
        """
        try:
            outcome = self._runner("optimised").run(case)
        except Exception as error:
            return Judgement(Verdict.RAISED, repr(error))
        if not self._canaries_intact():
            return Judgement(Verdict.TOUCHED, "memory of the process")
        return _tolerated(outcome)

    def _canaries_intact(self) -> bool:
        return all(copy == data for data, copy in self._canaries)


def _tolerated(outcome: Outcome) -> Judgement:
    if outcome.refused:
        return Judgement(Verdict.REFUSED, outcome.error)
    if outcome.error:
        documented = outcome.error.startswith(_DOCUMENTED)
        return Judgement(Verdict.FAULTED if documented else Verdict.RAISED, outcome.error)
    return Judgement(Verdict.RIGHT)
