"""The faults of one device: the server's injector, asked in this device's name."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from vgpu_stub.faults import Injector, Point, Rule
from vgpu_stub.faults.kinds import Value
from vgpu_stub.faults.points import WORKER_POINTS

_log = logging.getLogger(__name__)
#: Firings of a rule that are logged as warnings; a device that is lost fires at every access.
_LOUD_FIRINGS: Final = 20


class DeviceFaults:
    """Says whether a fault happens now to this device, and writes down that it did."""

    def __init__(self, injector: Injector, device: str) -> None:
        """`device` is its name, which rules select by."""
        self.injector = injector
        self._device = device
        self._firings: Counter[int] = Counter()
        #: Told of each fault that happens: what it is, and where.
        self.on_fired: Callable[[str], None] | None = None

    def has_rules(self, point: Point) -> bool:
        """Whether there are rules for a point; cheap enough to ask each time."""
        return self.injector.has_rules(point)

    def fires(self, point: Point, /, *kinds: str, **event: Value | None) -> Rule | None:
        """The rule by which a fault happens at this event, or None; see `Injector.fires`."""
        rule = self.injector.fires(point, *kinds, device=self._device, **event)
        if rule:
            known = " ".join(f"{k}={v}" for k, v in event.items() if v is not None)
            self._firings[rule.id] += 1
            level = logging.WARNING if self._firings[rule.id] <= _LOUD_FIRINGS else logging.DEBUG
            _log.log(level, "%s: fault %d fired: %s; %s", self._device, rule.id, rule, known)
            if self.on_fired:
                self.on_fired(f"{rule.id}: {rule}; {known}")
        return rule

    def for_worker(
        self, channel: int, process: str, pid: int, *, new: bool = False
    ) -> dict[str, Any]:
        """What a worker is told: the rules of its points, and whose events it has.

        A new channel gets no rules that have fired on others as often as they may: who starts
        anew after a fault finds the device well.
        """
        rules = [
            (rule.to_json(), added_ns)
            for rule, added_ns in self.injector.active_at(*WORKER_POINTS, unspent=new)
            if rule.matches_place(self._device, channel, process, pid)
        ]
        identity = {"device": self._device, "channel": channel, "process": process, "pid": pid}
        return {"rules": rules, "identity": identity}

    def worker_told(
        self, channel: int, process: str, pid: int, worker_pid: int, report: dict[str, Any]
    ) -> None:
        """Take over what a worker has counted, and write down what fired there."""
        source = f"worker {worker_pid}"
        for number, seen, fired, last_fired_ns in report["totals"]:
            self.injector.record(number, source, seen, fired, last_fired_ns)
        if report["text"]:
            _log.warning(
                "%s: fault fired on channel %d (%s, guest pid %d): %s",
                self._device,
                channel,
                process,
                pid,
                report["text"],
            )
            if self.on_fired:
                self.on_fired(f"{report['text']}; channel={channel}")
