"""Rings of a device that lies: what the true queues would write passes a lie first."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from mmap import mmap
from typing import Final, Protocol

from vgpu_stub.abi import generated as abi
from vgpu_stub.device.rings import CompletionQueue, ControlPage, SubmissionQueue
from vgpu_stub.villain.device.lie import Answer, Lie

_U64: Final = 0xFFFF_FFFF_FFFF_FFFF
#: Commands whose opcode is remembered until they complete; a guest has fewer outstanding.
_REMEMBERED: Final = 4 * abi.CQ_ENTRIES


class GuestMemory(Protocol):
    """Guest memory as a command names it: by registration, or by address on the admin channel."""

    def write(self, registration: int, offset: int, data: bytes) -> None:
        """Write to guest memory; what is not there is left alone."""
        ...


class _Registrations(Protocol):
    def resolve(self, number: int, offset: int, size: int, access: int) -> int | None: ...


class RegisteredMemory:
    """The memory that a channel has registered."""

    def __init__(self, registrations: _Registrations) -> None:
        self._registrations = registrations

    def write(self, registration: int, offset: int, data: bytes) -> None:
        """Write to a registration, if the range is in it."""
        address = self._registrations.resolve(registration, offset, len(data), abi.REGISTER_WRITE)
        if address is not None:
            ctypes.memmove(address, data, len(data))


class NoMemory:
    """For the admin channel, whose replies go another way."""

    def write(self, registration: int, offset: int, data: bytes) -> None:
        """Nothing is written."""


class NotedSubmissions(SubmissionQueue):
    """Remembers each command until its completion, by sequence number."""

    def __init__(self, memory: mmap, channel_offset: int, control: ControlPage) -> None:
        super().__init__(memory, channel_offset, control)
        self._commands: dict[int, tuple[int, bytes]] = {}

    def batch(self, limit: int) -> Iterator[tuple[int, int, int, int, bytes]]:
        """As `SubmissionQueue.batch`, noting what is taken."""
        for opcode, flags, context, sequence, command in super().batch(limit):
            if flags & abi.COMMAND_COMPLETE:
                if len(self._commands) > _REMEMBERED:
                    self._commands.clear()
                self._commands[sequence] = opcode, command
            yield opcode, flags, context, sequence, command

    def command(self, sequence: int) -> tuple[int, bytes]:
        """Opcode and bytes of a command that is about to be completed."""
        return self._commands.pop(sequence, (abi.Opcode.NOP, b""))


class LyingCompletions(CompletionQueue):
    """Writes what a lie makes of each completion."""

    def __init__(
        self,
        memory: mmap,
        channel_offset: int,
        control: ControlPage,
        interrupt: Callable[[], None],
        *,
        channel: int,
        submissions: NotedSubmissions,
        guest_memory: GuestMemory,
        lie: Lie,
    ) -> None:
        """As `CompletionQueue`, for a channel whose commands `submissions` notes."""
        super().__init__(memory, channel_offset, control, interrupt)
        self._channel = channel
        self._page = control
        self._submissions = submissions
        self._guest_memory = guest_memory
        self._lie = lie

    def post(self, sequence: int, status: int, flags: int, results: tuple[int, ...] = ()) -> None:
        """Write what the lie says instead."""
        opcode, command = self._submissions.command(sequence)
        answer = Answer(opcode, sequence, status, flags, results)
        if not status:
            self._lie.reply(self._channel, answer, command, self._guest_memory)
        for told in self._lie.completions(self._channel, answer):
            results = tuple(word & _U64 for word in told.results)
            super().post(told.sequence & _U64, _signed(told.status), told.flags, results)
        self._lie.control(self._channel, self._page)


def _signed(status: int) -> int:
    """A status as the 32 bits of a completion hold it."""
    return (status + (1 << 31)) % (1 << 32) - (1 << 31)
