"""Coordinates of blocks and threads from their linear numbers."""

from __future__ import annotations

Dim3 = tuple[int, int, int]


def coordinates(index: int, extent: Dim3) -> Dim3:
    """x, y, z of the element `index` of a grid or block; x varies fastest."""
    return index % extent[0], index // extent[0] % extent[1], index // extent[0] // extent[1]
