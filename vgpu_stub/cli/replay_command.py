"""`vgpu-stub replay`: plays a recording without a guest, and says what is answered differently."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape

from vgpu_host.executors.options import ExecutorOptions
from vgpu_stub.abi.decode import result_text
from vgpu_stub.cli.options import (
    ExecutorChoice,
    MemoryOption,
    executor_options,
    parse_size,
)
from vgpu_stub.harness.replay.report import ReplayReport
from vgpu_stub.harness.replay.runs import ReplaySettings, compare, recorded_options, replay
from vgpu_stub.harness.replay.steps import (
    CommandStep,
    CompletionStep,
    OutputStep,
    RegisterStep,
    steps_of,
)
from vgpu_stub.harness.timeline import write_timeline
from vgpu_stub.monitor.text import format_bytes
from vgpu_stub.recording.errors import RecordingError
from vgpu_stub.recording.reader import Recording
from vgpu_stub.recording.records import NOT_SEEN

_PROFILE: Final = re.compile(r"sm_\d+")
_SHOWN: Final = 10


def parse_options(text: str, usual: ExecutorOptions) -> ExecutorOptions:
    """Settings such as "software", "cuda" or "software,profile=sm_80,general,threads=1".

    Raises:
        typer.BadParameter: They make no sense, or the physical GPU cannot be used.
    """
    name, *parts = text.split(",")
    try:
        choice = ExecutorChoice(name)
    except ValueError:
        raise typer.BadParameter(f"there is no executor {name!r}: software, cuda or auto") from None
    options = executor_options(choice)
    if options.name == usual.name:
        options = usual
    for part in parts:
        key, _, value = part.partition("=")
        if key == "general" and not value:
            options = replace(options, general=True)
        elif key == "profile" and _PROFILE.fullmatch(value):
            options = replace(options, profile=value)
        elif key == "threads" and value.isdigit():
            options = replace(options, threads=int(value))
        elif key == "memory":
            options = replace(options, memory_bytes=parse_size(value))
        elif key == "processor" and value:
            options = replace(options, processor=value)
        else:
            raise typer.BadParameter(
                f"{part!r}: expected general, profile=sm_80, threads=1, memory=1G or"
                " processor=x86-64-v3"
            )
    return options


def replay_command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="The recording.")
    ],
    executor: Annotated[
        str,
        typer.Option(
            metavar="SETTINGS",
            help="What to play it on: software, cuda, or with settings, as in"
            " software,profile=sm_80,general,threads=1. As recorded without it.",
        ),
    ] = "",
    comparison: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--compare",
            metavar="SETTINGS SETTINGS",
            help="Play it on two, and compare their answers with each other.",
        ),
    ] = None,
    memory: MemoryOption = "",
    direct: Annotated[
        bool,
        typer.Option("--direct", help="Use the executor in this process: no device, no rings."),
    ] = False,
    pace: Annotated[
        bool, typer.Option("--pace", help="Wait between commands as long as the guest did.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Longest wait for a completion.")
    ] = 60.0,
    listing: Annotated[
        bool, typer.Option("--list", help="Show what was recorded, decoded, and play nothing.")
    ] = False,
    trace: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            metavar="OUT",
            help="Write what was recorded as a timeline for Perfetto (ui.perfetto.dev) and play"
            " nothing.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    junit: Annotated[
        Path | None,
        typer.Option(dir_okay=False, metavar="FILE", help="Write the result as JUnit XML."),
    ] = None,
) -> None:
    """Play a recording without its guest and compare what the device answers.

    Every command is played with the data that it had, and status, results and data that go to the
    guest are compared. Exits with 1 when anything differs, and with 2 when the recording cannot be
    used. Recordings are made with --record FILE of exec, vm and smoke.

    Examples:

        vgpu-stub exec --record add.vgpurec -- ./vector_add

        vgpu-stub replay add.vgpurec

        vgpu-stub replay add.vgpurec --list

        vgpu-stub replay add.vgpurec --compare software software,general

        vgpu-stub replay add.vgpurec --trace add.json
    """
    try:
        if listing:
            _list(file, as_json=as_json)
            return
        if trace:
            with Recording(file) as recording:
                print(f"{trace}: {write_timeline(recording, trace)} events")
            return
        report = _play(file, executor, comparison, memory, ReplaySettings(direct, pace, timeout))
    except RecordingError as error:
        print(f"vgpu-stub: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    if junit:
        junit.parent.mkdir(parents=True, exist_ok=True)
        report.write_junit(junit)
    if as_json:
        print(json.dumps(report.to_json(), indent=2))
    else:
        _print_report(report)
    raise typer.Exit(1 if report.difference_count else 0)


def _play(
    file: Path,
    executor: str,
    comparison: tuple[str, str] | None,
    memory: str,
    settings: ReplaySettings,
) -> ReplayReport:
    with Recording(file) as recording:
        usual = recorded_options(recording)
    if memory:
        usual = replace(usual, memory_bytes=parse_size(memory))
    if comparison:
        if executor:
            raise typer.BadParameter("--compare names its own executors: leave --executor away")
        first, second = (parse_options(text, usual) for text in comparison)
        return compare(file, first, second, settings)
    return replay(file, parse_options(executor or usual.name, usual), settings)


def _print_report(report: ReplayReport) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{report.recording} on {report.target}, compared with {report.against}")
    if report.damage:
        console.print(f"  not whole: {report.damage}")
    for channel in report.channels:
        verdict = f"{channel.difference_count} differences" if channel.differences else "the same"
        console.print(
            escape(
                f"  {channel.title}: {channel.commands} commands, {channel.completions} answers,"
                f" {channel.data} pieces of data, {channel.seconds:.2f} s: {verdict}"
            )
        )
        for found in channel.differences[:_SHOWN]:
            console.print(
                escape(
                    f"    command {found.index} (sequence {found.sequence}) {found.command}\n"
                    f"      {found.kind}: expected {found.expected}, got {found.actual}"
                )
            )
        more = channel.difference_count - min(len(channel.differences), _SHOWN)
        if more:
            console.print(f"    and {more} more")
        for reason, count in sorted(channel.not_compared.items()):
            console.print(f"    not compared: {reason} ({count})")


def _list(file: Path, *, as_json: bool) -> None:
    with Recording(file) as recording:
        if as_json:
            print(json.dumps(_listed(recording), indent=2))
            return
        sizes = recording.contents()
        start = recording.start
        print(f"{file}: recorded by {start.get('program', '?')} on {start.get('host', '?')}")
        print(
            f"  {len(recording.channels)} channels, {len(recording.server)} records of the server,"
            f" {len(sizes)} pieces of data, {format_bytes(sum(sizes.values()))}"
        )
        if recording.damage:
            print(f"  not whole: {recording.damage}")
        for entry in _listed(recording):
            print(entry["channel"])
            for line in entry["steps"]:
                print(f"  {line}")


def _listed(recording: Recording) -> list[dict[str, Any]]:
    """Every channel with its steps as text, times in milliseconds from the start."""
    began = recording.start.get("monotonic_ns", 0)
    entries: list[dict[str, Any]] = []
    for channel in recording.channels.values():
        lines = []
        for step in steps_of(channel):
            text = _step_text(step)
            if text:
                lines.append(f"{(step.time_ns - began) / 1e6:12.3f} {text}")
        entries.append({"channel": channel.title, "steps": lines})
    return entries


def _step_text(step: object) -> str:
    match step:
        case CommandStep():
            reads = "".join(
                f" reads {each.range.size} bytes {each.digest.hex()[:8]}" for each in step.inputs
            )
            command = step.command
            return f"{step.index} [{command.sequence}] context {command.context} {command}{reads}"
        case CompletionStep():
            completion = step.completion
            opcode = step.of.command.opcode if step.of else -1
            results = "" if completion.status else result_text(opcode, completion.results)
            name = step.of.command.name if step.of else "?"
            return f"  -> [{completion.sequence}] {name}: {completion.status} {results}".rstrip()
        case OutputStep():
            memory = step.memory
            seen = "not seen" if memory.flags & NOT_SEEN else memory.digest.hex()[:8]
            return f"  -> wrote {memory.range.size} bytes {seen}"
        case RegisterStep(size=0):
            return f"registration {step.registration} taken away"
        case RegisterStep():
            return f"registration {step.registration} of {step.size} bytes"
        case _:
            return "the channel ended"
