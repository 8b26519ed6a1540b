"""`vgpu-stub ptx`: what kernels a file has, and how one is lowered to machine code."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from vgpu_host.demangle import demangle
from vgpu_host.executors.software.dump import KernelDump, Stage
from vgpu_host.executors.software.errors import PtxError
from vgpu_host.executors.software.profiles import profile_of
from vgpu_host.executors.software.survey import Image, KernelSurvey, matching, nearest
from vgpu_host.executors.software.translation import Translation
from vgpu_host.ptx_files import PtxFileError, read_ptx
from vgpu_stub.cli.options import ProfileChoice, ProfileOption

ptx_app = typer.Typer(
    name="ptx",
    help="See what the software GPU makes of kernels: whether it takes them, and every stage on the"
    " way from PTX to machine code.",
    no_args_is_help=True,
)

#: Of the files that `--output` writes.
_SUFFIXES: Final = {Stage.LLVM: ".ll", Stage.OPTIMIZED: ".ll", Stage.ASSEMBLY: ".s"}
_MOST_NAMES: Final = 8

FileArgument = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="PTX, CUDA C++ (.cu), or a program or library with kernels in PTX.",
    ),
]


class StageChoice(StrEnum):
    """Values of `--stage`."""

    TOKENS = "tokens"
    BODY = "body"
    BLOCKS = "blocks"
    LIVENESS = "liveness"
    UNIFORMITY = "uniformity"
    LAYOUT = "layout"
    LLVM = "llvm"
    OPTIMIZED = "optimized"
    ASSEMBLY = "assembly"
    ALL = "all"


def _images(file: Path, translation: Translation) -> Iterator[tuple[str, Image]]:
    for image in read_ptx(file, translation.profile.capability):
        try:
            yield image.label, Image(image.text, translation)
        except PtxError as error:
            raise PtxFileError(f"{file}: {image.label}: {error.log}") from error


@ptx_app.command("list")
def list_command(
    file: FileArgument,
    profile: ProfileOption = ProfileChoice.SM_61,
    match: Annotated[
        str,
        typer.Option(metavar="REGEX", help="Only kernels whose name, as C++ has it, matches."),
    ] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object for machines.")
    ] = False,
) -> None:
    """List the kernels of a file, and say of each whether the software GPU takes it, or why not.

    Of a program or library those kernels are listed that a device of the profile would choose. The
    exit status is 0 when it takes them all, else 1. Sizes are in bytes; registers are the 32-bit
    registers that are live at once; instructions include those of functions that are called.

    Examples:

        vgpu-stub ptx list kernels.cu

        vgpu-stub ptx list --profile sm_80 --match softmax libggml-cuda.so
    """
    try:
        pattern = re.compile(match)
    except re.error as error:
        raise typer.BadParameter(f"--match {match!r} is no regular expression: {error}") from None
    found = _surveys(file, Translation(profile_of(profile.value)), pattern)
    if as_json:
        kernels = list(found)
        kernels_json = [{**asdict(kernel), "translates": not kernel.refusal} for kernel in kernels]
        print(json.dumps({"profile": profile.value, "kernels": kernels_json}, indent=2))
        refused = sum(bool(kernel.refusal) for kernel in kernels)
    else:
        refused = _print_list(found, profile.value)
    raise typer.Exit(1 if refused else 0)


def _surveys(
    file: Path, translation: Translation, pattern: re.Pattern[str]
) -> Iterator[KernelSurvey]:
    for _, image in _images(file, translation):
        for name in matching_names(image.kernel_names(), pattern):
            yield image.survey(name)


def matching_names(names: Iterable[str], pattern: re.Pattern[str]) -> list[str]:
    """Names of which the mangled or the readable form matches."""
    return [name for name in names if pattern.search(name) or pattern.search(demangle(name))]


def _print_list(kernels: Iterable[KernelSurvey], profile: str) -> int:
    """Print a line for each kernel as soon as it is known; returns how many are refused."""
    refused = total = 0
    for kernel in kernels:
        if not total:
            print(f"params shared  local  regs  instr {profile} kernel")
        total += 1
        sizes = sum(kernel.parameters) if kernel.parameters is not None else None
        numbers = zip(
            (sizes, kernel.shared, kernel.local, kernel.registers, kernel.instructions),
            (6, 6, 6, 5, 6),
            strict=True,
        )
        columns = " ".join(f"{'-' if n is None else n:>{width}}" for n, width in numbers)
        answer = "no" if kernel.refusal else "yes"
        print(f"{columns} {answer:<{len(profile)}} {kernel.readable}")
        if kernel.refusal:
            refused += 1
            print(f"{'':>{len(columns)}} {kernel.refusal}")
    taken = f"{total - refused} of {total} kernels can run on {profile}" if total else "no kernels"
    print(f"vgpu-stub ptx: {taken}", file=sys.stderr)
    return refused


@ptx_app.command("dump")
def dump_command(
    file: FileArgument,
    kernel: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Its name as in the PTX, or as in C++, with or without template arguments; needed"
            " where the file has more than one kernel.",
        ),
    ] = "",
    stage: Annotated[
        StageChoice,
        typer.Option(
            help="tokens: the text cut into pieces. body: the kernel as read, its calls inlined."
            " blocks: its flow graph. liveness: registers that are needed later. uniformity: what"
            " is the same in all lanes of a warp, and where lanes part. layout: where variables"
            " are. llvm: the code as generated. optimized: after LLVM's optimiser. assembly: for"
            " this processor."
        ),
    ] = StageChoice.ALL,
    profile: ProfileOption = ProfileChoice.SM_61,
    in_rows: Annotated[
        bool,
        typer.Option(
            "--in-rows/--any-block",
            help="The code for blocks whose first dimension is a multiple of 32, or that for any.",
        ),
    ] = True,
    general: Annotated[
        bool,
        typer.Option(
            "--general",
            help="Keep to scalars and vectors: the simple code that tests compare the other with.",
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", file_okay=False, metavar="DIR", help="Write a file for each stage."
        ),
    ] = None,
) -> None:
    """Show the stages in which a kernel becomes machine code.

    docs/lowering.md follows one kernel through all of them. When the kernel cannot be translated,
    the stages that it reaches are shown, then the reason; the exit status is 1.

    Examples:

        vgpu-stub ptx dump kernels.cu --kernel vector_add --stage uniformity

        vgpu-stub ptx dump libggml-cuda.so --kernel 'soft_max_f32<true, 32, 32, __half>' -o stages
    """
    translation = Translation(profile_of(profile.value), general=general)
    image, name = _find(file, kernel, translation)
    dump = KernelDump(image.source, name, image.lowering(name, in_rows))
    stages = list(Stage) if stage is StageChoice.ALL else [Stage(stage.value)]
    if output:
        output.mkdir(parents=True, exist_ok=True)
    for one in stages:
        try:
            text = dump.show(one)
        except PtxError as error:
            print(f"vgpu-stub: {error.log}", file=sys.stderr)
            raise typer.Exit(1) from None
        if output:
            suffix = _SUFFIXES.get(one, ".txt")
            (output / f"{list(Stage).index(one) + 1}-{one.value}{suffix}").write_text(text)
        else:
            if len(stages) > 1:
                print(f"==== {one.value}")
            print(text, end="")


def _find(file: Path, wanted: str, translation: Translation) -> tuple[Image, str]:
    """The one kernel of that name, and its image.

    Raises:
        PtxFileError: There is none, or more than one.
    """
    names: list[str] = []
    found: list[tuple[Image, str]] = []
    for _, image in _images(file, translation):
        here = image.kernel_names()
        names += here
        found += [(image, name) for name in (matching(here, wanted) if wanted else here)]
    exact = [entry for entry in found if wanted in (entry[1], demangle(entry[1]))]
    found = exact[:1] or found
    if len(found) == 1:
        return found[0]
    if found:
        options = _listed([demangle(name) for _, name in found])
        if wanted:
            raise PtxFileError(f"{len(found)} kernels are called {wanted}:{options}")
        raise PtxFileError(f"{file} has {len(found)} kernels; choose one with --kernel:{options}")
    if not names:
        raise PtxFileError(f"{file} has no kernels")
    close = nearest(names, wanted)
    hint = f"; did you mean{_listed(close)}" if close else f"; it has {len(names)} others"
    raise PtxFileError(f"{file} has no kernel {wanted}{hint}")


def _listed(names: list[str]) -> str:
    lines = [f"\n  {name}" for name in names[:_MOST_NAMES]]
    if len(names) > _MOST_NAMES:
        lines.append(f"\n  and {len(names) - _MOST_NAMES} more")
    return "".join(lines)
