"""The operations of the forward pass: a kernel each, or by name and reason the host.

An operation whose tensors are on the device is a launch. One that cannot be, because a tensor stays
on the host or because a defect was asked for, computes with numpy and is counted as a fallback.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from device import Array, Device, arguments, call
from pool import Buffer, BufferPool
from tensor import CHUNK, KERNELS, Format, Tensor

ADDRESS: Final = ctypes.c_void_p
COUNT: Final = ctypes.c_int
REAL: Final = ctypes.c_float

_WARPS: Final = 8
_BLOCK: Final = 32 * _WARPS
_NORM_BLOCK: Final = 512
_ATTENTION_BLOCK: Final = 512
_TILE: Final = 64
_PARTS: Final = 128

HEAD_WIDTHS: Final = (32, 64, 96, 128, 256)
"""Widths of a head that there is a kernel for."""

DEFECTS: Final = {
    "cpu-op": "every normalisation is computed by the host",
    "reupload": "a layer's weights are uploaded again for every token",
    "alloc": "every operation allocates and frees device memory",
    "sync": "the host waits after every operation",
}
"""What a run can do wrong on purpose, as real programs do."""


@dataclass(frozen=True)
class Activation:
    """Floats of shape (tokens, width) on the device."""

    buffer: Buffer
    tokens: int
    width: int

    def row(self, token: int) -> Activation:
        """One token's part."""
        offset = 4 * token * self.width
        part = Buffer(self.buffer.address + offset, 4 * self.width, 0)
        return Activation(part, 1, self.width)

    @property
    def address(self) -> int:
        """Device address."""
        return self.buffer.address


class Operations:
    """Queues operations.

    Attributes:
        fallbacks: Operations that the host computed, by name and reason.
        on_device: Operations that the device computed.
    """

    def __init__(self, device: Device, handle: Any, pool: BufferPool, defects: set[str]) -> None:
        """Prepare; `handle` is the loaded module with the kernels."""
        self.fallbacks: Counter[tuple[str, str]] = Counter()
        self.on_device = 0
        self.kernel: Callable[[str], Any] = cache(
            lambda name: call("cuModuleGetFunction", handle, name.encode())
        )
        self._device = device
        self._pool = pool
        self._defects = defects
        self._scratch: Buffer | None = None
        self._host_rows: dict[str, Array] = {}

    def embed(self, table: Tensor, tokens: int, output: Activation) -> None:
        """Rows of the embedding for the token numbers at a device address."""
        if table.device == "cpu":
            numbers = np.empty(output.tokens, np.int32)
            self._device.download(numbers, tokens)
            self._device.wait()
            self._on_host("embed", table.reason, self._rows(table)[numbers], output)
            return
        kernel = self.kernel(f"embed_{KERNELS[table.format]}")
        values = (table.address, ADDRESS), (tokens, ADDRESS), (output.address, ADDRESS)
        self._launch(kernel, (output.tokens,), _BLOCK, *values, (output.width, COUNT))

    def normalise(self, x: Activation, weight: Tensor, output: Activation, epsilon: float) -> None:
        """RMSNorm of every token."""
        if "cpu-op" in self._defects:
            values = self._fetch(x)
            scale = 1 / np.sqrt(np.mean(values * values, axis=1, keepdims=True) + epsilon)
            self._on_host("normalise", "asked for", values * scale * weight.floats(), output)
            return
        self._launch(
            self.kernel("rms_norm"),
            (x.tokens,),
            _NORM_BLOCK,
            (x.address, ADDRESS),
            (weight.address, ADDRESS),
            (output.address, ADDRESS),
            (x.width, COUNT),
            (epsilon, REAL),
        )

    def linear(
        self, weight: Tensor, x: Activation, output: Activation, residual: Activation | None = None
    ) -> None:
        """Product of every token with a matrix, added to `residual` where one is given."""
        if weight.device == "cpu":
            values = self._fetch(x) @ self._rows(weight).T
            if residual:
                values = values + self._fetch(residual)
            self._on_host("linear", weight.reason, values, output)
        elif x.tokens == 1:
            self._launch(
                self.kernel(f"matvec_{KERNELS[weight.format]}"),
                (-(-weight.rows // _WARPS),),
                _BLOCK,
                (weight.address, ADDRESS),
                (x.address, ADDRESS),
                (output.address, ADDRESS),
                (residual.address if residual else 0, ADDRESS),
                (weight.columns, COUNT),
                (weight.rows, COUNT),
            )
        else:
            self._multiply(weight, x, output, residual)

    def gated(
        self, gate: Tensor, up: Tensor, x: Activation, output: Activation, spare: Activation
    ) -> None:
        """SwiGLU: silu(gate x) * (up x); `spare` is as large as the output."""
        if x.tokens == 1 and gate.device != "cpu" and gate.format == up.format:
            self._launch(
                self.kernel(f"matvec_swiglu_{KERNELS[gate.format]}"),
                (-(-gate.rows // _WARPS),),
                _BLOCK,
                (gate.address, ADDRESS),
                (up.address, ADDRESS),
                (x.address, ADDRESS),
                (output.address, ADDRESS),
                (gate.columns, COUNT),
                (gate.rows, COUNT),
            )
            return
        self.linear(gate, x, output)
        self.linear(up, x, spare)
        count = output.tokens * output.width
        addresses = (output.address, ADDRESS), (spare.address, ADDRESS), (output.address, ADDRESS)
        blocks = (-(-count // _BLOCK),)
        self._launch(self.kernel("swiglu"), blocks, _BLOCK, *addresses, (count, COUNT))

    def attend(
        self,
        query: Activation,
        key: Activation,
        value: Activation,
        cache_addresses: tuple[int, int],
        state: int,
        heads: tuple[int, int],
        log_base: float,
        output: Activation,
    ) -> None:
        """Rotate, store keys and values, and attend to all up to each token.

        Args:
            query: Rotated in place.
            key: Of the same tokens.
            value: Of the same tokens.
            cache_addresses: Caches of keys and of values of this layer.
            state: Address of `struct State`.
            heads: Heads, and heads of keys and values.
            log_base: Logarithm of RoPE's base.
            output: Of the query's shape.
        """
        count, shared = heads
        width = query.width // count
        caches = (cache_addresses[0], ADDRESS), (cache_addresses[1], ADDRESS)
        self._launch(
            self.kernel("rope_and_store"),
            (count, query.tokens),
            64,
            (query.address, ADDRESS),
            (key.address, ADDRESS),
            (value.address, ADDRESS),
            *caches,
            (state, ADDRESS),
            (count, COUNT),
            (shared, COUNT),
            (width, COUNT),
            (log_base, REAL),
        )
        self._launch(
            self.kernel(f"attention_{width}"),
            (count, query.tokens),
            _ATTENTION_BLOCK,
            (query.address, ADDRESS),
            *caches,
            (output.address, ADDRESS),
            (state, ADDRESS),
            (count, COUNT),
            (shared, COUNT),
        )

    def choose(
        self, logits: Activation, parts: int, state: int, output: int, tokens: int, heat: float
    ) -> None:
        """Choose the next token: the best, or with a temperature a draw."""
        addresses = (logits.address, ADDRESS), (parts, ADDRESS), (state, ADDRESS)
        sizes = (logits.width, COUNT), (heat, REAL)
        self._launch(self.kernel("choose_parts"), (_PARTS,), _BLOCK, *addresses, *sizes)
        addresses = (parts, ADDRESS), (_PARTS, COUNT), (state, ADDRESS)
        self._launch(
            self.kernel("choose"), (1,), _PARTS, *addresses, (output, ADDRESS), (tokens, COUNT)
        )

    # -- helpers -----------------------------------------------------------------------------------

    def _multiply(
        self, weight: Tensor, x: Activation, output: Activation, residual: Activation | None
    ) -> None:
        address = weight.address
        if weight.format != Format.F32:
            address = self._decoded(weight)
        self._launch(
            self.kernel("matmul"),
            (-(-weight.rows // _TILE), -(-x.tokens // _TILE)),
            _BLOCK,
            (x.address, ADDRESS),
            (address, ADDRESS),
            (output.address, ADDRESS),
            (residual.address if residual else 0, ADDRESS),
            (x.tokens, COUNT),
            (weight.columns, COUNT),
            (weight.rows, COUNT),
        )

    def _decoded(self, weight: Tensor) -> int:
        """Decode a matrix to floats in memory that the next matrix uses again."""
        size = 4 * weight.rows * weight.columns
        if self._scratch is None or self._scratch.room < size:
            if self._scratch:
                self._pool.give_back(self._scratch)
            self._scratch = self._pool.take(size)
        chunks = weight.rows * weight.columns // CHUNK
        self._launch(
            self.kernel(f"dequantise_{KERNELS[weight.format]}"),
            (-(-chunks // _WARPS),),
            _BLOCK,
            (weight.address, ADDRESS),
            (self._scratch.address, ADDRESS),
            (chunks, COUNT),
        )
        return self._scratch.address

    def _launch(self, kernel: Any, grid: tuple[int, ...], block: int, *values: Any) -> None:
        self.on_device += 1
        spare = self._device.allocate(1 << 20) if "alloc" in self._defects else 0
        self._device.launch(kernel, grid, block, arguments(*values))
        if spare:
            self._device.free(spare)
        if "sync" in self._defects:
            self._device.wait()

    def _rows(self, tensor: Tensor) -> Array:
        """Weights of a tensor on the host, decoded once."""
        if tensor.name not in self._host_rows:
            self._host_rows[tensor.name] = tensor.floats()
        return self._host_rows[tensor.name]

    def _fetch(self, x: Activation) -> Array:
        values = np.empty((x.tokens, x.width), np.float32)
        self._device.download(values, x.address)
        self._device.wait()
        return values

    def _on_host(self, name: str, reason: str, values: Array, output: Activation) -> None:
        self.fallbacks[name, reason] += 1
        result = np.ascontiguousarray(values, np.float32)
        self._device.upload(output.address, result)
        self._device.wait()
