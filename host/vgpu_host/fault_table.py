"""The fault rules of a device server: added and cleared by its control socket, given to workers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Final

from vgpu_host.control import ControlError, Handler
from vgpu_stub.device.gpu import VirtualGpu
from vgpu_stub.faults import Injector, Rule

#: How long a change waits for workers to have it; one that runs a kernel takes it up afterwards.
_WORKERS_S: Final = 2.0
#: Rules of a server at once: a worker gets all of its rules in one message.
MAX_RULES: Final = 100


class FaultTable:
    """One table for all devices of a server."""

    def __init__(self, devices: Callable[[], Sequence[VirtualGpu]], rules: Sequence[Rule]) -> None:
        """Start with rules; `devices` are those that now have to be told of changes."""
        self.injector = Injector()
        self._devices = devices
        self._check_room(len(rules))
        for rule in rules:
            self.injector.add(rule)

    def handlers(self) -> dict[str, Handler]:
        """Verbs of the control socket."""
        return {"faults.add": self._add, "faults.clear": self._clear, "faults.list": self._list}

    def snapshot(self) -> list[dict[str, Any]]:
        """Rules with their counts, as plain data."""
        return [state.to_json() for state in self.injector.rules()]

    def _add(self, request: dict[str, Any]) -> dict[str, Any]:
        rules = [Rule.from_json({**rule, "id": 0}) for rule in request["rules"]]
        self._check_room(len(rules))
        ids = [self.injector.add(rule) for rule in rules]
        return {"ids": ids, "late_workers": self._push()}

    def _check_room(self, more: int) -> None:
        present = len(self.injector.rules())
        if present + more > MAX_RULES:
            raise ControlError(f"{present} rules are active, and at most {MAX_RULES} may be")

    def _clear(self, request: dict[str, Any]) -> dict[str, Any]:
        for number in request.get("ids") or [None]:
            self.injector.clear(number)
        return {"late_workers": self._push()}

    def _list(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"faults": self.snapshot()}

    def _push(self) -> int:
        """Give workers the rules; returns how many have not said in time that they have them."""
        answers = threading.Semaphore(0)
        asked = sum(
            device.faults_changed(lambda _: answers.release()) for device in self._devices()
        )
        deadline = monotonic() + _WORKERS_S
        for answered in range(asked):
            if not answers.acquire(timeout=max(0.0, deadline - monotonic())):
                return asked - answered
        return 0
