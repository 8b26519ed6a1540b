"""Writes a model as a GGUF file, one tensor at a time.

The same shape, format and seed give the same file; memory holds one tensor, never the model.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter

from vgpu_stub.models.shapes import SHAPES, Shape, Tensor
from vgpu_stub.models.vocabulary import BEGIN, END, make_vocabulary
from vgpu_stub.models.weights import FORMATS, Weights

#: Told what is being written, and how far it is, from 0 to 1.
Progress = Callable[[str, float], None]

_CONTEXT_TOKENS: Final = 4096
_EPSILON: Final = 1e-5
_ROPE_BASE: Final = 10000.0


def write_model(path: Path, size: str, kind: str, seed: int, progress: Progress) -> None:
    """Write a model of random weights.

    Args:
        path: The file; it appears when it is whole.
        size: A name of `SHAPES`.
        kind: A name of `FORMATS`, for matrices; vectors are f32.
        seed: Other seeds give other weights.
        progress: Told after each tensor.

    Raises:
        OSError: The file cannot be written.
    """
    shape = SHAPES[size]
    partial = path.with_name(f".{path.name}.partial")
    try:
        _write(partial, f"random-{size}-{kind}-{seed}", shape, kind, seed, progress)
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)


def _write(path: Path, name: str, shape: Shape, kind: str, seed: int, progress: Progress) -> None:
    with closing(GGUFWriter(path, "llama")) as writer:
        _add_metadata(writer, name, shape)
        _write_tensors(writer, shape, kind, seed, progress)


def _write_tensors(
    writer: GGUFWriter, shape: Shape, kind: str, seed: int, progress: Progress
) -> None:
    tensors = list(shape.tensors())
    for tensor in tensors:
        form = _form(tensor, kind)
        block, block_bytes = GGML_QUANT_SIZES[form]
        row_bytes = tensor.columns // block * block_bytes
        dimensions = [row_bytes] if form not in _PLAIN else [tensor.columns]
        if tensor.gain:
            dimensions = [tensor.rows, *dimensions]
        writer.add_tensor_info(
            tensor.name,
            dimensions,
            np.dtype(_PLAIN.get(form, np.uint8)),
            tensor.rows * row_bytes,
            raw_dtype=None if form in _PLAIN else form,
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    written = 0
    for tensor in tensors:
        writer.write_tensor_data(_draw(tensor, kind, seed))
        written += tensor.rows * tensor.columns
        progress("writing weights", written / shape.parameters)


_PLAIN: Final = {GGMLQuantizationType.F32: np.float32, GGMLQuantizationType.F16: np.float16}


def _form(tensor: Tensor, kind: str) -> GGMLQuantizationType:
    return FORMATS[kind][0] if tensor.gain else GGMLQuantizationType.F32


def _draw(tensor: Tensor, kind: str, seed: int) -> Weights:
    if not tensor.gain:
        return np.ones(tensor.columns, np.float32)
    random = np.random.default_rng([seed, zlib.crc32(tensor.name.encode())])
    return FORMATS[kind][1](random, tensor.rows, tensor.columns, tensor.deviation)


def _add_metadata(writer: GGUFWriter, name: str, shape: Shape) -> None:
    writer.add_name(name)
    writer.add_description("Random weights, made by vgpu-stub: for measurements, not for answers.")
    writer.add_context_length(_CONTEXT_TOKENS)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.key_value_heads)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(_ROPE_BASE)
    writer.add_layer_norm_rms_eps(_EPSILON)
    writer.add_vocab_size(shape.vocabulary)
    vocabulary = make_vocabulary(shape.vocabulary)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(vocabulary.pieces)
    writer.add_token_scores(vocabulary.scores)
    writer.add_token_types(vocabulary.kinds)
    writer.add_bos_token_id(BEGIN)
    writer.add_eos_token_id(END)
    writer.add_add_bos_token(True)
