"""Talks to the control socket of a running device server: its faults, and what else has verbs."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any, Final

from vgpu_host import runtime
from vgpu_host.control import ControlError
from vgpu_stub.faults import FaultRuleError, Rule

_ANSWER_S: Final = 10.0
_POLL_S: Final = 0.005


class Control:
    """Asks one device server; every call is a connection of its own."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the server's."""
        self._path = folder / runtime.CONTROL_SOCKET

    def call(self, verb: str, **arguments: object) -> dict[str, Any]:
        """Ask for a verb and return its answer.

        Raises:
            ControlError: No server answers, or it refuses.
        """
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(_ANSWER_S)
                client.connect(str(self._path))
                client.sendall(json.dumps({"verb": verb, **arguments}).encode() + b"\n")
                with client.makefile("rb") as lines:
                    line = lines.readline()
        except OSError as error:
            raise ControlError(f"no device server answers at {self._path}: {error}") from error
        if not line:
            raise ControlError(f"the device server at {self._path} ended without an answer")
        answer: dict[str, Any] = json.loads(line)
        if not answer.pop("ok"):
            raise ControlError(str(answer["error"]))
        return answer

    @property
    def faults(self) -> FaultControl:
        """The faults of the server."""
        return FaultControl(self.call)


class InjectedFault:
    """A rule in a running server."""

    def __init__(self, control: FaultControl, rule: Rule, number: int) -> None:
        self._control = control
        self.rule = rule
        self.id = number

    @property
    def state(self) -> dict[str, Any]:
        """The rule with `seen`, `fired` and `last_fired_ns`.

        Raises:
            ControlError: It was cleared.
        """
        for state in self._control.list():
            if state["id"] == self.id:
                return state
        raise ControlError(f"fault rule {self.id} ({self.rule}) was cleared")

    @property
    def fired(self) -> int:
        """How often it has fired."""
        return int(self.state["fired"])

    @property
    def seen(self) -> int:
        """How many events it was about, as far as workers have told: when they sleep, or fire."""
        return int(self.state["seen"])

    def wait_fired(self, timeout_s: float = 10.0, times: int = 1) -> int:
        """Wait until it has fired so often; returns how often.

        Raises:
            TimeoutError: It has not in time; the text has its counts.
        """
        deadline = monotonic() + timeout_s
        while True:
            state = self.state
            if state["fired"] >= times:
                return int(state["fired"])
            if monotonic() > deadline:
                raise TimeoutError(
                    f"{self.rule} fired {state['fired']} times in {timeout_s} s, not {times};"
                    f" it has seen {state['seen']} events"
                )
            Event().wait(_POLL_S)

    def clear(self) -> None:
        """Drop the rule."""
        self._control.clear(self.id)


class FaultControl:
    """Injects faults into a running device server."""

    def __init__(self, call: Callable[..., dict[str, Any]]) -> None:
        """`call` is `Control.call`."""
        self._call = call

    def inject(
        self, kind: str, /, **selectors_and_parameters: bool | int | float | str
    ) -> InjectedFault:
        """Add a rule; when this returns workers know it.

        Raises:
            FaultRuleError: The rule makes no sense.
            ControlError: The server does not answer.
        """
        rule = Rule.make(kind, **selectors_and_parameters)
        (made,) = self.add([rule])
        return made

    def add(self, rules: Sequence[Rule]) -> list[InjectedFault]:
        """Add several rules at once."""
        ids = self._call("faults.add", rules=[rule.to_json() for rule in rules])["ids"]
        return [InjectedFault(self, *pair) for pair in zip(rules, ids, strict=True)]

    def clear(self, *ids: int) -> None:
        """Drop the rules of these ids, all without any.

        Raises:
            ControlError: There is no such rule, or no server.
        """
        self._call("faults.clear", ids=list(ids))

    def list(self) -> list[dict[str, Any]]:
        """All rules with their counts; see `vgpu_stub.faults.RuleState.to_json`."""
        found: list[dict[str, Any]] = self._call("faults.list")["faults"]
        return found


__all__ = ["Control", "ControlError", "FaultControl", "FaultRuleError", "InjectedFault"]
