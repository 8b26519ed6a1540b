"""`vgpu-stub smoke`: boots a machine with the device and runs the tests of `guest/smoke` in it.

The guest reports in KTAP; here the lines become progress, JUnit XML and JSON. A test that vanished
fails, and so does a report of the guest's kernel about itself. When something fails, the kernel's
and the device server's last lines follow.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from vgpu_qemu.kernels import DEFAULT_KERNEL
from vgpu_qemu.progress import console_progress
from vgpu_qemu.vm import Vm
from vgpu_stub.cli.options import (
    ExecutorChoice,
    ExecutorOption,
    FaultFileOption,
    FaultOption,
    MemoryOption,
    ProfileChoice,
    ProfileOption,
    RecordOption,
    executor_options,
    fault_rules,
)
from vgpu_stub.cli.report import print_faults
from vgpu_stub.cli.vm_command import (
    AccelOption,
    ConsoleOption,
    CpusOption,
    GuestMemoryOption,
    KernelOption,
    TimeoutOption,
)
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.harness.kernel_log import KernelProblem, find_problems
from vgpu_stub.harness.ktap import KtapReader, Outcome, TestResult, count, write_junit
from vgpu_stub.harness.machine import GuestSettings, running_vm
from vgpu_stub.harness.smoke import planned_tests, run_smoke

_TAIL_LINES: Final = 25
_STYLES: Final = {Outcome.PASSED: "green", Outcome.FAILED: "bold red", Outcome.SKIPPED: "yellow"}


def explain_failure(vm: Vm, server: DeviceServer) -> str:
    """The last lines of the guest's kernel and of the device server."""
    kernel = vm.run(f"dmesg | tail -n {_TAIL_LINES}").stdout.decode(errors="replace").rstrip()
    log = server.log_tail(_TAIL_LINES) or "(empty)"
    return f"Last messages of the guest's kernel:\n{kernel}\nDevice server's log:\n{log}"


class SmokeDisplay:
    """Prints a line for each test as it ends, and what explains a failure below it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._number = 0
        self.reader = KtapReader(on_result=self.show, on_text=self.text)

    def show(self, result: TestResult) -> None:
        """Print a result."""
        self._number += 1
        line = Text.assemble(
            (f"{self._number:>3}/{self.reader.planned or '?'} ", "dim"),
            (f"{result.outcome.upper():<7} ", _STYLES[result.outcome]),
            result.name,
            (f" {result.duration_s:.2f} s", "dim"),
        )
        self._console.print(line, soft_wrap=True)
        for explanation in result.text.splitlines():
            self.text(f"        {explanation}")

    def text(self, line: str) -> None:
        """Print a line that is no result."""
        self._console.print(Text(line), soft_wrap=True)

    def summary(self, results: list[TestResult], problems: list[KernelProblem]) -> None:
        """Print how many tests ended how."""
        counts = ", ".join(f"{number} {name}" for name, number in count(results).items() if number)
        self._console.print(counts or "no test ran")
        for problem in problems:
            line = Text.assemble(("kernel ", "bold red"), str(problem))
            self._console.print(line, soft_wrap=True)


def _to_stderr(data: bytes) -> None:
    sys.stderr.buffer.write(data)
    sys.stderr.buffer.flush()


def smoke_command(
    executor: ExecutorOption = ExecutorChoice.AUTO,
    memory: MemoryOption = "",
    profile: ProfileOption = ProfileChoice.SM_61,
    kernel: KernelOption = DEFAULT_KERNEL,
    accel: AccelOption = "auto",
    cpus: CpusOption = 2,
    guest_memory: GuestMemoryOption = 1024,
    console_log: ConsoleOption = None,
    timeout: TimeoutOption = None,
    junit: Annotated[
        Path | None,
        typer.Option(dir_okay=False, metavar="FILE", help="Write the results as JUnit XML."),
    ] = None,
    fault: FaultOption = None,
    faults: FaultFileOption = None,
    expression: Annotated[
        str, typer.Option("-k", metavar="EXPR", help="Only tests that match, as pytest has it.")
    ] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the results as JSON; progress on standard error.")
    ] = False,
    list_tests: Annotated[
        bool, typer.Option("--list", help="Print the ids of all tests and end; boots nothing.")
    ] = False,
    record: RecordOption = None,
) -> None:
    """Test device, driver and CUDA libraries from inside a virtual machine.

    Ends with 0 if all tests passed, 1 if one failed or the guest's kernel reported a fault of its
    own, 5 if no test matched.

    Examples:

        vgpu-stub smoke

        vgpu-stub smoke --kernel 6.1 --junit reports/smoke-6.1.xml

        vgpu-stub smoke -k memory

        vgpu-stub smoke --list
    """
    if list_tests:
        tests = planned_tests()
        print(json.dumps(tests) if as_json else "\n".join(tests))
        raise typer.Exit
    options = executor_options(executor, memory, profile=profile)
    settings = GuestSettings(
        kernel, accel, cpus, guest_memory, None, console_log, timeout, record=record
    )
    settings = replace(settings, faults=fault_rules(fault, faults))
    display = SmokeDisplay(Console(stderr=as_json))
    with (
        console_progress() as progress,
        running_vm(options, settings, progress) as (vm, server),
    ):
        results = run_smoke(vm, expression, reader=display.reader, on_stderr=_to_stderr)
        problems = find_problems(vm.run(["dmesg"]).stdout.decode(errors="replace"))
        failed = bool(problems) or any(one.outcome is Outcome.FAILED for one in results)
        display.summary(results, problems)
        print_faults(server.snapshot())
        if failed or not results:
            print(explain_failure(vm, server), file=sys.stderr)
    if junit:
        write_junit(junit, "smoke", results)
    if as_json:
        tests_json = [result.to_json() for result in results]
        print(json.dumps({"tests": tests_json, "kernel": [one.to_json() for one in problems]}))
    raise typer.Exit(int(failed) if results else 5)
