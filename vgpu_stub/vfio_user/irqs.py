"""Interrupts of one connection: which eventfd each vector rings, and what is masked.

The table owns every eventfd that the client hands over: it closes one when another replaces it,
when the vector is disabled, and at the end. Ringing and replacing are serialised by one lock,
because a descriptor number that was closed may already mean another file.
"""

from __future__ import annotations

import errno
import os
import select
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .constants import IrqInfoFlag, IrqSetFlag
from .errors import ProtocolError, VfioUserError
from .messages import IrqSet


@dataclass(frozen=True, slots=True)
class Irq:
    """An interrupt type that a device offers.

    Attributes:
        index: `IrqIndex` of the type.
        count: Number of vectors.
        flags: What the type supports.
    """

    index: int
    count: int
    flags: IrqInfoFlag = IrqInfoFlag.EVENTFD


class _EventFd:
    """An eventfd of the client, owned."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def signal(self) -> None:
        # A full counter would block the write for as long as the client likes, who can also make
        # its eventfd a blocking one at any time. It means that the interrupt is already pending, so
        # there is nothing to add.
        poller = select.poll()
        poller.register(self.fd, select.POLLOUT)
        if not poller.poll(0):
            return
        try:
            os.eventfd_write(self.fd, 1)
        except BlockingIOError:
            return

    def close(self) -> None:
        os.close(self.fd)


class _Vector:
    """One interrupt: the eventfds bound to its three actions, and its mask."""

    __slots__ = ("bound", "masked", "pending")

    def __init__(self) -> None:
        self.bound: dict[IrqSetFlag, _EventFd] = {}
        self.masked = False
        self.pending = False

    def bind(self, action: IrqSetFlag, eventfd: _EventFd | None) -> None:
        previous = self.bound.pop(action, None)
        if previous is not None:
            previous.close()
        if eventfd is not None:
            self.bound[action] = eventfd

    def perform(self, action: IrqSetFlag) -> bool:
        """Trigger, mask or unmask; return whether a trigger reached an eventfd."""
        if action == IrqSetFlag.ACTION_TRIGGER:
            return self.trigger()
        self.masked = action == IrqSetFlag.ACTION_MASK
        if action in self.bound:
            self.bound[action].signal()
        if not self.masked and self.pending:
            self.trigger()
        return False

    def trigger(self) -> bool:
        self.pending = self.masked
        eventfd = self.bound.get(IrqSetFlag.ACTION_TRIGGER)
        if self.masked or eventfd is None:
            return False
        eventfd.signal()
        return True

    def disable(self) -> None:
        for action in list(self.bound):
            self.bind(action, None)
        self.masked = False
        self.pending = False


class IrqTable:
    """Every vector that the device offers to one client."""

    def __init__(self, irqs: Iterable[Irq]) -> None:
        """Start with nothing bound and nothing masked."""
        self._irqs = {irq.index: irq for irq in irqs}
        self._vectors = {
            index: [_Vector() for _ in range(irq.count)] for index, irq in self._irqs.items()
        }
        self._lock = threading.Lock()

    def trigger(self, index: int, vector: int = 0) -> bool:
        """Ring one interrupt; any thread may call it.

        Interrupts coalesce on the way: the guest sees at least one after the last trigger.

        Returns:
            Whether an eventfd was rung. False when the client has bound none (the interrupt is
            lost) or masked it (it is delivered on unmask).
        """
        with self._lock:
            return self._vectors[index][vector].trigger()

    def dup_eventfd(self, index: int, vector: int = 0) -> int | None:
        """Return a duplicate of the eventfd that triggers a vector, for another process to ring.

        Returns:
            A descriptor that the caller owns and must replace at the next `irqs_changed`, or None
            when nothing is bound.
        """
        with self._lock:
            eventfd = self._vectors[index][vector].bound.get(IrqSetFlag.ACTION_TRIGGER)
            return None if eventfd is None else os.dup(eventfd.fd)

    def is_enabled(self, index: int, vector: int = 0) -> bool:
        """Return whether the client has bound an eventfd that a trigger will ring."""
        with self._lock:
            return IrqSetFlag.ACTION_TRIGGER in self._vectors[index][vector].bound

    def apply(self, request: IrqSet, fds: list[int]) -> range:
        """Do what a DEVICE_SET_IRQS message asks, taking over its descriptors when all is well.

        Args:
            request: The message, already well-formed.
            fds: Its descriptors; emptied once they are owned by the table.

        Returns:
            The vectors of `request.index` that the message was about.

        Raises:
            ProtocolError: The message does not fit what the device offers; nothing has changed.
        """
        vectors = self._check(request, fds)
        action = IrqSetFlag(request.flags & _ACTIONS)
        if request.flags & IrqSetFlag.DATA_EVENTFD:
            eventfds = [_EventFd(fd) for fd in fds]
            fds.clear()
            with self._lock:
                for place, vector in enumerate(vectors):
                    eventfd = eventfds[place] if eventfds else None
                    self._vectors[request.index][vector].bind(action, eventfd)
        elif request.count == 0:
            with self._lock:
                for state in self._vectors[request.index]:
                    state.disable()
        else:
            with self._lock:
                for place, vector in enumerate(vectors):
                    if request.flags & IrqSetFlag.DATA_NONE or request.data[place]:
                        self._vectors[request.index][vector].perform(action)
        return vectors

    def _check(self, request: IrqSet, fds: Sequence[int]) -> range:
        irq = self._irqs.get(request.index)
        if irq is None:
            raise ProtocolError(
                f"DEVICE_SET_IRQS: the device has no interrupt type {request.index}"
            )
        end = request.start + request.count
        if end > irq.count or (request.count and request.start >= irq.count):
            raise ProtocolError(
                f"DEVICE_SET_IRQS: vectors {request.start} to {end} exceed the {irq.count} of "
                f"type {request.index}"
            )
        masking = not request.flags & IrqSetFlag.ACTION_TRIGGER
        if masking and not irq.flags & IrqInfoFlag.MASKABLE:
            raise ProtocolError(f"DEVICE_SET_IRQS: type {request.index} is not maskable")
        if fds and not request.flags & IrqSetFlag.DATA_EVENTFD:
            raise ProtocolError("DEVICE_SET_IRQS: descriptors came without DATA_EVENTFD")
        if fds and len(fds) != request.count:
            raise ProtocolError(
                f"DEVICE_SET_IRQS: {len(fds)} descriptors came for {request.count} vectors"
            )
        for fd in fds:
            _check_eventfd(fd)
        if request.count == 0:
            return range(irq.count)
        return range(request.start, end)

    def clear(self) -> None:
        """Disable every interrupt and close every eventfd."""
        with self._lock:
            for states in self._vectors.values():
                for state in states:
                    state.disable()


_ACTIONS = IrqSetFlag.ACTION_MASK | IrqSetFlag.ACTION_UNMASK | IrqSetFlag.ACTION_TRIGGER


def _check_eventfd(fd: int) -> None:
    # Eight bytes into any other kind of file could block for ever or do harm.
    try:
        # Not by pathlib, which takes ten times as long: a client binds 65 of them at its start.
        kind = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115
    except OSError as error:
        raise VfioUserError(errno.EIO, f"cannot inspect descriptor {fd}: {error}") from error
    if kind != "anon_inode:[eventfd]":
        raise ProtocolError(f"DEVICE_SET_IRQS: expected an eventfd, got {kind}")
