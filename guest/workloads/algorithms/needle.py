"""Needleman-Wunsch: the best global alignment of two sequences, by dynamic programming."""

from __future__ import annotations

from ctypes import c_int
from typing import ClassVar

import numpy as np
from algorithms.algorithm import Algorithm, Arrays, ceil_div
from cuda_driver import Driver, Module
from numpy.typing import NDArray

TILE = 32
LETTERS = 24
GAP = 10


class Needle(Algorithm):
    """The whole matrix of scores; substitution scores are in constant memory."""

    name: ClassVar[str] = "needle"

    def __init__(self, scale: int = 1) -> None:
        self.rows, self.columns = 275 * scale, 331
        rng = np.random.default_rng(14)
        self.down = rng.integers(0, LETTERS, self.rows).astype(np.uint8)
        self.across = rng.integers(0, LETTERS, self.columns).astype(np.uint8)
        scores = rng.integers(-6, 5, (LETTERS, LETTERS))
        self.substitution = np.minimum(scores, scores.T).astype(np.int32)
        np.fill_diagonal(self.substitution, rng.integers(4, 12, LETTERS))

    def _borders(self) -> NDArray[np.int32]:
        scores = np.zeros((self.rows + 1, self.columns + 1), np.int32)
        scores[0, :] = -GAP * np.arange(self.columns + 1)
        scores[:, 0] = -GAP * np.arange(self.rows + 1)
        return scores

    def upload(self, driver: Driver, module: Module) -> None:
        self._kernel = module.kernel("needle_diagonal")
        module.variable("substitution").write(self.substitution)
        self._sequences = driver.upload(self.down), driver.upload(self.across)
        self._scores = driver.upload(self._borders())

    def compute(self) -> None:
        tile_rows, tile_columns = ceil_div(self.rows, TILE), ceil_div(self.columns, TILE)
        sizes = c_int(self.rows), c_int(self.columns), c_int(GAP)
        for diagonal in range(tile_rows + tile_columns - 1):
            first = max(0, diagonal - tile_columns + 1)
            last = min(tile_rows - 1, diagonal)
            self._kernel(
                (last - first + 1, 1, 1),
                (TILE, 1, 1),
                *self._sequences,
                self._scores,
                *sizes,
                c_int(diagonal),
                c_int(first),
            )

    def download(self) -> Arrays:
        return (self._scores.download((self.rows + 1, self.columns + 1), np.int32),)

    def reference(self) -> Arrays:
        scores = self._borders()
        slope = GAP * np.arange(self.columns + 1, dtype=np.int32)
        for row, letter in enumerate(self.down):
            above = scores[row]
            line = scores[row + 1]
            aligned = above[:-1] + self.substitution[letter, self.across]
            line[1:] = np.maximum(aligned, above[1:] - GAP)
            # A gap to the right costs the same everywhere, so the best start is a running maximum.
            line[:] = np.maximum.accumulate(line + slope) - slope
        return (scores,)
