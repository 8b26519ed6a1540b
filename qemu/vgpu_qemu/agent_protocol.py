"""Messages between the launcher and the agent in the guest, over one byte stream.

Both sides use this module: the launcher imports it, and it is copied into the guest beside the
agent. A frame is a header and a payload; frames of several commands interleave, told apart by their
session number, which the launcher chooses.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator

PORT_NAME = "vgpu-stub.agent"
"""Name of the virtio-serial port that carries the stream."""

HEADER = struct.Struct("<IIB")
"""Payload length in bytes, session, kind."""

MAX_PAYLOAD = 1 << 20
CHUNK = 1 << 16
"""Size of the pieces in which data of a stream is sent, in bytes."""


class Kind(enum.IntEnum):
    """What a frame is."""

    HELLO = 1
    """Guest: the agent is ready; JSON with facts about the guest."""
    START = 2
    """Host: run a program; JSON with argv, env, cwd, and for a terminal rows and columns."""
    STDIN = 3
    """Host: input of the program; empty for its end."""
    SIGNAL = 4
    """Host: send a signal (one byte) to the program's process group."""
    RESIZE = 5
    """Host: the terminal's new size; JSON with rows and columns."""
    STDOUT = 6
    """Guest: output of the program."""
    STDERR = 7
    """Guest: error output of the program."""
    EXIT = 8
    """Guest: the program ended; exit status, or 128 + signal, as 4 bytes."""
    REFUSED = 9
    """Guest: the program could not be started; the reason as text."""
    POWER_OFF = 10
    """Host: end everything and switch off."""
    RESEED = 11
    """Host: random bytes, from which the guest's random numbers begin anew."""


class ProtocolError(Exception):
    """The stream holds something that is no frame."""


def encode(kind: int, session: int, payload: bytes = b"") -> bytes:
    """Return a frame.

    >>> encode(Kind.SIGNAL, 1, b"\\x0f").hex()
    '0100000001000000040f'
    """
    return HEADER.pack(len(payload), session, kind) + payload


class Decoder:
    """Cuts a byte stream into frames."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Take the next bytes and yield `(kind, session, payload)` of each whole frame.

        Raises:
            ProtocolError: A header announces more than `MAX_PAYLOAD`.
        """
        self._data += data
        while len(self._data) >= HEADER.size:
            length, session, kind = HEADER.unpack_from(self._data)
            if length > MAX_PAYLOAD:
                raise ProtocolError(f"frame of {length} bytes; at most {MAX_PAYLOAD} expected")
            end = HEADER.size + length
            if len(self._data) < end:
                return
            payload = bytes(self._data[HEADER.size : end])
            del self._data[:end]
            yield kind, session, payload
