"""Workers of a device that lies: threads of this process, so that a lie costs milliseconds.

Each is a true worker (`vgpu_host.worker`) with the software GPU, behind the link that a process
would have; only what it writes to the completion ring and to the guest's memory passes the lie.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading

from vgpu_host.executors.options import ExecutorOptions, make_executor
from vgpu_host.worker import Worker
from vgpu_stub.device.worker_link import LinkClosedError, WorkerLink, WorkerUnavailableError
from vgpu_stub.villain.device.lie import Lie
from vgpu_stub.villain.device.queues import LyingCompletions, NotedSubmissions, RegisteredMemory

_log = logging.getLogger(__name__)


class LyingWorker(Worker):
    """A worker whose completions pass a lie."""

    lie: Lie

    def _attach(self, channel: int, fds: tuple[int, ...]) -> None:
        super()._attach(channel, fds)
        drain = self._drain
        if drain is None:
            return
        submissions = NotedSubmissions(drain._memory, 0, drain._control)
        drain._submissions = submissions
        drain.completions = LyingCompletions(
            drain._memory,
            0,
            drain._control,
            drain.completions.interrupt,
            channel=channel,
            submissions=submissions,
            guest_memory=RegisteredMemory(self._registrations),
            lie=self.lie,
        )
        drain._wrap()


class WorkerThread:
    """A worker in a thread; a `vgpu_stub.device.worker_link.WorkerProcess` all the same."""

    def __init__(self, options: ExecutorOptions, lie: Lie) -> None:
        self._link, theirs = WorkerLink.pair()
        self._ended = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(
            target=self._run, args=(options, lie, theirs), name="vgpu-liar", daemon=True
        )
        self._thread.start()

    def _run(self, options: ExecutorOptions, lie: Lie, theirs: socket.socket) -> None:
        try:
            worker = LyingWorker(WorkerLink(theirs), make_executor(options), options.name)
            worker.lie = lie
            worker.run()
        except LinkClosedError:
            pass
        except Exception:
            _log.exception("a worker of the lying device ended")
        finally:
            theirs.close()
            os.eventfd_write(self._ended, 1)

    @property
    def pid(self) -> int:
        """Process id: our own."""
        return os.getpid()

    @property
    def link(self) -> WorkerLink:
        """The server's end of the link."""
        return self._link

    @property
    def pidfd(self) -> int:
        """Readable once the thread has ended."""
        return self._ended

    def kill(self) -> None:
        """Close the link and wait until the thread has ended."""
        with contextlib.suppress(OSError):
            self._link._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._link.close()
        os.close(self._ended)


class LyingWorkers:
    """Makes workers; a `vgpu_stub.device.worker_link.Workers`."""

    def __init__(self, options: ExecutorOptions) -> None:
        """Find out what the device is, once.

        Raises:
            WorkerUnavailableError: The executor cannot be made.
        """
        self._options = options
        self.lie = Lie()
        worker, self._info = self._start()
        worker.kill()

    def device_info(self) -> bytes:
        """`struct vgpu_device_info`, true."""
        return self._info

    def take(self) -> WorkerThread:
        """Start a worker that tells the present lie."""
        return self._start()[0]

    def _start(self) -> tuple[WorkerThread, bytes]:
        worker = WorkerThread(self._options, self.lie)
        try:
            message = worker.link.receive()
        except LinkClosedError:
            message = None
        if message is None or message.verb != "ready":
            worker.kill()
            raise WorkerUnavailableError("a worker of the lying device did not start")
        return worker, bytes.fromhex(str(message.arguments["info"]))
