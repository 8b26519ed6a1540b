"""The follower of a guest's kernel log, fed with what /dev/kmsg has."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import cast

from vgpu_qemu.errors import VmError
from vgpu_qemu.vm import Vm
from vgpu_stub.harness.guest_log import GuestLog


class FakeVm:
    """A machine whose command prints what it is told to, until it is gone."""

    def __init__(self, *runs: list[bytes]) -> None:
        self.running = True
        self._runs = list(runs)
        self.printed = threading.Event()

    def run(self, command: str, *, on_stdout: Callable[[bytes], None]) -> None:
        if not self._runs:
            self.printed.set()
            raise VmError("the machine is gone")
        for piece in self._runs.pop(0):
            on_stdout(piece)


def log_of(*runs: list[bytes]) -> GuestLog:
    log = GuestLog(cast(Vm, FakeVm(*runs)))
    log.wait_end()
    return log


def test_records_are_shown_as_dmesg_does() -> None:
    log = log_of([b"6,0,0,-;Linux version 6.12\n4,1,5140900,-;vgpu 0000:00:05.0: re", b"ady\n"])
    assert (
        log.text() == "[    0.000000] Linux version 6.12\n[    5.140900] vgpu 0000:00:05.0: ready"
    )


def test_lines_about_the_sender_are_left_out() -> None:
    log = log_of([b"6,7,1000000,-;ready\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:05.0\n"])
    assert log.text() == "[    1.000000] ready"


def test_a_command_that_starts_again_repeats_nothing() -> None:
    first, second = b"6,0,0,-;first\n", b"6,1,1000000,-;second\n"
    assert log_of([first], [first, second]).text().count("first") == 1


def test_marks_separate_what_belongs_to_whom() -> None:
    log = log_of(
        [
            b"6,0,0,-;before\n",
            b"12,1,1000000,-;vgpu-stub: mark 1\n",
            b"6,2,2000000,-;after\n",
        ]
    )
    assert log.next_mark() == "vgpu-stub: mark 1"
    behind = log.wait_for("vgpu-stub: mark 1")
    assert log.text(behind) == "[    2.000000] after"
    assert "mark" not in log.text()


def test_a_mark_of_a_guest_that_died_is_not_waited_for() -> None:
    assert log_of([b"6,0,0,-;only\n"]).wait_for("vgpu-stub: mark 1") == 1
