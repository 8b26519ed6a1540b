"""Runs attacks: a device server, an attacker's process with a deadline, and bystanders.

Attacks of one area run one after the other in one attacker. After each, the server must be the same
process and a bystander's device on it must compute right answers; after the row, the server must
hold no more descriptors, workers and memory than before. An attack that does not come back is run
again, alone, before it is called WEDGED; a row that leaks is run again attack by attack.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import selectors
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Final, Self

from vgpu_host.executors.options import ExecutorOptions
from vgpu_stub.driver import DriverError, GuestDriver
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.vfio_user import VfioUserError
from vgpu_stub.villain.guest.catalogue import batches
from vgpu_stub.villain.guest.tenant import MEMORY_BYTES, Tenant, wait_until
from vgpu_stub.villain.registry import Attack, Outcome, Verdict, Violation

#: How long the server may take to let go of what a client had, in seconds.
_RELEASE_S: Final = 8.0
#: Growth of the server that is no leak: caches of the interpreter, buffers.
_SPARE_MEMORY_BYTES: Final = 48 << 20
_WATCHDOG_S: Final = 0.5
_GPU_MEMORY_BYTES: Final = 256 << 20
_SPARES: Final = 2

Report = Callable[[Outcome], None]


@dataclass(frozen=True)
class Settings:
    """How attacks are run.

    Attributes:
        seed: Of everything random in attacks.
        jobs: Servers that are attacked at the same time.
        modules: Modules that enter further attacks.
        setup_s: What an attacker may take beyond an attack's own deadline, to set up and to put
            right, in seconds.
    """

    seed: int = 0
    jobs: int = 2
    modules: tuple[str, ...] = ()
    setup_s: float = 25.0


class _AttackerError(Exception):
    """The attacker's process ended, or did not answer in time."""

    def __init__(self, text: str, *, wedged: bool) -> None:
        super().__init__(text)
        self.wedged = wedged


class _Attacker:
    """The attacker's process."""

    def __init__(self, server: DeviceServer, settings: Settings) -> None:
        command = [sys.executable, "-m", "vgpu_stub.villain.guest.attacker"]
        command += ["--folder", str(server.folder), "--server-pid", str(server.pid)]
        command += ["--seed", str(settings.seed)]
        command += [part for name in settings.modules for part in ("--module", name)]
        self._setup_s = settings.setup_s
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self._process.stdin and self._process.stdout
        self._input, self._output = self._process.stdin, self._process.stdout

    def run(self, attack: Attack) -> tuple[Verdict, str]:
        """Have it run an attack."""
        with contextlib.suppress(BrokenPipeError):
            self._input.write(attack.id + "\n")
            self._input.flush()
        answer = self._answer(attack.deadline_s + self._setup_s)
        return Verdict(answer["verdict"]), str(answer["reason"])

    def finish(self) -> str:
        """Have it disconnect and end; returns what is wrong, "" for nothing."""
        self._input.close()
        try:
            status = self._process.wait(self._setup_s)
        except subprocess.TimeoutExpired:
            return "the attacker's process does not end"
        return f"the attacker's process ended with {status}" if status else ""

    def _answer(self, timeout_s: float) -> dict[str, object]:
        with selectors.DefaultSelector() as selector:
            selector.register(self._output, selectors.EVENT_READ)
            if not selector.select(timeout_s):
                raise _AttackerError(f"no end in {timeout_s:g} s", wedged=True)
        line = self._output.readline()
        if not line:
            status = self._process.wait()
            raise _AttackerError(f"the attacker's process ended with {status}", wedged=False)
        answer: dict[str, object] = json.loads(line)
        return answer

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()
        self._input.close()
        self._output.close()


class _Bystander:
    """A client with a device of its own on the same server, who must not notice anything."""

    def __init__(self, server: DeviceServer) -> None:
        self._driver = GuestDriver.connect(server.device_socket)
        self._tenant = Tenant(self._driver, 1, self._driver.allocate(MEMORY_BYTES))
        self._tenant.check(kernel=True)

    def check(self) -> None:
        """Compute on its device.

        Raises:
            Violation: It is harmed.
        """
        try:
            self._tenant.check(kernel=True)
        except (Violation, DriverError, VfioUserError) as error:
            raise Violation(f"a bystander on another device was harmed: {error}") from error

    def close(self) -> None:
        with contextlib.suppress(VfioUserError, OSError):
            self._driver.close()


@dataclass(frozen=True)
class _Holdings:
    """What a server holds."""

    descriptors: int
    processes: int
    memory_bytes: int

    @classmethod
    def of(cls, pid: int) -> Self:
        folder = Path("/proc") / str(pid)
        pages = int((folder / "statm").read_text().split()[1])
        return cls(
            len(list((folder / "fd").iterdir())),
            len(_descendants(pid)),
            pages * os.sysconf("SC_PAGE_SIZE"),
        )


def _descendants(pid: int) -> list[int]:
    """Processes below a process; one that ends meanwhile is left out."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in (Path("/proc") / str(pid) / "task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *_descendants(child)]
    return found


class Target:
    """A device server under attack, with a bystander; a context manager."""

    def __init__(self, settings: Settings) -> None:
        """Prepare; entering starts the server."""
        self._settings = settings
        self._stack = contextlib.ExitStack()
        self._server: DeviceServer
        self._bystander: _Bystander
        self._before: _Holdings

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _start(self) -> None:
        options = ExecutorOptions(
            "software", memory_bytes=_GPU_MEMORY_BYTES, threads=1, watchdog_s=_WATCHDOG_S
        )
        self._server = self._stack.enter_context(
            DeviceServer(options, shared=False, spares=_SPARES)
        )
        self._bystander = _Bystander(self._server)
        self._stack.callback(self._bystander.close)
        self._before = self._first_holdings()

    def _restart(self) -> None:
        self._stack.close()
        self._stack = contextlib.ExitStack()
        self._start()

    def run(self, row: Sequence[Attack], report: Report) -> None:
        """Run attacks one after the other; those that must be run again run alone."""
        again: list[tuple[Attack, str]] = []
        passed: list[Outcome] = []
        rest = list(row)
        while rest:
            rest, wedged, row_problem = self._run_row(rest, passed)
            again += wedged
            if row_problem:
                # Somebody in this row did it: each alone shows who.
                again += [(outcome.attack, row_problem) for outcome in passed]
                passed = []
        for outcome in passed:
            report(outcome)
        for attack, _ in again:
            report(self._run_alone(attack))

    def _run_row(
        self, row: Sequence[Attack], passed: list[Outcome]
    ) -> tuple[list[Attack], list[tuple[Attack, str]], str]:
        """Run a row in one attacker.

        Returns:
            What is left to run, what did not come back, and what is wrong with the row as a whole.
        """
        attacker = _Attacker(self._server, self._settings)
        try:
            for place, attack in enumerate(row):
                started = monotonic()
                try:
                    verdict, reason = attacker.run(attack)
                except _AttackerError as error:
                    attacker.kill()
                    self._put_right()
                    return list(row[place + 1 :]), [(attack, str(error))], ""
                if problem := self._health():
                    verdict, reason = Verdict.FAIL, f"{reason}; {problem}" if reason else problem
                passed.append(Outcome(attack, verdict, reason, monotonic() - started))
                if problem:
                    attacker.kill()
                    self._restart()
                    return list(row[place + 1 :]), [], ""
            problem = attacker.finish() or self._leak()
            if problem and self._health():
                self._restart()
            return [], [], problem
        finally:
            attacker.kill()

    def _run_alone(self, attack: Attack) -> Outcome:
        started = monotonic()
        attacker = _Attacker(self._server, self._settings)
        try:
            verdict, reason = attacker.run(attack)
            problem = self._health() or attacker.finish() or self._leak()
            if problem:
                verdict, reason = Verdict.FAIL, f"{reason}; {problem}" if reason else problem
                self._restart()
        except _AttackerError as error:
            verdict = Verdict.WEDGED if error.wedged else Verdict.FAIL
            reason = str(error)
            attacker.kill()
            if problem := self._put_right():
                reason += f"; {problem}"
        finally:
            attacker.kill()
        return Outcome(attack, verdict, reason, monotonic() - started)

    def _put_right(self) -> str:
        """After an attacker was killed: what is wrong; the server is started anew then."""
        problem = self._health() or self._leak()
        if problem:
            self._restart()
        return problem

    def _health(self) -> str:
        """What is wrong with the server and the bystander; "" for nothing."""
        if self._server.has_ended:
            return f"the device server ended: {self._server.log_tail(5)}"
        try:
            self._bystander.check()
        except Violation as error:
            if self._server.ends_within(0.5):
                return f"the device server ended: {self._server.log_tail(5)}"
            return str(error)
        return ""

    def _leak(self) -> str:
        """What the server still holds of clients that are gone; "" for nothing."""
        if self._server.has_ended:
            return "the device server ended"
        now = self._quiet()
        if now.descriptors > self._before.descriptors:
            return f"the server holds {now.descriptors - self._before.descriptors} more descriptors"
        if now.processes > self._before.processes:
            return f"the server has {now.processes - self._before.processes} more workers"
        if now.memory_bytes > self._before.memory_bytes + _SPARE_MEMORY_BYTES:
            grown = now.memory_bytes - self._before.memory_bytes
            return f"the server has grown by {grown >> 20} MiB"
        return ""

    def _first_holdings(self) -> _Holdings:
        """What the server holds with its template, its spares and the bystander's worker."""
        pid = self._server.pid
        wait_until(lambda: _Holdings.of(pid).processes == 2 + _SPARES, _RELEASE_S)
        # What it opened to start them is closed a little later.
        before = _Holdings.of(pid)
        while True:
            threading.Event().wait(0.1)
            now = _Holdings.of(pid)
            if (now.descriptors, now.processes) == (before.descriptors, before.processes):
                return now
            before = now

    def _quiet(self) -> _Holdings:
        """What the server holds once it has let go of what it does not need any more."""
        least = self._before

        def quiet() -> bool:
            now = _Holdings.of(self._server.pid)
            return now.descriptors <= least.descriptors and now.processes <= least.processes

        wait_until(quiet, _RELEASE_S)
        return _Holdings.of(self._server.pid)


def run_attacks(chosen: Sequence[Attack], settings: Settings) -> Iterator[Outcome]:
    """Run attacks, on several servers at a time, and yield outcomes as they come."""
    rows: queue.SimpleQueue[list[Attack]] = queue.SimpleQueue()
    planned = sorted(batches(chosen), key=len, reverse=True)
    for row in planned:
        rows.put(row)
    outcomes: queue.SimpleQueue[Outcome | BaseException | None] = queue.SimpleQueue()

    def work() -> None:
        try:
            with Target(settings) as target:
                while True:
                    row = rows.get_nowait()
                    target.run(row, outcomes.put)
        except queue.Empty:
            outcomes.put(None)
        except BaseException as error:
            outcomes.put(error)

    jobs = max(1, min(settings.jobs, len(planned)))
    threads = [threading.Thread(target=work, daemon=True) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    running = len(threads)
    while running:
        outcome = outcomes.get()
        if outcome is None:
            running -= 1
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            yield outcome
    for thread in threads:
        thread.join()
