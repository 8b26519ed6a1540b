"""`vgpu-stub smoke`: boots a machine with the device and runs the tests of `guest/smoke` in it.

The tests run as root in the guest with its own pytest; their output comes as it is written, and the
exit status is pytest's. When they fail, the kernel's and the device server's last lines follow.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from vgpu_qemu.kernels import DEFAULT_KERNEL
from vgpu_qemu.progress import console_progress
from vgpu_qemu.vm import Vm
from vgpu_stub.cli.options import (
    ExecutorChoice,
    ExecutorOption,
    MemoryOption,
    executor_options,
)
from vgpu_stub.cli.vm_command import (
    AccelOption,
    ConsoleOption,
    CpusOption,
    GuestMemoryOption,
    KernelOption,
    TimeoutOption,
    run_in_guest,
)
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.harness.machine import GUEST_FILES, GuestSettings, running_vm

_GUEST_JUNIT: Final = "/tmp/vgpu-smoke.xml"
_TAIL_LINES: Final = 25


def pytest_arguments(expression: str, *, junit: bool) -> list[str]:
    """The command that runs the smoke tests in the guest.

    Args:
        expression: Which tests, as `pytest -k` has it; "" for all.
        junit: Whether to write JUnit XML in the guest.
    """
    command = ["python3", "-m", "pytest", "-v", "--tb=short", "-p", "no:cacheprovider"]
    command += ["--color=yes"] if sys.stdout.isatty() else []
    command += ["-k", expression] if expression else []
    command += [f"--junit-xml={_GUEST_JUNIT}"] if junit else []
    return [*command, f"{GUEST_FILES}/smoke"]


def explain_failure(vm: Vm, server: DeviceServer) -> str:
    """The last lines of the guest's kernel and of the device server."""
    kernel = vm.run(f"dmesg | tail -n {_TAIL_LINES}").stdout.decode(errors="replace").rstrip()
    log = server.log_tail(_TAIL_LINES) or "(empty)"
    return f"Last messages of the guest's kernel:\n{kernel}\nDevice server's log:\n{log}"


def smoke_command(
    executor: ExecutorOption = ExecutorChoice.AUTO,
    memory: MemoryOption = "",
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
    expression: Annotated[
        str, typer.Option("-k", metavar="EXPR", help="Only tests that match, as pytest has it.")
    ] = "",
) -> None:
    """Test device, driver and CUDA library from inside a virtual machine.

    Examples:

        vgpu-stub smoke

        vgpu-stub smoke --kernel 6.1 --junit reports/smoke-6.1.xml

        vgpu-stub smoke -k memory
    """
    options = executor_options(executor, memory)
    settings = GuestSettings(kernel, accel, cpus, guest_memory, None, console_log, timeout)
    with (
        console_progress() as progress,
        running_vm(options, settings, progress) as (vm, server),
    ):
        status = run_in_guest(vm, pytest_arguments(expression, junit=junit is not None))
        if junit and vm.run(["test", "-s", _GUEST_JUNIT]).status == 0:
            junit.parent.mkdir(parents=True, exist_ok=True)
            vm.get(_GUEST_JUNIT, junit)
        if status:
            print(explain_failure(vm, server), file=sys.stderr)
    raise typer.Exit(status)
