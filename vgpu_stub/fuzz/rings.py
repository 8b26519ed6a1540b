"""The target `rings`: what a guest's process submits, to a real drain, session and software GPU.

A sequence is the life of a CUDA program on one channel, with lies in its commands, its ring and its
memory. Whatever comes: no handler fails unexpectedly, each command has its one completion, and what
a program held is free once its contexts are gone.
"""

from __future__ import annotations

import mmap
import os
import random
import time
from collections.abc import Sequence
from typing import ClassVar, Final

from vgpu_host.drain import ChannelDrain
from vgpu_host.executors.base import CudaError, Executor
from vgpu_host.executors.options import ExecutorOptions, make_executor
from vgpu_host.registrations import Registrations
from vgpu_host.session import ChannelSession
from vgpu_stub.abi import generated as abi
from vgpu_stub.device.rings import ControlPage, RingError
from vgpu_stub.device.worker_link import Extent
from vgpu_stub.fuzz.operations import Finding, Operation, Value, kinds_of
from vgpu_stub.fuzz.ring_grammar import REGISTERED_BYTES, RingGrammar
from vgpu_stub.fuzz.ring_operations import (
    Command,
    Put,
    PutNodes,
    PutParts,
    Register,
    SetWord,
    Skip,
    Step,
    WriteSlot,
    pack_command,
    pack_nodes,
    pack_parts,
)
from vgpu_stub.fuzz.seeds import PROGRAMS
from vgpu_stub.fuzz.watch import DescriptorWatch, LogWatch, finding_of

DEVICE_BYTES: Final = 16 << 20
_SQ_MASK: Final = abi.SQ_ENTRIES - 1
_U64: Final = (1 << 64) - 1
#: What a result is, by its name in the ABI.
_RESULTS: Final = {
    "device_ptr": "memory",
    "stream": "stream",
    "event": "event",
    "module": "module",
    "function": "function",
    "graph": "graph",
    "context": "context",
}
_SETTLE_S: Final = 10.0
_ACCESS: Final = {1: 3, 2: abi.REGISTER_READ, 3: abi.REGISTER_WRITE}


class Rings:
    """Fuzzes `ChannelDrain` and everything behind it."""

    name: ClassVar[str] = "rings"
    summary: ClassVar[str] = "commands of a channel, through drain and session to the software GPU"
    kinds: ClassVar[dict[str, type[Operation]]] = kinds_of(
        Command, Step, Skip, SetWord, WriteSlot, Put, PutParts, PutNodes, Register
    )

    def start(self) -> None:
        """Make the software GPU and the memory."""
        self._logs = LogWatch()
        self._logs.start()
        options = ExecutorOptions("software", memory_bytes=DEVICE_BYTES, threads=1, watchdog_s=0.5)
        self._executor = make_executor(options)
        self._memory = self._channel_memory()
        self._guest_fd = os.memfd_create("fuzz-registered", os.MFD_CLOEXEC)
        os.ftruncate(self._guest_fd, REGISTERED_BYTES)
        self._guest = mmap.mmap(self._guest_fd, REGISTERED_BYTES)
        self._control_fd, self._control_writer = os.pipe()
        self._kick_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._interrupt_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._descriptors = DescriptorWatch()

    def close(self) -> None:
        """End it all."""
        self._executor.close()
        self._guest.close()
        for fd in (
            self._guest_fd,
            self._control_fd,
            self._control_writer,
            self._kick_fd,
            self._interrupt_fd,
        ):
            os.close(fd)
        self._logs.stop()

    def generate(self, rng: random.Random) -> list[Operation]:
        """A program's life, with lies."""
        return RingGrammar(rng).sequence()

    def run(self, operations: Sequence[Operation]) -> list[str]:
        """Run one program on a channel of its own."""
        self._memory.madvise(mmap.MADV_REMOVE)
        registrations = Registrations()
        for number, access in _ACCESS.items():
            self._register(registrations, number, access)
        session = ChannelSession(self._executor, registrations)
        drain = ChannelDrain(
            self._memory, session, registrations, lambda: None, self._control_fd, self._kick_fd
        )
        drain.interrupt_fd = self._interrupt_fd
        program = _Program(self, drain, session, registrations)
        program.lied = self.before()
        try:
            for operation in operations:
                program.perform(operation)
                self._logs.check()
            self.after()
            program.settle()
        except RingError as error:
            program.ring_error(error)
        except (Finding, CudaError):
            raise
        except Exception as error:
            raise finding_of(error) from error
        finally:
            # The next program finds its device empty, whatever this one came to.
            program.end()
            for number in registrations.numbers():
                registrations.remove(number)
        self._logs.check()
        self._check_free()
        self._descriptors.check()
        return program.ends

    def before(self) -> bool:
        """Called when a program begins; returns whether its ring is anybody else's to write."""
        return False

    def after(self) -> None:
        """Called when a program has submitted all."""

    def _channel_memory(self) -> mmap.mmap:
        return mmap.mmap(-1, abi.CHANNEL_STRIDE)

    def _register(self, registrations: Registrations, number: int, access: int) -> None:
        extent = Extent(0, 0, REGISTERED_BYTES)
        registrations.add(number, [extent], [self._guest_fd], access)

    def _check_free(self) -> None:
        """Nothing is allocated any more."""
        executor: Executor = self._executor
        context = executor.context_create(0)
        executor.context_activate(context)
        free, total = executor.memory_info()
        executor.context_destroy(context)
        if free != total:
            raise Finding("device memory stays allocated", f"{total - free} bytes")


class _Program:
    """One sequence on its channel."""

    def __init__(
        self,
        target: Rings,
        drain: ChannelDrain,
        session: ChannelSession,
        registrations: Registrations,
    ) -> None:
        self._target = target
        self._memory = target._memory
        self._guest = target._guest
        self._control = ControlPage(self._memory, 0)
        self._drain = drain
        self._session = session
        self._registrations = registrations
        self._tail = 0
        self._reaped = 0
        self._opcodes: dict[int, int] = {}
        self._answered: set[int] = set()
        self._contexts = 0
        #: Whether the guest has said what the ring does not hold.
        self.lied = False
        self._results: dict[str, list[int]] = {name: [] for name in _RESULTS.values()}
        self.ends: list[str] = []

    def perform(self, operation: Operation) -> None:
        """Carry one operation out."""
        if isinstance(operation, Command):
            self._submit(operation)
        elif isinstance(operation, Step):
            self._step()
        elif isinstance(operation, Skip):
            self._skip(operation.slots % (2 * abi.SQ_ENTRIES))
        elif isinstance(operation, SetWord):
            self._set_word(operation)
        elif isinstance(operation, WriteSlot):
            self.lied = True
            offset = operation.offset % abi.CHANNEL_STRIDE
            data = operation.data[: abi.CHANNEL_STRIDE - offset]
            self._memory[offset : offset + len(data)] = data
        elif isinstance(operation, Put):
            self._put(operation.offset, PROGRAMS.get(operation.program, operation.data))
        elif isinstance(operation, PutParts):
            names = [name for name in operation.programs if isinstance(name, str)]
            images = [(name.encode(), PROGRAMS.get(name, b"")) for name in names]
            self._put(operation.offset, pack_parts(images))
        elif isinstance(operation, PutNodes):
            self._put(operation.offset, pack_nodes(operation.nodes, self._resolve))
        elif isinstance(operation, Register):
            self._change_registration(operation)

    # -- the guest -----------------------------------------------------------------------------

    def _resolve(self, value: Value) -> int:
        if isinstance(value, int):
            return value
        if isinstance(value, tuple) and len(value) == 3:
            kind, index, delta = value
            made = self._results.get(kind if isinstance(kind, str) else "", [])
            if isinstance(index, int) and isinstance(delta, int):
                return (made[index % len(made)] if made else 0) + delta
        return 0

    def _submit(self, command: Command) -> None:
        body = pack_command(command.opcode, command.values, command.tail, self._resolve)
        body = body[: abi.COMMAND_MAX_SLOTS * abi.SLOT_BYTES - abi.COMMAND_HEADER.size]
        slots = -(-(abi.COMMAND_HEADER.size + len(body)) // abi.SLOT_BYTES)
        self._make_room(slots)
        self.lied |= bool(command.slots)
        self._contexts += command.opcode == abi.Opcode.CONTEXT_CREATE
        sequence = len(self._opcodes) + 1
        self._opcodes[sequence] = command.opcode
        if not command.flags & abi.COMMAND_COMPLETE:
            self._answered.add(sequence)
        header = abi.COMMAND_HEADER.pack(
            command.opcode & 0xFFFF,
            (command.slots or slots) & 0xFFFF,
            command.flags & 0xFFFF,
            command.context & 0xFFFF,
            sequence,
        )
        self._place(header + body, slots)

    def _make_room(self, slots: int) -> None:
        """As a driver does it: no command crosses the end of the ring, nor overtakes the host."""
        room = abi.SQ_ENTRIES - (self._tail & _SQ_MASK)
        if slots > room:
            self._skip(room)
        used = self._tail - self._control.words64[self._control.sq_head_index]
        if used + slots > abi.SQ_ENTRIES:
            self._step()

    def _skip(self, slots: int) -> None:
        while slots > 0:
            room = abi.SQ_ENTRIES - (self._tail & _SQ_MASK)
            length = min(slots, room, abi.COMMAND_MAX_SLOTS)
            used = self._tail - self._control.words64[self._control.sq_head_index]
            if used + length > abi.SQ_ENTRIES:
                self._step()
            self._place(abi.COMMAND_HEADER.pack(abi.Opcode.NOP, length, 0, 0, 0), length)
            slots -= length

    def _place(self, data: bytes, slots: int) -> None:
        start = abi.SQ_OFFSET + (self._tail & _SQ_MASK) * abi.SLOT_BYTES
        self._memory[start : start + len(data)] = data
        self._tail += slots
        self._control.words64[self._control.sq_tail_index] = self._tail & _U64

    def _set_word(self, operation: SetWord) -> None:
        offset = abi.CHANNEL_CONTROL_OFFSETS.get(operation.member)
        if offset is None:
            return
        self.lied |= operation.member in ("sq_tail", "sq_head", "cq_tail", "cq_head")
        size = 8 if operation.member in ("sq_tail", "sq_head", "cq_tail", "cq_head") else 4
        place = abi.CONTROL_OFFSET + offset
        value = operation.value & (1 << 8 * size) - 1
        self._memory[place : place + size] = value.to_bytes(size, "little")

    def _put(self, offset: int, data: bytes) -> None:
        offset %= REGISTERED_BYTES
        data = data[: REGISTERED_BYTES - offset]
        self._guest[offset : offset + len(data)] = data

    def _change_registration(self, operation: Register) -> None:
        number, access = operation.number % 8, operation.access & 3
        if number in self._registrations.numbers():
            self._registrations.remove(number)
        if access:
            self._target._register(self._registrations, number, access)

    # -- the host ------------------------------------------------------------------------------

    def _step(self) -> None:
        self._drain.step()
        self._reap()

    def _reap(self) -> None:
        words = self._control.words64
        tail = words[self._control.cq_tail_index]
        if self.lied and tail - self._reaped > abi.CQ_ENTRIES:
            return
        for index in range(self._reaped, tail):
            place = abi.CQ_OFFSET + (index & (abi.CQ_ENTRIES - 1)) * 64
            sequence, status, flags, *results = abi.COMPLETION.unpack_from(self._memory, place)
            self._take(sequence, status, flags, results)
        self._reaped = tail
        if not self.lied:
            words[self._control.cq_head_index] = tail

    def _take(self, sequence: int, status: int, flags: int, results: list[int]) -> None:
        opcode = self._opcodes.get(sequence)
        if opcode is None or sequence in self._answered:
            if not self.lied:
                raise Finding("a completion that nobody awaits", f"sequence {sequence}")
            return
        self._answered.add(sequence)
        layout = abi.COMMANDS.get(opcode)
        self.ends.append(f"{layout.name if layout else 'UNKNOWN'} {status}")
        if status or not layout:
            return
        for name, value in zip(layout.results, results, strict=False):
            if name in _RESULTS:
                self._results[_RESULTS[name]].append(value)

    def settle(self) -> None:
        """Drain to the end; then every command has been answered."""
        deadline = time.monotonic() + _SETTLE_S
        while True:
            self._step()
            answered = self.lied or len(self._answered) == len(self._opcodes)
            if answered and not self._drain.step():
                return
            if time.monotonic() > deadline:
                missing = [self._opcodes[one] for one in set(self._opcodes) - self._answered]
                raise Finding("commands are never answered", f"opcodes {missing}")

    def ring_error(self, error: RingError) -> None:
        """A ring that is impossible ends the channel; only a lie makes it so."""
        if not self.lied:
            raise Finding("an honest ring is called impossible", str(error)) from error
        self.ends.append("ring error")

    def end(self) -> None:
        """Destroy every context, as the end of a process does."""
        session = self._session
        for handle in range(1, self._contexts + 3):
            try:
                session.activate(handle)
            except CudaError:
                continue
            session.context_destroy()
        if session.memory_bytes or session.memory or session.modules:
            raise Finding(
                "what a program held stays counted",
                f"{session.memory_bytes} bytes, {session.memory}, {session.modules} modules",
            )
