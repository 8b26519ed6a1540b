"""A matrix times a vector: what generating text with a language model mostly is."""

from __future__ import annotations

from ctypes import c_int
from typing import ClassVar

import numpy as np
from algorithms.algorithm import Algorithm, Arrays, ceil_div
from cuda_driver import Driver, Module

WARPS = 8


class MatrixVector(Algorithm):
    """One product, by a warp for each row."""

    name: ClassVar[str] = "matrix_vector"
    tolerance: ClassVar[float] = 1e-5

    def __init__(self, scale: int = 1) -> None:
        self.rows, self.columns = 1001 * scale, 1000
        rng = np.random.default_rng(19)
        self.matrix = rng.standard_normal((self.rows, self.columns)).astype(np.float32)
        self.vector = rng.standard_normal(self.columns).astype(np.float32)

    def upload(self, driver: Driver, module: Module) -> None:
        self._kernel = module.kernel("matrix_vector")
        self._matrix, self._vector = driver.upload(self.matrix), driver.upload(self.vector)
        self._result = driver.zeros(4 * self.rows)

    def compute(self) -> None:
        self._kernel(
            (ceil_div(self.rows, WARPS), 1, 1),
            (32 * WARPS, 1, 1),
            self._matrix,
            self._vector,
            self._result,
            c_int(self.rows),
            c_int(self.columns),
        )

    def download(self) -> Arrays:
        return (self._result.download(self.rows, np.float32),)

    def reference(self) -> Arrays:
        return (self.matrix.astype(np.float64) @ self.vector,)
