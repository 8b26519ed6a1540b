"""The process that workers are forked from: it holds an executor that has never been used.

Starting an interpreter and making an executor takes most of a second, a fork some milliseconds.
Workers share no more than pages that are copied before one of them changes them, and no descriptor
but the standard ones. The software GPU starts no thread before its first command and its memory is
private to a process; the physical GPU does not survive a fork, so there each worker makes its own.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from types import FrameType
from typing import Final, NoReturn

from vgpu_host.executors.base import Executor
from vgpu_host.executors.options import ExecutorOptions, make_executor
from vgpu_host.logs import configure_logging
from vgpu_host.process import die_with_parent
from vgpu_host.worker import run_worker
from vgpu_stub.device.worker_link import LinkClosedError, WorkerLink, WorkerUnavailableError

_log = logging.getLogger(__name__)
_EXPECTED_ENDS: Final = (0, -signal.SIGKILL)


class WorkerTemplate:
    """A running template, seen from the device server. It dies with the thread that made it."""

    def __init__(self, options: ExecutorOptions) -> None:
        self._link, theirs = WorkerLink.pair()
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "vgpu_host.template"),
                    *("--link", str(theirs.fileno())),
                    *("--executor", options.to_json()),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def fork(self, link: socket.socket) -> tuple[int, int]:
        """Have a worker started at one end of a link; returns its pid, and a pidfd to own.

        Raises:
            LinkClosedError: The template has ended.
            WorkerUnavailableError: There is no descriptor for the worker; it ends with its link.
        """
        self._link.send("fork", [link.fileno()])
        answer = self._link.receive()
        if answer is None:
            raise LinkClosedError("the template said nothing")
        if not answer.fds:
            # The kernel drops what finds no room, and says nothing.
            raise WorkerUnavailableError("the device server has no descriptors left")
        (pidfd,) = answer.fds
        return int(answer.arguments["pid"]), pidfd

    def ends_within(self, seconds: float) -> bool:
        """Whether it is gone, or will be in so many seconds."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> int:
        """End it, and with it all workers that are left; returns its status as Popen has it."""
        self._process.kill()
        self._link.close()
        return self._process.wait()


class _Template:
    """The template itself: forks when told, and collects what has ended."""

    def __init__(
        self, link: WorkerLink, options: ExecutorOptions, executor: Executor | None
    ) -> None:
        self._link = link
        self._options = options
        self._executor = executor
        self._ended, self._ended_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, _nothing)
        signal.set_wakeup_fd(self._ended_writer, warn_on_full_buffer=False)

    def run(self) -> None:
        """Serve until the device server is gone.

        Raises:
            LinkClosedError: It is.
        """
        poll = select.poll()
        poll.register(self._link.fileno(), select.POLLIN)
        poll.register(self._ended, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == self._ended:
                    os.read(descriptor, 4096)
                    self._collect()
                else:
                    self._fork()

    def _fork(self) -> None:
        message = self._link.receive()
        if message is None:
            return
        (link,) = message.fds
        template = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_worker(link, template)
        os.close(link)
        # The number stays its own until it is collected, which nobody else does.
        pidfd = os.pidfd_open(pid)
        self._link.send("forked", [pidfd], pid=pid)
        os.close(pidfd)

    def _become_worker(self, link: int, template: int) -> NoReturn:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._link.close()
            os.close(self._ended)
            os.close(self._ended_writer)
            die_with_parent(signal.SIGKILL)
            if os.getppid() == template:
                worker_link = WorkerLink(socket.socket(fileno=link))
                status = run_worker(worker_link, self._options, self._executor)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _collect(self) -> None:
        while True:
            try:
                pid, wait_status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            status = os.waitstatus_to_exitcode(wait_status)
            if status not in _EXPECTED_ENDS:
                cause = signal.Signals(-status).name if status < 0 else f"exit status {status}"
                _log.error("worker %d ended: %s", pid, cause)


def _nothing(number: int, frame: FrameType | None) -> None:
    """A handler, so that the signal is delivered and wakes the loop."""


def main() -> int:
    """Entry point: `python -m vgpu_host.template --link FD --executor OPTIONS`."""
    parser = argparse.ArgumentParser(prog="vgpu-worker", description=__doc__)
    parser.add_argument("--link", type=int, required=True, help="descriptor of the link")
    parser.add_argument("--executor", required=True, help="executor options, as JSON")
    arguments = parser.parse_args()
    configure_logging("worker")
    # Ctrl-C is for the device server, which ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(signal.SIGKILL)
    options = ExecutorOptions.from_json(arguments.executor)
    executor = make_executor(options) if options.name == "software" else None
    gc.freeze()
    try:
        _Template(WorkerLink(socket.socket(fileno=arguments.link)), options, executor).run()
    except LinkClosedError:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
