"""What Linux lets a process say of itself (prctl)."""

from __future__ import annotations

import ctypes
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15


def die_with_parent(signal_number: int) -> None:
    """Have this process sent a signal when the thread that started it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)


def set_process_name(name: str) -> None:
    """Set the name that `ps` and `top` show, cut to 15 bytes."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)
