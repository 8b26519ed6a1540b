"""Options that several commands share, and how their values become settings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from vgpu_host.executors.options import ExecutorOptions, why_no_gpu
from vgpu_stub.faults import FaultRuleError, Rule, load_rules

CHECKERS: Final = ("mem", "race", "sync")


class ExecutorChoice(StrEnum):
    """Values of `--executor`."""

    AUTO = "auto"
    SOFTWARE = "software"
    CUDA = "cuda"


class ProfileChoice(StrEnum):
    """Values of `--profile`."""

    SM_61 = "sm_61"
    SM_75 = "sm_75"
    SM_80 = "sm_80"
    SM_90 = "sm_90"


ExecutorOption = Annotated[
    ExecutorChoice,
    typer.Option(
        help="What executes: 'cuda' is a physical GPU, 'software' compiles PTX to this CPU,"
        " 'auto' takes the physical GPU where there is one."
    ),
]
MemoryOption = Annotated[
    str,
    typer.Option(
        "--gpu-memory",
        metavar="SIZE",
        help="Device memory of the software GPU, such as 512M or 4G; '' for half of the machine's.",
    ),
]
WatchdogOption = Annotated[
    float,
    typer.Option(
        "--watchdog",
        metavar="SECONDS",
        min=0,
        help="Stop kernels of the software GPU that run longer than this; 0 lets them run.",
    ),
]
ProfileOption = Annotated[
    ProfileChoice,
    typer.Option(
        help="What the software GPU is: the compute capability that programs see, and the PTX that"
        " it takes. Programs choose kernels by it; the smallest runs fastest."
    ),
]
CheckOption = Annotated[
    list[str] | None,
    typer.Option(
        "--check",
        metavar="mem|race|sync",
        help="Check kernels on the software GPU: memory accesses, data races, barriers; several"
        " times or with commas for more than one. Findings go to standard error; the exit status"
        " is 86 if there were any and the program ended with 0.",
    ),
]
CheckReportOption = Annotated[
    Path | None,
    typer.Option(
        "--check-report",
        metavar="FILE",
        dir_okay=False,
        help="Write what --check finds to this file, one JSON object a line.",
    ),
]
FidelityOption = Annotated[
    bool,
    typer.Option(
        "--fidelity",
        help="Say at the end which instructions of which kernels the software GPU ran exactly,"
        " approximately or in another way than a GPU, and how often.",
    ),
]
FidelityReportOption = Annotated[
    Path | None,
    typer.Option(
        "--fidelity-report",
        metavar="FILE",
        dir_okay=False,
        help="Write that to this file, as one JSON object.",
    ),
]
IdentityOption = Annotated[
    str | None,
    typer.Option(
        metavar="VENDOR:DEVICE",
        help="PCI ids in hex that the device shows, such as 10de:2331; drivers bind by them.",
    ),
]

RecordOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        dir_okay=False,
        help="Keep everything that the guest does to the device in this file; see vgpu-stub"
        " replay.",
    ),
]
TraceOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        dir_okay=False,
        help="Write a timeline of commands, kernels, copies and answers for Perfetto"
        " (ui.perfetto.dev).",
    ),
]
ImageOption = Annotated[
    str,
    typer.Option(
        help="Root file system: 'base' (shell, Python), 'cuda' (numpy, pytest, pycuda) or 'llm'"
        " (llama.cpp with its CUDA backend and tests)."
    ),
]
FaultOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fault",
        metavar="RULE",
        help="Inject a fault, such as completion-lost:opcode=cuMemAlloc,nth=3; may be given"
        " several times. 'vgpu-stub faults kinds' lists what there is.",
    ),
]
FaultFileOption = Annotated[
    Path | None,
    typer.Option(
        "--faults",
        metavar="FILE",
        dir_okay=False,
        help="Inject the faults of this TOML file; docs/faults.md shows one.",
    ),
]

_SIZE = re.compile(r"(\d+)([KMGT]?)", re.IGNORECASE)
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def parse_size(text: str) -> int:
    """Bytes that a size such as "512M" means; 0 for "".

    Raises:
        typer.BadParameter: It is no size.
    """
    if not text:
        return 0
    match = _SIZE.fullmatch(text)
    if not match:
        raise typer.BadParameter(f"{text!r} is no size; write it like 512M or 4G")
    return int(match[1]) << _UNITS[match[2].lower()]


def parse_checks(values: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the checkers in the values of `--check`, each once.

    Raises:
        typer.BadParameter: There is no such checker.
    """
    names = [name.strip() for value in values or () for name in value.split(",")]
    for name in names:
        if name not in CHECKERS:
            raise typer.BadParameter(f"there is no checker {name!r}; choose mem, race or sync")
    return tuple(name for name in CHECKERS if name in names)


def fault_rules(texts: Sequence[str] | None, file: Path | None) -> tuple[Rule, ...]:
    """Rules of `--fault` and `--faults`.

    Raises:
        typer.BadParameter: One makes no sense.
    """
    try:
        in_file = load_rules(file) if file else []
        return (*in_file, *(Rule.parse(text) for text in texts or ()))
    except FaultRuleError as error:
        raise typer.BadParameter(str(error)) from None


def executor_options(
    choice: ExecutorChoice,
    memory: str = "",
    watchdog_s: float = 0.0,
    profile: ProfileChoice = ProfileChoice.SM_61,
    checks: Sequence[str] | None = None,
    count: bool = False,
) -> ExecutorOptions:
    """Settings of the executor that the user chose.

    Raises:
        typer.BadParameter: The physical GPU was asked for and cannot be used, or is to check or
            to count.
    """
    checkers = parse_checks(checks)
    if checkers and choice is ExecutorChoice.CUDA:
        raise typer.BadParameter(
            "--check is for the software GPU; on a physical GPU use NVIDIA's compute-sanitizer"
        )
    if count and choice is ExecutorChoice.CUDA:
        raise typer.BadParameter("--fidelity is for the software GPU: it compares it with a GPU")
    if checkers or count:
        choice = ExecutorChoice.SOFTWARE
    reason = why_no_gpu() if choice is not ExecutorChoice.SOFTWARE else ""
    if choice is ExecutorChoice.CUDA and reason:
        raise typer.BadParameter(f"the physical GPU cannot be used: {reason}")
    name = "cuda" if reason is None else "software"
    return ExecutorOptions(
        name,
        memory_bytes=parse_size(memory),
        watchdog_s=watchdog_s,
        profile=profile.value,
        checks=checkers,
        count=count,
    )
