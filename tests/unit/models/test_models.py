"""Models are what their names say, read back by the library that llama.cpp's own tools use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, dequantize

from vgpu_stub.models.shapes import SHAPES
from vgpu_stub.models.vocabulary import make_vocabulary
from vgpu_stub.models.weights import FORMATS
from vgpu_stub.models.writer import write_model


def ignore(what: str, part: float | None) -> None:
    """Progress that nobody looks at."""


@pytest.mark.parametrize("kind", FORMATS)
def test_weights_have_the_wanted_mean_and_deviation(kind: str) -> None:
    form, draw = FORMATS[kind]
    drawn = draw(np.random.default_rng(1), 64, 1024, 0.02)
    values = dequantize(drawn, form)
    assert values.shape == (64, 1024)
    assert abs(values.mean()) < 0.0015
    assert values.std() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("kind", FORMATS)
def test_model_is_read_back_as_it_was_asked_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.gguf"
    write_model(path, "1m", kind, 7, ignore)
    reader = GGUFReader(path)
    shape = SHAPES["1m"]
    assert reader.get_field("general.architecture").contents() == "llama"
    assert reader.get_field("llama.block_count").contents() == shape.layers
    assert len(reader.get_field("tokenizer.ggml.tokens").contents()) == shape.vocabulary
    found = {tensor.name: tensor for tensor in reader.tensors}
    assert list(found) == [tensor.name for tensor in shape.tensors()]
    assert sum(int(tensor.n_elements) for tensor in reader.tensors) == shape.parameters
    matrix = found["blk.0.ffn_down.weight"]
    assert matrix.tensor_type == FORMATS[kind][0]
    assert list(matrix.shape) == [shape.feed_forward, shape.width]
    assert found["output_norm.weight"].tensor_type == GGMLQuantizationType.F32
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


def test_seed_decides_the_weights(tmp_path: Path) -> None:
    contents = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_model(tmp_path / "model", "1m", "q8_0", seed, ignore)
        contents.append((tmp_path / "model").rename(tmp_path / name).read_bytes())
    assert contents[0] == contents[1] != contents[2]


def test_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    def stop(what: str, part: float | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_model(tmp_path / "model", "1m", "f32", 1, stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "parameters"), [("1m", 1e6), ("15m", 15e6), ("1b", 1.1e9)])
def test_sizes_have_about_the_parameters_of_their_names(name: str, parameters: float) -> None:
    assert SHAPES[name].parameters == pytest.approx(parameters, rel=0.1)


def test_vocabulary_spells_every_byte_and_has_no_piece_twice() -> None:
    vocabulary = make_vocabulary(32000)
    assert len(vocabulary.pieces) == len(set(vocabulary.pieces)) == len(vocabulary.scores) == 32000
    assert {f"<0x{value:02X}>" for value in range(256)} <= set(vocabulary.pieces)
    with pytest.raises(ValueError, match="needs 354 tokens or more, got 300"):
        make_vocabulary(300)
