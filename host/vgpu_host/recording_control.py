"""Starts and stops the recording of a device server, and listens in on its devices for it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, Final

from vgpu_host.recorder import Recorder, RecorderError
from vgpu_stub.device.channels import Channel
from vgpu_stub.device.gpu import VirtualGpu
from vgpu_stub.device.worker_link import LinkClosedError
from vgpu_stub.vfio_user import Direction, Server

_log = logging.getLogger(__name__)
#: How long a stop waits for workers to say that they have stopped; a kernel may run for longer.
_WORKERS_S: Final = 5.0


class RecordingControl:
    """The recording of a device server: none, or one at a time."""

    def __init__(
        self, devices: Callable[[], Sequence[VirtualGpu]], described: Mapping[str, object]
    ) -> None:
        """Nothing is recorded until `start`.

        Args:
            devices: The devices that there are now.
            described: What a recording shall say of the server.
        """
        self._devices = devices
        self._described = described
        self._lock = threading.Lock()
        self._recorder: Recorder | None = None
        #: Where messages come from, once the server serves.
        self.server: Server | None = None

    def handlers(self) -> dict[str, Callable[[dict[str, Any]], dict[str, Any]]]:
        """Verbs of the control socket."""
        return {
            "recording.start": lambda request: self.start(Path(request["path"])),
            "recording.stop": lambda _: self.stop(),
            "recording.status": lambda _: {"recording": self.status()},
        }

    def status(self) -> dict[str, Any] | None:
        """What has been recorded so far; None when nothing is recorded."""
        recorder = self._recorder
        return recorder.status() if recorder else None

    def start(self, path: Path) -> dict[str, Any]:
        """Record to a file from now on.

        Raises:
            ValueError: Something is recorded already, or the file cannot be written.
        """
        with self._lock:
            if self._recorder:
                raise ValueError(f"{self._recorder.path} is being recorded already")
            try:
                recorder = Recorder(path, **self._described)
            except RecorderError as error:
                raise ValueError(str(error)) from error
            self._recorder = recorder
            if self.server:
                self.server.set_tap(self._message)
            for device in self._devices():
                device.set_tap(self)
            return recorder.status()

    def stop(self) -> dict[str, Any]:
        """Finish the file; returns what `status` says of it at last.

        Raises:
            ValueError: Nothing is recorded.
        """
        with self._lock:
            recorder = self._recorder
            if recorder is None:
                raise ValueError("nothing is being recorded")
            if self.server:
                self.server.set_tap(None)
            answers = threading.Semaphore(0)
            asked = 0
            for device in self._devices():
                device.set_tap(None)
                asked += device.ask_workers("record_stop", lambda _: answers.release())
            deadline = monotonic() + _WORKERS_S
            for _ in range(asked):
                if not answers.acquire(timeout=max(0.0, deadline - monotonic())):
                    _log.warning("a worker that is busy is recorded up to now only")
                    break
            self._recorder = None
            return recorder.close()

    def device_made(self, device: VirtualGpu) -> None:
        """A device is new."""
        if self._recorder:
            device.set_tap(self)

    def channel_ended(self, device: VirtualGpu, channel: Channel) -> None:
        """A channel has ended, and its worker with it."""
        recorder = self._recorder
        if recorder:
            recorder.close_channel(device.name, channel.number)

    # -- vgpu_stub.device.tap.DeviceTap ------------------------------------------------------------

    def channel_starting(self, device: str, channel: Channel) -> None:
        """Give the channel's worker a spool."""
        recorder = self._recorder
        if recorder is None:
            return
        spool_fd = recorder.open_channel(device, channel.number, channel.pid, channel.name)
        try:
            channel.worker.link.send("record", (spool_fd, recorder.wake_fd))
        except LinkClosedError as error:
            _log.warning("%s channel %d is not recorded: %s", device, channel.number, error)
        finally:
            os.close(spool_fd)

    def fault_fired(self, device: str, text: str) -> None:
        """Record an injected fault."""
        recorder = self._recorder
        if recorder:
            recorder.fault(device, text)

    def admin_command(self, device: str, sequence: int, command: bytes) -> None:
        """Record a command of the admin channel."""
        recorder = self._recorder
        if recorder:
            recorder.admin_command(device, sequence, command)

    def admin_completion(self, device: str, sequence: int, number: int) -> None:
        """Record its completion."""
        recorder = self._recorder
        if recorder:
            recorder.admin_completed(device, sequence, number)

    def _message(self, client: int, direction: Direction, message: bytes, fds: int) -> None:
        recorder = self._recorder
        if recorder:
            recorder.message(client, direction is Direction.SENT, fds, message)
