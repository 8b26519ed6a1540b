"""Sizes that a model can have, and the tensors that follow from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Shape:
    """A model of the llama architecture. Row lengths are multiples of 256, as K-quants need.

    Attributes:
        layers: Transformer blocks.
        width: Length of an embedding.
        heads: Attention heads.
        key_value_heads: Heads of keys and values; a divisor of `heads`.
        feed_forward: Inner width of the feed-forward part.
        vocabulary: Tokens.
        tied: Whether the embedding is also the output matrix.
    """

    layers: int
    width: int
    heads: int
    key_value_heads: int
    feed_forward: int
    vocabulary: int
    tied: bool = True

    @property
    def head_width(self) -> int:
        """Length of one head's part of an embedding."""
        return self.width // self.heads

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor of the model, in the order in which they are written."""
        key_value = self.key_value_heads * self.head_width
        # Outputs that are added to the residual are smaller the more of them there are; together
        # they outweigh the embedding, or each token would be followed by itself.
        residual = 4.0 * (2 * self.layers) ** -0.5
        yield Tensor("token_embd.weight", self.vocabulary, self.width, _LOGIT_SPREAD)
        yield Tensor("output_norm.weight", 1, self.width)
        if not self.tied:
            yield Tensor("output.weight", self.vocabulary, self.width, _LOGIT_SPREAD)
        for layer in range(self.layers):
            block = f"blk.{layer}."
            yield Tensor(f"{block}attn_norm.weight", 1, self.width)
            yield Tensor(f"{block}attn_q.weight", self.width, self.width, 1.0)
            yield Tensor(f"{block}attn_k.weight", key_value, self.width, 1.0)
            yield Tensor(f"{block}attn_v.weight", key_value, self.width, 1.0)
            yield Tensor(f"{block}attn_output.weight", self.width, self.width, residual)
            yield Tensor(f"{block}ffn_norm.weight", 1, self.width)
            yield Tensor(f"{block}ffn_gate.weight", self.feed_forward, self.width, 1.0)
            yield Tensor(f"{block}ffn_up.weight", self.feed_forward, self.width, 1.0)
            yield Tensor(f"{block}ffn_down.weight", self.width, self.feed_forward, residual)

    @property
    def parameters(self) -> int:
        """Weights of the model."""
        return sum(tensor.rows * tensor.columns for tensor in self.tensors())


#: Standard deviation of logits: wide enough that rounding seldom decides which token is the best.
_LOGIT_SPREAD: Final = 4.0


@dataclass(frozen=True)
class Tensor:
    """One tensor: `rows` rows of `columns` weights.

    Attributes:
        gain: Standard deviation of its products with rows of unit variance; 0 for a normalisation's
            weights, which are all 1.
    """

    name: str
    rows: int
    columns: int
    gain: float = 0.0

    @property
    def deviation(self) -> float:
        """Standard deviation of the weights."""
        return float(self.gain * self.columns**-0.5)


SHAPES: Final = {
    "1m": Shape(1, 256, 4, 2, 768, 512),
    "15m": Shape(9, 256, 4, 2, 768, 32000),
    "100m": Shape(12, 768, 12, 4, 2048, 32000),
    "1b": Shape(16, 2048, 32, 8, 8192, 32000, tied=False),
    "3b": Shape(28, 3072, 24, 8, 8192, 128256),
}
"""By name, which is about the number of parameters."""
