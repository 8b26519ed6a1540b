"""The file of a recording: what is written is read, and damage is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from vgpu_stub.recording.container import Block, BlockReader, BlockWriter
from vgpu_stub.recording.errors import RecordingError

FIRST, SECOND = b"first" * 1000, bytes(range(256))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.vgpurec"
    with BlockWriter(path) as writer:
        writer.write(0, FIRST)
        writer.write(7, SECOND)
    return path


def read(path: Path) -> tuple[list[Block], str]:
    with BlockReader(path) as reader:
        return list(reader), reader.truncation


def test_blocks_come_back_in_order_with_their_streams(path: Path) -> None:
    blocks, truncation = read(path)
    assert [(block.stream, block.data) for block in blocks] == [(0, FIRST), (7, SECOND)]
    assert truncation == ""
    with BlockReader(path) as reader:
        assert reader.read(blocks[1].offset) == SECOND


def test_a_file_cut_anywhere_is_read_up_to_its_last_whole_block(path: Path) -> None:
    whole = path.read_bytes()
    second = read(path)[0][1].offset
    for size in range(16, len(whole)):
        path.write_bytes(whole[:size])
        blocks, truncation = read(path)
        assert len(blocks) == (size >= second)
        assert bool(truncation) == (size not in (16, second))


def test_no_byte_of_a_block_can_change_unnoticed(path: Path) -> None:
    whole = path.read_bytes()
    first = read(path)[0][0].offset
    second = read(path)[0][1].offset
    for place in range(first, second):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        try:
            blocks, truncation = read(path)
        except RecordingError:
            continue
        # A longer length may reach beyond the end of the file: then it reads as a cut one.
        assert truncation
        assert blocks == []


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("no recording at all")
    with pytest.raises(RecordingError, match=r"text is no recording of VGPU-STUB"):
        read(path)
    with pytest.raises(RecordingError, match=r"cannot read .*: No such file"):
        read(tmp_path / "missing")


def test_later_formats_are_refused_with_their_version(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[8] = 2
    path.write_bytes(data)
    with pytest.raises(RecordingError, match=r"has format 2\.0; this program reads 1\.0 to 1\.0"):
        read(path)
