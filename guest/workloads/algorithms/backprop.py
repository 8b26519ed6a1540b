"""Training of a neural network with one hidden layer by back-propagation."""

from __future__ import annotations

from ctypes import c_float, c_int
from typing import ClassVar

import numpy as np
from algorithms.algorithm import Algorithm, Arrays, ceil_div
from cuda_driver import Buffer, Driver, Module
from numpy.typing import NDArray

Layer = NDArray[np.floating]

SIDE = 16
HIDDEN, OUTPUTS = 37, 5
STEPS = 3
RATE, MOMENTUM = 0.3, 0.3


def forward(inputs: Layer, weights: Layer) -> Layer:
    result: Layer = 1 / (1 + np.exp(-(inputs @ weights[1:] + weights[0])))
    return result


class Backprop(Algorithm):
    """The weights of both layers after three steps with momentum."""

    name: ClassVar[str] = "backprop"
    tolerance: ClassVar[float] = 1e-5

    def __init__(self, scale: int = 1) -> None:
        rng = np.random.default_rng(18)
        self.count = 2_027 * scale
        self.inputs = rng.uniform(0, 1, self.count).astype(np.float32)
        self.targets = rng.uniform(0.1, 0.9, OUTPUTS).astype(np.float32)
        hidden = rng.uniform(-1, 1, (self.count + 1, HIDDEN)) / np.sqrt(self.count)
        last = rng.uniform(-1, 1, (HIDDEN + 1, OUTPUTS))
        self.weights = hidden.astype(np.float32), last.astype(np.float32)

    def upload(self, driver: Driver, module: Module) -> None:
        self._forward, self._output_error, self._hidden_error, self._adjust = (
            module.kernel(f"backprop_{name}")
            for name in ("forward", "output_error", "hidden_error", "adjust")
        )
        self._units = (
            driver.upload(self.inputs),
            driver.zeros(4 * HIDDEN),
            driver.zeros(4 * OUTPUTS),
        )
        self._errors = driver.zeros(4 * HIDDEN), driver.zeros(4 * OUTPUTS)
        self._targets = driver.upload(self.targets)
        self._weights = [driver.upload(weights) for weights in self.weights]
        self._changes = [driver.zeros(weights.nbytes) for weights in self.weights]

    def compute(self) -> None:
        for _ in range(STEPS):
            self._feed(0, self.count, HIDDEN)
            self._feed(1, HIDDEN, OUTPUTS)
            self._output_error(
                (1, 1, 1),
                (32, 1, 1),
                self._units[2],
                self._targets,
                self._errors[1],
                c_int(OUTPUTS),
            )
            self._hidden_error(
                (ceil_div(HIDDEN, 4), 1, 1),
                (128, 1, 1),
                self._units[1],
                self._weights[1],
                self._errors[1],
                self._errors[0],
                c_int(HIDDEN),
                c_int(OUTPUTS),
            )
            self._learn(1, HIDDEN, OUTPUTS)
            self._learn(0, self.count, HIDDEN)

    def _feed(self, layer: int, inputs: int, outputs: int) -> None:
        arrays: tuple[Buffer, ...] = (
            self._units[layer],
            self._weights[layer],
            self._units[layer + 1],
        )
        grid, block = (ceil_div(outputs, SIDE), 1, 1), (SIDE, SIDE, 1)
        self._forward(grid, block, *arrays, c_int(inputs), c_int(outputs))

    def _learn(self, layer: int, inputs: int, outputs: int) -> None:
        self._adjust(
            (ceil_div(outputs, 16), ceil_div(inputs + 1, 16), 1),
            (16, 16, 1),
            self._units[layer],
            self._errors[layer],
            self._weights[layer],
            self._changes[layer],
            c_int(inputs),
            c_int(outputs),
            c_float(RATE),
            c_float(MOMENTUM),
        )

    def download(self) -> Arrays:
        return tuple(
            buffer.download(weights.shape, np.float32)
            for buffer, weights in zip(self._weights, self.weights, strict=True)
        )

    def reference(self) -> Arrays:
        first, last = (weights.astype(np.float64) for weights in self.weights)
        changes = [np.zeros_like(first), np.zeros_like(last)]
        for _ in range(STEPS):
            hidden = forward(self.inputs, first)
            outputs = forward(hidden, last)
            last_errors = outputs * (1 - outputs) * (self.targets - outputs)
            hidden_errors = hidden * (1 - hidden) * (last[1:] @ last_errors)
            for weights, units, errors, change in (
                (last, hidden, last_errors, changes[1]),
                (first, self.inputs, hidden_errors, changes[0]),
            ):
                change *= MOMENTUM
                change += RATE * np.outer(np.concatenate([[1.0], units]), errors)
                weights += change
        return first, last
