"""Tensors that know where they are, and the formats of weights that the device can compute with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from device import Array
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from pool import Buffer

Format = GGMLQuantizationType

#: Formats that there are kernels for, with the end of the kernels' names.
KERNELS: Final = {
    Format.F32: "f32",
    Format.F16: "f16",
    Format.Q8_0: "q8_0",
    Format.Q4_K: "q4_k",
    Format.Q5_K: "q5_k",
    Format.Q6_K: "q6_k",
}
CHUNK: Final = 256
"""Weights that a warp takes at a time; rows are multiples of it."""


@dataclass
class Tensor:
    """A matrix or vector.

    Attributes:
        name: As the file has it.
        rows: Rows; 1 for a vector.
        columns: Weights in a row.
        format: How weights are kept.
        buffer: Where it is on the device; None for one that is not there.
        blocks: Its bytes on the host; None for one that has none there.
        reason: Why it is not on the device.
    """

    name: str
    rows: int
    columns: int
    format: Format
    buffer: Buffer | None = None
    blocks: Array | None = None
    reason: str = ""

    @property
    def device(self) -> str:
        """Where it is: "cuda:0" or "cpu"."""
        return "cuda:0" if self.buffer else "cpu"

    @property
    def address(self) -> int:
        """Its device address.

        Raises:
            ValueError: It is not on the device.
        """
        if self.buffer is None:
            raise ValueError(f"{self.name} is on the {self.device}: {self.reason}")
        return self.buffer.address

    @property
    def nbytes(self) -> int:
        """Size of its blocks."""
        block, size = GGML_QUANT_SIZES[self.format]
        return self.rows * self.columns // block * size

    def floats(self) -> Array:
        """Its weights as floats of shape (rows, columns), from the bytes on the host.

        Raises:
            ValueError: The host has no bytes of it.
        """
        if self.blocks is None:
            raise ValueError(f"{self.name} is not on the host")
        values = dequantize(self.blocks.reshape(-1), self.format)
        return np.asarray(values, np.float32).reshape(self.rows, self.columns)


def why_not(form: Format, columns: int) -> str:
    """Why the device cannot compute with such weights; empty when it can."""
    if form not in KERNELS:
        return f"there is no kernel for {form.name}"
    if columns % CHUNK:
        return f"rows of {columns} weights are no multiple of {CHUNK}"
    return ""
