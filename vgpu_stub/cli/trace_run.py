"""Runs a program for `trace`, here or in a virtual machine, and follows its journals."""

from __future__ import annotations

import os
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from vgpu_host.executors.options import ExecutorOptions
from vgpu_qemu.errors import LauncherError
from vgpu_qemu.progress import console_progress
from vgpu_qemu.sandbox import Sandbox
from vgpu_qemu.vm import Vm
from vgpu_stub.abi.journal import CALLS_VARIABLE, FOLDER_VARIABLE
from vgpu_stub.calltrace import tail
from vgpu_stub.calltrace.call import CallReader, OpenCall, Traced
from vgpu_stub.calltrace.tail import END, INTERVAL_S, JournalTail
from vgpu_stub.cli.exec_command import run_program
from vgpu_stub.cli.vm_command import run_in_guest
from vgpu_stub.harness.build import cuda_libraries
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.harness.machine import GuestSettings, running_vm
from vgpu_stub.harness.program import device_variables, report_folder

#: After this time a call that has not returned is shown.
_LONG_NS: Final = 1_000_000_000

Show = Callable[[Traced], None]
ShowOpen = Callable[[OpenCall, int], None]


class CallFollower:
    """Shows calls as lines of the journals come.

    Args:
        show: Takes each process and call that is over.
        show_open: Takes, once, each call that takes long, and the time.
    """

    def __init__(self, show: Show, show_open: ShowOpen) -> None:
        self._show = show
        self._show_open = show_open
        self._reader = CallReader()
        self._shown: set[OpenCall] = set()

    def take(self, lines: Sequence[tuple[int, bytes]], now_ns: int) -> None:
        """Take new lines, read at `now_ns` of the clock that they tell."""
        for traced in self._reader.read(lines):
            self._show(traced)
        for call in self._reader.open_calls:
            if now_ns - call.begin_ns < _LONG_NS:
                break
            if call not in self._shown:
                self._shown.add(call)
                self._show_open(call, now_ns)

    def end(self, now_ns: int) -> None:
        """Show what did not return until now."""
        for call in self._reader.unfinished(now_ns):
            self._show(call)


def _variables(folder: str) -> dict[str, str]:
    """Variables by which the library writes down every call."""
    return {FOLDER_VARIABLE: folder, CALLS_VARIABLE: "all"}


@contextmanager
def _followed(folder: Path, follower: CallFollower) -> Iterator[None]:
    """Follow the journals of a folder in a thread of its own."""
    journals = JournalTail(folder)
    ended = threading.Event()

    def follow() -> None:
        last = False
        while not last:
            last = ended.wait(INTERVAL_S)
            follower.take(journals.read(), time.monotonic_ns())
        follower.end(time.monotonic_ns())

    thread = threading.Thread(target=follow, name="journals")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def trace_here(
    command: Sequence[str],
    options: ExecutorOptions,
    image: str | None,
    record: Path | None,
    follower: CallFollower,
) -> int:
    """Run a program as `exec` does and follow its calls; returns its exit status.

    Args:
        command: The program with its arguments.
        options: Executor of the device.
        image: Guest image that the program is of, or None for this machine's.
        record: Where to record what the device does, or None.
        follower: Takes the calls.
    """
    libraries = cuda_libraries()
    sandbox = None
    if image:
        with console_progress() as progress:
            sandbox = Sandbox(image, progress=progress)
    with (
        DeviceServer(options, shared=False, record=record) as server,
        report_folder("vgpu-trace-") as folder,
    ):
        variables = {
            **device_variables(server.device_socket, libraries),
            **_variables(str(folder)),
        }
        environment = {**os.environ, **variables}
        if sandbox:
            command = sandbox.command(command, variables, [libraries, server.folder, folder])
            environment = dict(os.environ)
        with _followed(folder, follower):
            return run_program(command, environment)


class _GuestJournals:
    """Takes what `tail` prints in the guest: lines behind process ids, and the guest's clock."""

    def __init__(self, follower: CallFollower) -> None:
        self._follower = follower
        self._rest = b""
        self._lines: list[tuple[int, bytes]] = []
        self._now_ns = 0

    def take(self, data: bytes) -> None:
        """Take a piece of the output."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        for text in whole:
            number, line = text.split(b" ", 1)
            if pid := int(number):
                self._lines.append((pid, line))
                continue
            self._now_ns = int(line)
            self._follower.take(self._lines, self._now_ns)
            self._lines = []

    def end(self) -> None:
        """There is no more output."""
        self._follower.end(self._now_ns)


@contextmanager
def _followed_in_guest(vm: Vm, folder: str, follower: CallFollower) -> Iterator[None]:
    """Follow the journals of a folder of the guest, from a thread of its own."""
    journals = _GuestJournals(follower)
    source = Path(tail.__file__).read_bytes()
    failures: list[LauncherError] = []

    def follow() -> None:
        try:
            vm.run(["python3", "-", folder], stdin=source, on_stdout=journals.take).check()
        except LauncherError as error:
            failures.append(error)
        journals.end()

    thread = threading.Thread(target=follow, name="journals")
    thread.start()
    try:
        yield
    finally:
        # Of a machine that has ended, whoever runs the program is told.
        with suppress(LauncherError):
            vm.run(["touch", f"{folder}/{END}"])
        thread.join()
    if failures:
        raise failures[0]


def trace_in_guest(vm: Vm, command: Sequence[str], follower: CallFollower) -> int:
    """Run a program in a virtual machine that runs, and follow its calls.

    Returns its exit status.
    """
    made = vm.run(
        "folder=$(mktemp -d /tmp/vgpu-trace-XXXXXX) && chmod 1733 $folder && echo $folder"
    )
    folder = made.check().stdout.decode().strip()
    line = " ".join(shlex.quote(word) for word in command)
    variables = " ".join(f"{name}={value}" for name, value in _variables(folder).items())
    with _followed_in_guest(vm, folder, follower):
        status = run_in_guest(vm, ["sh", "-c", f"exec env {variables} {line}"])
    vm.run(["rm", "-r", folder])
    return status


def trace_in_vm(
    command: Sequence[str],
    options: ExecutorOptions,
    settings: GuestSettings,
    follower: CallFollower,
) -> int:
    """Boot a virtual machine as `vm` does, run a program in it and follow its calls.

    Returns its exit status.
    """
    with (
        console_progress() as progress,
        running_vm(options, settings, progress) as (vm, _),
    ):
        return trace_in_guest(vm, command, follower)
