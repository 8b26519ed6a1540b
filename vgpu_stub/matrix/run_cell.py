"""Runs one cell: its machine, its faults, its command; and keeps what it leaves in a folder.

Whatever happens ends in a verdict. A machine that hangs is ended, and the cell is WEDGED.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final
from xml.etree import ElementTree

from vgpu_host.executors.options import ExecutorOptions, why_no_gpu
from vgpu_qemu.agent_client import CommandTimeoutError
from vgpu_qemu.errors import LauncherError, VmError, VmTimeoutError
from vgpu_qemu.progress import silent
from vgpu_qemu.vm import Vm
from vgpu_stub.harness.build import BuildError
from vgpu_stub.harness.control import ControlError
from vgpu_stub.harness.device_server import DeviceServer, DeviceServerError
from vgpu_stub.harness.kernel_log import KernelProblem, find_problems
from vgpu_stub.harness.ktap import KtapReader, Outcome, TestResult, count, write_junit
from vgpu_stub.harness.machine import GuestSettings, running_vm
from vgpu_stub.harness.smoke import run_smoke
from vgpu_stub.matrix.cells import PHYSICAL, Cell
from vgpu_stub.matrix.file import PLAIN
from vgpu_stub.matrix.results import CellResult, Verdict, make_result

#: Warnings reach the console too: it is all that a machine leaves that hangs.
_CONSOLE: Final = ("loglevel=5",)
_TAIL_LINES: Final = 40
_ASK_SECONDS: Final = 20.0

#: Told what a cell does now, such as "booting" or "12/142".
Told = Callable[[str], None]


def run_cell(cell: Cell, folder: Path, tell: Told) -> CellResult:
    """Run a cell.

    Args:
        cell: The cell.
        folder: Where its files go; made here.
        tell: Told what it does now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run = _Run(cell, folder, tell)
    reason = why_not(cell)
    if reason:
        return run.result(Verdict.SKIP, reason)
    try:
        return run.pytest() if cell.command.pytest is not None else run.in_guest()
    except VmTimeoutError as error:
        return run.result(Verdict.WEDGED, _first_line(error))
    except (DeviceServerError, VmError) as error:
        return run.result(Verdict.FAIL, _first_line(error))
    except (BuildError, ControlError, LauncherError, OSError) as error:
        return run.result(Verdict.ERROR, _first_line(error))


def why_not(cell: Cell) -> str:
    """Why a cell makes no sense on this machine; "" where it does."""
    if cell.executor == "cuda" and (reason := why_no_gpu()):
        return f"the physical GPU cannot be used: {reason}"
    if cell.command.pytest is not None:
        if cell.faults.rules:
            return "tests of pytest inject their own faults"
        if cell.flavour.name != PLAIN:
            return "tests of pytest choose their own kernel arguments"
    return ""


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@dataclass
class _Run:
    """One cell as it runs."""

    cell: Cell
    folder: Path
    tell: Told
    started: float = field(default_factory=time.monotonic)
    boot_s: float | None = None
    status: int | None = None
    release: str = ""
    tests: list[TestResult] = field(default_factory=list)
    faults: list[dict[str, Any]] = field(default_factory=list)

    def in_guest(self) -> CellResult:
        """Run a command or the smoke tests in a guest."""
        self.tell("starting")
        with running_vm(self._options(), self._settings(), silent) as (vm, server):
            self.boot_s = vm.boot_facts["uptime"]
            try:
                wedged = self._command(vm)
                self._ask(vm)
            finally:
                self._keep_server(server)
        if wedged:
            return self.result(Verdict.WEDGED, wedged)
        failed = [test.name for test in self.tests if test.outcome is Outcome.FAILED]
        if failed:
            more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
            return self.result(Verdict.FAIL, f"{failed[0]} failed{more}")
        if self.cell.command.smoke is not None and not self.tests:
            return self.result(Verdict.FAIL, "no smoke test matches")
        if self.status is not None and self.status != self.cell.command.status:
            expected = self.cell.command.status
            return self.result(Verdict.FAIL, f"exit status {self.status}, expected {expected}")
        return self.result(Verdict.PASS, "")

    def pytest(self) -> CellResult:
        """Run tests on this machine with the plugin's options; they boot what they need."""
        cell, junit = self.cell, self.folder / "junit.xml"
        self.tell("pytest")
        command = [
            *(sys.executable, "-m", "pytest", *(cell.command.pytest or ())),
            *("--vgpu-kernel", cell.kernel.source, "--vgpu-image", cell.image),
            *("--vgpu-executor", cell.executor, "--vgpu-accel", cell.settings.accel),
            *("--vgpu-gpu-memory", str(cell.settings.gpu_memory)),
            *("--vgpu-cpus", str(cell.settings.cpus), "--vgpu-memory", str(cell.settings.memory)),
            *("--vgpu-artifacts", str(self.folder), f"--junit-xml={junit}"),
        ]
        if cell.profile != PHYSICAL:
            command += ["--vgpu-profile", cell.profile]
        with (self.folder / "output.log").open("wb") as output:
            try:
                done = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=cell.timeout,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return self.result(Verdict.WEDGED, f"pytest did not end within {cell.timeout:g} s")
        self.status = done.returncode
        if junit.exists():
            self.tests = _read_junit(junit)
        if done.returncode != cell.command.status:
            failed = [test.name for test in self.tests if test.outcome is Outcome.FAILED]
            why = f"{failed[0]} failed" if failed else f"pytest ended with {done.returncode}"
            return self.result(Verdict.FAIL, why)
        return self.result(Verdict.PASS, "")

    def result(self, verdict: Verdict, reason: str) -> CellResult:
        """The cell's result; a pass only if the guest's kernel has nothing to report."""
        problems = self._problems()
        if problems and verdict in (Verdict.PASS, Verdict.FAIL):
            kernel = f"kernel: {problems[0].kind}: {problems[0].title}"
            reason = f"{kernel}; {reason}" if reason else kernel
            verdict = Verdict.FAIL
        if self.tests and self.cell.command.pytest is None:
            write_junit(self.folder / "junit.xml", self.cell.name, self.tests)
        tails = {name: _tail(self.folder / name) for name in ("output.log", "console.log")}
        return make_result(
            self.cell,
            verdict,
            reason=reason,
            duration_s=round(time.monotonic() - self.started, 3),
            boot_s=self.boot_s,
            status=self.status,
            tests=self.tests,
            problems=problems,
            faults=tuple(self.faults),
            kernel_release=self.release,
            logs=tuple(sorted(path.name for path in self.folder.iterdir() if path.is_file())),
            folder=self.folder.name,
            tail={name: text for name, text in tails.items() if text},
        )

    def _options(self) -> ExecutorOptions:
        settings = self.cell.settings
        if self.cell.executor == "cuda":
            return ExecutorOptions("cuda")
        memory = settings.gpu_memory << 20
        return ExecutorOptions("software", memory_bytes=memory, profile=self.cell.profile)

    def _settings(self) -> GuestSettings:
        cell, settings = self.cell, self.cell.settings
        return GuestSettings(
            kernel=cell.kernel.source,
            accel=settings.accel,
            cpus=settings.cpus,
            memory_mib=settings.memory,
            console_log=self.folder / "console.log",
            image=cell.image,
            faults=cell.faults.rules,
            kernel_arguments=(*_CONSOLE, *cell.flavour.arguments),
            boot_timeout=settings.boot_timeout,
            saved=settings.saved,
        )

    def _command(self, vm: Vm) -> str:
        """Run the command; returns why it is wedged, or ""."""
        command = self.cell.command
        self.release = vm.run(["uname", "-r"], timeout=_ASK_SECONDS).stdout.decode().strip()
        with (self.folder / "output.log").open("wb") as output:
            try:
                if command.smoke is not None:
                    self.tests = self._smoke(vm, command.smoke, output)
                else:
                    self.tell("running")
                    assert command.run is not None, "a command is smoke, run or pytest"
                    argv = command.run if isinstance(command.run, str) else list(command.run)
                    write = _writer(output)
                    result = vm.run(
                        argv, timeout=self.cell.timeout, on_stdout=write, on_stderr=write
                    )
                    self.status = result.status
            except CommandTimeoutError:
                return f"the command did not end within {self.cell.timeout:g} s"
        return ""

    def _smoke(self, vm: Vm, expression: str, output: IO[bytes]) -> list[TestResult]:
        reader = KtapReader(on_result=lambda _: self._tell_count(reader))
        write = _writer(output)

        def feed(data: bytes) -> None:
            write(data)
            reader.feed(data)

        try:
            return run_smoke(
                vm,
                expression,
                reader=reader,
                timeout=self.cell.timeout,
                on_stdout=feed,
                on_stderr=write,
            )
        except LauncherError:
            self.tests = reader.results
            raise

    def _tell_count(self, reader: KtapReader) -> None:
        failed = count(reader.results)["failed"]
        self.tell(
            f"{len(reader.results)}/{reader.planned or '?'}" + (f" {failed} ✗" if failed else "")
        )

    def _ask(self, vm: Vm) -> None:
        """Keep the kernel's messages, if the guest still answers."""
        self.tell("collecting")
        with contextlib.suppress(LauncherError):
            messages = vm.run(["dmesg"], timeout=_ASK_SECONDS).check().stdout
            (self.folder / "dmesg.log").write_bytes(messages)

    def _keep_server(self, server: DeviceServer) -> None:
        """Keep what the device server knows, if it still answers."""
        with contextlib.suppress(DeviceServerError, json.JSONDecodeError):
            state = json.dumps(server.snapshot(), indent=1)
            (self.folder / "device.json").write_text(state, encoding="utf-8")
        if self.cell.faults.rules:
            with contextlib.suppress(ControlError):
                self.faults = server.control.faults.list()
        with contextlib.suppress(OSError):
            shutil.copyfile(server.log, self.folder / "server.log")

    def _problems(self) -> list[KernelProblem]:
        """What the kernel reported: in its messages, and on the console where those lack it."""
        found: list[KernelProblem] = []
        for name in ("dmesg.log", "console.log"):
            path = self.folder / name
            if path.exists():
                known = {problem.title for problem in found}
                text = path.read_text(encoding="utf-8", errors="replace")
                more = find_problems(text, expected=self.cell.expected)
                found += [problem for problem in more if problem.title not in known]
        return found


def _writer(stream: IO[bytes]) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        stream.write(data)
        stream.flush()

    return write


def _tail(path: Path) -> str:
    if not path.exists():
        return ""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(line for line in lines[-_TAIL_LINES:] if line.strip())


def _read_junit(path: Path) -> list[TestResult]:
    """Tests of a JUnit file that pytest wrote."""
    results = []
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        outcome, text = Outcome.PASSED, ""
        for child in case:
            if child.tag in ("failure", "error"):
                outcome, text = Outcome.FAILED, child.text or child.get("message") or ""
            elif child.tag == "skipped" and outcome is Outcome.PASSED:
                outcome, text = Outcome.SKIPPED, child.get("message") or ""
        name = f"{case.get('classname', '')}::{case.get('name', '')}"
        results.append(TestResult(name, outcome, float(case.get("time", "0")), text))
    return results
