"""What an observer of the messages is told: a place for traces and counters of others."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum


class Direction(Enum):
    """Which way a message went, as this process sees it."""

    RECEIVED = "received"
    SENT = "sent"


#: Called for each message with the name of its command, its direction and its size in bytes.
Observer = Callable[[str, Direction, int], None]
