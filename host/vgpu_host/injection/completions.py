"""Faults of completions: lost, late, twice, out of order, or wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import monotonic_ns
from typing import TYPE_CHECKING, Final

from vgpu_host.hooks import Completion
from vgpu_stub.faults import Rule

if TYPE_CHECKING:
    from vgpu_host.injection.hook import FaultHook

#: The first field of `struct vgpu_completion`.
_SEQUENCE_BYTES: Final = 8

#: Writes a completion.
Proceed = Callable[[Completion], None]


def _lose(hook: FaultHook, rule: Rule, completion: Completion, proceed: Proceed) -> None:
    """completion-lost."""


def _delay(hook: FaultHook, rule: Rule, completion: Completion, proceed: Proceed) -> None:
    """completion-late."""
    due = monotonic_ns() + int(float(rule.parameters["delay_ms"]) * 1e6)

    def poll() -> bool:
        if monotonic_ns() < due:
            return False
        proceed(completion)
        return True

    hook.drain.defer(poll)


def _repeat(hook: FaultHook, rule: Rule, completion: Completion, proceed: Proceed) -> None:
    """completion-duplicate."""
    proceed(completion)
    proceed(completion)


def _misnumber(hook: FaultHook, rule: Rule, completion: Completion, proceed: Proceed) -> None:
    """completion-wrong-sequence."""
    wrong = completion.sequence + int(rule.parameters["add"])
    proceed(replace(completion, sequence=wrong & 0xFFFF_FFFF_FFFF_FFFF))


def _reorder(hook: FaultHook, rule: Rule, completion: Completion, proceed: Proceed) -> None:
    """completion-reordered."""
    due = monotonic_ns() + int(float(rule.parameters["delay_ms"]) * 1e6)
    entry = (completion, proceed)
    hook.overtaken.append(entry)

    def poll() -> bool:
        if entry in hook.overtaken and monotonic_ns() >= due:
            hook.overtaken.remove(entry)
            proceed(completion)
        return entry not in hook.overtaken

    hook.drain.defer(poll)


def _tear(hook: FaultHook, rule: Rule, completion: Completion, proceed: Proceed) -> None:
    """completion-torn."""
    written = _SEQUENCE_BYTES if rule.parameters["written"] == "sequence" else 0
    write_rest = hook.drain.completions.post_torn(
        completion.sequence, completion.status, completion.flags, completion.results, written
    )
    if write_rest is None:  # a full ring publishes nothing that could be torn
        proceed(completion)
        return
    due = monotonic_ns() + int(float(rule.parameters["delay_ms"]) * 1e6)

    def poll() -> bool:
        if monotonic_ns() < due:
            return False
        write_rest()
        return True

    hook.drain.defer(poll)


#: What each kind does where a completion is due.
COMPLETION_FAULTS: Final[dict[str, Callable[[FaultHook, Rule, Completion, Proceed], None]]] = {
    "completion-lost": _lose,
    "completion-late": _delay,
    "completion-duplicate": _repeat,
    "completion-wrong-sequence": _misnumber,
    "completion-reordered": _reorder,
    "completion-torn": _tear,
}
