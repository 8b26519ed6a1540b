"""Faults of commands: slow, failing, or the end of the worker that would carry them out."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from vgpu_host.decode import HEADER_BYTES
from vgpu_host.executors.base import CudaError
from vgpu_host.hooks import Command
from vgpu_stub.abi import generated as abi
from vgpu_stub.faults import Rule

if TYPE_CHECKING:
    from vgpu_host.injection.hook import FaultHook

#: Carries out a command.
Proceed = Callable[[Command], None]


#: Errors after which a context is of no use any more: CUDA calls them sticky.
STICKY: Final = frozenset((214, 700, 702, 710, 714, 715, 716, 717, 718, 719))
_OUT_OF_MEMORY: Final = 2
_KERNEL_ERRORS: Final = {"launch-timeout": 702, "illegal-address": 700}


def injected(rule: Rule, result: int) -> CudaError:
    """A CUDA error that a rule made up, and says so in the log."""
    return CudaError(result, f"injected fault {rule.id}: {rule}")


def _fail(hook: FaultHook, rule: Rule, command: Command, proceed: Proceed) -> None:
    """command-error."""
    error = injected(rule, int(rule.parameters["error"]))
    if rule.parameters["mode"] == "sync":
        hook.drain.fail(command.opcode, command.flags, command.sequence, error)
        return
    proceed(command)
    hook.drain.fail(command.opcode, 0, command.sequence, error)
    if error.result in STICKY:
        hook.broken[command.context] = error


def _fault_kernel(hook: FaultHook, rule: Rule, command: Command, proceed: Proceed) -> None:
    """launch-timeout, illegal-address: the launch is accepted, the kernel's end is the error."""
    error = injected(rule, _KERNEL_ERRORS[rule.kind])
    hook.drain.fail(command.opcode, command.flags, command.sequence, error)
    hook.broken[command.context] = error


def _deny_memory(hook: FaultHook, rule: Rule, command: Command, proceed: Proceed) -> None:
    """out-of-memory."""
    error = injected(rule, _OUT_OF_MEMORY)
    hook.drain.fail(command.opcode, command.flags, command.sequence, error)


def _cut_short(hook: FaultHook, rule: Rule, command: Command, proceed: Proceed) -> None:
    """dma-short: the same command with a smaller size, then the error."""
    layout = abi.COMMANDS[command.opcode]
    fields = list(layout.fields.unpack_from(command.data, HEADER_BYTES))
    place = layout.field_names.index("tail_bytes" if layout.has_tail else "size")
    fields[place] = int(fields[place] * min(float(rule.parameters["fraction"]), 1.0))
    data = bytearray(command.data)
    layout.fields.pack_into(data, HEADER_BYTES, *fields)
    silent = command.flags & ~(abi.COMMAND_COMPLETE | abi.COMMAND_WAIT)
    if fields[place]:
        proceed(replace(command, flags=silent, data=bytes(data)))
        hook.wait_for_stream(command)
    error = injected(rule, int(rule.parameters["error"]))
    hook.drain.fail(command.opcode, command.flags, command.sequence, error)


def _stick(hook: FaultHook, rule: Rule, command: Command, proceed: Proceed) -> None:
    """ring-stuck."""
    hook.hold(math.inf, lambda: not hook.has_rule(rule))
    proceed(command)


def _stop(hook: FaultHook, rule: Rule, command: Command, proceed: Proceed) -> None:
    """worker-hang."""
    hook.tell()
    os.kill(os.getpid(), signal.SIGSTOP)
    proceed(command)


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
    "dma-short": _cut_short,
    "illegal-address": _fault_kernel,
    "launch-timeout": _fault_kernel,
    "out-of-memory": _deny_memory,
    "ring-stuck": _stick,
    "worker-hang": _stop,
    "ring-slow": _slow_down,
    "worker-crash": _crash,
}
