"""The admin channel: takes commands from channel 0 and answers each once it is carried out.

A thread of its own drains the ring when its doorbell rings, and serves what workers say. It holds
the device's lock except while it waits for a new worker or for a measurement; a reset meanwhile is
noticed by the device's reset count.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import threading
from collections.abc import Callable
from mmap import mmap
from time import monotonic
from typing import Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.device.channels import RING_BROKEN, ChannelTable
from vgpu_stub.device.delays import Delays
from vgpu_stub.device.fault_admin import InjectedAdminError, faulty_answer
from vgpu_stub.device.faults import DeviceFaults
from vgpu_stub.device.rings import (
    CompletionQueue,
    ControlPage,
    RingError,
    SubmissionQueue,
    channel_offset,
)
from vgpu_stub.device.scatter import ScatterError, resolve, write_memory
from vgpu_stub.device.status import DeviceStatus, DeviceStatusSource, StatusUnavailableError
from vgpu_stub.device.supervision import LOOK_INTERVAL_S
from vgpu_stub.device.worker_link import WorkerProcess, Workers, WorkerUnavailableError
from vgpu_stub.faults import Point
from vgpu_stub.vfio_user import DmaMap

_log = logging.getLogger(__name__)
_LOOK_INTERVAL_MS: Final = int(LOOK_INTERVAL_S * 1000)
_ACCESS: Final = abi.REGISTER_READ | abi.REGISTER_WRITE


class AdminError(Exception):
    """An admin command is refused; `number` is the errno for its completion."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


class AdminChannel:
    """Channel 0 of one device, from `enable` to `disable`, again and again."""

    def __init__(
        self,
        memory: mmap,
        lock: threading.RLock,
        channels: ChannelTable,
        workers: Workers,
        dma: Callable[[], DmaMap | None],
        interrupt: Callable[[], None],
        latch_error: Callable[[int, int], None],
        status_source: DeviceStatusSource | None,
        faults: DeviceFaults,
        delays: Delays,
        examine: Callable[[DeviceStatus], DeviceStatus],
        on_command: Callable[[int, bytes], None],
        on_completion: Callable[[int, int], None],
        own_thread: bool = True,
    ) -> None:
        """Start the thread; commands are taken once `enable` is called.

        Args:
            memory: BAR2, mapped.
            lock: The device's lock.
            channels: The channels to manage.
            workers: Where workers for new channels come from.
            dma: The connected client's windows, or None.
            interrupt: Signals vector 0.
            latch_error: Sets the ERROR register (code, channel).
            status_source: Who measures the device; None refuses DEVICE_STATUS.
            faults: What goes wrong on purpose.
            delays: Carries out what faults make late.
            examine: What faults make of a measurement.
            on_command: Told of each command (sequence, command) before it is carried out.
            on_completion: Told of each completion (sequence, errno) before the guest is.
            own_thread: Serve from a thread of its own; otherwise the caller calls `serve`, and
                what happens is the same each time.
        """
        self._memory = memory
        self._lock = lock
        self._channels = channels
        self._workers = workers
        self._dma = dma
        self._interrupt = interrupt
        self._latch_error = latch_error
        self._status_source = status_source
        self._faults = faults
        self._delays = delays
        self._examine = examine
        self._on_command = on_command
        self._on_completion = on_completion
        self._epoch = 0
        self._queues: tuple[ControlPage, SubmissionQueue, CompletionQueue] | None = None
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stopping = threading.Event()
        self._handlers: dict[int, Callable[..., None]] = {
            abi.Opcode.CHANNEL_DESTROY: self._channel_destroy,
            abi.Opcode.MEMORY_REGISTER: self._memory_register,
            abi.Opcode.MEMORY_UNREGISTER: self._memory_unregister,
        }
        self._thread = threading.Thread(target=self._run, name="vgpu-admin", daemon=True)
        if own_thread:
            self._thread.start()

    def enable(self) -> None:
        """Take commands from now on. Called with the lock held."""
        offset = channel_offset(0)
        control = ControlPage(self._memory, offset)
        self._queues = (
            control,
            SubmissionQueue(self._memory, offset, control),
            CompletionQueue(self._memory, offset, control, self._interrupt),
        )
        control.publish_state(abi.CHANNEL_READY)
        self.doorbell()

    def disable(self) -> None:
        """Forget every command. Called with the lock held."""
        self._epoch += 1
        self._release_queues()

    def _release_queues(self) -> None:
        if self._queues:
            self._queues[0].release()
            self._queues = None

    def doorbell(self) -> None:
        """There may be new commands."""
        os.eventfd_write(self._wake_fd, 1)

    def close(self) -> None:
        """End the thread."""
        self._stopping.set()
        self.doorbell()
        if self._thread.is_alive():
            self._thread.join()
        os.close(self._wake_fd)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._wake_fd, select.POLLIN)
        poll.register(self._channels.fileno(), select.POLLIN)
        next_look = 0.0
        while True:
            poll.poll(_LOOK_INTERVAL_MS if len(self._channels) else None)
            if self._stopping.is_set():
                return
            self.serve()
            if monotonic() >= next_look:
                next_look = monotonic() + LOOK_INTERVAL_S
                with self._lock:
                    self._channels.look_for_hangs()

    def serve(self) -> None:
        """Take the commands that are there and what workers have said; waits for neither."""
        with self._lock:
            with contextlib.suppress(BlockingIOError):  # it was a worker that woke us
                os.eventfd_read(self._wake_fd)
            self._channels.serve()
        self._drain()

    def _drain(self) -> None:
        while True:
            with self._lock:
                if self._queues is None:
                    return
                control, submissions, completions = self._queues
                completions.flush()
                try:
                    if completions.held >= abi.CQ_ENTRIES:
                        # A guest that takes no completions gets no further: it would fill memory.
                        submissions.ask_for_doorbell()
                        return
                    if not submissions.available():
                        if submissions.announce_sleep():
                            return
                        continue
                    submissions.announce_awake()
                    # None when the guest has taken its tail back meanwhile.
                    commands = list(submissions.batch(1))
                except RingError as error:
                    _log.error("admin ring: %s", error)
                    control.publish_state(abi.CHANNEL_FAILED, RING_BROKEN)
                    self._latch_error(abi.DEVICE_ERROR_ADMIN_RING, 0)
                    self._interrupt()
                    self._release_queues()
                    return
                epoch = self._epoch
            for opcode, flags, _, sequence, command in commands:
                self._execute(epoch, opcode, flags, sequence, command)

    def _execute(self, epoch: int, opcode: int, flags: int, sequence: int, command: bytes) -> None:
        """Carry out one command; it is answered now or by a worker's answer later."""
        self._on_command(sequence, command)

        def complete(number: int) -> None:
            # Called with the lock held. After a reset the guest expects nothing any more.
            if flags & abi.COMMAND_COMPLETE and self._queues and self._epoch == epoch:
                self._on_completion(sequence, number)
                self._queues[2].post(sequence, number, 0)

        if not self._faults.has_rules(Point.ADMIN):
            try:
                self._carry_out(opcode, command, epoch, complete)
            except Exception:  # a bug in here must cost the guest an error, not its admin channel
                _log.exception("admin command 0x%x failed unexpectedly", opcode)
                with self._lock:
                    complete(errno.EIO)
            return
        try:
            answer = faulty_answer(self._faults, self._delays, opcode, command, complete)
        except InjectedAdminError as error:
            with self._lock:
                complete(error.number)
            return
        self._carry_out(opcode, command, epoch, answer)

    def _carry_out(
        self, opcode: int, command: bytes, epoch: int, complete: Callable[[int], None]
    ) -> None:
        if opcode == abi.Opcode.CHANNEL_CREATE:
            fields = abi.COMMANDS[opcode].fields.unpack_from(command, abi.COMMAND_HEADER.size)
            self._channel_create(complete, epoch, *fields)
            return
        if opcode == abi.Opcode.DEVICE_STATUS and self._status_source:
            fields = abi.COMMANDS[opcode].fields.unpack_from(command, abi.COMMAND_HEADER.size)
            self._device_status(self._status_source, complete, epoch, *fields)
            return
        with self._lock:
            if self._epoch != epoch:
                return
            if opcode == abi.Opcode.NOP:
                complete(0)
                return
            handler = self._handlers.get(opcode)
            if handler is None:
                _log.warning("admin command of unknown opcode 0x%x", opcode)
                complete(errno.EOPNOTSUPP)
                return
            fields = abi.COMMANDS[opcode].fields.unpack_from(command, abi.COMMAND_HEADER.size)
            try:
                handler(complete, *fields)
            except (AdminError, ScatterError) as error:
                _log.warning("admin %s refused: %s", abi.COMMANDS[opcode].name, error)
                complete(error.number)

    def _channel_create(
        self,
        complete: Callable[[int], None],
        epoch: int,
        channel: int,
        vector: int,
        pid: int,
        _reserved: int,
        name: bytes,
    ) -> None:
        """Called without the lock: a worker may have to start first."""
        with self._lock:
            if not 0 < channel < abi.CHANNEL_COUNT or not 0 < vector < abi.VECTOR_COUNT:
                complete(errno.EINVAL)
                return
            if channel in self._channels:
                complete(errno.EBUSY)
                return
        text = name.rstrip(b"\0").decode(errors="replace")
        try:
            worker = self._take_worker(channel, pid, text)
        except WorkerUnavailableError as error:
            _log.error("no worker for channel %d: %s", channel, error)
            with self._lock:
                complete(errno.EAGAIN)
            return
        with self._lock:
            if self._epoch != epoch:
                worker.kill()
                return
            try:
                self._channels.create(channel, vector, pid, text, worker, complete)
            except OSError as error:
                _log.error("channel %d: %s", channel, error)
                worker.kill()
                complete(errno.EAGAIN)

    def _take_worker(self, channel: int, pid: int, process: str) -> WorkerProcess:
        rule = self._faults.fires(Point.WORKER, channel=channel, pid=pid, process=process)
        if rule and rule.kind == "worker-start-failure":
            raise WorkerUnavailableError(f"injected fault {rule.id}: {rule}")
        if rule and rule.kind == "worker-slow-start":
            self._stopping.wait(float(rule.parameters["delay_ms"]) / 1000)
        return self._workers.take()

    def _device_status(
        self,
        source: DeviceStatusSource,
        complete: Callable[[int], None],
        epoch: int,
        reply_iova: int,
        reply_size: int,
        _reserved: int,
    ) -> None:
        """Called without the lock: measuring takes time, which registers must not wait for."""
        number = 0
        reply = b""
        if reply_size < abi.STATUS_BYTES:
            number = errno.EINVAL
        else:
            try:
                reply = self._examine(source.device_status()).pack()
            except StatusUnavailableError as error:
                _log.warning("admin DEVICE_STATUS: %s", error)
                number = errno.EIO
        with self._lock:
            if self._epoch != epoch:  # after a reset the reply's memory is no longer ours
                return
            dma = self._dma()
            try:
                if not number and dma:
                    write_memory(dma, reply_iova, reply)
            except ScatterError as error:
                _log.warning("admin DEVICE_STATUS refused: %s", error)
                number = error.number
            complete(number)

    def _channel_destroy(
        self, complete: Callable[[int], None], channel: int, _reserved: int
    ) -> None:
        if not 0 < channel < abi.CHANNEL_COUNT:
            raise AdminError(errno.EINVAL, f"no channel {channel}")
        if channel not in self._channels:
            raise AdminError(errno.ENOENT, f"channel {channel} is not in use")
        self._channels.destroy(channel)
        complete(0)

    def _memory_register(
        self,
        complete: Callable[[int], None],
        list_iova: int,
        size: int,
        channel: int,
        registration: int,
        access: int,
        extents: int,
    ) -> None:
        if channel not in self._channels:
            raise AdminError(errno.ENOENT, f"channel {channel} is not in use")
        if not size or not extents:
            raise AdminError(errno.EINVAL, f"{extents} extents of {size} bytes")
        if not 0 < registration <= abi.REGISTRATION_MAX:
            raise AdminError(errno.EINVAL, f"registration id {registration}")
        if not access or access & ~_ACCESS:
            raise AdminError(errno.EINVAL, f"access 0x{access:x}")
        if self._channels.registration_exists(channel, registration):
            raise AdminError(errno.EEXIST, f"registration {registration} exists")
        if self._channels.registered_extents(channel) + extents > abi.REGISTER_MAX_EXTENTS:
            raise AdminError(errno.ENOSPC, f"{extents} extents more are too many")
        dma = self._dma()
        if dma is None:
            raise AdminError(errno.EFAULT, "no client is connected")
        windows, found = resolve(dma, list_iova, extents, size, access)
        self._channels.register(channel, registration, windows, found, access, complete)

    def _memory_unregister(
        self, complete: Callable[[int], None], channel: int, registration: int
    ) -> None:
        try:
            self._channels.unregister(channel, registration, complete)
        except KeyError as error:
            raise AdminError(
                errno.ENOENT, f"channel {channel} has no registration {registration}"
            ) from error
