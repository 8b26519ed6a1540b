"""`vgpu-stub model`: makes a language model of random weights for llama.cpp."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vgpu_qemu.progress import console_progress
from vgpu_stub.models.shapes import SHAPES
from vgpu_stub.models.weights import FORMATS
from vgpu_stub.models.writer import write_model
from vgpu_stub.monitor.text import format_bytes

SizeChoice = StrEnum("SizeChoice", {name: name for name in SHAPES})  # type: ignore[misc]
FormatChoice = StrEnum("FormatChoice", {name: name for name in FORMATS})  # type: ignore[misc]
_DEFAULT_SIZE = SizeChoice("15m")
_DEFAULT_FORMAT = FormatChoice("q8_0")


def model_command(
    path: Annotated[Path, typer.Argument(metavar="OUT.gguf", dir_okay=False, help="The file.")],
    size: Annotated[
        SizeChoice, typer.Option(help="About how many parameters it has.")
    ] = _DEFAULT_SIZE,
    kind: Annotated[
        FormatChoice, typer.Option("--type", help="Format of its matrices.")
    ] = _DEFAULT_FORMAT,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds give other weights.")] = 1,
) -> None:
    """Make a language model of random weights, as a GGUF file.

    It has the llama architecture, a vocabulary that can spell any text, and nothing to say: it is
    there to load, to run, and to compare what two backends compute. Quantised weights are blocks of
    valid form drawn at random. The same options give the same file.

    Examples:

        vgpu-stub model /tmp/15m.gguf

        vgpu-stub model --size 1b --type q4_k /tmp/1b.gguf

        vgpu-stub exec --image llm -- llama-bench -ngl 99 -m /tmp/15m.gguf
    """
    if not path.parent.is_dir():
        raise typer.BadParameter(f"{path.parent} is no directory")
    with console_progress() as progress:
        write_model(path, size.value, kind.value, seed, progress)
    parameters = SHAPES[size.value].parameters
    print(f"{path}: {parameters / 1e6:.1f} million parameters, {format_bytes(path.stat().st_size)}")
