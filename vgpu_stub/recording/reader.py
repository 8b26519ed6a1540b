"""Reads a recording: its channels with their records in order, and data by digest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from vgpu_stub.recording.container import BlockReader
from vgpu_stub.recording.errors import RecordingError
from vgpu_stub.recording.records import (
    Kind,
    Record,
    content_digest,
    unpack_content,
    unpack_json,
    unpack_records,
)

#: Stream of what the device server saw; every channel has one of its own.
SERVER_STREAM: Final = 0


class _Piece(NamedTuple):
    """Where bytes of some content lie: in the block at `block`, from `start` on."""

    block: int
    start: int
    length: int


@dataclass
class _Stored:
    size: int
    pieces: dict[int, _Piece] = field(default_factory=dict)


@dataclass
class ChannelRecording:
    """What happened on one channel from its beginning to its end.

    Attributes:
        stream: Its number in the recording, from 1.
        info: What CHANNEL_OPEN says: device, channel, pid, name, late.
        records: Commands, completions, registrations and so on, in the worker's order.
        ended: Whether its end was recorded.
    """

    stream: int
    info: dict[str, Any] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    ended: bool = False

    @property
    def title(self) -> str:
        """How people call it: "gpu0 channel 1 (python3, pid 17)"."""
        info = self.info
        return (
            f"{info.get('device', '?')} channel {info.get('channel', '?')}"
            f" ({info.get('name', '?')}, pid {info.get('pid', '?')})"
        )


class Recording:
    """A recording that was opened; a context manager. Data stays in the file until asked for."""

    def __init__(self, path: Path) -> None:
        """Read everything but the data.

        Raises:
            RecordingError: The file is no recording, or is damaged.
        """
        self.path = path
        #: What START says.
        self.start: dict[str, Any] = {}
        #: What END says; None when the recording was not stopped properly.
        self.end: dict[str, Any] | None = None
        #: What the server saw: messages, admin commands, faults.
        self.server: list[Record] = []
        #: Channels by stream, in the order of their beginning.
        self.channels: dict[int, ChannelRecording] = {}
        self._stored: dict[bytes, _Stored] = {}
        self._cached: tuple[int, bytes] = (-1, b"")
        self._blocks = BlockReader(path)
        try:
            for block in self._blocks:
                for record, start in unpack_records(block.data):
                    self._take(block.stream, block.offset, record, start)
        except BaseException:
            self._blocks.close()
            raise
        if not self.start:
            self._blocks.close()
            raise RecordingError(f"{path} does not say what it is a recording of")

    @property
    def damage(self) -> str:
        """Why the end of the recording is missing, or "" when it was stopped properly."""
        if self.end is not None:
            return ""
        return self._blocks.truncation or "it was not stopped properly; its last moments may miss"

    def _take(self, stream: int, block: int, record: Record, start: int) -> None:
        if record.kind == Kind.CONTENT:
            content = unpack_content(record)
            stored = self._stored.setdefault(content.digest, _Stored(content.size))
            place = start + len(record.payload) - len(content.data)
            stored.pieces[content.offset] = _Piece(block, place, len(content.data))
        elif record.kind == Kind.START:
            self.start = unpack_json(record)
        elif record.kind == Kind.END:
            self.end = unpack_json(record)
        elif stream == SERVER_STREAM:
            self.server.append(record)
        else:
            self._take_of_channel(stream, record)

    def _take_of_channel(self, stream: int, record: Record) -> None:
        channel = self.channels.setdefault(stream, ChannelRecording(stream))
        if record.kind == Kind.CHANNEL_OPEN:
            channel.info = unpack_json(record)
        elif record.kind == Kind.CHANNEL_CLOSE:
            channel.ended = True
        channel.records.append(record)

    def has_content(self, digest: bytes) -> bool:
        """Whether data of that digest was kept, and not only its digest."""
        return digest in self._stored

    def content(self, digest: bytes) -> bytes:
        """Data by digest.

        Raises:
            RecordingError: It is not there, or not what was hashed: the guest changed its memory
                while the command was carried out.
        """
        stored = self._stored.get(digest)
        if stored is None:
            raise RecordingError(f"the recording has no data of digest {digest.hex()}")
        data = b"".join(self._pieces(stored))
        if len(data) != stored.size:
            raise RecordingError(f"data {digest.hex()}: {len(data)} of {stored.size} bytes")
        if content_digest(data) != digest:
            raise RecordingError(
                f"data {digest.hex()} is not what was hashed: the guest changed it meanwhile"
            )
        return data

    def _pieces(self, stored: _Stored) -> Iterator[bytes]:
        for _, piece in sorted(stored.pieces.items()):
            if self._cached[0] != piece.block:
                self._cached = (piece.block, self._blocks.read(piece.block))
            yield self._cached[1][piece.start : piece.start + piece.length]

    def contents(self) -> dict[bytes, int]:
        """Digest and size of all data that was kept."""
        return {digest: stored.size for digest, stored in self._stored.items()}

    def close(self) -> None:
        """Close the file."""
        self._blocks.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
