"""The target `races`: commands of a channel, while another processor writes to the same ring.

It is the target `rings` beside a process that changes indexes, headers and fields while the drain
reads them. What comes out differs from run to run; no exception may, whatever is read twice.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
import time
from collections.abc import Sequence
from typing import ClassVar, Final

from vgpu_host.process import die_with_parent
from vgpu_stub.abi import generated as abi
from vgpu_stub.fuzz.operations import Operation
from vgpu_stub.fuzz.rings import Rings

#: Slots at the start of the ring that are written to: sequences are short.
_SLOTS: Final = 64
_WORDS: Final = tuple(
    abi.CONTROL_OFFSET + abi.CHANNEL_CONTROL_OFFSETS[name]
    for name in ("sq_tail", "sq_tail", "cq_head", "sq_head", "cq_tail")
)
_U64: Final = struct.Struct("<Q")


class Scribbler:
    """A process that writes to a channel's memory while it is told to."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._flag = mmap.mmap(-1, mmap.PAGESIZE)
        self._pid = os.fork()
        if not self._pid:
            die_with_parent(signal.SIGKILL)
            _scribble(memory, self._flag)

    def scribble(self, wanted: bool) -> None:
        """Start or stop."""
        self._flag[0] = wanted

    def close(self) -> None:
        """End the process."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        self._flag.close()


def _scribble(memory: mmap.mmap, flag: mmap.mmap) -> None:
    rng = random.Random(os.getpid())
    while True:
        if not flag[0]:
            time.sleep(0.00002)
            continue
        choice = rng.random()
        if choice < 0.3:
            # An index a little off, and soon right again: both may be seen.
            place = rng.choice(_WORDS)
            (value,) = _U64.unpack_from(memory, place)
            changed = (value + rng.choice((-1, 1, 2, 5, abi.SQ_ENTRIES, 1 << 63))) % (1 << 64)
            _U64.pack_into(memory, place, changed)
            _U64.pack_into(memory, place, value)
        else:
            slot = abi.SQ_OFFSET + rng.randrange(_SLOTS) * abi.SLOT_BYTES
            place = slot + rng.choice((0, 2, 2, 4, 6, 16, 24, 32, rng.randrange(56)))
            kept = memory[place : place + 4]
            memory[place : place + 4] = rng.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\1\0\0\0"))
            memory[place : place + 4] = kept


class Races(Rings):
    """Fuzzes `ChannelDrain` while its ring changes under it."""

    name: ClassVar[str] = "races"
    summary: ClassVar[str] = "commands of a channel, while another process writes to its ring"

    def start(self) -> None:
        """Make the channel's memory and the process that shares it, then all the rest."""
        self._shared = mmap.mmap(-1, abi.CHANNEL_STRIDE)
        # Before there are threads, of which a fork would copy none.
        self._scribbler = Scribbler(self._shared)
        super().start()

    def close(self) -> None:
        """End it all."""
        self._scribbler.close()
        super().close()

    def run(self, operations: Sequence[Operation]) -> list[str]:
        """Run one program; what it submits is changed while it is carried out."""
        try:
            return super().run(operations)
        finally:
            self._scribbler.scribble(False)

    def _channel_memory(self) -> mmap.mmap:
        return self._shared

    def before(self) -> bool:
        """The ring is written to from here on."""
        self._scribbler.scribble(True)
        return True

    def after(self) -> None:
        """No more: what is there is drained to its end."""
        self._scribbler.scribble(False)
