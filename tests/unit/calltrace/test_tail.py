"""Journals are read as they grow."""

from __future__ import annotations

from pathlib import Path

from vgpu_stub.calltrace.tail import JournalTail


def test_whole_lines_are_read_once(tmp_path: Path) -> None:
    tail = JournalTail(tmp_path)
    assert tail.read() == []
    with (tmp_path / "7.jsonl").open("ab", buffering=0) as file:
        file.write(b"one\ntw")
        assert tail.read() == [(7, b"one")]
        assert tail.read() == []
        file.write(b"o\n")
        (tmp_path / "12.jsonl").write_bytes(b"other\n")
        assert sorted(tail.read()) == [(7, b"two"), (12, b"other")]
        assert tail.read() == []
