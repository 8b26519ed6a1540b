"""Runs the suite: each lie, to each of those that are lied to, in as many rounds as asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Protocol

from vgpu_stub.villain.device.lie import Case, Target
from vgpu_stub.villain.device.result import Report, Result
from vgpu_stub.villain.registry import Verdict


class Victim(Protocol):
    """Somebody who is lied to."""

    def try_case(self, case: Case, seed: int, round_number: int = 0) -> Result:
        """Tell a lie and judge what came of it."""
        ...

    def finish(self) -> Result | None:
        """Look for what all the lies have left behind."""
        ...


def skipped(case: Case, target: Target, round_number: int) -> Result | None:
    """The result of a lie that is not for a target; None where it is."""
    if target in case.targets:
        return None
    reason = case.skipped.get(target, "not about what this target reads")
    return Result(case.id, case.section, target, round_number, Verdict.SKIP, reason, 0.0)


def run_suite(
    victim: Victim,
    cases: Sequence[Case],
    *,
    seed: int,
    rounds: int = 1,
    done: Callable[[Result], None] = lambda result: None,
) -> Report:
    """Tell all the lies.

    Args:
        victim: Who is lied to.
        cases: The lies, in order.
        seed: What chance is made from.
        rounds: How often each is told, with other chance each time.
        done: Called with each result as it comes.
    """
    start = monotonic()
    results: list[Result] = []
    for round_number in range(rounds):
        for case in cases:
            result = victim.try_case(case, seed, round_number)
            results.append(result)
            done(result)
    last = victim.finish()
    if last:
        results.append(last)
        done(last)
    return Report(seed, results, monotonic() - start)
