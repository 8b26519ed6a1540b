"""Workers without processes: they answer every request of the device at once, in this process.

They map what is registered as real workers do, so that registrations are fuzzed too, and drain
nothing: rings have a target of their own.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence

from vgpu_host.registrations import Registrations
from vgpu_stub.abi import generated as abi
from vgpu_stub.device.worker_link import WorkerLink, WorkerUnavailableError, unpack_extents

#: Workers alive at a time; CHANNEL_CREATE is refused beyond that, as on a host that is full.
_MOST = 24


class FakeLink(WorkerLink):
    """The server's end; what is sent is carried out, and answered where an answer is due."""

    def __init__(self, ours: socket.socket, theirs: socket.socket) -> None:
        super().__init__(ours)
        self._answers = WorkerLink(theirs)
        self._registrations = Registrations()
        #: Whether requests are left without an answer, as by a worker that hangs.
        self.silent = False

    def send(self, verb: str, fds: Sequence[int] = (), **arguments: object) -> None:
        """Carry out a request of the device."""
        number = 0
        if verb == "register":
            number = self._register(arguments, fds)
        elif verb == "unregister":
            number = self._unregister(arguments)
        if "request" in arguments and not self.silent:
            self._answers.send("done", request=arguments["request"], errno=number)

    def say(self, verb: str, **arguments: object) -> None:
        """Have the worker say something of its own accord."""
        self._answers.send(verb, (), **arguments)

    def close(self) -> None:
        """Close both ends and unmap everything."""
        for number in self._registrations.numbers():
            self._registrations.remove(number)
        self._answers.close()
        super().close()

    def _register(self, arguments: dict[str, object], fds: Sequence[int]) -> int:
        list_fd, *window_fds = fds
        number, access = arguments["registration"], arguments["access"]
        assert isinstance(number, int) and isinstance(access, int)
        try:
            self._registrations.add(number, list(unpack_extents(list_fd)), window_fds, access)
        except OSError as error:
            return error.errno or errno.ENOMEM
        return 0

    def _unregister(self, arguments: dict[str, object]) -> int:
        number = arguments["registration"]
        assert isinstance(number, int)
        try:
            self._registrations.remove(number)
        except KeyError:
            return errno.ENOENT
        return 0


class FakeWorker:
    """Implements `vgpu_stub.device.worker_link.WorkerProcess`."""

    def __init__(self, workers: FakeWorkers, pid: int) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = pid
        self.link = FakeLink(ours, theirs)
        self.pidfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._workers = workers
        self._alive = True

    def end(self) -> None:
        """Die, as far as the device can see."""
        os.eventfd_write(self.pidfd, 1)

    def kill(self) -> None:
        """End the worker for good."""
        if self._alive:
            self._alive = False
            self._workers.alive.remove(self)
            self.link.close()
            os.close(self.pidfd)


class FakeWorkers:
    """Implements `vgpu_stub.device.worker_link.Workers`."""

    def __init__(self) -> None:
        self.alive: list[FakeWorker] = []
        self._taken = 0

    def device_info(self) -> bytes:
        """`struct vgpu_device_info` of a software GPU."""
        attributes = [abi.ATTRIBUTE_ABSENT] * abi.ATTRIBUTE_COUNT
        fixed = (abi.MAGIC, abi.ABI_VERSION, 1 << 30, 13000, 6, 1, abi.ATTRIBUTE_COUNT)
        return abi.DEVICE_INFO.pack(*fixed, bytes(16), b"fuzzed", b"software", *attributes)

    def take(self) -> FakeWorker:
        """A worker, ready at once.

        Raises:
            WorkerUnavailableError: There are too many.
        """
        if len(self.alive) >= _MOST:
            raise WorkerUnavailableError(f"{_MOST} workers are in use")
        self._taken += 1
        worker = FakeWorker(self, self._taken)
        self.alive.append(worker)
        return worker
