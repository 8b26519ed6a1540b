"""The same model in numpy, token by token and without tricks: what the device's tokens must be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from device import Array
from weights import ModelFile


class Reference:
    """A model on the host, its weights decoded to floats."""

    def __init__(self, file: ModelFile) -> None:
        """Decode every tensor."""
        self._shape = file.shape
        self._weights = {name: tensor.floats() for name, tensor in file.tensors.items()}
        self._output = self._weights[file.output().name]
        self._keys: list[list[Array]] = [[] for _ in range(file.shape.layers)]
        self._values: list[list[Array]] = [[] for _ in range(file.shape.layers)]

    def generate(self, prompt: Sequence[int], count: int) -> tuple[list[int], list[Array]]:
        """The best tokens after a prompt, with the logits that each was chosen from."""
        for token in prompt[:-1]:
            self._forward(token)
        tokens: list[int] = []
        logits: list[Array] = []
        newest = prompt[-1]
        for _ in range(count):
            logits.append(self._forward(newest))
            newest = int(np.argmax(logits[-1]))
            tokens.append(newest)
        return tokens, logits

    def _forward(self, token: int) -> Array:
        weights, shape = self._weights, self._shape
        x = weights["token_embd.weight"][token]
        for number in range(shape.layers):
            part = {
                name.split(".")[2]: values
                for name, values in weights.items()
                if name.startswith(f"blk.{number}.")
            }
            normed = self._normalise(x, part["attn_norm"])
            attended = self._attend(
                number, part["attn_q"] @ normed, part["attn_k"] @ normed, part["attn_v"] @ normed
            )
            x = x + part["attn_output"] @ attended
            normed = self._normalise(x, part["ffn_norm"])
            gate, up = part["ffn_gate"] @ normed, part["ffn_up"] @ normed
            x = x + part["ffn_down"] @ (gate / (1 + np.exp(-gate)) * up)
        logits: Array = self._output @ self._normalise(x, weights["output_norm.weight"])
        return logits

    def _normalise(self, x: Array, weight: Array) -> Array:
        scale = 1 / np.sqrt(np.mean(x * x) + self._shape.epsilon)
        result: Array = x * np.float32(scale) * weight[0]
        return result

    def _attend(self, layer: int, query: Array, key: Array, value: Array) -> Array:
        shape = self._shape
        position = len(self._keys[layer])
        query = self._rotate(query.reshape(shape.heads, -1), position)
        key = self._rotate(key.reshape(shape.key_value_heads, -1), position)
        # The device keeps both as halves.
        self._keys[layer].append(key.astype(np.float16).astype(np.float32))
        value = value.reshape(shape.key_value_heads, -1)
        self._values[layer].append(value.astype(np.float16).astype(np.float32))
        group = shape.heads // shape.key_value_heads
        keys = np.repeat(np.stack(self._keys[layer]), group, axis=1)
        values = np.repeat(np.stack(self._values[layer]), group, axis=1)
        scores = np.einsum("hd,thd->ht", query, keys) / np.sqrt(np.float32(shape.head_width))
        parts = np.exp(scores - scores.max(axis=1, keepdims=True))
        parts /= parts.sum(axis=1, keepdims=True)
        result: Array = np.einsum("ht,thd->hd", parts, values).reshape(-1)
        return result

    def _rotate(self, heads: Array, position: int) -> Array:
        width = self._shape.head_width
        angles = position * self._shape.rope_base ** (-np.arange(0, width, 2) / width)
        cosine, sine = np.cos(angles), np.sin(angles)
        even, odd = heads[:, 0::2], heads[:, 1::2]
        result = np.empty_like(heads)
        result[:, 0::2] = even * cosine - odd * sine
        result[:, 1::2] = even * sine + odd * cosine
        return result
