"""What is written on a GPU that works on while commands are taken is seen when a wait shows it."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator

import pytest

from vgpu_host.channel_recorder import ChannelRecorder
from vgpu_host.hooks import Command, Completion
from vgpu_host.registrations import Registrations
from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.decode import GuestRange
from vgpu_stub.abi.generated import Opcode
from vgpu_stub.device.worker_link import Extent
from vgpu_stub.recording import records
from vgpu_stub.recording.records import Kind, Record

SIZE = 4096
CONTEXT = 1


class Spool:
    """Keeps what is put."""

    def __init__(self) -> None:
        self.data = b""

    def put(self, *parts: bytes | memoryview) -> None:
        self.data += b"".join(parts)

    def taken(self) -> list[Record]:
        data, self.data = self.data, b""
        return [record for record, _ in records.unpack_records(data)]


class Session:
    """Counts what the recorder asks of a session."""

    active_handle = 0
    bytes_to_host = 0
    memory: tuple[()] = ()


class Gpu:
    """A recorder with one registration, and the guest's view of it."""

    def __init__(self) -> None:
        fd = os.memfd_create("guest")
        os.ftruncate(fd, SIZE)
        self.guest = mmap.mmap(fd, SIZE)
        registrations = Registrations()
        registrations.add(1, [Extent(0, 0, SIZE)], [fd], abi.REGISTER_READ | abi.REGISTER_WRITE)
        os.close(fd)
        self.spool = Spool()
        self.recorder = ChannelRecorder(
            self.spool,  # type: ignore[arg-type]
            Session(),  # type: ignore[arg-type]
            registrations,
            synchronous=False,
        )

    def command(
        self, sequence: int, opcode: int, *fields: int, flags: int = 1, context: int = CONTEXT
    ) -> None:
        header = abi.COMMAND_HEADER.pack(opcode, 1, flags, context, sequence)
        data = (header + abi.COMMANDS[opcode].fields.pack(*fields)).ljust(64, b"\0")
        command = Command(opcode, flags, context, sequence, data)
        self.recorder.execute(command, lambda _: None)

    def copy(self, sequence: int, offset: int, stream: int, flags: int = 0) -> None:
        fields = (1 << 40, offset, 64, 1, stream)
        self.command(sequence, Opcode.COPY_DEVICE_TO_HOST, *fields, flags=flags)

    def complete(self, sequence: int, status: int = 0) -> None:
        self.recorder.complete(Completion(sequence, status, 0, ()), lambda _: None)

    def seen(self) -> list[tuple[int, GuestRange, bytes]]:
        """What was written since the last time: sequence, range and digest."""
        found = [
            records.unpack_memory(record)
            for record in self.spool.taken()
            if record.kind == Kind.OUTPUT
        ]
        return [(memory.sequence, memory.range, memory.digest) for memory in found]


@pytest.fixture
def gpu() -> Iterator[Gpu]:
    made = Gpu()
    yield made
    made.guest.close()


def test_a_stream_shows_what_was_copied_on_it(gpu: Gpu) -> None:
    gpu.copy(5, 0, stream=20)
    gpu.copy(6, 64, stream=21)
    gpu.command(7, Opcode.STREAM_SYNCHRONIZE, 20, 0)
    gpu.copy(8, 128, stream=20)
    assert gpu.seen() == []
    gpu.guest[:64] = b"x" * 64  # the GPU has come so far
    gpu.complete(7)
    digest = records.content_digest(b"x" * 64)
    assert gpu.seen() == [(5, GuestRange(1, 0, 64), digest)]


def test_a_context_shows_what_was_copied_on_every_stream(gpu: Gpu) -> None:
    gpu.copy(5, 0, stream=20)
    gpu.copy(6, 64, stream=21)
    gpu.command(7, Opcode.CONTEXT_SYNCHRONIZE)
    gpu.complete(7)
    assert [sequence for sequence, _, _ in gpu.seen()] == [5, 6]


def test_a_copy_that_waits_shows_itself(gpu: Gpu) -> None:
    gpu.copy(5, 0, stream=20, flags=abi.COMMAND_COMPLETE | abi.COMMAND_WAIT)
    gpu.complete(5)
    assert [sequence for sequence, _, _ in gpu.seen()] == [5]


def test_a_wait_that_fails_shows_nothing(gpu: Gpu) -> None:
    gpu.copy(5, 0, stream=20)
    gpu.command(7, Opcode.CONTEXT_SYNCHRONIZE)
    gpu.complete(7, status=700)
    assert gpu.seen() == []


def test_a_completion_alone_shows_nothing(gpu: Gpu) -> None:
    gpu.copy(5, 0, stream=20, flags=abi.COMMAND_COMPLETE)
    gpu.complete(5)
    assert gpu.seen() == []
