"""Directories that vanish with their owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vgpu_qemu.private_directory import private_directory


def test_directory_is_private_and_goes_with_the_block(tmp_path: Path) -> None:
    with private_directory(tmp_path, "x-") as path:
        (path / "file").touch()
        assert path.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == []


def test_directory_goes_when_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broken"), private_directory(tmp_path, "x-"):
        raise ValueError("broken")
    assert list(tmp_path.iterdir()) == []


def test_live_directories_are_left_alone(tmp_path: Path) -> None:
    with private_directory(tmp_path, "x-") as first:
        (first / "file").touch()
        with private_directory(tmp_path, "x-") as second:
            assert first.exists()
            assert second.exists()


def test_directory_of_a_killed_process_is_removed_by_the_next(tmp_path: Path) -> None:
    program = (
        "import sys, signal, pathlib\n"
        "from vgpu_qemu.private_directory import private_directory\n"
        "with private_directory(pathlib.Path(sys.argv[1]), 'x-') as path:\n"
        "    (path / 'file').touch()\n"
        "    print(path, flush=True)\n"
        "    signal.pause()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        os.kill(process.pid, signal.SIGKILL)
    assert left.exists()
    with private_directory(tmp_path, "x-"):
        assert not left.exists()
