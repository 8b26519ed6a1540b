"""Findings of the race and barrier checkers, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from vgpu_host.findings import Access, Finding

from .structures import Kind

_RACES: Final = {
    Kind.READ_AFTER_WRITE: ("read-after-write", "{verb} {size} bytes that {other} has written"),
    Kind.WRITE_AFTER_READ: ("write-after-read", "{verb} {size} bytes that {other} has read"),
    Kind.WRITE_AFTER_WRITE: ("write-after-write", "{verb} {size} bytes that {other} has written"),
}
#: Kinds of the barrier checker and what they mean; `{lanes}` are the lanes that are missing.
SYNC_KINDS: Final = {
    Kind.DIVERGED_WARP: (
        "diverged-warp",
        "a barrier of the block is reached by a part of a warp; lanes {lanes} are elsewhere",
    ),
    Kind.EXITED_THREADS: (
        "exited-threads",
        "a thread waits at a barrier of the block while another thread has ended",
    ),
    Kind.DIFFERENT_BARRIERS: (
        "different-barriers",
        "a thread waits at a barrier while a thread of its block waits at another one",
    ),
    Kind.ABSENT_LANES: (
        "absent-lanes",
        "the member mask names lanes that are not there; lanes {lanes} are elsewhere",
    ),
    Kind.OMITTED_LANE: (
        "omitted-lane",
        "the member mask does not name the lane that executes the instruction",
    ),
}


def race(
    kernel: str,
    kind: Kind,
    site: Mapping[str, int],
    access: Access,
    other: Access | None,
    where: str,
) -> Finding:
    """A finding of the race checker from a site; `where` is the address, in words."""
    assert other
    name, text = _RACES[kind]
    verb = "a thread reads" if kind is Kind.READ_AFTER_WRITE else "a thread writes"
    if access.block != other.block:
        who, missing = "a thread of another block", "nothing orders the two"
    elif site["thread"] >> 5 == site["other_thread"] >> 5:
        who, missing = "another lane of its warp", "no bar.warp.sync (__syncwarp) is between them"
        if access.ptx_line == other.ptx_line and kind is Kind.WRITE_AFTER_WRITE:
            missing = "the values differ"
    else:
        who, missing = "another thread of its block", "no barrier (__syncthreads) is between them"
    message = text.format(verb=verb, size=site["size"], other=who)
    return Finding(
        "race",
        name,
        kernel,
        f"{message} at {where}; {missing}",
        access,
        other,
        count=site["count"],
    )


def sync(
    kernel: str, kind: Kind, site: Mapping[str, int], access: Access, other: Access | None
) -> Finding:
    """A finding of the barrier checker from a site."""
    name, text = SYNC_KINDS[kind]
    message = text.format(lanes=lanes_in_words(site["lanes"]))
    with_other = other if kind is not Kind.OMITTED_LANE else None
    return Finding("sync", name, kernel, message, access, with_other, count=site["count"])


def lanes_in_words(bits: int) -> str:
    """A set of lanes, such as `0-3, 7`."""
    runs: list[list[int]] = []
    for lane in range(32):
        if not bits >> lane & 1:
            continue
        if runs and runs[-1][1] == lane - 1:
            runs[-1][1] = lane
        else:
            runs.append([lane, lane])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
