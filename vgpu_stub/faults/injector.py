"""Decides whether a fault happens now: rules, what they have seen, and how often they fired.

One injector serves a whole device server, another one each worker. Events of workers are counted
where they happen, by channel; `record` adds what they tell.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from time import monotonic_ns
from typing import Any

from vgpu_stub.faults.kinds import KINDS, Value
from vgpu_stub.faults.points import Point
from vgpu_stub.faults.rule import FaultRuleError, Rule


@dataclass(frozen=True)
class RuleState:
    """A rule and what became of it.

    Attributes:
        rule: The rule.
        seen: Events that it was about.
        fired: How often the fault happened.
        last_fired_ns: When it last did, by the monotonic clock; 0 for never.
    """

    rule: Rule
    seen: int
    fired: int
    last_fired_ns: int

    def to_json(self) -> dict[str, Any]:
        """As plain data: the rule's, with `text`, `seen`, `fired` and `last_fired_ns`."""
        return {
            **self.rule.to_json(),
            "text": str(self.rule),
            "seen": self.seen,
            "fired": self.fired,
            "last_fired_ns": self.last_fired_ns,
        }


class _Active:
    """A rule with its counts; those of other processes are kept by where they come from."""

    def __init__(self, rule: Rule, added_ns: int) -> None:
        self.rule = rule
        self.added_ns = added_ns
        self.seen = 0
        self.fired = 0
        self.last_fired_ns = 0
        self.remote: dict[str, tuple[int, int]] = {}
        self._random = Random(rule.selectors.seed)

    def fires(self, now: int, *, taken: bool) -> bool:
        """Count one event that matches and say whether the fault happens at it.

        Args:
            now: The time, by the monotonic clock.
            taken: Whether another rule's fault happens there already.
        """
        selectors = self.rule.selectors
        if now - self.added_ns < selectors.after_s * 1e9:
            return False
        self.seen += 1
        if selectors.nth is not None and self.seen != selectors.nth:
            return False
        if selectors.every is not None and self.seen % selectors.every:
            return False
        if selectors.probability is not None and self._random.random() >= selectors.probability:
            return False
        if taken or (self.rule.times and self.fired >= self.rule.times):
            return False
        self.fired += 1
        self.last_fired_ns = now
        return True

    def state(self) -> RuleState:
        """The rule and all its counts."""
        seen = self.seen + sum(seen for seen, _ in self.remote.values())
        fired = self.fired + sum(fired for _, fired in self.remote.values())
        return RuleState(self.rule, seen, fired, self.last_fired_ns)


class Injector:
    """Rules by id. Thread-safe; with the same rules and events it decides the same."""

    def __init__(self, on_change: Callable[[], None] | None = None) -> None:
        """Start without rules; `on_change` is called after rules were added or cleared."""
        self._on_change = on_change
        self._lock = threading.Lock()
        self._active: dict[int, _Active] = {}
        self._by_point: dict[Point, tuple[_Active, ...]] = {}
        self._next_id = 1

    def add(self, rule: Rule, added_ns: int | None = None) -> int:
        """Add a rule; returns its id, a new one unless the rule has one.

        Args:
            rule: The rule.
            added_ns: When it counts as added, by the monotonic clock; now without it.
        """
        with self._lock:
            number = rule.id or self._next_id
            self._next_id = max(self._next_id, number) + 1
            now = monotonic_ns() if added_ns is None else added_ns
            self._active[number] = _Active(replace(rule, id=number), now)
            self._arrange()
        self._changed()
        return number

    def clear(self, number: int | None = None) -> None:
        """Drop one rule, or all.

        Raises:
            FaultRuleError: There is no rule of that id.
        """
        with self._lock:
            if number is None:
                self._active.clear()
            elif self._active.pop(number, None) is None:
                ids = ", ".join(map(str, self._active)) or "none"
                raise FaultRuleError(f"there is no fault rule {number}; active are {ids}")
            self._arrange()
        self._changed()

    def rules(self) -> list[RuleState]:
        """All rules with their counts, in the order in which they were added."""
        with self._lock:
            return [active.state() for active in self._active.values()]

    def active_at(self, *points: Point, unspent: bool = False) -> list[tuple[Rule, int]]:
        """Rules of some points, each with when it was added.

        Args:
            points: Where they are injected.
            unspent: Without those that have fired as often as they may, in all places together.
        """
        with self._lock:
            return [
                (active.rule, active.added_ns)
                for active in self._active.values()
                if KINDS[active.rule.kind].point in points
                and not (unspent and 0 < active.rule.times <= active.state().fired)
            ]

    def has_rules(self, point: Point) -> bool:
        """Whether there are rules for a point; cheap enough to ask each time."""
        return point in self._by_point

    def fires(self, point: Point, /, *kinds: str, **event: Value | None) -> Rule | None:
        """The first rule by which a fault happens at this event, or None.

        Every rule that matches counts the event; where several would fire, the first does.

        Args:
            point: Where the event is.
            kinds: Only rules of these kinds; all kinds of the point without them.
            event: What is known of it, as `Rule.matches` has it.
        """
        candidates = self._by_point.get(point)
        if not candidates:
            return None
        chosen: Rule | None = None
        now = monotonic_ns()
        with self._lock:
            for active in candidates:
                if kinds and active.rule.kind not in kinds:
                    continue
                taken = chosen is not None
                if active.rule.matches(**event) and active.fires(now, taken=taken):
                    chosen = active.rule
        return chosen

    def record(self, number: int, source: str, seen: int, fired: int, last_fired_ns: int) -> None:
        """Take over what another process has counted; totals of `source` replace earlier ones."""
        with self._lock:
            active = self._active.get(number)
            if active:
                active.remote[source] = (seen, fired)
                active.last_fired_ns = max(active.last_fired_ns, last_fired_ns)

    def _arrange(self) -> None:
        by_point: dict[Point, list[_Active]] = {}
        for active in self._active.values():
            by_point.setdefault(KINDS[active.rule.kind].point, []).append(active)
        self._by_point = {point: tuple(found) for point, found in by_point.items()}

    def _changed(self) -> None:
        if self._on_change:
            self._on_change()
