"""What an algorithm of the suite is: seeded inputs, kernels on the device, and numpy's answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from cuda_driver import Driver, Module
from numpy.typing import NDArray

Arrays = tuple[NDArray[Any], ...]


class Algorithm(ABC):
    """A problem with its solution on the device and in numpy; inputs are made when it is.

    Attributes:
        name: Also the name of its module of kernels.
        tolerance: How far results may be from numpy's, relative to the largest; 0 asks for the
            same bits.
    """

    name: ClassVar[str]
    tolerance: ClassVar[float] = 0.0

    @abstractmethod
    def __init__(self, scale: int = 1) -> None:
        """Make the inputs, of about `scale` times the smallest size's work."""

    @abstractmethod
    def upload(self, driver: Driver, module: Module) -> None:
        """Find the kernels and bring the inputs to the device."""

    @abstractmethod
    def compute(self) -> None:
        """Launch the kernels; called once after each upload."""

    @abstractmethod
    def download(self) -> Arrays:
        """Bring the results from the device."""

    @abstractmethod
    def reference(self) -> Arrays:
        """Compute the results with numpy."""

    def agrees(self, got: Arrays, expected: Arrays) -> bool:
        """Whether the device's results are numpy's, as near as the tolerance asks."""
        return all(
            left.shape == right.shape and self._near(left, right)
            for left, right in zip(got, expected, strict=True)
        )

    def _near(self, got: NDArray[Any], expected: NDArray[Any]) -> bool:
        if not self.tolerance:
            return bool(np.array_equal(got, expected))
        largest = float(np.abs(expected).max())
        return bool(np.allclose(got, expected, rtol=0.0, atol=self.tolerance * largest))


def ceil_div(count: int, size: int) -> int:
    """How many pieces of a size hold a count."""
    return -(-count // size)
