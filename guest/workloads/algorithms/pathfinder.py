"""The cheapest path from the top of a grid to each place at its bottom."""

from __future__ import annotations

from ctypes import c_int
from typing import ClassVar

import numpy as np
from algorithms.algorithm import Algorithm, Arrays, ceil_div
from cuda_driver import Driver, Module

WIDTH = 256
ROWS_A_LAUNCH = 20


class Pathfinder(Algorithm):
    """Costs of the cheapest paths; blocks overlap by the rows that a launch does."""

    name: ClassVar[str] = "pathfinder"

    def __init__(self, scale: int = 1) -> None:
        self.rows, self.columns = 111, 4_007 * scale
        rng = np.random.default_rng(17)
        self.costs = rng.integers(0, 10, (self.rows, self.columns)).astype(np.int32)

    def upload(self, driver: Driver, module: Module) -> None:
        self._kernel = module.kernel("pathfinder")
        self._costs = driver.upload(self.costs)
        self._line, self._next = driver.upload(self.costs[0]), driver.zeros(4 * self.columns)

    def compute(self) -> None:
        for first in range(1, self.rows, ROWS_A_LAUNCH):
            rows = min(ROWS_A_LAUNCH, self.rows - first)
            self._kernel(
                (ceil_div(self.columns, WIDTH - 2 * rows), 1, 1),
                (WIDTH, 1, 1),
                self._costs,
                self._line,
                self._next,
                c_int(self.columns),
                c_int(first),
                c_int(rows),
            )
            self._line, self._next = self._next, self._line

    def download(self) -> Arrays:
        return (self._line.download(self.columns, np.int32),)

    def reference(self) -> Arrays:
        line = self.costs[0]
        for row in self.costs[1:]:
            around = np.pad(line, 1, mode="edge")
            line = row + np.minimum(np.minimum(around[:-2], around[2:]), line)
        return (line,)
