"""The last lines of a console log, as people can read them."""

from __future__ import annotations

from pathlib import Path

from vgpu_qemu.console import last_lines


def test_control_sequences_and_empty_lines_are_dropped(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS\r\n\r\n[ 1.0] \x1b[31mpanic\x1b[0m\r\n")
    assert last_lines(log) == ["SeaBIOS", "[ 1.0] panic"]


def test_only_the_last_lines_of_a_long_log_are_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"line {number}\n" for number in range(100_000)))
    assert last_lines(log, 2) == ["line 99998", "line 99999"]


def test_log_that_does_not_exist_has_no_lines(tmp_path: Path) -> None:
    assert last_lines(tmp_path / "none") == []
