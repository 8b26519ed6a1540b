"""`vgpu-stub trace`: every CUDA call of a program, as it happens."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TextIO

import typer

from vgpu_qemu.kernels import DEFAULT_KERNEL
from vgpu_stub.calltrace.call import OpenCall, Traced, TracedCall
from vgpu_stub.calltrace.selection import GROUPS, Selection, SelectionError
from vgpu_stub.calltrace.summary import Order, Summary
from vgpu_stub.calltrace.writer import TraceWriter
from vgpu_stub.cli.options import (
    ExecutorChoice,
    ExecutorOption,
    MemoryOption,
    ProfileChoice,
    ProfileOption,
    WatchdogOption,
    executor_options,
)
from vgpu_stub.cli.trace_run import CallFollower, trace_here, trace_in_vm
from vgpu_stub.cli.vm_command import KernelOption
from vgpu_stub.harness.machine import GuestSettings
from vgpu_stub.harness.timeline import traced
from vgpu_stub.harness.timeline_calls import CallTrace


def trace_command(
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND...", help="The program and its arguments.")
    ],
    expressions: Annotated[
        list[str] | None,
        typer.Option(
            "--expression",
            "-e",
            metavar="LIST",
            help="Only these calls: names, patterns (cuMem*) and groups, separated by commas; !"
            f" takes away. Groups: {', '.join(GROUPS)}.",
        ),
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only calls that failed.")] = False,
    summary: Annotated[
        bool,
        typer.Option(
            "--summary", "-c", help="Show no calls, but at the end a table of the functions."
        ),
    ] = False,
    summary_too: Annotated[
        bool, typer.Option("--with-summary", "-C", help="Show the calls, and the table.")
    ] = False,
    sort: Annotated[
        Order, typer.Option(help="What the table is sorted by, the largest first.")
    ] = Order.TIME,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            dir_okay=False,
            help="Write here instead of to standard error.",
        ),
    ] = None,
    timeline: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            dir_okay=False,
            help="Also write a timeline for Perfetto (ui.perfetto.dev): calls by thread, the"
            " commands that they became, kernels, copies and answers.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    executor: ExecutorOption = ExecutorChoice.AUTO,
    memory: MemoryOption = "",
    watchdog: WatchdogOption = 0.0,
    profile: ProfileOption = ProfileChoice.SM_61,
    image: Annotated[
        str | None,
        typer.Option(help="Run a program of this guest image: base, cuda or llm."),
    ] = None,
    in_vm: Annotated[bool, typer.Option("--vm", help="Run it in a virtual machine.")] = False,
    kernel: KernelOption = DEFAULT_KERNEL,
) -> None:
    """Run a program as exec or vm does, and show its CUDA calls as they return.

    Each line has the seconds since the first call, process (and thread where it is not the first),
    the call with its arguments, its result and how long it took. Children are followed. The exit
    status is the program's.

    What is shown are calls of the driver API. Those of libcudart and libcublas are seen by what
    they call of it.

    Examples:

        vgpu-stub trace -- python3 my_cuda_program.py

        vgpu-stub trace --summary -- ./vector_add

        vgpu-stub trace -e launch,copy -o calls.txt -- ./vector_add

        vgpu-stub trace -e 'memory,!cuMemcpy*' -- ./vector_add

        vgpu-stub trace --summary --timeline calls.json -- ./vector_add

        vgpu-stub trace --failed --json -- ./vector_add

        vgpu-stub trace --vm -- python3 /opt/vgpu-stub/workloads/programs.py vector_add
    """
    try:
        selection = Selection(expressions or (), failed_only=failed)
    except SelectionError as error:
        raise typer.BadParameter(str(error), param_hint="-e") from error
    options = executor_options(executor, memory, watchdog, profile)
    counted = Summary()
    kept = CallTrace(same_clock=not in_vm)
    with _opened(output) as file:
        writer = TraceWriter(file, as_json=as_json)

        def show(happened: Traced) -> None:
            if isinstance(happened, TracedCall):
                if timeline:
                    kept.calls.append(happened)
                if not selection.wants(happened):
                    return
                counted.add(happened)
            if not summary:
                writer.write(happened)

        def show_open(call: OpenCall, now_ns: int) -> None:
            if not summary and selection.wants_function(call.function):
                writer.write_open(call, now_ns)

        follower = CallFollower(show, show_open)
        with traced(timeline, None, kept) as record:
            if in_vm:
                settings = GuestSettings(kernel, image=image or "cuda", record=record)
                status = trace_in_vm(command, options, settings, follower)
            else:
                status = trace_here(command, options, image, record, follower)
        if summary or summary_too:
            writer.write_summary(counted, sort)
    raise typer.Exit(status)


@contextmanager
def _opened(path: Path | None) -> Iterator[TextIO]:
    """The file to write to, standard error without one."""
    if path is None:
        yield sys.stderr
        return
    try:
        file = path.open("w")
    except OSError as error:
        raise typer.BadParameter(
            f"cannot write {path}: {error.strerror}", param_hint="-o"
        ) from error
    with file:
        yield file
