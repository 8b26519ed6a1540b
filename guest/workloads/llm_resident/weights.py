"""Reads a model from a GGUF file and puts its weights on the device, each block once.

Bytes go through two pinned buffers on a stream of their own, so that reading the file, copying and
decoding overlap. A tensor that the device cannot compute with stays on the host, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from device import Device, arguments
from gguf import GGUFReader
from operations import ADDRESS, COUNT, HEAD_WIDTHS
from pool import Buffer, BufferPool
from tensor import CHUNK, KERNELS, Format, Tensor, why_not

_STAGING: Final = 16 << 20
_WARPS: Final = 8


class ModelError(Exception):
    """The file holds no model that this workload can run; the text says why."""


@dataclass(frozen=True)
class Shape:
    """A model of the llama architecture, as its file describes it."""

    layers: int
    width: int
    heads: int
    key_value_heads: int
    feed_forward: int
    vocabulary: int
    epsilon: float
    rope_base: float

    @property
    def head_width(self) -> int:
        """Length of one head's part of an embedding."""
        return self.width // self.heads

    @property
    def key_value_width(self) -> int:
        """Length of a token's keys, and of its values."""
        return self.key_value_heads * self.head_width


class ModelFile:
    """A GGUF file: its shape, and its tensors on the host."""

    def __init__(self, path: Path) -> None:
        """Open the file; its tensors are mapped, not read.

        Raises:
            ModelError: It is no GGUF file, or its model is none that this workload knows.
        """
        try:
            self._reader = GGUFReader(path)
        except (OSError, ValueError) as error:
            raise ModelError(f"{path}: {error}") from error
        self.tensors = {tensor.name: _on_host(tensor) for tensor in self._reader.tensors}
        if self._field("general.architecture") != "llama":
            raise ModelError(f"{path} is no llama model but {self._field('general.architecture')}")
        heads = int(self._field("llama.attention.head_count"))
        self.shape = Shape(
            layers=int(self._field("llama.block_count")),
            width=int(self._field("llama.embedding_length")),
            heads=heads,
            key_value_heads=int(self._field("llama.attention.head_count_kv", heads)),
            feed_forward=int(self._field("llama.feed_forward_length")),
            vocabulary=self.tensors["token_embd.weight"].rows,
            epsilon=float(self._field("llama.attention.layer_norm_rms_epsilon", 1e-5)),
            rope_base=float(self._field("llama.rope.freq_base", 10000.0)),
        )
        if self.shape.head_width not in HEAD_WIDTHS:
            raise ModelError(
                f"{path}: heads are {self.shape.head_width} wide; there are kernels for"
                f" {', '.join(map(str, HEAD_WIDTHS))}"
            )

    def _field(self, name: str, default: Any = None) -> Any:
        field = self._reader.fields.get(name)
        if field is None and default is None:
            raise ModelError(f"the file has no {name}")
        return field.contents() if field else default

    def tensor(self, name: str) -> Tensor:
        """A tensor by its name.

        Raises:
            ModelError: There is none.
        """
        try:
            return self.tensors[name]
        except KeyError:
            raise ModelError(f"the file has no tensor {name}") from None

    def output(self) -> Tensor:
        """The output matrix, which may be the embedding."""
        return self.tensors.get("output.weight", self.tensors["token_embd.weight"])


def _on_host(tensor: Any) -> Tensor:
    columns, *more = (int(length) for length in tensor.shape)
    blocks = tensor.data.reshape(-1)
    form = Format(tensor.tensor_type)
    if form not in (Format.F32, Format.F16):
        blocks = blocks.view(np.uint8)
    rows = int(np.prod(more)) if more else 1
    return Tensor(tensor.name, rows, columns, form, blocks=blocks, reason="not uploaded")


class Uploader:
    """Copies weights to the device."""

    def __init__(
        self, device: Device, kernel: Callable[[str], Any], pool: BufferPool, *, decoded: bool
    ) -> None:
        """Prepare; with `decoded`, weights become halves on the device as they come."""
        self._device = device
        self._kernel = kernel
        self._pool = pool
        self._decoded = decoded
        self._staging = [device.pinned(_STAGING), device.pinned(_STAGING)]
        self._free = [device.event(), device.event()]
        self._arrived = device.event()
        self._turn = 0
        self._temporary: list[Buffer] = []

    def upload(self, tensor: Tensor) -> Tensor:
        """The tensor on the device; the same on the host where the device cannot use it."""
        reason = "" if tensor.rows == 1 else why_not(tensor.format, tensor.columns)
        if reason:
            return replace(tensor, reason=reason)
        buffer = self._pool.take(tensor.nbytes)
        self._copy(buffer.address, tensor)
        if self._decoded and tensor.rows > 1 and tensor.format not in (Format.F32, Format.F16):
            return self._decode(tensor, buffer)
        return replace(tensor, buffer=buffer, reason="")

    def upload_again(self, tensor: Tensor) -> None:
        """Copy the bytes of a tensor that is on the device anew."""
        self._copy(tensor.address, tensor)

    def finish(self) -> None:
        """Wait until everything has arrived."""
        self._device.wait(self._device.copies)
        self._device.wait()
        for buffer in self._temporary:
            self._pool.give_back(buffer)
        self._temporary.clear()

    def _copy(self, address: int, tensor: Tensor) -> None:
        if tensor.blocks is None:
            raise ValueError(f"{tensor.name} is not on the host")
        data = tensor.blocks.view(np.uint8)
        for start in range(0, data.nbytes, _STAGING):
            part = data[start : start + _STAGING]
            staging, free = self._staging[self._turn], self._free[self._turn]
            self._device.wait_for(free)
            staging[: part.nbytes] = part
            self._device.upload(address + start, staging[: part.nbytes], self._device.copies)
            self._device.record(free, self._device.copies)
            self._turn ^= 1
        self._device.traffic.weight_bytes += data.nbytes

    def _decode(self, tensor: Tensor, blocks: Buffer) -> Tensor:
        chunks = tensor.rows * tensor.columns // CHUNK
        halves = self._pool.take(2 * tensor.rows * tensor.columns)
        kernel = self._kernel(f"to_halves_{KERNELS[tensor.format]}")
        self._device.record(self._arrived, self._device.copies)
        self._device.hold(self._device.work, self._arrived)
        values = arguments((blocks.address, ADDRESS), (halves.address, ADDRESS), (chunks, COUNT))
        self._device.launch(kernel, (-(-chunks // _WARPS),), 32 * _WARPS, values)
        self._temporary.append(blocks)
        return replace(tensor, format=Format.F16, buffer=halves, blocks=None, reason="")
