"""Speckle-reducing anisotropic diffusion of a noisy image."""

from __future__ import annotations

from ctypes import c_float, c_int
from typing import ClassVar

import numpy as np
from algorithms.algorithm import Algorithm, Arrays, ceil_div
from cuda_driver import Driver, Module

STEPS = 4
RATE = 0.5
BLOCKS, THREADS = 11, 128


class Srad(Algorithm):
    """The image after four steps; each begins with a reduction over the whole image."""

    name: ClassVar[str] = "srad"
    tolerance: ClassVar[float] = 1e-5

    def __init__(self, scale: int = 1) -> None:
        self.shape = self.height, self.width = 101 * scale, 229
        rng = np.random.default_rng(13)
        rows, columns = np.indices(self.shape)
        clean = 1.5 + np.sin(rows / 17) * np.cos(columns / 23)
        self.image = (clean * rng.gamma(20, 1 / 20, self.shape)).astype(np.float32)

    def upload(self, driver: Driver, module: Module) -> None:
        self._sums, self._variation, self._coefficients, self._diffuse = (
            module.kernel(f"srad_{name}")
            for name in ("sums", "variation", "coefficients", "diffuse")
        )
        self._image, self._next = driver.upload(self.image), driver.zeros(self.image.nbytes)
        self._weights = driver.zeros(self.image.nbytes)
        self._partial, self._statistics = driver.zeros(8 * 2 * BLOCKS), driver.zeros(4)

    def compute(self) -> None:
        grid, block = (ceil_div(self.width, 32), ceil_div(self.height, 8), 1), (32, 8, 1)
        shape, count = (c_int(self.width), c_int(self.height)), c_int(self.image.size)
        threads = (THREADS, 1, 1)
        for _ in range(STEPS):
            self._sums((BLOCKS, 1, 1), threads, self._image, count, self._partial)
            self._variation(
                (1, 1, 1), threads, self._partial, c_int(BLOCKS), count, self._statistics
            )
            self._coefficients(grid, block, self._image, self._weights, *shape, self._statistics)
            self._diffuse(
                grid, block, self._image, self._weights, self._next, *shape, c_float(RATE)
            )
            self._image, self._next = self._next, self._image

    def download(self) -> Arrays:
        return (self._image.download(self.shape, np.float32),)

    def reference(self) -> Arrays:
        image = self.image.astype(np.float64)
        for _ in range(STEPS):
            whole = image.var() / image.mean() ** 2
            around = np.pad(image, 1, mode="edge")
            north, south = around[:-2, 1:-1] - image, around[2:, 1:-1] - image
            west, east = around[1:-1, :-2] - image, around[1:-1, 2:] - image
            gradient = (north**2 + south**2 + west**2 + east**2) / image**2
            laplacian = (north + south + west + east) / image
            local = (gradient / 2 - laplacian**2 / 16) / (1 + laplacian / 4) ** 2
            weights = np.clip(1 / (1 + (local - whole) / (whole * (1 + whole))), 0, 1)
            further = np.pad(weights, ((0, 1), (0, 1)), mode="edge")
            flow = weights * (north + west) + further[1:, :-1] * south + further[:-1, 1:] * east
            image = image + RATE / 4 * flow
        return (image,)
