"""Starts worker processes ahead of need and hands them to the device.

Workers are forked from a template (`vgpu_host.template`), and a thread keeps spares, as a CUDA
context takes a second all the same. The thread lives as long as the pool: the template dies with
the thread that started it, and workers with the template (PR_SET_PDEATHSIG), which is how none
outlives a device server that is killed.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
from collections import deque
from time import monotonic, sleep
from types import TracebackType
from typing import Final, Self

from vgpu_host.executors.options import ExecutorOptions
from vgpu_host.template import WorkerTemplate
from vgpu_stub.device.worker_link import LinkClosedError, WorkerLink, WorkerUnavailableError

_log = logging.getLogger(__name__)
_START_TIMEOUT_S: Final = 60.0
_TEMPLATE_END_S: Final = 0.2
_ANSWER_TIMEOUT_MS: Final = 5000
#: How long to wait for the number of a dead worker to be free; it may take for ever where nobody
#: collects the orphans of a template that was killed.
_COLLECTED_TIMEOUT_S: Final = 1.0
_COLLECTED_PAUSE_S: Final = 0.0001


class PooledWorker:
    """A worker process; see `vgpu_stub.device.worker_link.WorkerProcess`."""

    def __init__(self, pid: int, pidfd: int, link: WorkerLink) -> None:
        self._pid = pid
        self._pidfd = pidfd
        self._link = link

    @property
    def pid(self) -> int:
        """Process id."""
        return self._pid

    @property
    def link(self) -> WorkerLink:
        """The server's end of the link."""
        return self._link

    @property
    def pidfd(self) -> int:
        """Readable once the process has ended."""
        return self._pidfd

    def answers(self) -> bool:
        """Whether the process, not yet attached to a channel, is there and well."""
        poll = select.poll()
        poll.register(self._link.fileno(), select.POLLIN)
        try:
            self._link.send("ping", request=0)
            return bool(poll.poll(_ANSWER_TIMEOUT_MS)) and self._link.receive() is not None
        except LinkClosedError:
            return False

    def kill(self) -> None:
        """End the process and wait for that; closes link and pidfd."""
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            ended = select.poll()
            ended.register(self._pidfd, select.POLLIN)
            ended.poll()
            # Dead; its number is free as soon as the template has collected it.
            deadline = monotonic() + _COLLECTED_TIMEOUT_S
            while monotonic() < deadline:
                signal.pidfd_send_signal(self._pidfd, 0)
                sleep(_COLLECTED_PAUSE_S)
        except ProcessLookupError:
            pass
        self._link.close()
        os.close(self._pidfd)


class WorkerPool:
    """Spare workers of one executor."""

    def __init__(self, options: ExecutorOptions, spares: int = 1) -> None:
        #: Of the executor that every worker makes.
        self.options = options
        self._spares = spares
        self._condition = threading.Condition()
        self._ready: deque[PooledWorker] = deque()
        self._wanted = spares
        self._info: bytes | None = None
        self._failure: str | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="vgpu-pool", daemon=True)
        self._thread.start()

    def device_info(self) -> bytes:
        """`struct vgpu_device_info` as the executor describes it; waits for the first worker.

        Raises:
            WorkerUnavailableError: No worker could be started.
        """
        with self._condition:
            self._condition.wait_for(
                lambda: self._info or self._failure or self._stopping, _START_TIMEOUT_S
            )
            if self._info is None:
                raise WorkerUnavailableError(self._failure or "no worker started in time")
            return self._info

    def take(self) -> PooledWorker:
        """Hand over a ready worker, waiting for one if need be.

        Raises:
            WorkerUnavailableError: None could be started.
        """
        while True:
            worker = self._next()
            if worker.answers():
                return worker
            _log.warning("spare worker %d has ended", worker.pid)
            worker.kill()

    def _next(self) -> PooledWorker:
        with self._condition:
            if not self._ready:
                self._wanted += 1
                self._failure = None
                self._condition.notify_all()
                self._condition.wait_for(
                    lambda: self._ready or self._failure or self._stopping, _START_TIMEOUT_S
                )
                self._wanted -= 1
            if not self._ready:
                raise WorkerUnavailableError(self._failure or "no worker started in time")
            worker = self._ready.popleft()
            self._condition.notify_all()
            return worker

    def spare_pids(self) -> list[int]:
        """Process ids of the workers that wait to be taken."""
        with self._condition:
            return [worker.pid for worker in self._ready]

    def close(self) -> None:
        """End the spares and the thread that starts them."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self) -> None:
        template = WorkerTemplate(self.options)
        proven = False
        while self._wait_for_need():
            try:
                worker, info = _start(template)
            except (LinkClosedError, WorkerUnavailableError) as error:
                of_worker = isinstance(error, WorkerUnavailableError)
                # A worker that ends while starting may have died with its template.
                if of_worker and not template.ends_within(_TEMPLATE_END_S):
                    self._fail(str(error))
                    continue
                status = template.close()
                _log.error("the template of workers ended with %d", status)
                if not proven:
                    self._fail(f"the template of workers ended with {status} while starting")
                template = WorkerTemplate(self.options)
                proven = False
            else:
                proven = True
                with self._condition:
                    self._info = info
                    self._ready.append(worker)
                    self._condition.notify_all()
        while self._ready:
            self._ready.popleft().kill()
        template.close()

    def _wait_for_need(self) -> bool:
        """Wait until a worker is wanted; returns False when the pool closes."""
        with self._condition:
            self._condition.wait_for(
                lambda: (
                    self._stopping or (len(self._ready) < self._wanted and self._failure is None)
                )
            )
            return not self._stopping

    def _fail(self, text: str) -> None:
        _log.error("%s", text)
        with self._condition:
            self._failure = text
            self._condition.notify_all()


def _start(template: WorkerTemplate) -> tuple[PooledWorker, bytes]:
    """Start a worker and wait until it is ready; returns it with its device info.

    Raises:
        LinkClosedError: The template has ended.
        WorkerUnavailableError: The worker has.
    """
    try:
        link, theirs = WorkerLink.pair()
    except OSError as error:
        raise WorkerUnavailableError(f"no link to a worker can be made: {error}") from error
    with theirs:
        try:
            pid, pidfd = template.fork(theirs)
        except (LinkClosedError, WorkerUnavailableError):
            link.close()
            raise
    worker = PooledWorker(pid, pidfd, link)
    try:
        message = link.receive()
    except LinkClosedError:
        worker.kill()
        raise WorkerUnavailableError(f"worker {pid} ended while starting") from None
    if message is None or message.verb != "ready":
        text = message.arguments.get("text", "it failed") if message else "it said nothing"
        worker.kill()
        raise WorkerUnavailableError(f"a worker could not start: {text}")
    return worker, bytes.fromhex(str(message.arguments["info"]))
