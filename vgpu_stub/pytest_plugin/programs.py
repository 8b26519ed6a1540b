"""Programs for `vgpu_exec`: run on this machine's kernel, with our CUDA libraries and a device."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vgpu_stub.harness.build import cuda_libraries
from vgpu_stub.harness.control import FaultControl
from vgpu_stub.harness.device_server import DeviceServer, DeviceServerError
from vgpu_stub.harness.program import program_environment
from vgpu_stub.pytest_plugin.devices import executor_options
from vgpu_stub.pytest_plugin.settings import VgpuSettings


@dataclass(frozen=True)
class ProgramResult:
    """How a program ended: its status (128 + the signal that ended it) and what it wrote."""

    status: int
    stdout: str
    stderr: str


class ProgramRunner:
    """Runs programs; the server that gives each process a device is kept between tests."""

    def __init__(self) -> None:
        self._settings = VgpuSettings()
        self._server: DeviceServer | None = None
        self._kind: VgpuSettings | None = None

    def __call__(
        self,
        command: Sequence[str | Path],
        *,
        timeout: float | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | str | None = None,
        stdin: str = "",
    ) -> ProgramResult:
        """Run a program to its end.

        Args:
            command: The program and its arguments.
            timeout: Seconds that it may take, else those of the test's settings.
            env: Variables added to the environment.
            cwd: Working directory.
            stdin: Its standard input.

        Raises:
            subprocess.TimeoutExpired: It did not end in time, and was killed.
        """
        environment = program_environment(self.server.device_socket, cuda_libraries())
        done = subprocess.run(
            [os.fspath(part) for part in command],
            env={**environment, **(env or {})},
            cwd=cwd,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout or self._settings.timeout,
            check=False,
        )
        status = 128 - done.returncode if done.returncode < 0 else done.returncode
        return ProgramResult(status, done.stdout, done.stderr)

    @property
    def server(self) -> DeviceServer:
        """The device server."""
        if self._server is None:
            self._server = DeviceServer(executor_options(self._settings), shared=False).__enter__()
        return self._server

    @property
    def faults(self) -> FaultControl:
        """What goes wrong on purpose; cleared after the test."""
        return self.server.control.faults

    def snapshot(self) -> dict[str, Any]:
        """What the server knows now; see `vgpu_host.snapshot.server_snapshot`."""
        return self.server.snapshot()

    def begin_test(self, settings: VgpuSettings) -> None:
        """A test begins now."""
        kind = replace(settings, timeout=0.0)
        if self._server and (settings.fresh or kind != self._kind or self._server.has_ended):
            self.close()
        self._settings, self._kind = settings, kind

    def end_test(self) -> None:
        """A test is through."""
        if self._server is None:
            return
        if self._settings.fresh or self._server.has_ended:
            self.close()
        else:
            self._server.control.faults.clear()

    def explain(self) -> Mapping[str, str]:
        """The server's log, and its channels with those that ended."""
        if self._server is None:
            return {}
        sections = {"device server's log": self._server.log_tail()}
        try:
            sections["device state"] = json.dumps(self._server.snapshot(), indent=1)
        except DeviceServerError as error:
            sections["device state"] = str(error)
        return sections

    def close(self) -> None:
        """End the device server."""
        if self._server is not None:
            self._server.close()
            self._server = None
