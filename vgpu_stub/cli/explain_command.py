"""`vgpu-stub explain`: whether a program used the GPU, and if not, the first cause."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated, Any, Final

import typer

from vgpu_qemu.kernels import DEFAULT_KERNEL
from vgpu_stub.cli.explain_run import run_here, run_in_vm
from vgpu_stub.cli.options import (
    ExecutorChoice,
    ExecutorOption,
    MemoryOption,
    ProfileChoice,
    ProfileOption,
    WatchdogOption,
    executor_options,
)
from vgpu_stub.cli.vm_command import KernelOption
from vgpu_stub.explain.evidence import Evidence, Process
from vgpu_stub.explain.verdicts import Code, Verdict, judge
from vgpu_stub.harness.machine import GuestSettings

_LIBRARIES: Final = ("libcuda.so", "libcudart.so", "libcublas.so", "libnvidia-ml.so")


def explain_command(
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND...", help="The program and its arguments.")
    ],
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
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Write the report as JSON to standard output; the program's goes to standard"
            " error.",
        ),
    ] = False,
) -> None:
    """Run a program as exec or vm does, and say whether it used the GPU, and if not, why.

    The report names the first cause, what it was seen from, and what to do next. The exit status is
    0 only where the program computed on the device (RESIDENT), else 1.

    This is about a program. For what is missing on this machine, see `vgpu-stub doctor`.

    Examples:

        vgpu-stub explain -- python3 my_cuda_program.py

        vgpu-stub explain --image llm -- llama-bench -m model.gguf -ngl 99

        vgpu-stub explain --vm -- python3 /opt/vgpu-stub/workloads/programs.py
    """
    options = executor_options(executor, memory, watchdog, profile)
    if in_vm:
        settings = GuestSettings(kernel, image=image or "cuda")
        evidence = run_in_vm(command, options, settings, keep_stdout=as_json)
    else:
        evidence = run_here(command, options, image, keep_stdout=as_json)
    verdict = judge(evidence)
    if as_json:
        print(json.dumps(report(evidence, verdict), indent=2))
    else:
        print_report(evidence, verdict)
    raise typer.Exit(0 if verdict.code is Code.RESIDENT else 1)


def _libraries_of(process: Process) -> dict[str, str]:
    paths = {stem: process.library(stem) for stem in _LIBRARIES}
    return {stem: path for stem, path in paths.items() if path}


def report(evidence: Evidence, verdict: Verdict) -> dict[str, Any]:
    """The whole report as plain data; `schema_version` grows when a field changes its meaning."""
    return {
        "schema_version": 1,
        "verdict": asdict(verdict),
        "command": list(evidence.command),
        "exit_status": evidence.status,
        "elapsed_s": evidence.elapsed_s,
        "processes": [
            {
                "pid": process.pid,
                "program": process.name,
                "libraries": _libraries_of(process),
                "device": process.journal.device if process.journal else {},
                "failures": [asdict(call) for call in process.journal.failures]
                if process.journal
                else [],
                "missing": process.journal.missing if process.journal else [],
                "refused": process.journal.refused if process.journal else [],
                "private_tables": process.journal.tables if process.journal else [],
                "load_errors": [asdict(error) for error in process.load_errors],
                "missing_libraries": [asdict(wanted) for wanted in process.missing_libraries],
                "use": [{**asdict(use), "share": use.share} for use in process.uses],
            }
            for process in evidence.processes
        ],
    }


def print_report(evidence: Evidence, verdict: Verdict) -> None:
    """Write the report to standard error, for people."""
    lines = [f"vgpu-stub explain: {verdict.code}: {verdict.summary}"]
    lines += [f"  seen:  {line}" for line in verdict.evidence]
    if verdict.next_step:
        lines.append(f"  next:  {verdict.next_step}")
    for process in evidence.processes:
        lines.append(f"  process {process.pid}: {process.name}")
        lines += [f"    {path}" for path in _libraries_of(process).values()]
        if process.journal and process.journal.refused:
            refused = ", ".join(dict.fromkeys(process.journal.refused))
            lines.append(f"    refused: {refused}")
        if process.failure:
            lines.append(f"    first failed call: {process.failure}")
        for use in process.uses:
            lines.append(
                f"    {use.last.launches} launches, {use.last.bytes_to_device} bytes to the device,"
                f" {use.last.bytes_to_host} back, {use.last.busy_s:.3f} s of work,"
                f" {use.share:.0%} of the time after the first launch"
            )
    if evidence.server_ended:
        lines.append("  the device server ended before the program")
    lines.append(f"  the program ended with status {evidence.status} in {evidence.elapsed_s:.2f} s")
    print("\n".join(lines), file=sys.stderr)
