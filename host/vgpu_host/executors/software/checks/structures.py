"""Layout of what compiled code and the checkers share; offsets and sizes are in bytes.

A kernel that is checked has one `CHECKS` block, followed by a `SITE` for each thing that may be
found in it. Each host thread has a `STATE`, which orders what its blocks do.
"""

from __future__ import annotations

from enum import IntEnum

#: Found so far; where shadow and cells of the arena are, and what they are cells of; when blocks
#: last executed a fence; the clock.
CHECKS = {
    "total": 0,
    "shadow": 8,
    "cells": 16,
    "cell_mask": 24,
    "cell_bits": 32,
    "shared_cells": 40,
    "window": 48,
    "block_fences": 56,
    "clocks": 64,
}
CHECKS_SIZE = 128

SITE = {
    "count": 0,
    "address": 8,
    "cta": 16,
    "other_cta": 24,
    "lanes": 32,
    "thread": 40,
    "other_thread": 44,
    "position": 48,
    "other_position": 52,
    "kind": 56,
    "size": 60,
}
SITE_SIZE = 64

#: Shadow of one byte of device memory.
ADDRESSABLE, INITIALISED = 1, 2

#: What the race checker keeps of the block that a host thread runs, as values of the clock: at the
#: last barrier of the block, at its start, when it last executed a fence, and the latest release by
#: another block that it saw; then for each warp: when its lanes last met, when it last executed a
#: fence (or arrived at a barrier that counts), and the latest release (or barrier) that it saw.
STATE = {
    "round": 0,
    "start": 4,
    "fenced": 8,
    "acquired": 12,
    "meetings": 16,
    "warp_fences": 144,
    "warp_acquired": 272,
}
STATE_SIZE = 400
#: What all blocks share: the clock, which counts what orders accesses and instructions that write,
#: and its value at the start of the launch.
CLOCK = {"clock": 0, "launch": 4}
CLOCK_SIZE = 8

#: Bytes of memory that share a cell. A cell has records of two accesses that wrote and of two that
#: read; a record is a key and, behind it, `block << 32 | position`.
CELL_BYTES, CELL_SIZE, RECORD_SIZE = 4, 64, 16
READERS = 2 * RECORD_SIZE
#: Parts of a key by their lowest bit: the thread in its block, flags, which bytes of the cell,
#: which of the pieces of memory that share the cell, the clock. A key of zero is no access.
KEY_THREAD, KEY_FLAGS, KEY_BYTES, KEY_TAG, KEY_CLOCK = 0, 12, 16, 20, 32
#: Flags of an access. Two strong ones (volatile, relaxed, atomic and so on) do not race; a release
#: is a strong write behind a fence.
WRITE, STRONG, ATOMIC, RELEASE = 1, 2, 4, 8
#: Blocks share what is known of their fences with those whose number differs by this.
BLOCK_FENCES = 1 << 16


class Kind(IntEnum):
    """What compiled code can find; `kind` of a site."""

    UNINITIALISED = 1
    READ_AFTER_WRITE = 2
    WRITE_AFTER_READ = 3
    WRITE_AFTER_WRITE = 4
    DIVERGED_WARP = 5
    EXITED_THREADS = 6
    DIFFERENT_BARRIERS = 7
    ABSENT_LANES = 8
    OMITTED_LANE = 9
