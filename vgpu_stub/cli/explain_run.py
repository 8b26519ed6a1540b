"""Runs a program for `explain`, here or in a virtual machine, and gathers what was seen of it."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from vgpu_host.executors.options import ExecutorOptions
from vgpu_qemu.progress import console_progress
from vgpu_qemu.sandbox import Sandbox
from vgpu_stub.cli.exec_command import run_program
from vgpu_stub.cli.vm_command import run_in_guest
from vgpu_stub.explain.activity import ActivityRecorder
from vgpu_stub.explain.evidence import Evidence, gather
from vgpu_stub.explain.journal import read_journals
from vgpu_stub.explain.loader import TOPICS, read_linker_logs
from vgpu_stub.harness.build import cuda_libraries
from vgpu_stub.harness.device_server import DeviceServer, DeviceServerError
from vgpu_stub.harness.machine import GUEST_LIBRARIES, GuestSettings, running_vm
from vgpu_stub.harness.program import device_variables, report_folder

_LINKER_FILE: Final = "linker"
_LOG_LINES: Final = 2000
_GUEST_FOLDER: Final = "/tmp/vgpu-explain"


def _variables(folder: str) -> dict[str, str]:
    """Variables by which linker and library write down what they do."""
    return {
        "VGPU_STUB_JOURNAL": folder,
        "LD_DEBUG": TOPICS,
        "LD_DEBUG_OUTPUT": f"{folder}/{_LINKER_FILE}",
    }


@contextmanager
def _stdout_on_stderr(wanted: bool) -> Iterator[None]:
    """Let a program write to standard error what it writes to standard output."""
    if not wanted:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _recorder(server: DeviceServer, *, local: bool) -> ActivityRecorder:
    def snapshot() -> dict[str, Any]:
        try:
            return server.snapshot()
        except DeviceServerError as error:
            raise ConnectionError(str(error)) from error

    return ActivityRecorder(snapshot, local_processes=local)


def run_here(
    command: Sequence[str], options: ExecutorOptions, image: str | None, *, keep_stdout: bool
) -> Evidence:
    """Run a program as `exec` does.

    Args:
        command: The program with its arguments.
        options: Executor of the device.
        image: Guest image that the program is of, or None for this machine's.
        keep_stdout: Send the program's standard output to standard error.
    """
    libraries = cuda_libraries()
    sandbox = None
    if image:
        with console_progress() as progress:
            sandbox = Sandbox(image, progress=progress)
    with DeviceServer(options, shared=False) as server, report_folder("vgpu-explain-") as folder:
        variables = {
            **device_variables(server.device_socket, libraries),
            **_variables(str(folder)),
        }
        environment = {**os.environ, **variables}
        line = list(command)
        if sandbox:
            line = sandbox.command(command, variables, [libraries, server.folder, folder])
            environment = dict(os.environ)
        started = time.monotonic()
        with _recorder(server, local=True) as activity, _stdout_on_stderr(keep_stdout):
            status = run_program(line, environment)
        return _evidence(command, status, started, libraries, folder, activity, server)


def run_in_vm(
    command: Sequence[str], options: ExecutorOptions, settings: GuestSettings, *, keep_stdout: bool
) -> Evidence:
    """Run a program in a virtual machine, as `vm` does, and fetch what was written there."""
    line = " ".join(shlex.quote(word) for word in command)
    variables = " ".join(f"{name}={value}" for name, value in _variables(_GUEST_FOLDER).items())
    with (
        console_progress() as progress,
        running_vm(options, settings, progress) as (vm, server),
        report_folder("vgpu-explain-") as folder,
    ):
        vm.run(["mkdir", "-m", "1733", _GUEST_FOLDER])
        started = time.monotonic()
        with _recorder(server, local=False) as activity, _stdout_on_stderr(keep_stdout):
            status = run_in_guest(vm, ["sh", "-c", f"exec env {variables} {line}"])
        vm.get(_GUEST_FOLDER, folder)
        libraries = Path(GUEST_LIBRARIES)
        return _evidence(command, status, started, libraries, folder, activity, server)


def _evidence(
    command: Sequence[str],
    status: int,
    started: float,
    libraries: Path,
    folder: Path,
    activity: ActivityRecorder,
    server: DeviceServer,
) -> Evidence:
    return Evidence(
        command,
        status,
        time.monotonic() - started,
        libraries,
        gather(read_linker_logs(folder, _LINKER_FILE), read_journals(folder), activity.uses()),
        server.log_tail(_LOG_LINES),
        server.has_ended,
    )
