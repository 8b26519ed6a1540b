"""What statements of the generator have to know of the place that they are written to."""

from __future__ import annotations

from dataclasses import dataclass

#: Bytes that programs read, and bytes that they change with atomics.
INPUT_BYTES = 2048
ATOMIC_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Where:
    """Which threads are here: a whole block, the lanes of `mask`, or (empty) who knows."""

    block: bool
    mask: str
    depth: int
