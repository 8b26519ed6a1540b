"""What those who look at the messages are told: a place for traces and counters of others."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum


class Direction(Enum):
    """Which way a message went, as this process sees it."""

    RECEIVED = "received"
    SENT = "sent"


#: Called for each message with the name of its command, its direction and its size in bytes.
Observer = Callable[[str, Direction, int], None]

#: Called for each whole message, its header included, with a number that tells clients apart, its
#: direction, the message, and how many descriptors came or went with it.
Tap = Callable[[int, Direction, bytes, int], None]
