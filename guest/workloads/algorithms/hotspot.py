"""Temperature of a chip from the power of its cells: a stencil over many time steps."""

from __future__ import annotations

from ctypes import c_float, c_int
from typing import ClassVar

import numpy as np
from algorithms.algorithm import Algorithm, Arrays, ceil_div
from cuda_driver import Driver, Module

SIDE = 16
STEPS = 12
STEPS_A_LAUNCH = 3
ALONG_X, ALONG_Y, UPWARDS, AMBIENT = 0.11, 0.07, 0.02, 80.0


class Hotspot(Algorithm):
    """Heat after twelve steps; a launch does three, so blocks overlap by three cells."""

    name: ClassVar[str] = "hotspot"
    tolerance: ClassVar[float] = 1e-5

    def __init__(self, scale: int = 1) -> None:
        self.shape = self.height, self.width = 123 * scale, 157
        rng = np.random.default_rng(12)
        self.heat = rng.uniform(70, 90, self.shape).astype(np.float32)
        self.power = rng.exponential(0.5, self.shape).astype(np.float32)

    def upload(self, driver: Driver, module: Module) -> None:
        self._kernel = module.kernel("hotspot")
        self._power = driver.upload(self.power)
        self._heat, self._next = driver.upload(self.heat), driver.zeros(self.heat.nbytes)

    def compute(self) -> None:
        valid = SIDE - 2 * STEPS_A_LAUNCH
        grid = ceil_div(self.width, valid), ceil_div(self.height, valid), 1
        for _ in range(STEPS // STEPS_A_LAUNCH):
            self._kernel(
                grid,
                (SIDE, SIDE, 1),
                self._heat,
                self._power,
                self._next,
                c_int(self.width),
                c_int(self.height),
                c_int(STEPS_A_LAUNCH),
                *(c_float(value) for value in (ALONG_X, ALONG_Y, UPWARDS, AMBIENT)),
            )
            self._heat, self._next = self._next, self._heat

    def download(self) -> Arrays:
        return (self._heat.download(self.shape, np.float32),)

    def reference(self) -> Arrays:
        heat = self.heat
        x, y, up, ambient = (np.float32(value) for value in (ALONG_X, ALONG_Y, UPWARDS, AMBIENT))
        two = np.float32(2)
        for _ in range(STEPS):
            around = np.pad(heat, 1, mode="edge")
            sides = around[1:-1, :-2] + around[1:-1, 2:]
            ends = around[:-2, 1:-1] + around[2:, 1:-1]
            flow = x * (sides - two * heat) + y * (ends - two * heat) + up * (ambient - heat)
            heat = heat + self.power + flow
        return (heat,)
