"""The world of the targets that fuzz the device: one VirtualGpu, its memory, and fake workers.

Everything runs in the calling thread, so that a sequence does the same each time. The guest's side
of shared memory is here too: rings are written as a driver would, or would not.
"""

from __future__ import annotations

import mmap
import os
import socket
from dataclasses import dataclass
from typing import Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.device.gpu import VirtualGpu
from vgpu_stub.device.rings import ControlPage, channel_offset
from vgpu_stub.device.status import DeviceStatus, StatusUnavailableError
from vgpu_stub.fuzz.fake_workers import FakeWorkers
from vgpu_stub.fuzz.operations import Finding, Operation
from vgpu_stub.fuzz.watch import DescriptorWatch, LogWatch

#: Size of the guest's memory.
MEMORY_BYTES: Final = 1 << 20
#: Kinds of descriptors that a client passes.
DESCRIPTORS: Final = ("memory", "small", "eventfd", "eventfd-nonblocking", "pipe", "socket", "null",
                      "zero", "folder", "bar2", "readonly")  # fmt: skip
_SQ_MASK: Final = abi.SQ_ENTRIES - 1
_U64: Final = (1 << 64) - 1
_DESCRIPTOR_CHECK: Final = 16


@dataclass(frozen=True, slots=True)
class Submit(Operation):
    """The guest writes a command into the admin ring and publishes the tail.

    Attributes:
        opcode: As in the header.
        body: What follows the header.
        slots: Slots that the header claims; 0 for what the command takes.
        ahead: Slots that the tail is published beyond what was written, modulo 2**64.
    """

    opcode: int
    body: bytes = b""
    slots: int = 0
    ahead: int = 0


@dataclass(frozen=True, slots=True)
class Poke(Operation):
    """The guest writes to BAR2 through its mapping."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Fill(Operation):
    """The guest writes to its memory."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate(Operation):
    """The client changes the size of the small file, which it may have mapped."""

    size: int


@dataclass(frozen=True, slots=True)
class WorkerEvent(Operation):
    """A worker does something of its own accord.

    Attributes:
        worker: Which, counted among those alive.
        event: "end", "silent", "ring-error", "done" (with `number` as request) or "unknown".
        number: See `event`.
    """

    worker: int
    event: str
    number: int = 0


class NoSensors:
    """Measures for DEVICE_STATUS: zeros, or nothing every other time."""

    def __init__(self) -> None:
        self._calls = 0

    def device_status(self) -> DeviceStatus:
        """Raises StatusUnavailableError every other time."""
        self._calls += 1
        if self._calls % 2:
            raise StatusUnavailableError("nothing to measure")
        return DeviceStatus(time_us=0, driver_version="0", sample_period_us=1)


class DeviceWorld:
    """One device and what is around it."""

    def __init__(self) -> None:
        self.logs = LogWatch()
        self.logs.start()
        self.workers = FakeWorkers()
        self.gpu = VirtualGpu(self.workers, "fuzzed", status_source=NoSensors(), own_thread=False)
        self.bar2 = mmap.mmap(self.gpu.bar2_fd, abi.BAR2_BYTES)
        self._control = ControlPage(self.bar2, channel_offset(0))
        self._sequence = 0
        self._answered = 0
        self.fds = self._open_descriptors()
        self.memory = mmap.mmap(self.fds["memory"], MEMORY_BYTES)
        self._descriptors = DescriptorWatch()
        self._runs = 0

    def close(self) -> None:
        """Close everything."""
        self._control.release()
        self.gpu.close()
        self.bar2.close()
        self.memory.close()
        for name, fd in self.fds.items():
            if name != "bar2":
                os.close(fd)
        os.close(self._pipe_writer)
        self._socket.close()
        self.logs.stop()

    def _open_descriptors(self) -> dict[str, int]:
        memory = os.memfd_create("fuzz-memory", os.MFD_CLOEXEC)
        os.ftruncate(memory, MEMORY_BYTES)
        small = os.memfd_create("fuzz-small", os.MFD_CLOEXEC)
        pipe, self._pipe_writer = os.pipe()
        ours, self._socket = socket.socketpair()
        return {
            "memory": memory,
            "small": small,
            "eventfd": os.eventfd(0, os.EFD_CLOEXEC),
            "eventfd-nonblocking": os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK),
            "pipe": pipe,
            "socket": ours.detach(),
            "null": os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC),
            "zero": os.open("/dev/zero", os.O_RDWR | os.O_CLOEXEC),
            "folder": os.open("/", os.O_RDONLY | os.O_CLOEXEC),
            "readonly": os.open(f"/proc/self/fd/{memory}", os.O_RDONLY | os.O_CLOEXEC),
            "bar2": self.gpu.bar2_fd,
        }

    def begin(self) -> None:
        """Before a sequence: the same world each time."""
        os.ftruncate(self.fds["small"], 8192)
        self._sequence = 0
        self._answered = 0

    def perform(self, operation: Operation) -> str | None:
        """Do what the guest does beside messages and registers; None if it is none of that."""
        if isinstance(operation, Submit):
            return self._submit(operation)
        if isinstance(operation, Poke):
            offset = operation.offset % abi.BAR2_BYTES
            data = operation.data[: abi.BAR2_BYTES - offset]
            self.bar2[offset : offset + len(data)] = data
            return "poke"
        if isinstance(operation, Fill):
            offset = operation.offset % MEMORY_BYTES
            data = operation.data[: MEMORY_BYTES - offset]
            self.memory[offset : offset + len(data)] = data
            return "fill"
        if isinstance(operation, Truncate):
            os.ftruncate(self.fds["small"], operation.size % (1 << 24))
            return "truncate"
        if isinstance(operation, WorkerEvent):
            return self._worker_event(operation)
        return None

    def _submit(self, operation: Submit) -> str:
        body = operation.body[: 16 * abi.SLOT_BYTES]
        slots = -(-(abi.COMMAND_HEADER.size + len(body)) // abi.SLOT_BYTES)
        claimed = operation.slots or slots
        self._sequence += 1
        header = abi.COMMAND_HEADER.pack(
            operation.opcode & 0xFFFF, claimed & 0xFFFF, abi.COMMAND_COMPLETE, 0, self._sequence
        )
        words = self._control.words64
        tail = words[self._control.sq_tail_index]
        start = channel_offset(0) + abi.SQ_OFFSET + (tail & _SQ_MASK) * abi.SLOT_BYTES
        data = (header + body)[: abi.SQ_ENTRIES * abi.SLOT_BYTES - (tail & _SQ_MASK) * 64]
        self.bar2[start : start + len(data)] = data
        words[self._control.sq_tail_index] = (tail + slots + operation.ahead) & _U64
        return "submit"

    def _worker_event(self, operation: WorkerEvent) -> str:
        alive = self.workers.alive
        if not alive:
            return "no worker"
        worker = alive[operation.worker % len(alive)]
        if operation.event == "end":
            worker.end()
        elif operation.event == "silent":
            worker.link.silent = True
        elif operation.event == "ring-error":
            worker.link.say("ring_error", text="as if")
        elif operation.event == "done":
            worker.link.say("done", request=operation.number, errno=0)
        else:
            worker.link.say("what")
        return f"worker {operation.event}"

    def settle(self) -> None:
        """Have the device do all that it would do in threads of its own, and look at the log."""
        self.gpu.serve_admin()
        self.logs.check()

    def check_reset(self) -> None:
        """What must hold after any reset (docs/device.md, "Reset")."""
        shown = self.gpu.snapshot()
        if shown.enabled or shown.error or shown.channels:
            raise Finding("a reset left something", repr(shown))
        if self.workers.alive:
            raise Finding("a reset left workers", f"{len(self.workers.alive)} are alive")
        if self._has_channel_memory():
            raise Finding("a reset left what was in channel memory")

    def _has_channel_memory(self) -> bool:
        """Whether anything but zeros is there; looks only where the file has pages."""
        fd, end = self.gpu.bar2_fd, abi.CHANNEL_BASE
        while True:
            try:
                start = os.lseek(fd, end, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing but a hole
                return False
            end = os.lseek(fd, start, os.SEEK_HOLE)
            if any(self.bar2[start:end]):
                return True

    def answers(self) -> list[str]:
        """How admin commands ended since the last call, in order."""
        tail = self._control.words64[self._control.cq_tail_index]
        base = channel_offset(0) + abi.CQ_OFFSET
        found = []
        # The guest may have poked the tail: more than a ring full is not worth reading.
        for index in range(self._answered, min(tail, self._answered + 8)):
            place = base + (index & (abi.CQ_ENTRIES - 1)) * 64
            _, status, *_ = abi.COMPLETION.unpack_from(self.bar2, place)
            found.append(f"answer {status}")
        self._answered = tail
        return found

    def end(self) -> None:
        """After a sequence: nothing is left of it."""
        self._runs += 1
        if not self._runs % _DESCRIPTOR_CHECK:
            self._descriptors.check()
