"""`vgpu-stub exec`: runs a program on the device without a VM."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from vgpu_qemu.progress import console_progress
from vgpu_qemu.sandbox import Sandbox
from vgpu_stub.cli.checks import FindingsDisplay
from vgpu_stub.cli.fidelity import report_fidelity
from vgpu_stub.cli.options import (
    CheckOption,
    CheckReportOption,
    ExecutorChoice,
    ExecutorOption,
    FaultFileOption,
    FaultOption,
    FidelityOption,
    FidelityReportOption,
    MemoryOption,
    ProfileChoice,
    ProfileOption,
    RecordOption,
    TraceOption,
    WatchdogOption,
    executor_options,
    fault_rules,
)
from vgpu_stub.cli.report import print_account, print_faults
from vgpu_stub.harness.build import cuda_libraries
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.harness.program import device_variables, program_environment
from vgpu_stub.harness.timeline import traced


def run_program(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a program in the foreground; returns its exit status as a shell has it."""
    try:
        process = subprocess.Popen(command, env=environment)
    except OSError as error:
        print(f"vgpu-stub: cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        return 127 if isinstance(error, FileNotFoundError) else 126
    # Ctrl-C reaches the program by itself, as it is in our process group; we wait for its end.
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    terminate = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        status = process.wait()
    finally:
        signal.signal(signal.SIGINT, previous)
        signal.signal(signal.SIGTERM, terminate)
    return 128 - status if status < 0 else status


def exec_command(
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND...", help="The program and its arguments.")
    ],
    executor: ExecutorOption = ExecutorChoice.AUTO,
    memory: MemoryOption = "",
    watchdog: WatchdogOption = 0.0,
    profile: ProfileOption = ProfileChoice.SM_61,
    check: CheckOption = None,
    check_report: CheckReportOption = None,
    fidelity: FidelityOption = False,
    fidelity_report: FidelityReportOption = None,
    record: RecordOption = None,
    trace: TraceOption = None,
    fault: FaultOption = None,
    faults: FaultFileOption = None,
    image: Annotated[
        str | None,
        typer.Option(help="Run a program of this guest image: base, cuda or llm."),
    ] = None,
    stats: Annotated[
        bool, typer.Option("--stats", help="Show at the end what the rings carried.")
    ] = False,
) -> None:
    """Run a program on the device, without a VM.

    The program and all processes that it starts find our CUDA libraries instead of NVIDIA's, and
    each process that uses CUDA gets a device and a worker of its own. With --image the program is
    one of a guest image, run with the image's libraries on this machine's kernel; it sees the
    current directory, /tmp and the home directories.

    Examples:

        vgpu-stub exec -- python3 my_cuda_program.py

        vgpu-stub exec --stats --executor software -- ./vector_add

        vgpu-stub exec --image llm -- llama-server --list-devices

        vgpu-stub exec --check mem,race -- ./vector_add

        vgpu-stub exec --fault command-error:opcode=cuMemAlloc,nth=3,error=2 -- ./vector_add
    """
    libraries = cuda_libraries()
    rules = fault_rules(fault, faults)
    counted = fidelity or fidelity_report is not None
    options = executor_options(executor, memory, watchdog, profile, check, counted)
    snapshot: dict[str, Any] | None = None
    sandbox = None
    if image:
        with console_progress() as progress:
            sandbox = Sandbox(image, progress=progress)
    with (
        traced(trace, record) as kept,
        DeviceServer(options, shared=False, record=kept, faults=rules) as server,
        FindingsDisplay(server.reports, options.checks, check_report) as findings,
    ):
        environment = program_environment(server.device_socket, libraries)
        if sandbox:
            variables = device_variables(server.device_socket, libraries)
            command = sandbox.command(command, variables, [libraries, server.folder])
        status = run_program(command, environment)
        if server.has_ended:
            print(f"vgpu-stub: the device server ended:\n{server.log_tail()}", file=sys.stderr)
        elif stats or rules:
            snapshot = server.snapshot()
        if options.count:
            report_fidelity(server.reports, fidelity_report)
    if snapshot and stats:
        print_account(snapshot)
    if snapshot:
        print_faults(snapshot)
    raise typer.Exit(findings.status(status))
