"""`vgpu-stub fuzz`: fuzzes the device, its parsers and its driver, and writes failures as tests."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from vgpu_qemu.kernels import DEFAULT_KERNEL
from vgpu_qemu.progress import console_progress
from vgpu_stub.fuzz.campaign import Settings, Tally, run_campaign
from vgpu_stub.fuzz.ioctls import IoctlSettings, fuzz_ioctls
from vgpu_stub.fuzz.operations import read_case
from vgpu_stub.fuzz.process import ChildProcess
from vgpu_stub.fuzz.targets import TARGETS, make_target

_EVERY_S = 5.0
#: The one target that runs in a machine, not in processes here.
IOCTLS = "ioctls"


def default_corpus(target: str) -> Path:
    """Where sequences worth keeping are kept between campaigns."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "vgpu-stub" / "fuzz" / target


class _Progress:
    """Says now and then how far a campaign is."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _EVERY_S
        self._known = 0

    def __call__(self, tally: Tally) -> None:
        if time.monotonic() < self._next and len(tally.found) == self._known:
            return
        self._next = time.monotonic() + _EVERY_S
        self._known = len(tally.found)
        print(tally, file=sys.stderr, flush=True)


def fuzz_command(
    target: Annotated[
        str,
        typer.Argument(help=f"What to fuzz: {', '.join(TARGETS)}, {IOCTLS}; or module:Class."),
    ],
    seed: Annotated[
        int | None, typer.Option(help="Of the sequences; a new one each time by default.")
    ] = None,
    count: Annotated[int, typer.Option(help="Sequences to run; 0 for no limit.")] = 0,
    seconds: Annotated[
        float, typer.Option(help="How long; 0 for no limit. Without --count, 30 by default.")
    ] = 0.0,
    jobs: Annotated[int, typer.Option(help="Processes; 0 for one on each core.")] = 1,
    corpus: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Folder of sequences worth keeping, which are changed and run again; by default"
            " none takes part, and the same seed does the same.",
        ),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep a corpus in ~/.cache/vgpu-stub/fuzz.")
    ] = False,
    output: Annotated[
        Path, typer.Option(file_okay=False, help="Folder where failures are written as tests.")
    ] = Path("fuzz-failures"),
    reduce: Annotated[
        float, typer.Option(help="Seconds to make each failure small; 0 leaves it as it is.")
    ] = 60.0,
    case: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Run one sequence from a .json file.")
    ] = None,
    kernel: Annotated[
        str, typer.Option(help="Guest kernel of the target ioctls, as `vgpu-stub vm` has it.")
    ] = DEFAULT_KERNEL,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Fuzz with structure awareness; failures are made small and written as pytest files.

    A case is one operation: a message, an access, a command. Cases come in sequences, each made
    from the seed and its number. The exit status is 1 when something was found.

    Examples:

        vgpu-stub fuzz messages --seconds 60

        vgpu-stub fuzz rings --jobs 0 --seconds 300 --keep

        vgpu-stub fuzz registers --seed 7 --count 1000 --json

        vgpu-stub fuzz rings --case fuzz-failures/test_rings_overflow.json

        vgpu-stub fuzz ioctls --kernel 6.1 --seconds 60
    """
    if target == IOCTLS:
        raise typer.Exit(_run_ioctls(kernel, seed, seconds or 30.0, jobs, as_json))
    try:
        made = make_target(target)
    except (ValueError, ImportError, AttributeError) as error:
        raise typer.BadParameter(str(error), param_hint="TARGET") from error
    if case is not None:
        raise typer.Exit(_run_case(target, case))
    settings = Settings(
        target,
        random.randrange(10**9) if seed is None else seed,
        count,
        seconds or (0.0 if count else 30.0),
        jobs or len(os.sched_getaffinity(0)),
        corpus or (default_corpus(made.name) if keep else None),
        output,
        reduce,
    )
    tally = run_campaign(settings, _Progress())
    print(json.dumps(tally.as_json(), indent=2) if as_json else tally)
    for found in tally.found.values():
        print(f"  {found.path}", file=sys.stderr)
    raise typer.Exit(int(bool(tally.found)))


def _run_ioctls(kernel: str, seed: int | None, seconds: float, jobs: int, as_json: bool) -> int:
    cores = min(8, len(os.sched_getaffinity(0)))
    settings = IoctlSettings(
        random.randrange(10**9) if seed is None else seed,
        seconds,
        threads=max(4, jobs or cores),
        kernel=kernel,
        cpus=max(2, min(jobs or cores, cores)),
    )
    with console_progress() as progress:
        result = fuzz_ioctls(settings, progress)
    print(json.dumps(result.as_json(), indent=2) if as_json else result)
    return int(bool(result.failures))


def _run_case(target: str, path: Path) -> int:
    try:
        operations = read_case(path, make_target(target).kinds)
    except ValueError as error:
        raise typer.BadParameter(f"{path}: {error}", param_hint="--case") from error
    with ChildProcess(target, 0) as child:
        failure = child.judge(operations)
    if failure is None:
        print(f"{len(operations)} operations, no failure")
        return 0
    print(f"{failure.signature}\n{failure.detail}")
    return 1
