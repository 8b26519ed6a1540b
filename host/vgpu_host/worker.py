"""A worker process: one channel, one executor, one thread.

Forked ahead of need from `vgpu_host.template`, it makes its executor, reports what the device is,
waits to be attached to a channel, and then drains that channel's ring until the link to the device
server closes. It is ended by SIGKILL, so nothing here may need to be cleaned up.
"""

from __future__ import annotations

import errno
import logging
import mmap
import os
from typing import Any

from vgpu_host.channel_recorder import ChannelRecorder
from vgpu_host.drain import ChannelDrain
from vgpu_host.executors.base import CudaError, DeviceDescription, Executor
from vgpu_host.executors.options import ExecutorOptions, make_executor
from vgpu_host.injection.hook import FaultHook
from vgpu_host.process import set_process_name
from vgpu_host.registrations import Registrations
from vgpu_host.session import ChannelSession
from vgpu_stub.abi import generated as abi
from vgpu_stub.device.rings import RingError, channel_offset
from vgpu_stub.device.worker_link import LinkClosedError, Message, WorkerLink, unpack_extents
from vgpu_stub.faults import Rule
from vgpu_stub.recording.spool import SpoolWriter

_log = logging.getLogger(__name__)


def pack_device_info(description: DeviceDescription, executor: str) -> bytes:
    """`struct vgpu_device_info` of a described device."""
    attributes = [abi.ATTRIBUTE_ABSENT] * abi.ATTRIBUTE_COUNT
    for number, value in description.attributes.items():
        if 0 <= number < abi.ATTRIBUTE_COUNT:
            attributes[number] = value
    return abi.DEVICE_INFO.pack(
        abi.MAGIC,
        abi.ABI_VERSION,
        description.total_memory,
        description.driver_version,
        *description.compute_capability,
        abi.ATTRIBUTE_COUNT,
        description.uuid,
        description.name.encode()[:127],
        executor.encode()[:15],
        *attributes,
    )


class Worker:
    """The worker's side of the link, from start to attach to end."""

    def __init__(self, link: WorkerLink, executor: Executor, executor_name: str) -> None:
        self._link = link
        self._executor = executor
        self._executor_name = executor_name
        self._registrations = Registrations()
        self._drain: ChannelDrain | None = None
        self._faults: FaultHook | None = None
        self._session = ChannelSession(executor, self._registrations)
        self._recorder: ChannelRecorder | None = None

    def run(self) -> None:
        """Serve until the link closes.

        Raises:
            LinkClosedError: The device server is gone.
        """
        info = pack_device_info(self._executor.describe(), self._executor_name)
        self._link.send("ready", info=info.hex())
        while self._drain is None:
            self._take(self._link.receive())
        try:
            self._drain.run()
        except RingError as error:
            self._link.send("ring_error", text=str(error))
            while True:
                self._link.receive()

    def _serve_control(self) -> None:
        message = self._link.receive(wait=False)
        while message is not None:
            self._take(message)
            message = self._link.receive(wait=False)

    def _take(self, message: Message | None) -> None:
        if message is None:
            return
        arguments = message.arguments
        number = 0
        if message.verb == "attach":
            self._attach(int(arguments["number"]), message.fds)
            self._set_faults(arguments)
        elif message.verb == "faults":
            self._set_faults(arguments)
        elif message.verb == "record":
            self._record(message.fds)
        elif message.verb == "record_stop":
            self._stop_recording()
        elif message.verb == "interrupt":
            self._set_interrupt(message.fds)
        elif message.verb == "register":
            number = self._register(
                int(arguments["registration"]), int(arguments["access"]), message.fds
            )
        elif message.verb == "unregister":
            number = self._unregister(int(arguments["registration"]))
        # A "ping" asks for nothing but this answer.
        if "request" in arguments:
            self._link.send("done", request=arguments["request"], errno=number)

    def _attach(self, channel: int, fds: tuple[int, ...]) -> None:
        bar2_fd, kick_fd, *interrupt = fds
        # Its own channel and nothing else: a kernel that escapes finds no other ring here.
        memory = mmap.mmap(bar2_fd, abi.CHANNEL_STRIDE, offset=channel_offset(channel))
        os.close(bar2_fd)
        set_process_name(f"vgpu-worker{channel}")
        self._drain = ChannelDrain(
            memory,
            self._session,
            self._registrations,
            self._serve_control,
            self._link.fileno(),
            kick_fd,
        )
        self._faults = FaultHook(
            self._drain,
            self._session,
            self._registrations,
            self._link.fileno(),
            self._serve_control,
            self._tell_faults,
        )
        self._set_interrupt(tuple(interrupt))
        if self._recorder:
            self._drain.install(self._recorder)

    def _record(self, fds: tuple[int, ...]) -> None:
        """Start to record; before the channel is attached, or between two commands."""
        spool_fd, wake_fd = fds
        self._recorder = ChannelRecorder(
            SpoolWriter(spool_fd, wake_fd),
            self._session,
            self._registrations,
            synchronous=self._executor_name == "software",
        )
        os.close(spool_fd)
        self._recorder.begin()
        if self._drain:
            self._drain.install(self._recorder)

    def _stop_recording(self) -> None:
        if self._recorder and self._drain:
            self._drain.uninstall(self._recorder)
            self._recorder.close()
            self._recorder = None

    def _set_faults(self, arguments: dict[str, Any]) -> None:
        if self._faults is not None:
            rules = [(Rule.from_json(rule), int(added)) for rule, added in arguments["rules"]]
            self._faults.set_rules(rules, arguments["identity"])

    def _tell_faults(self, totals: list[list[int]], text: str) -> None:
        self._link.send("fault_fired", totals=totals, text=text)

    def _set_interrupt(self, fds: tuple[int, ...]) -> None:
        if self._drain is None:
            return
        if self._drain.interrupt_fd is not None:
            os.close(self._drain.interrupt_fd)
        self._drain.interrupt_fd = fds[0] if fds else None

    def _register(self, number: int, access: int, fds: tuple[int, ...]) -> int:
        list_fd, *window_fds = fds
        try:
            registration = self._registrations.add(
                number, list(unpack_extents(list_fd)), window_fds, access
            )
        except OSError as error:
            _log.error("registration %d: %s", number, error)
            return error.errno or errno.ENOMEM
        finally:
            for fd in fds:
                os.close(fd)
        self._executor.host_register(registration.address, registration.size)
        if self._recorder:
            self._recorder.registered(number, registration.size, registration.access)
        return 0

    def _unregister(self, number: int) -> int:
        try:
            registration = self._registrations.get(number)
        except KeyError:
            return errno.ENOENT
        try:
            self._executor.host_unregister(registration.address)
        except CudaError as error:
            _log.warning("registration %d: %s", number, error)
        self._registrations.remove(number)
        if self._recorder:
            self._recorder.unregistered(number)
        return 0


def run_worker(link: WorkerLink, options: ExecutorOptions, executor: Executor | None) -> int:
    """Be a worker at one end of a link, with an executor to be made if none is there.

    Returns:
        The exit status of its process.
    """
    try:
        Worker(link, executor or make_executor(options), options.name).run()
    except LinkClosedError:
        return 0
    except CudaError as error:
        link.send("failed", text=f"{options.name} executor: {error}")
        return 1
    return 0
