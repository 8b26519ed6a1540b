"""Follows the kernel log of a running guest, so that each message belongs to what was done then.

A command in the guest passes /dev/kmsg on as it grows; a mark written into it says how far it has
been read. What the guest said before it died is here, and no test pays for reading it all again.
"""

from __future__ import annotations

import itertools
import re
import threading
from time import monotonic
from typing import Final

from vgpu_qemu.errors import LauncherError
from vgpu_qemu.vm import Vm

#: Marks may not be dropped for coming too fast, which /dev/kmsg does by default.
_FOLLOW: Final = "echo on > /proc/sys/kernel/printk_devkmsg; exec cat /dev/kmsg"
_RECORD: Final = re.compile(r"(\d+),(\d+),(\d+),[^;]*;(.*)")
_MARK: Final = "vgpu-stub: mark "
_MARK_TIMEOUT_S: Final = 20.0


class GuestLog:
    """The kernel log of one guest from its boot on."""

    def __init__(self, vm: Vm) -> None:
        """Start following; ends with the machine."""
        self._vm = vm
        self._marks = itertools.count(1)
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._next_sequence = 0
        self._partial = b""
        self._ended = False
        self._thread = threading.Thread(target=self._follow, name="guest-log", daemon=True)
        self._thread.start()

    @property
    def position(self) -> int:
        """Lines so far."""
        with self._changed:
            return len(self._lines)

    def text(self, start: int = 0, end: int | None = None) -> str:
        """Lines from a position on, as dmesg prints them; marks are left out."""
        with self._changed:
            return "\n".join(line for line in self._lines[start:end] if _MARK not in line)

    def next_mark(self) -> str:
        """The text of the next mark, for who writes it to /dev/kmsg together with other things."""
        return f"{_MARK}{next(self._marks)}"

    def wait_for(self, mark: str) -> int:
        """Wait until a mark that was written has come; returns the position behind it.

        When the log ends first, or takes too long, that is all there is.
        """
        deadline = monotonic() + _MARK_TIMEOUT_S
        with self._changed:
            while True:
                for index in range(len(self._lines) - 1, -1, -1):
                    if self._lines[index].endswith(mark):
                        return index + 1
                left = deadline - monotonic()
                if self._ended or left <= 0:
                    return len(self._lines)
                self._changed.wait(left)

    def wait_end(self, timeout_s: float = 2.0) -> None:
        """Wait for what is still on its way from a guest that has died."""
        self._thread.join(timeout_s)

    def _follow(self) -> None:
        # A program in the guest may kill the command; it then starts again from the beginning.
        try:
            while self._vm.running:
                self._partial = b""
                self._vm.run(_FOLLOW, on_stdout=self._take)
        except (LauncherError, OSError):
            # The machine is gone, perhaps with its files; everybody who uses it hears so.
            pass
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _take(self, data: bytes) -> None:
        *whole, self._partial = (self._partial + data).split(b"\n")
        with self._changed:
            for record in whole:
                self._take_record(record.decode(errors="replace"))
            self._changed.notify_all()

    def _take_record(self, record: str) -> None:
        match = _RECORD.match(record)
        # Lines that start with a space say which device a message is about.
        if match is None or int(match[2]) < self._next_sequence:
            return
        self._next_sequence = int(match[2]) + 1
        self._lines.append(f"[{int(match[3]) / 1e6:12.6f}] {match[4]}")
