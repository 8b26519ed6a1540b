"""What a lie is: places where a device says something to its guest, and what it says there.

`Lie` tells the truth everywhere; each kind of lie overrides the places that it is about. A `Case`
is a lie of the catalogue: its id, the section of docs/device.md that it breaks, what the guest must
make of it. A lie that needs chance takes it from a generator that the seed and the id determine.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, Flag, auto
from fnmatch import fnmatchcase
from mmap import mmap
from typing import TYPE_CHECKING

from vgpu_stub.device.rings import ControlPage
from vgpu_stub.vfio_user import Region

if TYPE_CHECKING:
    from vgpu_stub.villain.device.queues import GuestMemory


class Target(Flag):
    """Who is lied to."""

    LIBRARY = auto()  #: libcuda, libcudart and libnvidia-ml over the socket, without a VM
    DRIVER = auto()  #: the kernel driver and the libraries behind it, in a VM
    BOTH = LIBRARY | DRIVER


class Expect(Enum):
    """What must come of a lie besides that nothing crashes, hangs or leaks."""

    REFUSED = "refused"  #: something must fail: the lie is seen
    SURVIVED = "survived"  #: all may go on; what claims success must be right
    UNSEEN = "unseen"  #: nobody can tell: it is data, or within what a device may say
    STUCK = "stuck"  #: the guest may wait as long as it likes, and must be possible to end


@dataclass(frozen=True)
class Answer:
    """A completion on its way to the guest.

    Attributes:
        opcode: Of the command, where it is known.
        sequence: The command's sequence number.
        status: CUresult, or errno on the admin channel.
        flags: COMPLETION_* bits.
        results: Result words.
    """

    opcode: int
    sequence: int
    status: int
    flags: int
    results: tuple[int, ...]


class Lie:
    """Tells the truth; the base of all lies, one method for each place where one can be told.

    Attributes:
        meddles: Whether `meddle` wants to be called all the time, by a thread of its own.
    """

    meddles = False

    def register(self, offset: int, value: int) -> int:
        """What a 32-bit register reads."""
        return value

    def write(self, offset: int, value: int) -> bool:
        """Whether a write to a register has its effect."""
        return True

    def config(self, offset: int, data: bytes) -> bytes:
        """What config space reads."""
        return data

    def regions(self, regions: Sequence[Region]) -> Sequence[Region]:
        """The regions that the device offers."""
        return regions

    def info(self, data: bytearray) -> None:
        """`struct vgpu_device_info`, about to be published."""

    def reply(self, channel: int, answer: Answer, command: bytes, memory: GuestMemory) -> None:
        """Guest memory that a command was to fill, before its completion is written."""

    def completions(self, channel: int, answer: Answer) -> Sequence[Answer]:
        """What is written to the completion ring for one command."""
        return (answer,)

    def control(self, channel: int, page: ControlPage) -> None:
        """The control page, once a completion is written."""

    def status(self, data: bytes) -> bytes:
        """The reply of DEVICE_STATUS."""
        return data

    def interrupts(self, vector: int) -> Sequence[int]:
        """The vectors that are signalled where one should be."""
        return (vector,)

    def meddle(self, memory: mmap, interrupt: Callable[[int], None]) -> None:
        """Called again and again while a guest is connected, where `meddles` says so."""


@dataclass(frozen=True)
class Case:
    """A lie of the catalogue.

    Attributes:
        id: Its name: place and kind, with hyphens.
        section: Section of docs/device.md that it breaks.
        summary: What the device says, in a line.
        make: Makes the lie with a generator of chance.
        expect: What must come of it.
        targets: Who is lied to.
        skipped: Why a target is left out, where that is not plain.
        seconds: How long the guest may take to see through it.
    """

    id: str
    section: str
    summary: str
    make: Callable[[random.Random], Lie]
    expect: Expect = Expect.SURVIVED
    targets: Target = Target.BOTH
    skipped: Mapping[Target, str] = field(default_factory=dict)
    seconds: float = 20.0

    def lie(self, seed: int, round_number: int = 0) -> Lie:
        """The lie as a seed and a round determine it."""
        return self.make(random.Random(f"{self.id}:{seed}:{round_number}"))


def select(cases: Sequence[Case], patterns: Sequence[str]) -> list[Case]:
    """The cases whose id matches one of the patterns; all of them where there are none."""
    if not patterns:
        return list(cases)
    return [case for case in cases if any(fnmatchcase(case.id, pattern) for pattern in patterns)]
