"""Machines for `vgpu_vm`: booted once for the tests that leave them as they were.

After each test its part of the kernel log is judged, and the machine is looked at: enabled device,
no channels, no taint, no programs left. The next test gets the same machine when all is well and it
wants the same, else another one.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final

from vgpu_host.ring_trace import ChannelTrace
from vgpu_qemu.agent_client import CommandResult
from vgpu_qemu.errors import LauncherError, VmError
from vgpu_qemu.progress import silent
from vgpu_stub.harness.control import ControlError, FaultControl
from vgpu_stub.harness.device_server import DeviceServer, DeviceServerError
from vgpu_stub.harness.guest_log import GuestLog
from vgpu_stub.harness.kernel_log import KernelProblem, find_problems
from vgpu_stub.harness.machine import GuestSettings, running_vm
from vgpu_stub.pytest_plugin.devices import executor_options
from vgpu_stub.pytest_plugin.groups import check_memory
from vgpu_stub.pytest_plugin.settings import VgpuSettings

_DEVICE: Final = "/sys/bus/pci/devices/0000:00:05.0"
_PROBE_S: Final = 20.0
_SETTLE_S: Final = 3.0
_CONSOLE_LINES: Final = 200
_SHOWN_CONSOLE_LINES: Final = 100
#: What the check prints: taint, then a line for each program (kernel threads have no exe).
_CHECK: Final = (
    "echo {mark} > /dev/kmsg; cat /proc/sys/kernel/tainted;"
    " [ ! -w /sys/kernel/debug/kmemleak ] || echo scan > /sys/kernel/debug/kmemleak;"
    " ls -l /proc/[0-9]*/exe 2>/dev/null"
)
_PROGRAM: Final = re.compile(r"/exe -> (.+)")


class GuestDevice:
    """The device of a machine, seen from the host."""

    def __init__(self, server: DeviceServer) -> None:
        self._server = server

    def snapshot(self) -> dict[str, Any]:
        """The device now; see `vgpu_host.snapshot.device_snapshot`."""
        found: dict[str, Any] = self._server.snapshot()["devices"][0]
        return found

    @property
    def registers(self) -> dict[str, int]:
        """Registers by name, without an access of the guest's."""
        found: dict[str, int] = self.snapshot()["registers"]
        return found

    @property
    def channels(self) -> list[dict[str, Any]]:
        """Channels in use, with rings, counters and the pid of their worker."""
        found: list[dict[str, Any]] = self.snapshot()["channels"]
        return found

    def ring_trace(self) -> list[ChannelTrace]:
        """The last commands and completions of each channel, those that have ended first."""
        rows = self._server.control.call("rings.trace")["channels"]
        return [ChannelTrace.from_json(row) for row in rows]


class VgpuMachine:
    """A booted machine with the device at 0000:00:05.0.

    Attributes:
        vm: The machine itself.
        server: Its device server.
        device: Its device, seen from the host.
        unusable: Why no further test may use it; "" while one may.
    """

    def __init__(self, settings: VgpuSettings) -> None:
        """Boot a machine.

        Raises:
            LauncherError, BuildError, DeviceServerError: It could not be had.
        """
        self.settings = settings
        self.unusable = ""
        self._resources = contextlib.ExitStack()
        own = None
        if settings.drivers:
            own = tuple(Path(name) for name in settings.drivers if name != "none")
        check_memory(settings.memory)
        self.vm, self.server = self._resources.enter_context(
            running_vm(
                executor_options(settings),
                GuestSettings(
                    kernel=settings.kernel,
                    accel=settings.accel,
                    cpus=settings.cpus,
                    memory_mib=settings.memory,
                    identity=settings.identity or None,
                    image=settings.image,
                    drivers=own,
                    kernel_arguments=settings.kernel_arguments,
                ),
                silent,
            )
        )
        self.device = GuestDevice(self.server)
        self._timeout = settings.timeout
        self._log = GuestLog(self.vm)
        self._start = 0
        self._taint, self._programs = self._look()

    # -- for tests -----------------------------------------------------------------------------

    def run(
        self, command: Sequence[str] | str, *, timeout: float | None = None, **options: Any
    ) -> CommandResult:
        """Run a command as root in the guest; see `vgpu_qemu.vm.Vm.run`.

        Args:
            command: A program with its arguments, or a line for `sh -c`.
            timeout: Seconds that it may take, else those of the test's settings.
            **options: Further arguments of `Vm.run`.

        Raises:
            CommandTimeoutError: It did not end in time.
            VmError: The machine ended meanwhile.
        """
        return self.vm.run(command, timeout=timeout or self._timeout, **options)

    def put(self, source: Path | str, target: str) -> None:
        """Copy a file or a directory of this machine to a path in the guest."""
        self.vm.put(Path(source), target)

    def get(self, source: str, target: Path | str) -> None:
        """Copy a file or a directory of the guest to a path on this machine."""
        self.vm.get(source, Path(target))

    def console(self, lines: int = _CONSOLE_LINES) -> str:
        """The last lines of the guest's console."""
        return "\n".join(self.vm.console_lines(lines))

    def dmesg(self, *, whole: bool = False) -> str:
        """What the guest's kernel has logged since the test began, or since it booted."""
        if self.vm.running:
            self._mark()
        return self._log.text(0 if whole else self._start)

    def qmp(self, command: str, **arguments: object) -> Any:
        """Run a QMP command of QEMU and return its result."""
        return self.vm.qmp.execute(command, arguments or None)

    def reset(self) -> None:
        """Reset the device as the guest's administrator does, by sysfs (function-level reset)."""
        self.run(f"echo 1 > {_DEVICE}/reset").check()

    @property
    def faults(self) -> FaultControl:
        """What goes wrong on purpose; cleared after the test."""
        return self.server.control.faults

    # -- for the plugin --------------------------------------------------------------------------

    def begin_test(self, settings: VgpuSettings) -> None:
        """A test begins now."""
        self._timeout = settings.timeout
        self._start = self._log.position

    def serves(self, settings: VgpuSettings) -> bool:
        """Whether it is what a test wants, and may be used by one more."""
        return not self.unusable and _kind(settings) == _kind(self.settings)

    def problems(self, expected: Sequence[str]) -> tuple[list[KernelProblem], list[str]]:
        """What the kernel reported during the test.

        Returns:
            Problems that nobody expected, and patterns of `expected` that nothing matched.
        """
        log = self._log.text(self._start)
        if not self.vm.running:
            log += "\n" + self.console()
        return problems_in(log, expected)

    def end_test(self) -> str:
        """Look at the machine after a test; returns why it is wedged, "" if it is not."""
        try:
            self.server.control.faults.clear()
            taint, programs = self._look()
        except (LauncherError, ControlError, DeviceServerError) as error:
            self._log.wait_end()
            self.unusable = "it does not answer"
            return str(error).splitlines()[0]
        left = self._left_over(programs)
        if taint != self._taint:
            self.unusable = f"its kernel is tainted (0x{taint:x})"
        elif left:
            self.unusable = f"programs were left: {', '.join(left)}"
        elif reason := self._device_in_use():
            self.unusable = reason
        return ""

    def _left_over(self, programs: Counter[str]) -> list[str]:
        """Programs that were not there after boot; waits a moment for them to end."""
        deadline = monotonic() + _SETTLE_S
        while (left := programs - self._programs) and monotonic() < deadline:
            sleep(0.1)
            _, programs = self._look()
        return sorted(left)

    def _device_in_use(self) -> str:
        """Why the device is not as after boot; waits a moment for channels to end."""
        if self.settings.drivers:
            return ""
        deadline = monotonic() + _SETTLE_S
        while True:
            state = self.device.snapshot()
            if not state["enabled"]:
                return "its device is not enabled"
            if state["error"]:
                return f"its device has error {state['error']}"
            if not state["channels"]:
                return ""
            if monotonic() > deadline:
                return f"{len(state['channels'])} channels were left"
            sleep(0.02)

    def _look(self) -> tuple[int, Counter[str]]:
        """Taint and programs of the guest; all of its log until now has been read then."""
        mark = self._log.next_mark()
        line = _CHECK.format(mark=shlex.quote(mark))
        output = self.vm.run(line, timeout=_PROBE_S).stdout.decode(errors="replace")
        self._log.wait_for(mark)
        if not output:
            raise VmError("the guest does not start programs any more", self.vm.console_lines())
        taint, *_ = output.splitlines()
        return int(taint), Counter(_PROGRAM.findall(output))

    def _mark(self) -> None:
        mark = self._log.next_mark()
        self.vm.run(f"echo {shlex.quote(mark)} > /dev/kmsg", timeout=_PROBE_S)
        self._log.wait_for(mark)

    def explain(self) -> Mapping[str, str]:
        """Console, kernel log of the test, ring trace, state of the device, server's log."""
        sections = {
            "guest console": self.console(_SHOWN_CONSOLE_LINES),
            "kernel log of this test": self._log.text(self._start),
            "device server's log": self.server.log_tail(),
        }
        with contextlib.suppress(ControlError, DeviceServerError):
            traces = self.device.ring_trace()
            sections["ring trace"] = "\n".join(str(trace) for trace in traces)
            sections["device state"] = json.dumps(self.device.snapshot(), indent=1)
        return sections

    def close(self) -> None:
        """End the machine at once."""
        self._resources.close()
        self._log.wait_end()


class MachineKeeper:
    """Keeps one machine for the tests of a session.

    Attributes:
        boots: Machines booted so far.
        replaced: Why machines were given up, one reason each.
    """

    def __init__(self) -> None:
        self.boots = 0
        self.replaced: list[str] = []
        self._machine: VgpuMachine | None = None

    def machine(self, settings: VgpuSettings) -> VgpuMachine:
        """A machine as a test wants it."""
        if self._machine and (settings.fresh or not self._machine.serves(settings)):
            self.close()
        if self._machine is None:
            self._machine = VgpuMachine(settings)
            self.boots += 1
        return self._machine

    def give_back(self, machine: VgpuMachine) -> None:
        """A test is through with a machine."""
        if machine.unusable:
            self.replaced.append(machine.unusable)
        if machine.unusable or machine.settings.fresh:
            self.close()

    def close(self) -> None:
        """End the machine, if there is one."""
        machine, self._machine = self._machine, None
        if machine:
            machine.close()


def problems_in(log: str, expected: Sequence[str]) -> tuple[list[KernelProblem], list[str]]:
    """Problems of a log that nobody expected, and the patterns that none of them matched."""
    every = find_problems(log)
    missing = [
        pattern
        for pattern in expected
        if not any(re.search(pattern, problem.report) for problem in every)
    ]
    return find_problems(log, expected=expected), missing


def _kind(settings: VgpuSettings) -> VgpuSettings:
    """Settings without those that do not make another machine."""
    return replace(settings, timeout=0.0)
