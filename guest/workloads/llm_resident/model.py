"""The model on the device: its weights, its caches, and the steps of inference.

A step of decoding reads the token that the step before it chose from device memory, so the host
only launches: one graph a token, and four bytes back to show it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from device import Array, Device, Graph
from operations import Activation, Operations
from pool import Buffer, BufferPool
from tensor import Tensor
from weights import ModelFile, Shape, Uploader

_STATE_BYTES: Final = 16
_PARTS_BYTES: Final = 8 * 128


@dataclass(frozen=True)
class Layer:
    """The tensors of one transformer block."""

    attention_norm: Tensor
    query: Tensor
    key: Tensor
    value: Tensor
    attention_output: Tensor
    feed_forward_norm: Tensor
    gate: Tensor
    up: Tensor
    down: Tensor

    def tensors(self) -> Iterator[Tensor]:
        """All of them."""
        yield from vars(self).values()


_PARTS_OF_A_LAYER: Final = (
    "attn_norm",
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_output",
    "ffn_norm",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
)


class Workspace:
    """Activations for so many tokens, from the pool."""

    def __init__(self, pool: BufferPool, shape: Shape, tokens: int) -> None:
        """Take what a forward pass of `tokens` needs."""
        self._pool = pool
        self._buffers: list[Buffer] = []

        def activation(width: int, rows: int = tokens) -> Activation:
            buffer = pool.take(4 * rows * width)
            self._buffers.append(buffer)
            return Activation(buffer, rows, width)

        self.x = activation(shape.width)
        self.normed = activation(shape.width)
        self.query = activation(shape.width)
        self.key = activation(shape.key_value_width)
        self.value = activation(shape.key_value_width)
        self.attended = activation(shape.width)
        self.gated = activation(shape.feed_forward)
        self.spare = activation(shape.feed_forward)
        self.last = activation(shape.width, 1)

    def give_back(self) -> None:
        """Return everything to the pool."""
        for buffer in self._buffers:
            self._pool.give_back(buffer)


class Model:
    """A loaded model.

    Attributes:
        shape: Its sizes.
        uploader: By which its weights came.
    """

    def __init__(
        self,
        device: Device,
        file: ModelFile,
        uploader: Uploader,
        operations: Operations,
        pool: BufferPool,
        *,
        context: int,
        temperature: float,
        seed: int,
    ) -> None:
        """Load the weights and take the caches.

        Args:
            device: Where everything goes.
            file: The model.
            uploader: Copies weights.
            operations: Queues operations.
            pool: Where memory comes from.
            context: Tokens that the caches hold.
            temperature: 0 chooses the best token, more draws.
            seed: Of the draws.
        """
        self.shape = shape = file.shape
        self.uploader = uploader
        self._device = device
        self._operations = operations
        self._pool = pool
        self._temperature = temperature
        self.embedding = uploader.upload(file.tensor("token_embd.weight"))
        output = file.output()
        tied = output.name == self.embedding.name
        self.output = self.embedding if tied else uploader.upload(output)
        self.output_norm = uploader.upload(file.tensor("output_norm.weight"))
        self.layers = [
            Layer(
                *(
                    uploader.upload(file.tensor(f"blk.{number}.{part}.weight"))
                    for part in _PARTS_OF_A_LAYER
                )
            )
            for number in range(shape.layers)
        ]
        self._caches = [
            (
                pool.take(2 * context * shape.key_value_width),
                pool.take(2 * context * shape.key_value_width),
            )
            for _ in self.layers
        ]
        self._state = pool.take(_STATE_BYTES)
        self._parts = pool.take(_PARTS_BYTES)
        self._tokens = pool.take(4 * context)
        self._chosen = pool.take(4 * context)
        self._logits = Activation(pool.take(4 * shape.vocabulary), 1, shape.vocabulary)
        self._one = Workspace(pool, shape, 1)
        self._graph: Graph | None = None
        device.upload(self._state.address, np.array([0, 0, 0, seed], np.uint32))
        uploader.finish()

    @property
    def logits(self) -> Activation:
        """Of the last step."""
        return self._logits

    def chosen(self, number: int) -> int:
        """Device address of the `number`th token that was chosen."""
        return self._chosen.address + 4 * number

    def prompt(self, tokens: Sequence[int]) -> None:
        """Queue the tokens of the prompt, all at once, up to the choice of the first new one."""
        numbers = np.asarray(tokens, np.int32)
        self._device.upload(self._tokens.address, numbers)
        space = Workspace(self._pool, self.shape, len(tokens))
        self._forward(self._tokens.address, space)
        self._device.wait()
        space.give_back()

    def capture(self) -> None:
        """Make a graph of a step, so that a token is one launch."""
        self._graph = self._device.capture(self._step)

    def step(self) -> None:
        """Queue the next token."""
        if self._graph:
            self._device.launch_graph(self._graph)
        else:
            self._step()

    def _step(self) -> None:
        # The token is the second word of `struct State`.
        self._forward(self._state.address + 4, self._one)

    def _forward(self, tokens: int, space: Workspace) -> None:
        do, shape = self._operations, self.shape
        heads = shape.heads, shape.key_value_heads
        log_base = math.log(shape.rope_base)
        x, normed = space.x, space.normed
        do.embed(self.embedding, tokens, x)
        for layer, (keys, values) in zip(self.layers, self._caches, strict=True):
            do.normalise(x, layer.attention_norm, normed, shape.epsilon)
            do.linear(layer.query, normed, space.query)
            do.linear(layer.key, normed, space.key)
            do.linear(layer.value, normed, space.value)
            do.attend(
                space.query,
                space.key,
                space.value,
                (keys.address, values.address),
                self._state.address,
                heads,
                log_base,
                space.attended,
            )
            do.linear(layer.attention_output, space.attended, x, residual=x)
            do.normalise(x, layer.feed_forward_norm, normed, shape.epsilon)
            do.gated(layer.gate, layer.up, normed, space.gated, space.spare)
            do.linear(layer.down, space.gated, x, residual=x)
        last = x.row(x.tokens - 1)
        do.normalise(last, self.output_norm, space.last, shape.epsilon)
        do.linear(self.output, space.last, self._logits)
        state, chosen = self._state.address, self._chosen.address
        do.choose(self._logits, self._parts.address, state, chosen, x.tokens, self._temperature)

    def upload_weights_again(self) -> None:
        """Copy every weight of the layers anew, as programs do that keep them on the host."""
        for layer in self.layers:
            for tensor in layer.tensors():
                if tensor.device != "cpu":
                    self.uploader.upload_again(tensor)
        self.uploader.finish()

    def read_logits(self) -> Array:
        """The logits of the last step."""
        values = np.empty(self.shape.vocabulary, np.float32)
        self._device.download(values, self._logits.address)
        self._device.wait()
        return values

    def tensors(self) -> Iterator[Any]:
        """Every tensor of the model."""
        yield self.embedding
        if self.output is not self.embedding:
            yield self.output
        yield self.output_norm
        for layer in self.layers:
            yield from layer.tensors()
