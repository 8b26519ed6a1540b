"""The registry of faults: what each kind is called, where it happens, what the guest sees.

A kind is a description; what makes it happen is where its point is (`vgpu_host.fault_hooks` for
workers, `vgpu_stub.device` for the device). Names are what is seen from outside.
"""

from __future__ import annotations

from typing import Final

from vgpu_stub.faults.device_kinds import DEVICE_KINDS
from vgpu_stub.faults.kind import Kind, Parameter, Value, delay, near, parse_value
from vgpu_stub.faults.points import CHANNEL, Point

_NO_ANSWER: Final = (
    "no completion comes; the library finds the worker idle behind the command and fails the"
    " channel with CUDA_ERROR_LAUNCH_TIMEOUT (VGPU_STUB_LOST_COMPLETION_MS)"
)

_WORKER_KINDS: Final = (
    Kind(
        "completion-lost",
        Point.COMPLETE,
        "A command is carried out and its completion never written.",
        _NO_ANSWER,
    ),
    Kind(
        "completion-late",
        Point.COMPLETE,
        "A completion is written later than its command was done; later ones overtake it.",
        "the call takes that much longer",
        (delay(200, "how much later, in milliseconds"),),
    ),
    Kind(
        "completion-duplicate",
        Point.COMPLETE,
        "A completion is written twice.",
        "nothing: the second names a sequence number that nobody waits for",
    ),
    Kind(
        "completion-wrong-sequence",
        Point.COMPLETE,
        "A completion carries another sequence number than its command.",
        _NO_ANSWER,
        (Parameter("add", 1 << 40, "what is added to the right number", least=1),),
    ),
    Kind(
        "command-error",
        Point.EXECUTE,
        "A command fails with a CUDA error and is not carried out.",
        "the error, from this call (sync) or from the next one that waits (async)",
        (
            Parameter("error", 999, "CUresult, by name or number", cuda_error=True),
            Parameter(
                "mode",
                "sync",
                "'sync': the command completes with the error; 'async': it is carried out, and the"
                " error is reported by the next command that completes",
                ("sync", "async"),
            ),
        ),
    ),
    Kind(
        "ring-slow",
        Point.EXECUTE,
        "The worker takes each command later than it could.",
        "calls take that much longer",
        (delay(5, "before each command, in milliseconds"),),
        times=0,
    ),
    Kind(
        "worker-crash",
        Point.EXECUTE,
        "The channel's worker process dies from a signal before it carries out the command.",
        "the channel fails: CUDA_ERROR_DEVICE_UNAVAILABLE from every call of that process",
        (Parameter("signal", "KILL", "which", ("KILL", "SEGV", "ABRT", "BUS")),),
    ),
    Kind(
        "worker-start-failure",
        Point.WORKER,
        "No worker can be started for a new channel.",
        "CHANNEL_CREATE fails with EAGAIN: cuInit says CUDA_ERROR_DEVICE_UNAVAILABLE",
        selectors=CHANNEL,
    ),
    Kind(
        "worker-slow-start",
        Point.WORKER,
        "The worker of a new channel takes long to be ready.",
        "CHANNEL_CREATE, hence cuInit, takes that much longer",
        (delay(1000, "how much longer, in milliseconds"),),
        selectors=CHANNEL,
    ),
)

#: All kinds by name.
KINDS: Final[dict[str, Kind]] = {kind.name: kind for kind in (*_WORKER_KINDS, *DEVICE_KINDS)}

__all__ = ["KINDS", "Kind", "Parameter", "Value", "near", "parse_value"]
