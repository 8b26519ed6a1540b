"""Counts how often the blocks of a kernel run, where the fidelity report is asked for."""

from __future__ import annotations

from vgpu_host.executors.software.counts import BLOCK_SIZE

from .emitter import Emitter, Value, integer
from .state import WORKER


def find_counts(emitter: Emitter) -> None:
    """Find the counts of the host thread, at the start of a warp."""
    emitter.line(f"%p.counts = getelementptr i8, ptr %worker, i64 {WORKER['counts']}")
    emitter.line("%counts = load ptr, ptr %p.counts")


def count_block(emitter: Emitter) -> None:
    """Count a run of the current block, and the lanes that take part in it."""
    lanes = emitter.cast("zext", emitter.intrinsic("ctpop", emitter.mask_bits), "i64")
    start = BLOCK_SIZE * emitter.block
    for offset, amount in ((start, integer(1, "i64")), (start + 8, lanes)):
        _add(emitter, offset, amount)


def _add(emitter: Emitter, offset: int, amount: Value) -> None:
    pointer = emitter.define(f"getelementptr i8, ptr %counts, i64 {offset}", "ptr")
    old = emitter.define(f"load i64, ptr {pointer.ref}", "i64")
    emitter.line(f"store {emitter.op('add', old, amount)}, ptr {pointer.ref}")
