"""The drain alone, over plain memory and an executor that the test steers."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator

import pytest

from vgpu_host.drain import ChannelDrain
from vgpu_host.executors.base import CudaError
from vgpu_host.registrations import Registrations
from vgpu_host.session import ChannelSession
from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.generated import Opcode


class SteeredExecutor:
    """Synchronises when the test says so, and launches what it is told to."""

    output_bytes = 0

    def __init__(self) -> None:
        self.idle = False
        self.launches: list[bytes] = []
        self.failure: CudaError | None = None

    def context_create(self, flags: int) -> object:
        return object()

    def context_activate(self, context: object) -> None:
        pass

    def context_synchronize(self) -> Callable[[], bool]:
        return self._poll

    def _poll(self) -> bool:
        if self.failure:
            raise self.failure
        return self.idle


class Guest:
    """The guest's side of the channel, in the same process."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, abi.CHANNEL_STRIDE)
        self.executor = SteeredExecutor()
        self.control_fd, self._control_writer = os.pipe()
        self.kick_fd = os.eventfd(0)
        registrations = Registrations()
        session = ChannelSession(self.executor, registrations)  # type: ignore[arg-type]
        self.drain = ChannelDrain(
            self.memory, session, registrations, lambda: None, self.control_fd, self.kick_fd
        )
        self.tail = 0

    def submit(self, opcode: int, sequence: int, context: int, flags: int, fields: bytes) -> None:
        header = abi.COMMAND_HEADER.pack(opcode, 1, flags, context, sequence)
        place = abi.SQ_OFFSET + 64 * self.tail
        self.memory[place : place + 16 + len(fields)] = header + fields
        self.tail += 1
        self._control("sq_tail", self.tail)

    def _control(self, name: str, value: int) -> None:
        offset = abi.CHANNEL_CONTROL_OFFSETS[name]
        self.memory[offset : offset + 8] = value.to_bytes(8, "little")

    def word(self, name: str) -> int:
        offset = abi.CHANNEL_CONTROL_OFFSETS[name]
        return int.from_bytes(self.memory[offset : offset + 8], "little")

    def run(self) -> list[tuple[int, int, int]]:
        """One round of the drain; returns (sequence, status, flags) of all completions so far."""
        self.drain.step()
        offset = abi.CHANNEL_CONTROL_OFFSETS["cq_tail"]
        count = int.from_bytes(self.memory[offset : offset + 8], "little")
        entries = []
        for index in range(count):
            place = abi.CQ_OFFSET + 64 * index
            sequence, status, flags, *_ = abi.COMPLETION.unpack_from(self.memory, place)
            entries.append((sequence, status, flags))
        return entries

    def close(self) -> None:
        for fd in (self.control_fd, self._control_writer, self.kick_fd):
            os.close(fd)


@pytest.fixture
def guest() -> Iterator[Guest]:
    made = Guest()
    made.submit(Opcode.CONTEXT_CREATE, 1, 0, abi.COMMAND_COMPLETE, bytes(8))
    assert made.run() == [(1, 0, 0)]
    yield made
    made.close()


def test_waiting_command_does_not_hold_up_later_ones(guest: Guest) -> None:
    guest.submit(Opcode.CONTEXT_SYNCHRONIZE, 2, 1, abi.COMMAND_COMPLETE, b"")
    guest.submit(Opcode.NOP, 3, 0, abi.COMMAND_COMPLETE, b"")
    assert guest.run()[1:] == [(3, 0, 0)]
    guest.executor.idle = True
    assert guest.run()[1:] == [(3, 0, 0), (2, 0, 0)]


def test_waiting_command_reports_the_fault_that_it_waited_for(guest: Guest) -> None:
    guest.submit(Opcode.CONTEXT_SYNCHRONIZE, 2, 1, abi.COMMAND_COMPLETE, b"")
    guest.run()
    guest.executor.failure = CudaError(700, "a kernel faulted")
    assert guest.run()[1:] == [(2, 700, 0)]


def test_command_without_complete_flag_gets_no_completion(guest: Guest) -> None:
    guest.submit(Opcode.NOP, 2, 0, 0, b"")
    assert guest.run() == [(1, 0, 0)]


def test_guest_that_takes_no_completions_gets_no_further(guest: Guest) -> None:
    nop = abi.COMMAND_HEADER.pack(Opcode.NOP, 1, abi.COMMAND_COMPLETE, 0, 9)
    guest.memory[abi.SQ_OFFSET : abi.SQ_OFFSET + 64 * abi.SQ_ENTRIES] = (
        nop.ljust(64, b"\0") * abi.SQ_ENTRIES
    )
    for _ in range(200):
        guest.tail = guest.word("sq_head") + abi.SQ_ENTRIES
        guest._control("sq_tail", guest.tail)
        guest.drain.step()
    assert guest.drain.completions.held < 3 * abi.CQ_ENTRIES
    assert guest.word("sq_head") < 4 * abi.CQ_ENTRIES
    guest._control("cq_head", guest.word("cq_tail"))
    for _ in range(3):
        guest.drain.step()
    assert guest.word("cq_tail") == 2 * abi.CQ_ENTRIES


def test_command_shorter_than_its_fields_is_refused(guest: Guest) -> None:
    guest.submit(Opcode.COPY_2D, 2, 1, abi.COMMAND_COMPLETE, bytes(48))
    assert guest.run()[1:] == [(2, 1, 0)]


def test_exception_of_the_executor_costs_an_error_not_the_channel(guest: Guest) -> None:
    guest.submit(Opcode.MEMORY_ALLOCATE, 2, 1, abi.COMMAND_COMPLETE, bytes(8))
    guest.submit(Opcode.NOP, 3, 0, abi.COMMAND_COMPLETE, b"")
    assert guest.run()[1:] == [(2, 999, 0), (3, 0, 0)]
