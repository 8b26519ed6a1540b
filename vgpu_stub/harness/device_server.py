"""Starts a device server process for a command and ends it with the command."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from vgpu_host import runtime
from vgpu_host.executors.options import ExecutorOptions
from vgpu_stub.faults import Rule
from vgpu_stub.harness.control import Control

_STOP_TIMEOUT_S: Final = 10.0


class DeviceServerError(Exception):
    """The device server could not be started, or is gone; the text says why."""


class DeviceServer:
    """A running device server; a context manager.

    Attributes:
        folder: Its folder; `device_socket` is in it.
        reports: Where its workers write what they find and count; None where they do neither.
        log: Its log file.
    """

    def __init__(
        self,
        options: ExecutorOptions,
        *,
        shared: bool,
        identity: str | None = None,
        spares: int = 1,
        name: str | None = None,
        faults: Sequence[Rule] = (),
        record: Path | None = None,
    ) -> None:
        """Prepare a server; entering starts it.

        Args:
            options: Executor of the workers.
            shared: One device for one client at a time (a VM), else one for each client.
            identity: PCI ids as "VENDOR:DEVICE" in hex, or None for the usual ones.
            spares: Workers to keep ready.
            name: Name of the folder; one is made up without it.
            faults: What goes wrong on purpose from the start; `control` changes it later.
            record: File that keeps everything that guests do to the device.
        """
        self._arguments = ["--spares", str(spares)]
        if shared:
            self._arguments.append("--shared")
        if identity:
            self._arguments += ["--identity", identity]
        if faults:
            self._arguments += ["--faults", json.dumps([rule.to_json() for rule in faults])]
        if record:
            self._arguments += ["--record", str(record.absolute())]
        self.folder = runtime.make_server_folder(name)
        self.log = self.folder / runtime.LOG_FILE
        self.reports: Path | None = None
        if options.checks or options.count:
            self.reports = self.folder / runtime.REPORTS_FOLDER
            self.reports.mkdir(mode=0o700)
            options = replace(options, reports=str(self.reports))
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def device_socket(self) -> Path:
        """Where vfio-user clients connect."""
        return self.folder / runtime.DEVICE_SOCKET

    @property
    def control(self) -> Control:
        """Control of the running server, its faults for one."""
        return Control(self.folder)

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._running.pid

    @property
    def has_ended(self) -> bool:
        """Whether the server is gone."""
        return self._running.poll() is not None

    def ends_within(self, seconds: float) -> bool:
        """Whether the server is gone, or will be in so many seconds."""
        try:
            self._running.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise DeviceServerError("the device server has not been started")
        return self._process

    def log_tail(self, lines: int = 10) -> str:
        """The last lines of the log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def __enter__(self) -> Self:
        """Start the server and wait until it serves.

        Raises:
            DeviceServerError: It did not start.
        """
        ready_read, ready_write = os.pipe()
        command = [
            sys.executable,
            "-m",
            "vgpu_host.server",
            "--folder",
            str(self.folder),
            "--executor",
            self._options.to_json(),
            "--ready-fd",
            str(ready_write),
            *self._arguments,
        ]
        with self.log.open("wb") as log:
            # A session of its own: Ctrl-C is for the command, the server ends after it.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[ready_write],
                start_new_session=True,
            )
        os.close(ready_write)
        try:
            ready = os.read(ready_read, 1)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(ready_read)
        if not ready:
            reason = self.log_tail() or "it said nothing"
            self.close()
            raise DeviceServerError(f"the device server did not start: {reason}")
        return self

    def snapshot(self) -> dict[str, Any]:
        """What the server knows now; see `vgpu_host.snapshot`."""
        return read_snapshot(self.folder)

    def close(self) -> None:
        """End the server with its workers and remove its folder."""
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def read_snapshot(folder: Path) -> dict[str, Any]:
    """Ask a running server for its snapshot.

    Raises:
        DeviceServerError: It does not answer.
    """
    chunks = []
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5.0)
            client.connect(str(folder / runtime.MONITOR_SOCKET))
            while chunk := client.recv(1 << 16):
                chunks.append(chunk)
    except OSError as error:
        raise DeviceServerError(f"no device server answers in {folder}: {error}") from error
    snapshot: dict[str, Any] = json.loads(b"".join(chunks))
    return snapshot
