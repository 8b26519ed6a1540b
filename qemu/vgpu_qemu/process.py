"""Child processes that never outlive this one, whatever ends it.

The kernel is asked to kill the child when the *thread* that started it ends. So each child gets a
thread of its own, which starts it and then waits for it; that thread ends with the child or with
this process, never between.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from vgpu_qemu.errors import VmError


class ChildProcess:
    """A program that runs beside this process until it ends or is stopped.

    Args:
        name: For messages.
        command: The program and its arguments.
        log: Where its standard output and error are written.
        environment: Variables added to this process's.
        descriptors: File descriptors that it inherits under the same numbers.

    Raises:
        VmError: It could not be started.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        descriptors: Sequence[int] = (),
    ) -> None:
        if shutil.which("setpriv") is None:
            raise VmError("setpriv is missing; install it: apt-get install util-linux")
        self.name = name
        self.log = log
        self._command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        self._environment = {**os.environ, **(environment or {})}
        self._descriptors = tuple(descriptors)
        self._process: subprocess.Popen[bytes] | None = None
        self._failure: OSError | None = None
        self._started = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=name, daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure:
            raise VmError(f"{name} could not be started: {self._failure}") from self._failure

    def _keep(self) -> None:
        try:
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command,
                    env=self._environment,
                    pass_fds=self._descriptors,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    # Ctrl-C at the terminal is for us; we then stop our children in order.
                    start_new_session=True,
                )
        except OSError as error:
            self._failure = error
            self._started.set()
            self._ended.set()
            return
        self._started.set()
        self._process.wait()
        self._ended.set()

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return not self._ended.is_set()

    @property
    def exit_status(self) -> int | None:
        """Its exit status, negative for the signal that ended it; None while it runs."""
        return self._process.returncode if self._process and not self.running else None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for its end; returns whether it has ended."""
        return self._ended.wait(timeout)

    def stop(self, grace: float = 2.0) -> None:
        """End it: politely first, by force after `grace` seconds. Returns when it is gone."""
        if grace > 0 and self.running:
            self._signal(signal.SIGTERM)
            self.wait(grace)
        if self.running:
            self._signal(signal.SIGKILL)
        self._thread.join()

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def describe_end(self) -> str:
        """Return how it ended and the last lines that it wrote, for an error message."""
        if self.running:
            return f"{self.name} is running"
        code = self.exit_status
        how = f"exit status {code}"
        if code is not None and code < 0:
            how = f"signal {signal.Signals(-code).name}"
        lines = self.log.read_text(errors="replace").strip().splitlines()[-10:]
        return f"{self.name} ended ({how})" + "".join(f"\n  {line}" for line in lines)
