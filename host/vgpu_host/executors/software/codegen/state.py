"""Layout of the structures that the launcher shares with compiled code.

`LAUNCH` describes one launch and is shared by all host threads that run it; `WORKER` belongs to one
host thread. Offsets are in bytes.
"""

from __future__ import annotations

from .emitter import Emitter, Value

LAUNCH = {
    "params": 0,
    "arena_base": 8,
    "arena_size": 16,
    "next_cta": 24,
    "cta_count": 32,
    "chunk": 40,
    "grid_x": 48,
    "grid_y": 52,
    "grid_z": 56,
    "block_x": 60,
    "block_y": 64,
    "block_z": 68,
    "threads": 72,
    "warps": 76,
    "stop": 80,
    "fault_claimed": 84,
    "thread_ids": 88,
    "shared_size": 96,
    "fault_code": 100,
    "fault_address": 104,
    "fault_cta": 112,
    "fault_thread": 120,
    "fault_position": 124,
    "launch_id": 128,
    "workers": 136,
    "output": 144,
    "globals": 152,
    "checks": 160,
    # The memory that the blocks of a cooperative launch share, 0 in any other.
    "workspace": 184,
}
LAUNCH_SIZE = 192

WORKER = {
    "shared": 0,
    "local": 8,
    "context": 16,
    "sink": 24,
    "cta_x": 32,
    "cta_y": 36,
    "cta_z": 40,
    "round": 44,
    "index": 48,
    "cta": 56,
    "vote_or": 64,
    "vote_and": 72,
    "vote_count": 80,
    "counts": 88,
    # What checkers keep of a block (`checks.structures.STATE`).
    "checks": 96,
    # Of kernels with holds: the blocks that a host thread holds in a cooperative launch; from
    # `resume` on, the state of one block.
    "resident": 512,
    "resident_count": 520,
    "resume": 544,
    "live": 672,
    "stuck": 676,
    "barriers": 704,
}
WORKER_SIZE = 1728
#: The context of a warp starts at a multiple of this: what LLVM assumes of its widest vector.
CONTEXT_ALIGNMENT = 256

#: Value of `fault_code` for each way a kernel can end early, before it becomes a CUresult.
FAULT_ADDRESS, FAULT_TRAP, FAULT_STOPPED, FAULT_ASSERT = 1, 2, 3, 4
FAULT_DEADLOCK, FAULT_STACK, FAULT_NO_FUNCTION = 5, 6, 7

#: First argument of the function in `output`: what a warp has to say.
OUTPUT_PRINT, OUTPUT_ASSERT = 0, 1


def launch_field(emitter: Emitter, name: str, type_: str) -> Value:
    """Load a field of the launch structure."""
    return _field(emitter, "%launch", LAUNCH[name], type_)


def worker_field(emitter: Emitter, name: str, type_: str) -> Value:
    """Load a field of the worker structure."""
    return _field(emitter, "%worker", WORKER[name], type_)


def _field(emitter: Emitter, base: str, offset: int, type_: str) -> Value:
    pointer = emitter.define(f"getelementptr i8, ptr {base}, i64 {offset}", "ptr")
    return emitter.define(f"load {type_}, ptr {pointer.ref}", type_)
