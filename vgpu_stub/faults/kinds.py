"""The registry of faults: what each kind is called, where it happens, what the guest sees.

A kind is a description; what makes it happen is where its point is (`vgpu_host.fault_hooks` for
workers, `vgpu_stub.device` for the device). Names are what is seen from outside.
"""

from __future__ import annotations

from typing import Final

from vgpu_stub.faults.device_kinds import DEVICE_KINDS
from vgpu_stub.faults.kind import Kind, Parameter, Value, delay, near, parse_value
from vgpu_stub.faults.points import ALLOCATION, CHANNEL, DATA, Point

_NO_ANSWER: Final = (
    "no completion comes; the library finds the worker asleep behind the command and gives the"
    " channel up after a second: CUDA_ERROR_LAUNCH_TIMEOUT"
)

_LAUNCHES: Final = ("LAUNCH_KERNEL", "LAUNCH_COOPERATIVE", "GRAPH_LAUNCH")
_DMA_SEEN: Final = "the command fails with CUDA_ERROR_UNKNOWN, and nothing was copied"
_DMA_ERROR: Final = Parameter("error", 999, "CUresult, by name or number", cuda_error=True)

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
        "completion-reordered",
        Point.COMPLETE,
        "A completion is written behind the next one, or after a time if none follows.",
        "nothing: completions may come in any order",
        (delay(100, "how long to wait for the next one, in milliseconds"),),
    ),
    Kind(
        "completion-torn",
        Point.COMPLETE,
        "cq_tail is published before the entry, or all of it, is written.",
        "with 'nothing' written, what the entry held before: a number that nobody waits for, so"
        " the completion is lost; with 'sequence' written, status and results of an old entry or 0",
        (
            Parameter(
                "written",
                "nothing",
                "what of the entry is there when cq_tail says so",
                ("nothing", "sequence"),
            ),
            delay(20, "when the rest follows, in milliseconds"),
        ),
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
        "launch-timeout",
        Point.EXECUTE,
        "A kernel is stopped because it runs too long.",
        "CUDA_ERROR_LAUNCH_TIMEOUT from the next call that waits, and from every later one in the"
        " context",
        commands=_LAUNCHES,
    ),
    Kind(
        "illegal-address",
        Point.EXECUTE,
        "A kernel accesses memory that is not its own.",
        "CUDA_ERROR_ILLEGAL_ADDRESS from the next call that waits, and from every later one in the"
        " context",
        commands=_LAUNCHES,
    ),
    Kind(
        "out-of-memory",
        Point.EXECUTE,
        "Allocations of device memory fail.",
        "CUDA_ERROR_OUT_OF_MEMORY from the call that allocates",
        selectors=ALLOCATION,
        times=0,
        commands=("MEMORY_ALLOCATE",),
    ),
    Kind(
        "dma-read-error",
        Point.DATA,
        "The device cannot read the guest memory that a command names.",
        _DMA_SEEN,
        (_DMA_ERROR,),
    ),
    Kind(
        "dma-write-error",
        Point.DATA,
        "The device cannot write the guest memory that a command names.",
        _DMA_SEEN,
        (_DMA_ERROR,),
    ),
    Kind(
        "dma-short",
        Point.EXECUTE,
        "A copy between guest and device stops on its way.",
        "the first bytes have arrived, the rest is as it was, and the copy fails with"
        " CUDA_ERROR_UNKNOWN",
        (
            Parameter("fraction", 0.5, "how much is copied, from 0 to 1"),
            _DMA_ERROR,
        ),
        commands=("COPY_HOST_TO_DEVICE", "COPY_DEVICE_TO_HOST", "COPY_INLINE"),
    ),
    Kind(
        "data-corrupted",
        Point.DATA,
        "Bits of what a command copies between guest and device are flipped; nothing says so.",
        "wrong data and success",
        (
            Parameter("bits", 1, "how many are flipped", least=1),
            Parameter("place_seed", 0, "of the random numbers that choose the bits"),
        ),
        DATA,
        commands=("COPY_HOST_TO_DEVICE", "COPY_DEVICE_TO_HOST", "COPY_INLINE", "COPY_2D"),
    ),
    Kind(
        "ring-stuck",
        Point.EXECUTE,
        "The worker lives and takes no more commands until the rule is cleared.",
        "calls that wait do so for ten seconds (VGPU_STUB_WATCHDOG), then the library gives the"
        " channel up: CUDA_ERROR_LAUNCH_TIMEOUT",
    ),
    Kind(
        "worker-hang",
        Point.EXECUTE,
        "The channel's worker process stops, in the middle of a command.",
        "the device server finds it stopped and fails the channel: CUDA_ERROR_LAUNCH_TIMEOUT",
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
        "CHANNEL_CREATE fails with EAGAIN, cuInit with CUDA_ERROR_DEVICE_UNAVAILABLE",
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
