"""Faults of commands: slow, failing, or the end of the worker that would carry them out."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from vgpu_host.executors.base import CudaError
from vgpu_host.hooks import Command
from vgpu_stub.faults import Rule

if TYPE_CHECKING:
    from vgpu_host.injection.hook import FaultHook

#: Carries out a command.
Proceed = Callable[[Command], None]


def _fail(hook: FaultHook, rule: Rule, command: Command, proceed: Proceed) -> None:
    """command-error."""
    error = CudaError(int(rule.parameters["error"]), f"injected fault {rule.id}: {rule}")
    if rule.parameters["mode"] == "sync":
        hook.drain.fail(command.opcode, command.flags, command.sequence, error)
    else:
        proceed(command)
        hook.drain.fail(command.opcode, 0, command.sequence, error)


def _slow_down(hook: FaultHook, rule: Rule, command: Command, proceed: Proceed) -> None:
    """ring-slow."""
    hook.hold(float(rule.parameters["delay_ms"]) / 1000, lambda: not hook.has_rule(rule))
    proceed(command)


def _crash(hook: FaultHook, rule: Rule, command: Command, proceed: Proceed) -> None:
    """worker-crash."""
    hook.tell()
    number = signal.Signals[f"SIG{rule.parameters['signal']}"]
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)  # faulthandler or Python may have taken it
    os.kill(os.getpid(), number)


#: What each kind does to a command that is due.
COMMAND_FAULTS: Final[dict[str, Callable[[FaultHook, Rule, Command, Proceed], None]]] = {
    "command-error": _fail,
    "ring-slow": _slow_down,
    "worker-crash": _crash,
}
