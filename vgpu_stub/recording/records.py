"""The records of a recording: what each kind holds, packed and unpacked.

Every record has a kind, a time (nanoseconds of the recording machine's monotonic clock) and a
payload. What happens for every command is packed tightly; what is rare is JSON.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Any, Final, NamedTuple

from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.decode import GuestRange
from vgpu_stub.recording.errors import RecordingError

HEAD: Final = struct.Struct("<IB3xQ")
DIGEST_BYTES: Final = 16
#: Largest piece of content in one record, in bytes.
CONTENT_PIECE_BYTES: Final = 1 << 20

_MEMORY: Final = struct.Struct("<QIIQQQQ16s")
_CONTENT: Final = struct.Struct("<16sQQ")
_COMPLETION: Final = struct.Struct("<QiI6Q")
_MESSAGE: Final = struct.Struct("<IBB2x")

#: `Memory.flags`: the data came later than could be seen, so that there is no digest.
NOT_SEEN: Final = 1
NO_DIGEST: Final = bytes(DIGEST_BYTES)


class Kind(IntEnum):
    """What a record tells; numbers are never used again for something else."""

    START = 1  #: JSON: what was recorded, by what; anchors the clock
    END = 2  #: JSON: the recording was stopped properly
    CHANNEL_OPEN = 3  #: JSON: a channel began; the stream's records are its own
    CHANNEL_CLOSE = 4  #: JSON: it ended
    REGISTER = 5  #: JSON: guest memory was given to the channel
    UNREGISTER = 6  #: JSON: and taken away
    COMMAND = 7  #: a command, as it was in the ring
    INPUT = 8  #: guest memory that the next command reads
    CONTENT = 9  #: a piece of data, by digest
    COMPLETION = 10  #: a completion, as it was put into the ring
    OUTPUT = 11  #: guest memory that a command wrote
    INTERRUPT = 12  #: the channel's interrupt was signalled
    MESSAGE = 13  #: a vfio-user message
    ADMIN = 14  #: JSON: an admin command
    ADMIN_DONE = 15  #: JSON: its completion
    FAULT = 16  #: JSON: an injected fault happened
    NOTE = 17  #: JSON: what could not be recorded
    EXECUTED = 18  #: the worker is done with the last COMMAND, though a GPU may still work on it


class Record(NamedTuple):
    """A record as it was read; `payload` is still packed."""

    kind: int
    time_ns: int
    payload: bytes


class Memory(NamedTuple):
    """INPUT and OUTPUT: a range of a registration, and the digest of what was there."""

    sequence: int
    flags: int
    range: GuestRange
    digest: bytes


class Content(NamedTuple):
    """CONTENT: the bytes from `offset` of data that has `size` bytes in all."""

    digest: bytes
    size: int
    offset: int
    data: bytes


class Completion(NamedTuple):
    """COMPLETION: an entry of the completion ring."""

    sequence: int
    status: int
    flags: int
    results: tuple[int, ...]


class VfioMessage(NamedTuple):
    """MESSAGE: a vfio-user message of one client, header included."""

    client: int
    sent: bool
    fds: int
    message: bytes


def content_digest(data: bytes | memoryview) -> bytes:
    """The digest by which data is known: BLAKE2b of 16 bytes."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def pack(kind: Kind, time_ns: int, payload: bytes = b"") -> bytes:
    """A record."""
    return HEAD.pack(len(payload), kind, time_ns) + payload


def pack_json(kind: Kind, time_ns: int, **values: object) -> bytes:
    """A record whose payload is JSON."""
    return pack(kind, time_ns, json.dumps(values, separators=(",", ":")).encode())


def pack_memory(kind: Kind, time_ns: int, memory: Memory) -> bytes:
    """An INPUT or OUTPUT record."""
    sequence, flags, (registration, offset, row_bytes, rows, pitch), digest = memory
    return HEAD.pack(_MEMORY.size, kind, time_ns) + _MEMORY.pack(
        sequence, registration, flags, offset, row_bytes, rows, pitch, digest
    )


def pack_completion(
    time_ns: int, sequence: int, status: int, flags: int, results: tuple[int, ...]
) -> bytes:
    """A COMPLETION record."""
    words = (*results, 0, 0, 0, 0, 0, 0)[:6]
    return HEAD.pack(_COMPLETION.size, Kind.COMPLETION, time_ns) + _COMPLETION.pack(
        sequence, status, flags, *words
    )


def content_head(time_ns: int, digest: bytes, size: int, offset: int, length: int) -> bytes:
    """What comes before the `length` bytes of a CONTENT record."""
    head = HEAD.pack(_CONTENT.size + length, Kind.CONTENT, time_ns)
    return head + _CONTENT.pack(digest, size, offset)


def pack_message(time_ns: int, client: int, sent: bool, fds: int, message: bytes) -> bytes:
    """A MESSAGE record."""
    return pack(Kind.MESSAGE, time_ns, _MESSAGE.pack(client, sent, fds) + message)


def unpack_json(record: Record) -> dict[str, Any]:
    """The values of a record whose payload is JSON.

    Raises:
        RecordingError: It is none.
    """
    try:
        values: dict[str, Any] = json.loads(record.payload)
    except ValueError as error:
        raise RecordingError(f"a record of kind {record.kind} is no JSON: {error}") from error
    return values


def unpack_memory(record: Record) -> Memory:
    """The range of an INPUT or OUTPUT record."""
    sequence, registration, flags, offset, row_bytes, rows, pitch, digest = _unpack(_MEMORY, record)
    range_ = GuestRange(registration, offset, row_bytes, rows, pitch)
    return Memory(sequence, flags, range_, digest)


def unpack_content(record: Record) -> Content:
    """The piece of a CONTENT record."""
    digest, size, offset = _unpack(_CONTENT, record)
    return Content(digest, size, offset, record.payload[_CONTENT.size :])


def unpack_completion(record: Record) -> Completion:
    """The entry of a COMPLETION record."""
    sequence, status, flags, *results = _unpack(_COMPLETION, record)
    return Completion(sequence, status, flags, tuple(results))


def unpack_message(record: Record) -> VfioMessage:
    """The message of a MESSAGE record."""
    client, sent, fds = _unpack(_MESSAGE, record)
    return VfioMessage(client, bool(sent), fds, record.payload[_MESSAGE.size :])


def command_header(record: Record) -> tuple[int, int, int, int, int]:
    """Opcode, slots, flags, context and sequence of a COMMAND record."""
    opcode, slots, flags, context, sequence = _unpack(abi.COMMAND_HEADER, record)
    return opcode, slots, flags, context, sequence


def _unpack(layout: struct.Struct, record: Record) -> tuple[Any, ...]:
    if len(record.payload) < layout.size:
        raise RecordingError(
            f"a record of kind {record.kind} has {len(record.payload)} bytes, not {layout.size}"
        )
    return layout.unpack_from(record.payload)


def unpack_records(data: bytes) -> Iterator[tuple[Record, int]]:
    """Take a block's records apart; yields each with the place of its payload in the block.

    Raises:
        RecordingError: The block ends inside a record.
    """
    offset = 0
    while offset < len(data):
        if offset + HEAD.size > len(data):
            raise RecordingError("a block ends inside the head of a record")
        length, kind, time_ns = HEAD.unpack_from(data, offset)
        start = offset + HEAD.size
        offset = start + length
        if offset > len(data):
            raise RecordingError("a block ends inside a record")
        yield Record(kind, time_ns, data[start:offset]), start
