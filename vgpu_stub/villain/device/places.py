"""Kinds of lies: each overrides one place of `Lie`, with what is to be said there."""

from __future__ import annotations

import os
import random
import struct
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from mmap import mmap
from time import sleep
from typing import Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.device.rings import ControlPage, channel_offset
from vgpu_stub.vfio_user import Region, RegionIndex
from vgpu_stub.villain.device.lie import Answer, Lie
from vgpu_stub.villain.device.queues import GuestMemory

ADMIN: Final = 0
_U64: Final = 0xFFFF_FFFF_FFFF_FFFF
#: Channels that guests of the suite use; the admin channel is number 0.
_CHANNELS: Final = range(1, 4)
#: Between two turns of a meddler: long enough for the guest's side to run at all.
_TURN_S: Final = 0.0002

#: Makes a value out of the true one.
Change = Callable[[int], int]


def always(value: int) -> Change:
    """The same value whatever is true."""
    return lambda true: value


class Registers(Lie):
    """Registers that read something else."""

    def __init__(self, changes: dict[int, Change], after: int = 0) -> None:
        """Lie about some registers, each `after` true reads of it."""
        self._changes = changes
        self._after = dict.fromkeys(changes, after)

    def register(self, offset: int, value: int) -> int:
        if offset not in self._changes:
            return value
        if self._after[offset] > 0:
            self._after[offset] -= 1
            return value
        return self._changes[offset](value)


class AllRegisters(Lie):
    """Every register reads something else, after so many true reads of any."""

    def __init__(self, change: Change, after: int = 0) -> None:
        self._change = change
        self._left = after

    def register(self, offset: int, value: int) -> int:
        if self._left > 0:
            self._left -= 1
            return value
        return self._change(value)


class Unheard(Lie):
    """Writes to registers that have no effect."""

    def __init__(self, first: int, last: int, ignored: Callable[[int], bool]) -> None:
        """Ignore writes of some values to the registers from `first` to `last`."""
        self._range = range(first, last + 1)
        self._ignored = ignored

    def write(self, offset: int, value: int) -> bool:
        return offset not in self._range or not self._ignored(value)


class Config(Lie):
    """Bytes of config space that read something else."""

    def __init__(self, told: dict[int, int]) -> None:
        self._told = told

    def config(self, offset: int, data: bytes) -> bytes:
        return bytes(self._told.get(offset + i, byte) for i, byte in enumerate(data))


class Shared(Lie):
    """A region of shared memory that is not what it is said to be."""

    def __init__(
        self,
        size: int = abi.BAR2_BYTES,
        file_bytes: int | None = None,
        offset: int = 0,
        *,
        none: bool = False,
    ) -> None:
        """Offer `size` bytes at `offset` of a file of `file_bytes`, or of the true one."""
        self._size = size
        self._offset = offset
        self._none = none
        self._fd: int | None = None
        if file_bytes is not None:
            self._fd = os.memfd_create("liar", os.MFD_CLOEXEC)
            os.ftruncate(self._fd, file_bytes)
            weakref.finalize(self, os.close, self._fd)

    def regions(self, regions: Sequence[Region]) -> Sequence[Region]:
        return [
            region if region.index != RegionIndex.BAR2 else self._told(region) for region in regions
        ]

    def _told(self, true: Region) -> Region:
        fd = true.fd if self._fd is None else self._fd
        return replace(
            true, size=self._size, fd=None if self._none else fd, mmap_offset=self._offset
        )


class Info(Lie):
    """Members of `struct vgpu_device_info`."""

    def __init__(self, change: Callable[[bytearray], None]) -> None:
        self._change = change

    def info(self, data: bytearray) -> None:
        self._change(data)

    @classmethod
    def member(cls, name: str, value: bytes) -> Info:
        """One member replaced."""

        def change(data: bytearray) -> None:
            start = abi.DEVICE_INFO_OFFSETS[name]
            data[start : start + len(value)] = value

        return cls(change)

    @classmethod
    def attributes(cls, value: Callable[[int, int], int]) -> Info:
        """Device attributes as `value` makes them of number and true value."""

        def change(data: bytearray) -> None:
            start = abi.DEVICE_INFO_OFFSETS["attributes"]
            for number in range(abi.ATTRIBUTE_COUNT):
                at = start + 4 * number
                (true,) = struct.unpack_from("<i", data, at)
                struct.pack_into("<i", data, at, value(number, true))

        return cls(change)


def word_of(page: ControlPage, name: str) -> tuple[memoryview, int, int]:
    """The view, the index and the mask of a member of the control page."""
    offset = abi.CHANNEL_CONTROL_OFFSETS[name]
    if name in {"sq_tail", "sq_head", "cq_tail", "cq_head"}:
        return page.words64, offset // 8, _U64
    return page.words32, offset // 4, 0xFFFF_FFFF


class Control(Lie):
    """A member of the control page, after the nth completion of a channel."""

    def __init__(self, admin: bool, name: str, change: Change, nth: int = 3) -> None:
        self._admin = admin
        self._name = name
        self._change = change
        self._left = nth

    def control(self, channel: int, page: ControlPage) -> None:
        if (channel == ADMIN) != self._admin:
            return
        self._left -= 1
        if self._left > 0:
            return
        words, index, mask = word_of(page, self._name)
        words[index] = self._change(words[index]) & mask


class KeptControl(Lie):
    """A member of the control page that the device writes all the time."""

    meddles = True

    def __init__(self, admin: bool, name: str, change: Change) -> None:
        self._channels = [ADMIN] if admin else list(_CHANNELS)
        self._offset = abi.CHANNEL_CONTROL_OFFSETS[name]
        self._format = "<Q" if name in {"sq_tail", "sq_head", "cq_tail", "cq_head"} else "<I"
        self._mask = _U64 if self._format == "<Q" else 0xFFFF_FFFF
        self._change = change

    def meddle(self, memory: mmap, interrupt: Callable[[int], None]) -> None:
        for channel in self._channels:
            at = channel_offset(channel) + abi.CONTROL_OFFSET + self._offset
            (value,) = struct.unpack_from(self._format, memory, at)
            struct.pack_into(self._format, memory, at, self._change(value) & self._mask)
        sleep(_TURN_S)


class Flips(Lie):
    """Words of shared memory that change between two reads."""

    meddles = True

    def __init__(
        self, rng: random.Random, offset: int, size: int, *, admin: bool, info: bool = False
    ) -> None:
        """Flip words in a range of each channel, or of the device information."""
        self._rng = rng
        self._starts = (
            [abi.INFO_OFFSET + offset]
            if info
            else [channel_offset(n) + offset for n in ([ADMIN] if admin else _CHANNELS)]
        )
        self._words = size // 4

    def meddle(self, memory: mmap, interrupt: Callable[[int], None]) -> None:
        rng = self._rng
        for start in self._starts:
            at = start + 4 * rng.randrange(self._words)
            kept = memory[at : at + 4]
            memory[at : at + 4] = rng.randbytes(4)
            if rng.random() < 0.7:
                memory[at : at + 4] = kept
        sleep(_TURN_S)


class Completions(Lie):
    """Completions of a channel, changed by a function of each."""

    def __init__(
        self,
        admin: bool,
        change: Callable[[Answer], Sequence[Answer]],
        opcodes: Sequence[int] = (),
        after: int = 0,
    ) -> None:
        """Change completions of some opcodes, or of all; `after` as many true ones."""
        self._admin = admin
        self._change = change
        self._opcodes = frozenset(opcodes)
        self._left = after

    def completions(self, channel: int, answer: Answer) -> Sequence[Answer]:
        if (channel == ADMIN) != self._admin:
            return (answer,)
        if self._opcodes and answer.opcode not in self._opcodes:
            return (answer,)
        if self._left > 0:
            self._left -= 1
            return (answer,)
        return self._change(answer)


def results(opcode: int, change: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Completions:
    """A lie about the results of a command that succeeds."""

    def told(answer: Answer) -> Sequence[Answer]:
        return (answer if answer.status else replace(answer, results=change(answer.results)),)

    return Completions(False, told, [opcode])


class Held(Lie):
    """Completions that come late, or in another order, or with those of later commands."""

    def __init__(self, admin: bool, delay_s: float = 0.0, stale: bool = False) -> None:
        self._admin = admin
        self._delay_s = delay_s
        self._stale = stale
        self._last: Answer | None = None

    def completions(self, channel: int, answer: Answer) -> Sequence[Answer]:
        if (channel == ADMIN) != self._admin:
            return (answer,)
        if self._delay_s:
            sleep(self._delay_s)
        last, self._last = self._last, answer
        if self._stale and last is not None:
            return (last, replace(answer, sequence=last.sequence), answer)
        return (answer,)


@dataclass
class Reply(Lie):
    """Guest memory that a command fills: what is written there instead.

    Attributes:
        opcode: Of the command.
        place: Names of the fields that hold registration and offset.
        written: What is written, and where from the offset on.
    """

    opcode: int
    place: tuple[str, str]
    written: Sequence[tuple[int, bytes]]

    def reply(self, channel: int, answer: Answer, command: bytes, memory: GuestMemory) -> None:
        if answer.opcode != self.opcode:
            return
        shape = abi.COMMANDS[self.opcode]
        fields = dict(
            zip(
                shape.field_names,
                shape.fields.unpack_from(command, abi.COMMAND_HEADER.size),
                strict=True,
            )
        )
        for offset, data in self.written:
            memory.write(fields[self.place[0]], fields[self.place[1]] + offset, data)


class Status(Lie):
    """The reply of DEVICE_STATUS."""

    def __init__(self, change: Callable[[bytearray], None]) -> None:
        self._change = change

    def status(self, data: bytes) -> bytes:
        told = bytearray(data)
        self._change(told)
        return bytes(told)


class Interrupts(Lie):
    """Vectors that are signalled in place of the right one."""

    def __init__(self, told: Callable[[int], Sequence[int]]) -> None:
        self._told = told

    def interrupts(self, vector: int) -> Sequence[int]:
        return self._told(vector)


class Storm(Lie):
    """Vectors that are signalled all the time."""

    meddles = True

    def __init__(self, rng: random.Random, vectors: Sequence[int], pause_s: float) -> None:
        self._rng = rng
        self._vectors = vectors
        self._pause_s = pause_s

    def meddle(self, memory: mmap, interrupt: Callable[[int], None]) -> None:
        for _ in range(16):
            interrupt(self._rng.choice(self._vectors))
        sleep(self._pause_s)


class Several(Lie):
    """Several lies at a time."""

    def __init__(self, *lies: Lie) -> None:
        self._lies = lies
        self.meddles = any(lie.meddles for lie in lies)

    def register(self, offset: int, value: int) -> int:
        for lie in self._lies:
            value = lie.register(offset, value)
        return value

    def write(self, offset: int, value: int) -> bool:
        return all(lie.write(offset, value) for lie in self._lies)

    def info(self, data: bytearray) -> None:
        for lie in self._lies:
            lie.info(data)

    def reply(self, channel: int, answer: Answer, command: bytes, memory: GuestMemory) -> None:
        for lie in self._lies:
            lie.reply(channel, answer, command, memory)

    def completions(self, channel: int, answer: Answer) -> Sequence[Answer]:
        told: Sequence[Answer] = (answer,)
        for lie in self._lies:
            told = [other for one in told for other in lie.completions(channel, one)]
        return told

    def control(self, channel: int, page: ControlPage) -> None:
        for lie in self._lies:
            lie.control(channel, page)

    def status(self, data: bytes) -> bytes:
        for lie in self._lies:
            data = lie.status(data)
        return data

    def interrupts(self, vector: int) -> Sequence[int]:
        told: Sequence[int] = (vector,)
        for lie in self._lies:
            told = [other for one in told for other in lie.interrupts(one)]
        return told

    def meddle(self, memory: mmap, interrupt: Callable[[int], None]) -> None:
        for lie in self._lies:
            if lie.meddles:
                lie.meddle(memory, interrupt)
