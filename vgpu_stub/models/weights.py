"""Random weights in the formats of GGML: plain floats, and blocks of quantised ones.

Quantised weights are not rounded from anything: blocks of valid form are drawn at random, with
scales that give the wanted standard deviation. Layouts are those of GGML's `block_q8_0`,
`block_q4_K`, `block_q5_K` and `block_q6_K`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from gguf import GGMLQuantizationType
from numpy.random import Generator
from numpy.typing import NDArray

Weights = NDArray[np.float32] | NDArray[np.float16] | NDArray[np.uint8]

#: Scales of the parts of a K-quant block are drawn from this range, and the middle of it.
_SCALES: Final = (4, 13)
_MEAN_SCALE: Final = 8.0


def _floats(random: Generator, rows: int, columns: int, deviation: float) -> Weights:
    values = random.standard_normal((rows, columns), dtype=np.float32)
    values *= np.float32(deviation)
    return values


def _halves(random: Generator, rows: int, columns: int, deviation: float) -> Weights:
    return _floats(random, rows, columns, deviation).astype(np.float16)


def _bytes(random: Generator, *shape: int) -> NDArray[np.uint8]:
    return random.integers(0, 256, size=shape, dtype=np.uint8)


def _half(value: float, *shape: int) -> NDArray[np.uint8]:
    """An f16 as two bytes, repeated to a shape."""
    return np.broadcast_to(np.frombuffer(np.float16(value).tobytes(), np.uint8), (*shape, 2))


def _q8_0(random: Generator, rows: int, columns: int, deviation: float) -> Weights:
    blocks = columns // 32
    quants = random.integers(-127, 128, size=(rows, blocks, 32), dtype=np.int8)
    scale = _half(deviation / (127 / 3**0.5), rows, blocks)
    return np.concatenate([scale, quants.view(np.uint8)], axis=2).reshape(rows, -1)


def _with_minima(
    random: Generator, rows: int, columns: int, deviation: float, bits: int
) -> Weights:
    """Blocks of Q4_K or Q5_K, whose groups of 32 have a scale and a minimum."""
    blocks = columns // 256
    # A weight is d * scale * q - dmin * minimum, q from 0 to `most`: with dmin half of most * d
    # and equal scales and minima its mean is 0 and its deviation d * scale * that of q.
    most = (1 << bits) - 1
    unit = deviation / (_MEAN_SCALE * (((most + 1) ** 2 - 1) / 12) ** 0.5)
    scales = random.integers(*_SCALES, size=(rows, blocks, 8), dtype=np.uint8)
    low, high = scales[..., :4], scales[..., 4:]
    # Six bits each: the first four scales and minima whole, the others with their upper two bits
    # on top of those.
    packed = [low | (high >> 4) << 6, low | (high >> 4) << 6, (high & 15) | (high & 15) << 4]
    parts = [_half(unit, rows, blocks), _half(most / 2 * unit, rows, blocks), *packed]
    parts.append(_bytes(random, rows, blocks, 32 * bits))
    return np.concatenate(parts, axis=2).reshape(rows, -1)


def _q4_k(random: Generator, rows: int, columns: int, deviation: float) -> Weights:
    return _with_minima(random, rows, columns, deviation, 4)


def _q5_k(random: Generator, rows: int, columns: int, deviation: float) -> Weights:
    return _with_minima(random, rows, columns, deviation, 5)


def _q6_k(random: Generator, rows: int, columns: int, deviation: float) -> Weights:
    blocks = columns // 256
    # A weight is d * scale * (q - 32), q from 0 to 63: deviation d * scale * 18.5.
    unit = deviation / (_MEAN_SCALE * (4095 / 12) ** 0.5)
    quants = _bytes(random, rows, blocks, 128 + 64)
    scales = random.integers(*_SCALES, size=(rows, blocks, 16), dtype=np.uint8)
    return np.concatenate([quants, scales, _half(unit, rows, blocks)], axis=2).reshape(rows, -1)


_Draw = Callable[[Generator, int, int, float], Weights]

FORMATS: Final[dict[str, tuple[GGMLQuantizationType, _Draw]]] = {
    "f32": (GGMLQuantizationType.F32, _floats),
    "f16": (GGMLQuantizationType.F16, _halves),
    "q8_0": (GGMLQuantizationType.Q8_0, _q8_0),
    "q4_k": (GGMLQuantizationType.Q4_K, _q4_k),
    "q5_k": (GGMLQuantizationType.Q5_K, _q5_k),
    "q6_k": (GGMLQuantizationType.Q6_K, _q6_k),
}
"""Formats of matrices, by name."""
