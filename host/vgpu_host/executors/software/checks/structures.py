"""Layout of what compiled code and the checkers share; offsets and sizes are in bytes.

A kernel that is checked has one `CHECKS` block, followed by a `SITE` for each thing that may be
found in it. Each host thread has a `STATE`, which orders what its blocks do.
"""

from __future__ import annotations

from enum import IntEnum

#: Found so far, where shadow and cells of the arena are, and what the race checker keeps.
CHECKS = {"total": 0, "shadow": 8, "cells": 16, "states": 24, "fences": 32, "scratch": 40}
CHECKS_SIZE = 64

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

#: `clock` counts what orders accesses: barriers, fences, synchronised warps. The others are its
#: values at the last barrier, at the start of the block, at the start of the launch, and for each
#: warp when its lanes last met and when it last executed a fence.
STATE = {"clock": 0, "round": 4, "cta": 8, "launch": 12, "index": 16, "meetings": 64, "fences": 192}
STATE_SIZE = 512
#: Host threads that a cell can name.
MAX_WORKERS = 64

#: Bytes of memory that share a cell, and its size: the last writer and a reader, 16 bytes each.
CELL_BYTES, CELL_SIZE = 4, 32
#: Blocks of which the race checker knows when they last executed a fence.
FENCES = 1 << 16


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
    OMITTED_LANES = 9
