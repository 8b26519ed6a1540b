"""Clusters of blocks, of which each here has one block: its barrier is the block's."""

from __future__ import annotations

from dataclasses import replace

from .ir import Body, Instruction


def as_single_blocks(body: Body) -> None:
    """Put the barrier of the block for that of the cluster, and a fence for the arrival at it.

    Nothing that threads do between arriving and waiting can depend on another block.
    """
    body.items = [
        _alone(item) if isinstance(item, Instruction) and item.opcode == "barrier" else item
        for item in body.items
    ]


def _alone(barrier: Instruction) -> Instruction:
    if "cluster" not in barrier.modifiers:
        return barrier
    if "arrive" in barrier.modifiers:
        return replace(barrier, opcode="membar", modifiers=("cta",))
    aligned = ("aligned",) if "aligned" in barrier.modifiers else ()
    return replace(barrier, modifiers=("sync", *aligned))
