"""A channel of /dev/vgpu0 in Python: what libcuda.so.1 does, without it.

Commands go through the mapped rings, the rest through the node's ioctls (vgpu_stub_uapi.h). The
layout comes from `vgpu_abi`, which is generated from the same source as the driver's headers.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import vgpu_abi as abi

NODE = "/dev/vgpu0"
MMAP_CHANNEL = 0
MMAP_INFO = 0x1_0000_0000

INFO = struct.Struct("<6IQ")
REGISTER = struct.Struct("<QQII")
UNREGISTER = struct.Struct("<II")
WAIT = struct.Struct("<QQ")


def _request(direction: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | ord("V") << 8 | number


_WRITE, _READ = 1, 2
IOCTL_INFO = _request(_READ, 0x80, INFO.size)
IOCTL_REGISTER = _request(_READ | _WRITE, 0x81, REGISTER.size)
IOCTL_UNREGISTER = _request(_WRITE, 0x82, UNREGISTER.size)
IOCTL_DOORBELL = _request(0, 0x83, 0)
IOCTL_WAIT = _request(_WRITE, 0x84, WAIT.size)
IOCTL_STATUS = _request(_READ, 0x85, abi.STATUS_BYTES)

_fence = threading.Lock()


def full_barrier() -> None:
    """Order earlier stores before later loads: a lock operation is an atomic exchange."""
    with _fence:
        pass


class ChannelInfo(NamedTuple):
    """struct vgpu_ioctl_channel_info."""

    abi_version: int
    channel: int
    channel_bytes: int
    info_bytes: int
    sq_entries: int
    cq_entries: int
    reserved: int


class Completion(NamedTuple):
    """struct vgpu_completion."""

    sequence: int
    status: int
    flags: int
    result: tuple[int, ...]


class Channel:
    """An open node with its mapping; a context manager. Not thread-safe."""

    def __init__(self, node: str = NODE) -> None:
        self.fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
        data = fcntl.ioctl(self.fd, IOCTL_INFO, bytes(INFO.size))
        self.info = ChannelInfo(*INFO.unpack(data))
        self.memory = mmap.mmap(self.fd, self.info.channel_bytes, offset=MMAP_CHANNEL)
        control = memoryview(self.memory)[: abi.CHANNEL_CONTROL.size]
        # Whole words: struct.pack_into() would clear an index for a moment before it sets it.
        self._words64, self._words32 = control.cast("Q"), control.cast("I")
        self._tail = self._head = self._sequence = 0

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the channel back."""
        self._words64.release()
        self._words32.release()
        self.memory.close()
        os.close(self.fd)

    def _place(self, name: str) -> tuple[memoryview, int]:
        offset = abi.CHANNEL_CONTROL_OFFSETS[name]
        if name in {"sq_tail", "sq_head", "cq_tail", "cq_head"}:
            return self._words64, offset // 8
        return self._words32, offset // 4

    def word(self, name: str) -> int:
        """Read an index or a flag of struct vgpu_channel_control."""
        words, index = self._place(name)
        return words[index]

    def store(self, name: str, value: int) -> None:
        """Write an index or a flag of struct vgpu_channel_control."""
        words, index = self._place(name)
        words[index] = value

    def submit(
        self, opcode: int, *fields: int, context: int = 0, flags: int = abi.COMMAND_COMPLETE
    ) -> int:
        """Submit a command that fits one slot; returns its sequence number."""
        self._sequence += 1
        body = abi.COMMANDS[opcode].fields.pack(*fields)
        header = abi.COMMAND_HEADER.pack(opcode, 1, flags, context, self._sequence)
        self.submit_raw(header + body)
        return self._sequence

    def submit_raw(self, command: bytes) -> None:
        """Put up to 64 bytes into the next slot, as they are, and publish it."""
        assert len(command) <= abi.SLOT_BYTES, f"{len(command)} bytes take more than one slot"
        start = abi.SQ_OFFSET + self._tail % abi.SQ_ENTRIES * abi.SLOT_BYTES
        self.memory[start : start + abi.SLOT_BYTES] = command.ljust(abi.SLOT_BYTES, b"\0")
        self._tail += 1
        self.store("sq_tail", self._tail)
        full_barrier()
        if self.word("sq_sleeping"):
            self.doorbell()

    def take(self) -> Completion | None:
        """The next completion, or None."""
        if self.word("cq_tail") == self._head:
            return None
        start = abi.CQ_OFFSET + self._head % abi.CQ_ENTRIES * abi.SLOT_BYTES
        sequence, status, flags, *result = abi.COMPLETION.unpack_from(self.memory, start)
        self._head += 1
        self.store("cq_head", self._head)
        return Completion(sequence, status, flags, tuple(result))

    def call(self, opcode: int, *fields: int, context: int = 0) -> Completion:
        """Submit a command, sleep until it is complete and return its completion."""
        flags = abi.COMMAND_COMPLETE | (abi.COMMAND_WAIT if context else 0)
        sequence = self.submit(opcode, *fields, context=context, flags=flags)
        completion = self.next_completion()
        assert completion.sequence == sequence, (
            f"completion of command {completion.sequence} came, expected {sequence}"
        )
        return completion

    def next_completion(self, timeout_s: float = 30.0) -> Completion:
        """Sleep until there is a completion and take it."""
        deadline = time.monotonic() + timeout_s
        while (completion := self.take()) is None:
            left = deadline - time.monotonic()
            assert left > 0, (
                f"no completion after {timeout_s} s: the device took {self.word('sq_head')} of"
                f" {self._tail} slots, the channel's state is {self.word('state')}"
            )
            self.ask_for_interrupt()
            if self.word("cq_tail") == self._head:
                self.wait(self._head, left)
        self.store("cq_waiting", 0)
        return completion

    def ask_for_interrupt(self) -> None:
        """Say that the next completion shall interrupt."""
        self.store("cq_waiting", 1)
        full_barrier()

    def doorbell(self) -> None:
        """Ring the doorbell; a trapped write."""
        fcntl.ioctl(self.fd, IOCTL_DOORBELL)

    def wait(self, seen: int, timeout_s: float) -> None:
        """Sleep until cq_tail is not `seen`; OSError ETIMEDOUT when the time is over."""
        fcntl.ioctl(self.fd, IOCTL_WAIT, WAIT.pack(seen, int(timeout_s * 1e9)))

    def register(
        self, address: int, length: int, access: int = abi.REGISTER_READ | abi.REGISTER_WRITE
    ) -> int:
        """Give memory to the channel; returns the registration id."""
        data = fcntl.ioctl(self.fd, IOCTL_REGISTER, REGISTER.pack(address, length, access, 0))
        return REGISTER.unpack(data)[3]

    def unregister(self, registration: int) -> None:
        """Take memory back."""
        fcntl.ioctl(self.fd, IOCTL_UNREGISTER, UNREGISTER.pack(registration, 0))


class Memory:
    """Anonymous memory with a known address."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.map = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._view = ctypes.c_char.from_buffer(self.map)
        self.address = ctypes.addressof(self._view)

    def close(self) -> None:
        """Unmap it."""
        del self._view
        self.map.close()


def refusal(call: Callable[..., Any], *arguments: Any) -> str:
    """Name of the errno that a call fails with, or "success"."""
    try:
        call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "success"


def eventually(condition: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    """Wait until a condition holds; fails when the time is over."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.001)
