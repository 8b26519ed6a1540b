"""The records of a recording, and what a reader makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from vgpu_stub.abi.decode import GuestRange
from vgpu_stub.recording import records
from vgpu_stub.recording.container import BlockWriter
from vgpu_stub.recording.errors import RecordingError
from vgpu_stub.recording.reader import Recording
from vgpu_stub.recording.records import Kind, Memory

DATA = bytes(range(256)) * 16
DIGEST = records.content_digest(DATA)
RANGE = GuestRange(3, 4096, 10, 5, 64)


def content(offset: int, data: bytes, digest: bytes = DIGEST) -> bytes:
    return records.content_head(5, digest, len(DATA), offset, len(data)) + data


def write(path: Path, *channel: bytes, end: bool = True) -> Path:
    with BlockWriter(path) as writer:
        writer.write(0, records.pack_json(Kind.START, 1, program="test"))
        opened = records.pack_json(
            Kind.CHANNEL_OPEN, 2, device="gpu0", channel=1, pid=17, name="python3"
        )
        for record in (opened, *channel):
            writer.write(1, record)
        if end:
            writer.write(0, records.pack_json(Kind.END, 9))
    return path


def test_every_record_comes_back_as_it_was(tmp_path: Path) -> None:
    memory = Memory(9, 1, RANGE, DIGEST)
    path = write(
        tmp_path / "a",
        records.pack(Kind.COMMAND, 3, b"command"),
        records.pack_memory(Kind.INPUT, 4, memory),
        records.pack_completion(6, 9, -3, 1, (7, 8)),
        records.pack_message(7, 2, True, 1, b"message"),
        records.pack_json(Kind.CHANNEL_CLOSE, 8),
    )
    with Recording(path) as recording:
        channel = recording.channels[1]
    _, command, read, completion, message, _ = channel.records
    assert (command.kind, command.time_ns, command.payload) == (Kind.COMMAND, 3, b"command")
    assert records.unpack_memory(read) == memory
    assert records.unpack_completion(completion) == (9, -3, 1, (7, 8, 0, 0, 0, 0))
    assert records.unpack_message(message) == (2, True, 1, b"message")
    assert channel.ended
    assert channel.title == "gpu0 channel 1 (python3, pid 17)"


def test_data_in_pieces_is_put_together_by_its_digest(tmp_path: Path) -> None:
    path = write(tmp_path / "a", content(1000, DATA[1000:]), content(0, DATA[:1000]))
    with Recording(path) as recording:
        assert recording.contents() == {DIGEST: len(DATA)}
        assert recording.content(DIGEST) == DATA


def test_data_that_is_not_what_was_hashed_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a", content(0, bytes(len(DATA))))
    with (
        Recording(path) as recording,
        pytest.raises(RecordingError, match="is not what was hashed: the guest changed it"),
    ):
        recording.content(DIGEST)


def test_data_that_is_missing_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a", content(0, DATA[:100]))
    with Recording(path) as recording:
        with pytest.raises(RecordingError, match=f"data {DIGEST.hex()}: 100 of 4096 bytes"):
            recording.content(DIGEST)
        with pytest.raises(RecordingError, match=f"no data of digest {bytes(16).hex()}"):
            recording.content(bytes(16))


def test_a_recording_that_was_not_stopped_says_so(tmp_path: Path) -> None:
    with Recording(write(tmp_path / "a", end=False)) as recording:
        assert recording.damage.startswith("it was not stopped properly")
    path = write(tmp_path / "b")
    path.write_bytes(path.read_bytes()[:-1])
    with Recording(path) as recording:
        assert recording.damage.startswith("the file ends inside the block at byte")
    with Recording(write(tmp_path / "c")) as recording:
        assert recording.damage == ""


def test_blocks_that_are_no_records_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="a block ends inside the head of a record"):
        Recording(write(tmp_path / "a", b"junk"))
    cut = records.pack(Kind.COMMAND, 3, b"command")[:-1]
    with pytest.raises(RecordingError, match="a block ends inside a record"):
        Recording(write(tmp_path / "a", cut))
    short = records.Record(Kind.COMPLETION, 1, b"short")
    with pytest.raises(RecordingError, match="a record of kind 10 has 5 bytes, not 64"):
        records.unpack_completion(short)
