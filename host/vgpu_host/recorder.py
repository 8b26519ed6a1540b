"""The device server's side of a recording: one file, fed by its workers' spools and by itself.

A thread empties the spools into the file now and then, and whenever one fills. It reads nothing of
what workers say, so a worker that a guest has taken over can spoil its own channel's records only.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import select
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.recording.container import BlockWriter
from vgpu_stub.recording.reader import SERVER_STREAM
from vgpu_stub.recording.records import Kind, pack_json, pack_message
from vgpu_stub.recording.spool import SpoolReader, make_spool

_log = logging.getLogger(__name__)
#: How old the file may be behind what happens, in milliseconds.
_INTERVAL_MS: Final = 100


class RecorderError(Exception):
    """A recording cannot be made; the text says why."""


class _Stream:
    """A channel of the recording: its spool, and what the server itself says of it."""

    def __init__(self, number: int, spool: SpoolReader) -> None:
        self.number = number
        self.spool = spool
        self.is_open = True
        #: Held from taking records to writing them, so that they stay in order.
        self.lock = threading.Lock()

    def take(self) -> bytes:
        """What the worker has put since the last time."""
        return self.spool.take() if self.is_open else b""

    def close(self) -> None:
        """Nothing more comes."""
        self.is_open = False
        self.spool.close()


class Recorder:
    """Writes one recording, from its making to `close`."""

    def __init__(self, path: Path, **described: object) -> None:
        """Start a file.

        Args:
            path: Where it goes; what is there is replaced.
            described: What START shall say besides version, host and clock.

        Raises:
            RecorderError: The file cannot be written.
        """
        self.path = path
        try:
            self._blocks = BlockWriter(path)
        except OSError as error:
            raise RecorderError(f"cannot record to {path}: {error.strerror}") from error
        self._lock = threading.Lock()
        self._streams: dict[tuple[str, int], _Stream] = {}
        self._made = SERVER_STREAM
        self._said = bytearray()
        self._failure = ""
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stopping = False
        self._say(
            pack_json(
                Kind.START,
                time.monotonic_ns(),
                monotonic_ns=time.monotonic_ns(),
                wall_ns=time.time_ns(),
                program=f"vgpu-stub {version('vgpu-stub')}",
                abi_version=abi.ABI_VERSION,
                host=f"{platform.system()} {platform.release()} {platform.machine()}",
                **described,
            )
        )
        self._drain()
        self._thread = threading.Thread(target=self._run, name="vgpu-recorder", daemon=True)
        self._thread.start()

    # -- channels ----------------------------------------------------------------------------------

    def open_channel(self, device: str, channel: int, pid: int, name: str) -> int:
        """A channel begins: returns the memory of its spool, a descriptor owned by the caller.

        The worker gets it and `wake_fd`.
        """
        spool_fd = make_spool()
        opened = {"device": device, "channel": channel, "pid": pid, "name": name}
        with self._lock:
            self._made += 1
            stream = _Stream(self._made, SpoolReader(spool_fd))
            self._streams[device, channel] = stream
        self._write(stream.number, pack_json(Kind.CHANNEL_OPEN, time.monotonic_ns(), **opened))
        return spool_fd

    @property
    def wake_fd(self) -> int:
        """eventfd by which a worker says that its spool fills; stays the recorder's."""
        return self._wake_fd

    def close_channel(self, device: str, channel: int) -> None:
        """A channel has ended, and its worker with it."""
        with self._lock:
            stream = self._streams.get((device, channel))
        if stream is None:
            return
        with stream.lock:
            if stream.is_open:
                self._write(stream.number, stream.take())
                self._write(stream.number, pack_json(Kind.CHANNEL_CLOSE, time.monotonic_ns()))
                stream.close()
        with self._lock:
            self._streams.pop((device, channel), None)

    # -- what the server sees ----------------------------------------------------------------------

    def message(self, client: int, sent: bool, fds: int, message: bytes) -> None:
        """A vfio-user message of a client."""
        self._say(pack_message(time.monotonic_ns(), client, sent, fds, message))

    def admin_command(self, device: str, sequence: int, command: bytes) -> None:
        """A command of a device's admin channel."""
        now = time.monotonic_ns()
        self._say(
            pack_json(Kind.ADMIN, now, device=device, sequence=sequence, command=command.hex())
        )

    def admin_completed(self, device: str, sequence: int, number: int) -> None:
        """Its completion; `number` is an errno."""
        now = time.monotonic_ns()
        self._say(pack_json(Kind.ADMIN_DONE, now, device=device, sequence=sequence, errno=number))

    def fault(self, device: str, text: str) -> None:
        """An injected fault happened."""
        self._say(pack_json(Kind.FAULT, time.monotonic_ns(), device=device, text=text))

    def _say(self, record: bytes) -> None:
        with self._lock:
            self._said += record

    # -- the file ----------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What has been written so far, for monitors."""
        with self._lock:
            return {
                "path": str(self.path),
                "channels": self._made - SERVER_STREAM,
                "record_bytes": self._blocks.raw_bytes,
                "file_bytes": self._blocks.file_bytes,
                "failure": self._failure,
            }

    def close(self) -> dict[str, Any]:
        """Finish the file; returns `status`. No worker may use its spool any more."""
        self._stopping = True
        os.eventfd_write(self._wake_fd, 1)
        self._thread.join()
        self._drain()
        with self._lock:
            streams = list(self._streams.values())
        # A channel that ends at this moment has its lock: the file waits for its last records.
        for stream in streams:
            with stream.lock:
                if stream.is_open:
                    stream.close()
        end = {"channels": self._made - SERVER_STREAM, "record_bytes": self._blocks.raw_bytes}
        self._write(SERVER_STREAM, pack_json(Kind.END, time.monotonic_ns(), **end))
        status = self.status()
        self._blocks.close()
        os.close(self._wake_fd)
        _log.info("recorded: %s", json.dumps(status))
        return status

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._wake_fd, select.POLLIN)
        while not self._stopping:
            if poll.poll(_INTERVAL_MS):
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._wake_fd)
            self._drain()

    def _drain(self) -> None:
        with self._lock:
            said, self._said = self._said, bytearray()
            streams = list(self._streams.values())
        self._write(SERVER_STREAM, bytes(said))
        for stream in streams:
            self._take(stream)

    def _take(self, stream: _Stream) -> None:
        with stream.lock:
            self._write(stream.number, stream.take())

    def _write(self, stream: int, data: bytes) -> None:
        """Append to the file; one that cannot be written ends the recording and nothing more."""
        if self._failure or not data:
            return
        try:
            self._blocks.write(stream, data)
        except OSError as error:
            self._failure = f"cannot write {self.path}: {error.strerror}"
            _log.error("%s; what follows is not recorded", self._failure)
