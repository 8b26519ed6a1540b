"""Breadth-first search of a random graph, level by level from a queue of vertices."""

from __future__ import annotations

from ctypes import c_int
from typing import ClassVar

import numpy as np
from algorithms.algorithm import Algorithm, Arrays, ceil_div
from cuda_driver import Driver, Module

THREADS = 192
UNREACHED = -1


class Bfs(Algorithm):
    """Each vertex's distance from vertex 0; a tenth of the vertices cannot be reached."""

    name: ClassVar[str] = "bfs"

    def __init__(self, scale: int = 1) -> None:
        self.count = 20_011 * scale
        rng = np.random.default_rng(11)
        edges = rng.integers(0, self.count, (2, 3 * self.count))
        edges = edges[:, (edges % 10 != 3).all(0)]
        sources, targets = np.concatenate([edges, edges[::-1]], 1)
        order = np.argsort(sources, kind="stable")
        self.neighbours = targets[order].astype(np.int32)
        degrees = np.bincount(sources, minlength=self.count)
        self.offsets = np.concatenate([[0], np.cumsum(degrees)]).astype(np.int32)

    def upload(self, driver: Driver, module: Module) -> None:
        self._expand = module.kernel("bfs_expand")
        levels = np.full(self.count, UNREACHED, np.int32)
        levels[0] = 0
        self._graph = driver.upload(self.offsets), driver.upload(self.neighbours)
        self._levels = driver.upload(levels)
        self._queues = driver.zeros(4 * self.count), driver.zeros(4 * self.count)
        self._size = driver.zeros(4)

    def compute(self) -> None:
        frontier, following = self._queues
        size, level = 1, 0
        while size:
            level += 1
            self._size.write(np.zeros(1, np.int32))
            self._expand(
                (ceil_div(size, THREADS), 1, 1),
                (THREADS, 1, 1),
                *self._graph,
                self._levels,
                c_int(level),
                frontier,
                c_int(size),
                following,
                self._size,
            )
            size = int(self._size.download(1, np.int32)[0])
            frontier, following = following, frontier

    def download(self) -> Arrays:
        return (self._levels.download(self.count, np.int32),)

    def reference(self) -> Arrays:
        levels = np.full(self.count, UNREACHED, np.int32)
        levels[0] = 0
        frontier, level = np.zeros(1, np.int64), 0
        while len(frontier):
            level += 1
            starts = self.offsets[frontier]
            degrees = self.offsets[frontier + 1] - starts
            within = np.arange(degrees.sum()) - np.repeat(np.cumsum(degrees) - degrees, degrees)
            reached = np.unique(self.neighbours[np.repeat(starts, degrees) + within])
            frontier = reached[levels[reached] == UNREACHED]
            levels[frontier] = level
        return (levels,)
