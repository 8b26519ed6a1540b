"""K-means clustering by Lloyd's iteration."""

from __future__ import annotations

from ctypes import c_int
from typing import ClassVar

import numpy as np
from algorithms.algorithm import Algorithm, Arrays, ceil_div
from cuda_driver import Driver, Module

CLUSTERS, FEATURES = 7, 9
ITERATIONS = 5
THREADS = 128


class Kmeans(Algorithm):
    """Centres and memberships after five iterations; every rounding is numpy's."""

    name: ClassVar[str] = "kmeans"

    def __init__(self, scale: int = 1) -> None:
        self.count = 6_151 * scale
        rng = np.random.default_rng(15)
        places = rng.integers(-300, 300, (FEATURES, CLUSTERS))
        members = rng.integers(0, CLUSTERS, self.count)
        spread = rng.normal(0, 90, (FEATURES, self.count))
        self.points = np.rint(places[:, members] + spread).astype(np.int16)
        self.start = np.ascontiguousarray(self.points[:, :CLUSTERS].T).astype(np.float32)

    def upload(self, driver: Driver, module: Module) -> None:
        self._assign, self._move = module.kernel("kmeans_assign"), module.kernel("kmeans_move")
        self._points, self._centres = driver.upload(self.points), driver.upload(self.start)
        self._membership = driver.zeros(4 * self.count)
        self._sums, self._sizes = driver.zeros(4 * self.start.size), driver.zeros(4 * CLUSTERS)

    def compute(self) -> None:
        shape = c_int(CLUSTERS), c_int(FEATURES)
        for _ in range(ITERATIONS):
            self._sums.clear()
            self._sizes.clear()
            self._assign(
                (ceil_div(self.count, THREADS), 1, 1),
                (THREADS, 1, 1),
                self._points,
                self._centres,
                self._membership,
                self._sums,
                self._sizes,
                c_int(self.count),
                *shape,
                shared_bytes=self.start.nbytes,
            )
            self._move((1, 1, 1), (64, 1, 1), self._centres, self._sums, self._sizes, *shape)

    def download(self) -> Arrays:
        centres = self._centres.download(self.start.shape, np.float32)
        return centres, self._membership.download(self.count, np.int32)

    def reference(self) -> Arrays:
        centres = self.start.copy()
        points = self.points.astype(np.float32)
        membership = np.zeros(self.count, np.int32)
        for _ in range(ITERATIONS):
            distances = np.zeros((CLUSTERS, self.count), np.float32)
            for feature in range(FEATURES):
                apart = points[feature] - centres[:, feature, None]
                distances += apart * apart
            membership = distances.argmin(0).astype(np.int32)
            sizes = np.bincount(membership, minlength=CLUSTERS)
            for feature in range(FEATURES):
                sums = np.bincount(membership, self.points[feature], CLUSTERS)
                moved = sums.astype(np.float32) / np.maximum(sizes, 1).astype(np.float32)
                centres[:, feature] = np.where(sizes, moved, centres[:, feature])
        return centres, membership
