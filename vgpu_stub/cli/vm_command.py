"""`vgpu-stub vm`: boots a virtual machine with the device, for one command or a shell."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from vgpu_qemu.kernels import DEFAULT_KERNEL
from vgpu_qemu.progress import console_progress
from vgpu_qemu.vm import Vm
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
    IdentityOption,
    ImageOption,
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
from vgpu_stub.harness.machine import GuestSettings, running_vm
from vgpu_stub.harness.timeline import traced

KernelOption = Annotated[
    str,
    typer.Option(help="Guest kernel: 6.1, 6.12, 7.2 (Debian's), or the path of a kernel image."),
]
AccelOption = Annotated[
    str,
    typer.Option(help="auto, kvm or tcg; auto uses KVM only where it really runs a guest."),
]
CpusOption = Annotated[int, typer.Option(min=1, help="Virtual processors of the guest.")]
GuestMemoryOption = Annotated[
    int, typer.Option("--memory", min=256, metavar="MIB", help="Memory of the guest in MiB.")
]
ConsoleOption = Annotated[
    Path | None,
    typer.Option("--console-log", dir_okay=False, help="Keep the guest's console log here."),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(min=1, metavar="SECONDS", help="End the machine after this time, status 124."),
]


def own_drivers(values: Sequence[Path] | None) -> tuple[Path, ...] | None:
    """The kernel modules that `--driver` names; None where our driver is wanted.

    Raises:
        typer.BadParameter: There is no such file, or 'none' is not alone.
    """
    if not values:
        return None
    if list(values) == [Path("none")]:
        return ()
    for path in values:
        if not path.is_file():
            raise typer.BadParameter(f"--driver {path}: there is no such file")
    return tuple(values)


def run_in_guest(vm: Vm, command: Sequence[str]) -> int:
    """Run a command with its output on ours; returns its exit status."""
    result = vm.run(
        command,
        on_stdout=_writer(sys.stdout.buffer),
        on_stderr=_writer(sys.stderr.buffer),
    )
    return result.status


def _writer(stream: BinaryIO) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        stream.write(data)
        stream.flush()

    return write


def vm_command(
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[COMMAND...]", help="What to run in the guest; without it a shell."
        ),
    ] = None,
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
    identity: IdentityOption = None,
    kernel: KernelOption = DEFAULT_KERNEL,
    image: ImageOption = "cuda",
    accel: AccelOption = "auto",
    cpus: CpusOption = 2,
    guest_memory: GuestMemoryOption = 1024,
    share: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Show this folder at /mnt/host."),
    ] = None,
    driver: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE|none",
            help="Have the guest load this kernel module in place of our driver (several times for"
            " several, in this order); 'none' for no driver.",
        ),
    ] = None,
    saved: Annotated[
        bool,
        typer.Option(
            "--saved",
            help="Start where such a guest stood after its boot; the first time saves one.",
        ),
    ] = False,
    console_log: ConsoleOption = None,
    timeout: TimeoutOption = None,
    stats: Annotated[
        bool, typer.Option("--stats", help="Show at the end what the rings carried.")
    ] = False,
) -> None:
    """Boot a virtual machine with the device at 0000:00:05.0.

    With a command, runs it as root in the guest and exits with its status; without one, gives a
    shell. The first start fetches QEMU and a Debian kernel and builds the guest image.

    Examples:

        vgpu-stub vm -- lspci -s 00:05.0 -v

        vgpu-stub vm --image llm -- llama-server --list-devices

        vgpu-stub vm --fault completion-lost:opcode=cuMemAlloc -- python3 program.py

        vgpu-stub vm --driver my_driver/build/*/my_driver.ko -- dmesg

        vgpu-stub vm --share . --kernel 6.1 -- python3 /mnt/host/my_cuda_program.py

        vgpu-stub vm
    """
    counted = fidelity or fidelity_report is not None
    options = executor_options(executor, memory, watchdog, profile, check, counted)
    settings = GuestSettings(
        kernel,
        accel,
        cpus,
        guest_memory,
        share,
        console_log,
        timeout,
        identity,
        image,
        drivers=own_drivers(driver),
        faults=fault_rules(fault, faults),
        saved=saved,
    )
    snapshot: dict[str, Any] | None = None
    with (
        console_progress() as progress,
        traced(trace, record) as kept,
        running_vm(options, replace(settings, record=kept), progress) as (vm, server),
        FindingsDisplay(server.reports, options.checks, check_report) as findings,
    ):
        status = run_in_guest(vm, command) if command else vm.shell()
        if stats or settings.faults:
            snapshot = server.snapshot()
        if options.count:
            report_fidelity(server.reports, fidelity_report)
    if snapshot and stats:
        print_account(snapshot)
    if snapshot:
        print_faults(snapshot)
    raise typer.Exit(findings.status(status))
