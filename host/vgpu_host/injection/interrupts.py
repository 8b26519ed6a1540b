"""Faults of a channel's interrupt."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic_ns
from typing import TYPE_CHECKING, Final

from vgpu_host.hooks import Interrupt
from vgpu_stub.faults import Rule

if TYPE_CHECKING:
    from vgpu_host.injection.hook import FaultHook


def _lose(hook: FaultHook, rule: Rule, proceed: Interrupt) -> None:
    """msix-lost."""


def _delay(hook: FaultHook, rule: Rule, proceed: Interrupt) -> None:
    """msix-late."""
    due = monotonic_ns() + int(float(rule.parameters["delay_ms"]) * 1e6)

    def poll() -> bool:
        if monotonic_ns() < due:
            return False
        proceed()
        return True

    hook.drain.defer(poll)


def _repeat(hook: FaultHook, rule: Rule, proceed: Interrupt) -> None:
    """msix-duplicate."""
    for _ in range(1 + int(rule.parameters["count"])):
        proceed()


#: What each kind does where the guest is due an interrupt.
INTERRUPT_FAULTS: Final[dict[str, Callable[[FaultHook, Rule, Interrupt], None]]] = {
    "msix-lost": _lose,
    "msix-late": _delay,
    "msix-duplicate": _repeat,
}
