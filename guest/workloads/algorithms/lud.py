"""LU decomposition of a matrix in place, by tiles."""

from __future__ import annotations

from ctypes import c_int
from typing import ClassVar

import numpy as np
from algorithms.algorithm import Algorithm, Arrays, ceil_div
from cuda_driver import Driver, Module

TILE = 16


class Lud(Algorithm):
    """Both factors of a matrix whose diagonal dominates, so that no pivot is needed."""

    name: ClassVar[str] = "lud"
    tolerance: ClassVar[float] = 1e-5

    def __init__(self, scale: int = 1) -> None:
        self.order = round(150 * scale ** (1 / 3)) | 1
        rng = np.random.default_rng(16)
        self.matrix = rng.uniform(-1, 1, (self.order, self.order)).astype(np.float32)
        self.matrix[np.diag_indices(self.order)] += np.float32(self.order)

    def upload(self, driver: Driver, module: Module) -> None:
        self._diagonal, self._perimeter, self._internal = (
            module.kernel(f"lud_{name}") for name in ("diagonal", "perimeter", "internal")
        )
        self._matrix = driver.upload(self.matrix)

    def compute(self) -> None:
        tiles = ceil_div(self.order, TILE)
        for tile in range(tiles):
            arguments = self._matrix, c_int(self.order), c_int(tile * TILE)
            remaining = tiles - tile - 1
            self._diagonal((1, 1, 1), (TILE, 1, 1), *arguments)
            if remaining:
                self._perimeter((remaining, 2, 1), (TILE, 1, 1), *arguments)
                self._internal((remaining, remaining, 1), (TILE, TILE, 1), *arguments)

    def download(self) -> Arrays:
        return (self._matrix.download(self.matrix.shape, np.float32),)

    def reference(self) -> Arrays:
        factors = self.matrix.astype(np.float64)
        for k in range(self.order - 1):
            factors[k + 1 :, k] /= factors[k, k]
            factors[k + 1 :, k + 1 :] -= np.outer(factors[k + 1 :, k], factors[k, k + 1 :])
        return (factors,)
