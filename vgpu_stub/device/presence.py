"""Whether a device can be reached: lost, behind a link that is down, or taken out.

An absent device reads all ones, takes no writes and raises no interrupts. What its driver must make
of that is the same for all three; they differ in what comes back. A device that was lost goes on
where it was; one whose link was down, or that was taken out, is as after power-on.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

from vgpu_stub.device.faults import DeviceFaults
from vgpu_stub.faults import Point, Rule

_KEEPS_STATE: Final = "device-lost"


class Presence:
    """Presence of one device; every method is called with the device's lock held."""

    def __init__(
        self,
        faults: DeviceFaults,
        on_absent: Callable[[bool], None],
        on_present: Callable[[bool], None],
    ) -> None:
        """Start present.

        Args:
            faults: Rules of the device.
            on_absent: Called when the device goes; told whether it keeps its state.
            on_present: Called when it is back; told the same.
        """
        self._faults = faults
        self._on_absent = on_absent
        self._on_present = on_present
        self._rule: Rule | None = None
        self._until = 0.0

    @property
    def absent(self) -> bool:
        """Whether the device was absent at the last access."""
        return self._rule is not None

    def check(self) -> bool:
        """Whether the device is absent for the access that is made now."""
        if self._rule and not self._lasts(self._rule):
            rule, self._rule = self._rule, None
            self._on_present(rule.kind == _KEEPS_STATE)
        if self._rule is None and self._faults.has_rules(Point.LINK):
            rule_now = self._faults.fires(Point.LINK)
            if rule_now:
                self._leave(rule_now)
        return self._rule is not None

    def rules_changed(self) -> None:
        """Rules were added or cleared: those that wait for nothing count at once."""
        rules = [rule.selectors for rule, _ in self._faults.injector.active_at(Point.LINK)]
        waiting = any(s.nth or s.every or s.probability is not None or s.after_s for s in rules)
        if self._rule or (rules and not waiting):
            self.check()

    def _leave(self, rule: Rule) -> None:
        self._rule = rule
        down_ms = float(rule.parameters.get("down_ms", 0))
        self._until = monotonic() + down_ms / 1000 if down_ms else float("inf")
        self._on_absent(rule.kind == _KEEPS_STATE)

    def _lasts(self, rule: Rule) -> bool:
        in_force = any(r.id == rule.id for r, _ in self._faults.injector.active_at(Point.LINK))
        return in_force and monotonic() < self._until
