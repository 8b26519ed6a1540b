"""A channel's recording as steps: each command with what it reads, each answer to compare with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from vgpu_stub.abi.decode import DecodedCommand, decode
from vgpu_stub.recording.reader import ChannelRecording
from vgpu_stub.recording.records import (
    Completion,
    Kind,
    Memory,
    unpack_completion,
    unpack_json,
    unpack_memory,
)


@dataclass
class CommandStep:
    """A command, the guest memory that it read, and its place among the channel's commands."""

    time_ns: int
    index: int
    data: bytes
    command: DecodedCommand
    inputs: list[Memory] = field(default_factory=list)


@dataclass(frozen=True)
class CompletionStep:
    """A completion that the guest got; `of` is None where its command was not recorded."""

    time_ns: int
    completion: Completion
    of: CommandStep | None


@dataclass(frozen=True)
class OutputStep:
    """Guest memory that a command wrote."""

    time_ns: int
    memory: Memory
    of: CommandStep | None


@dataclass(frozen=True)
class RegisterStep:
    """Guest memory that was given to the channel (`size` > 0) or taken away."""

    time_ns: int
    registration: int
    size: int = 0
    access: int = 0


@dataclass(frozen=True)
class EndStep:
    """The channel ended."""

    time_ns: int


Step = CommandStep | CompletionStep | OutputStep | RegisterStep | EndStep


def steps_of(channel: ChannelRecording) -> Iterator[Step]:
    """The steps of a channel, in the order in which its worker took them.

    Raises:
        RecordingError: A record makes no sense.
    """
    commands: dict[int, CommandStep] = {}
    held: CommandStep | None = None
    count = 0
    for record in channel.records:
        if record.kind == Kind.INPUT:
            if held:
                held.inputs.append(unpack_memory(record))
            continue
        if held:
            yield held
            held = None
        if record.kind == Kind.COMMAND:
            count += 1
            held = CommandStep(record.time_ns, count, record.payload, decode(record.payload))
            commands[held.command.sequence] = held
        elif record.kind == Kind.COMPLETION:
            completion = unpack_completion(record)
            yield CompletionStep(record.time_ns, completion, commands.get(completion.sequence))
        elif record.kind == Kind.OUTPUT:
            memory = unpack_memory(record)
            yield OutputStep(record.time_ns, memory, commands.get(memory.sequence))
        elif record.kind == Kind.REGISTER:
            values = unpack_json(record)
            yield RegisterStep(
                record.time_ns, values["registration"], values["size"], values["access"]
            )
        elif record.kind == Kind.UNREGISTER:
            yield RegisterStep(record.time_ns, unpack_json(record)["registration"])
        elif record.kind == Kind.CHANNEL_CLOSE:
            yield EndStep(record.time_ns)
    if held:
        yield held


def is_late(channel: ChannelRecording) -> bool:
    """Whether the recording began when the channel was in use already."""
    notes: list[dict[str, Any]] = [
        unpack_json(record) for record in channel.records if record.kind == Kind.NOTE
    ]
    return any(note.get("late") for note in notes)
