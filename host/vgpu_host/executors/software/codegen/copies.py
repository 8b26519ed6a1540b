"""`cp.async` (carried out at once), and instructions that only advise."""

from __future__ import annotations

from vgpu_host.executors.software.ir import Immediate, Instruction

from .access import load, locate, store
from .emitter import Emitter
from .memory import address_of
from .registry import handles

_HINTS = "L2::64B L2::128B L2::256B"


@handles("cp", f"async ca cg shared shared::cta global commit_group wait_group wait_all {_HINTS}")
def emit_asynchronous_copy(emitter: Emitter, instruction: Instruction) -> None:
    """`cp.async`: 4, 8 or 16 bytes from global to shared memory; waiting finds them there."""
    if {"commit_group", "wait_group", "wait_all"} & set(instruction.modifiers):
        return
    target, source, size = instruction.operands
    if not isinstance(size, Immediate) or size.bits not in (4, 8, 16):
        raise emitter.refuse("cp.async copies 4, 8 or 16 bytes")
    count = size.bits // 4
    origin = locate(emitter, address_of(emitter, source), "global", 4, count)
    words = [load(emitter, origin, "i32", 4 * index) for index in range(count)]
    place = locate(emitter, address_of(emitter, target), "shared", 4, count)
    for index, word in enumerate(words):
        store(emitter, place, word, 4 * index)


@handles("griddepcontrol", "launch_dependents wait")
def emit_grid_dependency(emitter: Emitter, instruction: Instruction) -> None:
    """`griddepcontrol`: a kernel starts when the one before it has ended: nothing to wait for."""


@handles("applypriority discard", "global L2 L2::evict_normal")
def emit_advice(emitter: Emitter, instruction: Instruction) -> None:
    """`applypriority`, `discard`: hints, to which doing nothing is a full answer."""
