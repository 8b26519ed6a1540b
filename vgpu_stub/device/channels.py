"""Channels: which are in use, by which worker, with what memory.

A channel is a row of the table from CHANNEL_CREATE to CHANNEL_DESTROY or reset. Its worker runs in
a process of its own, so every step here is a message that the worker answers, and at any moment the
worker may be dead instead. Every method is called with the device's lock held and none waits,
except for the end of a process that was killed.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from mmap import mmap
from typing import Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.device.faults import DeviceFaults
from vgpu_stub.device.rings import ControlPage, channel_offset
from vgpu_stub.device.supervision import HangWatch
from vgpu_stub.device.worker_link import (
    Extent,
    LinkClosedError,
    Message,
    WorkerProcess,
    pack_extents,
)
from vgpu_stub.vfio_user import DmaWindow

_log = logging.getLogger(__name__)

#: CUDA_ERROR_DEVICE_UNAVAILABLE: what a guest sees when its worker is gone.
WORKER_LOST: Final = 46
#: CUDA_ERROR_ILLEGAL_STATE: what a guest sees when its ring makes no sense.
RING_BROKEN: Final = 401

#: CUDA_ERROR_LAUNCH_TIMEOUT: what a guest sees when its worker does not go on.
WORKER_HUNG: Final = 702

#: Takes the errno of a finished request, 0 for success.
Done = Callable[[int], None]


class ChannelState(Enum):
    """Life of a channel."""

    STARTING = "starting"  #: the worker has been told, and has not answered
    READY = "ready"  #: the worker drains the ring
    FAILED = "failed"  #: the worker is gone; only destroying the channel helps


@dataclass
class Registration:
    """Guest memory that a channel may use."""

    size: int
    extents: int
    windows: list[DmaWindow]


@dataclass
class Channel:
    """One channel in use."""

    number: int
    vector: int
    pid: int
    name: str
    worker: WorkerProcess
    kick_fd: int
    control: ControlPage
    state: ChannelState = ChannelState.STARTING
    registrations: dict[int, Registration] = field(default_factory=dict)
    #: Registrations that the worker has been told to give up and still may use.
    leaving: list[Registration] = field(default_factory=list)
    pending: dict[int, Done] = field(default_factory=dict)
    next_request: int = 1


class ChannelTable:
    """The channels of one device."""

    def __init__(
        self,
        bar2_fd: int,
        memory: mmap,
        interrupt: Callable[[int], None],
        vector_eventfd: Callable[[int], int | None],
        latch_error: Callable[[int, int], None],
        on_end: Callable[[Channel], None],
        faults: DeviceFaults,
        on_start: Callable[[Channel], None],
    ) -> None:
        """Start empty.

        Args:
            bar2_fd: The memfd behind BAR2, for workers to map.
            memory: The same memory, mapped here.
            interrupt: Signals an MSI-X vector.
            vector_eventfd: A duplicate of a vector's eventfd, or None when none is bound.
            latch_error: Sets the ERROR register (code, channel).
            on_end: Told of a channel that ends, while its counters can still be read.
            faults: Rules for workers, and who is told of what they did.
            on_start: Told of a channel before its worker is attached to it.
        """
        self._bar2_fd = bar2_fd
        self._memory = memory
        self._interrupt = interrupt
        self._vector_eventfd = vector_eventfd
        self._latch_error = latch_error
        self._on_end = on_end
        self._faults = faults
        self._on_start = on_start
        self._hangs = HangWatch()
        self._channels: dict[int, Channel] = {}
        self._generation = 0
        self._epoll = select.epoll()
        self._by_fd: dict[int, tuple[Channel, Callable[[Channel], None]]] = {}

    def fileno(self) -> int:
        """Readable when a worker has something to say or has ended: then call `serve`."""
        return self._epoll.fileno()

    def __contains__(self, number: int) -> bool:
        return number in self._channels

    def __iter__(self) -> Iterator[Channel]:
        return iter(list(self._channels.values()))

    def __len__(self) -> int:
        return len(self._channels)

    # -- requests of the admin channel ---------------------------------------------------------

    def create(
        self, number: int, vector: int, pid: int, name: str, worker: WorkerProcess, done: Done
    ) -> None:
        """Attach a worker to a free channel.

        Raises:
            OSError: There are no descriptors for it; nothing has changed.
        """
        interrupt_fd = self._vector_eventfd(vector)
        try:
            kick_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        except OSError:
            if interrupt_fd is not None:
                os.close(interrupt_fd)
            raise
        offset = channel_offset(number)
        self._memory[offset : offset + abi.CHANNEL_STRIDE] = bytes(abi.CHANNEL_STRIDE)
        channel = Channel(
            number,
            vector,
            pid,
            name,
            worker,
            kick_fd,
            ControlPage(self._memory, offset),
        )
        self._generation += 1
        channel.control.publish_generation(self._generation)
        self._channels[number] = channel
        self._watch(worker.link.fileno(), channel, self._on_message)
        self._watch(worker.pidfd, channel, self._on_worker_end)
        self._on_start(channel)
        fds = [self._bar2_fd, channel.kick_fd] + ([] if interrupt_fd is None else [interrupt_fd])

        def attached(error: int) -> None:
            if not error:
                channel.state = ChannelState.READY
                channel.control.publish_state(abi.CHANNEL_READY)
            done(error)

        faults = self._faults.for_worker(number, name, pid, new=True)
        self._request(channel, attached, "attach", fds, number=number, **faults)
        if interrupt_fd is not None:
            os.close(interrupt_fd)

    def destroy(self, number: int) -> None:
        """End a channel; nothing of it runs when this returns.

        Raises:
            KeyError: The channel is not in use.
        """
        channel = self._channels[number]
        self._end_worker(channel, errno.ECANCELED)
        self._on_end(channel)
        channel.control.publish_state(abi.CHANNEL_CLOSED)
        channel.control.release()
        os.close(channel.kick_fd)
        del self._channels[number]

    def register(
        self,
        number: int,
        registration: int,
        windows: list[DmaWindow],
        extents: list[Extent],
        access: int,
        done: Done,
    ) -> None:
        """Give a channel's worker access to guest memory."""
        channel = self._channels[number]
        size = sum(extent.length for extent in extents)
        made = Registration(size, len(extents), windows)
        channel.registrations[registration] = made

        def registered(error: int) -> None:
            # Meanwhile the id may have been given up and be that of a later registration.
            if error and channel.registrations.get(registration) is made:
                del channel.registrations[registration]
            done(error)

        list_fd = pack_extents(extents)
        try:
            window_fds = [window.fd for window in windows if window.fd is not None]
            self._request(
                channel,
                registered,
                "register",
                [list_fd, *window_fds],
                registration=registration,
                access=access,
            )
        finally:
            os.close(list_fd)

    def unregister(self, number: int, registration: int, done: Done) -> None:
        """Take the memory away; done once no copy uses it.

        Raises:
            KeyError: There is no such channel or registration.
        """
        channel = self._channels[number]
        left = channel.registrations.pop(registration)
        if channel.state is ChannelState.FAILED:
            done(0)
            return
        channel.leaving.append(left)

        def unregistered(error: int) -> None:
            # A worker that could not be told still has the memory.
            if error in (0, errno.ENOENT):
                channel.leaving.remove(left)
            done(error)

        self._request(channel, unregistered, "unregister", (), registration=registration)

    def registered_extents(self, number: int) -> int:
        """Extents of all registrations of a channel."""
        return sum(r.extents for r in self._channels[number].registrations.values())

    def registration_exists(self, number: int, registration: int) -> bool:
        """Whether the channel has a registration of that id."""
        return registration in self._channels[number].registrations

    # -- what the rest of the device tells -----------------------------------------------------

    def kick(self, number: int) -> None:
        """Wake a channel's worker; nothing happens where there is none."""
        channel = self._channels.get(number)
        if channel:
            os.eventfd_write(channel.kick_fd, 1)

    def vectors_changed(self, vectors: range) -> None:
        """Give workers the new eventfds of their interrupts."""
        for channel in self._channels.values():
            if channel.vector in vectors and channel.state is not ChannelState.FAILED:
                eventfd = self._vector_eventfd(channel.vector)
                try:
                    channel.worker.link.send("interrupt", () if eventfd is None else (eventfd,))
                except LinkClosedError as error:
                    _log.info("channel %d: %s", channel.number, error)
                finally:
                    if eventfd is not None:
                        os.close(eventfd)

    def faults_changed(self, done: Done) -> int:
        """Give workers the rules; returns how many will answer, each by a call of `done`."""
        asked = 0
        for channel in self._channels.values():
            if channel.state is not ChannelState.FAILED:
                rules = self._faults.for_worker(channel.number, channel.name, channel.pid)
                self._request(channel, done, "faults", (), **rules)
                asked += 1
        return asked

    def ask_workers(self, verb: str, done: Done) -> int:
        """Ask every worker for something; `done` is called for each of the answers returned."""
        asked = [each for each in self if each.state is not ChannelState.FAILED]
        for channel in asked:
            self._request(channel, done, verb, ())
        return len(asked)

    def window_removed(self, window: DmaWindow) -> None:
        """Stop channels that still use memory which the client takes back."""
        for channel in self._channels.values():
            used = (*channel.registrations.values(), *channel.leaving)
            if any(window in registration.windows for registration in used):
                self._fail(channel, WORKER_LOST, abi.DEVICE_ERROR_DMA_REMOVED, f"{window!r} went")

    def reset(self) -> None:
        """Destroy every channel."""
        for number in list(self._channels):
            self.destroy(number)

    def close(self) -> None:
        """Destroy every channel and release what the table holds."""
        self.reset()
        self._epoll.close()

    # -- what workers tell ---------------------------------------------------------------------

    def serve(self) -> None:
        """Handle what workers have said and which have ended; never waits."""
        for fd, _ in self._epoll.poll(0):
            entry = self._by_fd.get(fd)
            if entry:
                channel, handler = entry
                handler(channel)

    def _on_message(self, channel: Channel) -> None:
        try:
            message = channel.worker.link.receive(wait=False)
        except LinkClosedError:
            # The end of the process follows and tells why.
            self._unwatch(channel.worker.link.fileno())
            return
        if message is not None:
            self._take_message(channel, message)

    def _take_message(self, channel: Channel, message: Message) -> None:
        if message.verb == "done":
            done = channel.pending.pop(int(message.arguments["request"]), None)
            if done:
                done(int(message.arguments["errno"]))
        elif message.verb == "fault_fired":
            self._faults.worker_told(
                channel.number, channel.name, channel.pid, channel.worker.pid, message.arguments
            )
        elif message.verb == "ring_error":
            text = str(message.arguments["text"])
            self._fail(channel, RING_BROKEN, abi.DEVICE_ERROR_RING, text)
        else:
            _log.error("channel %d: unknown worker message %r", channel.number, message.verb)

    def _on_worker_end(self, channel: Channel) -> None:
        with contextlib.suppress(LinkClosedError):
            while message := channel.worker.link.receive(wait=False):  # its last words
                self._take_message(channel, message)
        text = f"worker {channel.worker.pid} ended"
        self._fail(channel, WORKER_LOST, abi.DEVICE_ERROR_WORKER_LOST, text)

    def look_for_hangs(self) -> None:
        """Fail the channels whose worker has been stopped for too long."""
        running = {
            channel.worker.pid: channel
            for channel in self._channels.values()
            if channel.state is not ChannelState.FAILED
        }
        for pid in self._hangs.look(running):
            text = f"worker {pid} is stopped and does not go on"
            self._fail(running[pid], WORKER_HUNG, abi.DEVICE_ERROR_WORKER_LOST, text)

    def _fail(self, channel: Channel, result: int, device_error: int, text: str) -> None:
        if channel.state is ChannelState.FAILED:
            return
        _log.error(
            "channel %d (%s, guest pid %d) failed: %s",
            channel.number,
            channel.name,
            channel.pid,
            text,
        )
        self._end_worker(channel, errno.EIO)
        channel.control.publish_state(abi.CHANNEL_FAILED, result)
        self._latch_error(device_error, channel.number)
        self._interrupt(channel.vector)
        self._interrupt(0)

    # -- helpers -------------------------------------------------------------------------------

    def _request(
        self,
        channel: Channel,
        done: Done,
        verb: str,
        fds: list[int] | tuple[()],
        **arguments: object,
    ) -> None:
        request = channel.next_request
        channel.next_request += 1
        channel.pending[request] = done
        try:
            channel.worker.link.send(verb, fds, request=request, **arguments)
        except LinkClosedError as error:
            _log.info("channel %d: %s", channel.number, error)
            channel.pending.pop(request)
            done(errno.EIO)

    def _end_worker(self, channel: Channel, error: int) -> None:
        """Kill the worker, and tell those who wait for its answers."""
        if channel.state is ChannelState.FAILED:
            return
        self._unwatch(channel.worker.link.fileno())
        self._unwatch(channel.worker.pidfd)
        channel.worker.kill()
        channel.state = ChannelState.FAILED
        for done in list(channel.pending.values()):
            done(error)
        channel.pending.clear()
        channel.registrations.clear()
        channel.leaving.clear()

    def _watch(self, fd: int, channel: Channel, handler: Callable[[Channel], None]) -> None:
        self._by_fd[fd] = (channel, handler)
        self._epoll.register(fd, select.EPOLLIN)

    def _unwatch(self, fd: int) -> None:
        if self._by_fd.pop(fd, None):
            self._epoll.unregister(fd)
