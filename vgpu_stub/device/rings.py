"""The host's ends of a channel's rings: consumer of submissions, producer of completions.

Both sides of the device use them: the device model for the admin channel, workers for the others.
What the guest can write is read once, and nothing is read back that the host wrote: head and tail
of the host live here, the shared words are only announcements (docs/device.md, section 3).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from mmap import mmap
from typing import Final

from vgpu_stub.abi import generated as abi

_U64: Final = 0xFFFF_FFFF_FFFF_FFFF
_SQ_MASK: Final = abi.SQ_ENTRIES - 1
_CQ_MASK: Final = abi.CQ_ENTRIES - 1
_SLOT: Final = abi.SLOT_BYTES
_MAX_SLOTS: Final = abi.COMMAND_MAX_SLOTS
_PUBLISH_EVERY: Final = 16
_EMPTY_RESULT: Final = (0, 0, 0, 0, 0, 0)

_fence = threading.Lock()


def full_barrier() -> None:
    """Order earlier stores before later loads, as event suppression needs it.

    A lock operation is an atomic read-modify-write, hence a full barrier; Python has no other.
    """
    _fence.acquire()
    _fence.release()


class RingError(Exception):
    """The guest's side of a ring is impossible; the channel cannot go on."""


class ControlPage:
    """`struct vgpu_channel_control` of one channel in mapped BAR2 memory."""

    def __init__(self, memory: mmap, channel_offset: int) -> None:
        base = channel_offset + abi.CONTROL_OFFSET
        view = memoryview(memory)[base : base + abi.CHANNEL_CONTROL.size]
        offsets = abi.CHANNEL_CONTROL_OFFSETS
        self.words64 = view.cast("Q")
        self.words32 = view.cast("I")
        self.sq_tail_index = offsets["sq_tail"] // 8
        self.sq_head_index = offsets["sq_head"] // 8
        self.cq_tail_index = offsets["cq_tail"] // 8
        self.cq_head_index = offsets["cq_head"] // 8
        self.cq_waiting_index = offsets["cq_waiting"] // 4
        self.sq_sleeping_index = offsets["sq_sleeping"] // 4
        self._state_index = offsets["state"] // 4
        self._error_index = offsets["error"] // 4
        self._generation_index = offsets["generation"] // 4

    def publish_state(self, state: int, error: int = 0) -> None:
        """Tell the guest the channel's state; `error` is a CUresult."""
        self.words32[self._error_index] = error
        self.words32[self._state_index] = state

    def publish_error(self, error: int) -> None:
        """Tell the guest of an asynchronous error not yet reported, or 0."""
        self.words32[self._error_index] = error

    def publish_generation(self, generation: int) -> None:
        """Tell the guest how often this channel has been used."""
        self.words32[self._generation_index] = generation & 0xFFFF_FFFF

    def release(self) -> None:
        """Give the mapping back, so that it can be closed."""
        self.words64.release()
        self.words32.release()


class SubmissionQueue:
    """Consumer of the submission ring; `head` counts slots for ever."""

    def __init__(self, memory: mmap, channel_offset: int, control: ControlPage) -> None:
        self._memory = memory
        self._base = channel_offset + abi.SQ_OFFSET
        self._control = control
        self._words = control.words64
        self._tail_index = control.sq_tail_index
        self._head_index = control.sq_head_index
        self._unpack_header = abi.COMMAND_HEADER.unpack_from
        self.head = 0

    def available(self) -> int:
        """Slots submitted and not yet taken.

        Raises:
            RingError: The guest's tail is impossible.
        """
        count = (self._words[self._tail_index] - self.head) & _U64
        if count > abi.SQ_ENTRIES:
            raise RingError(f"sq_tail is {count} slots ahead of sq_head {self.head}")
        return count

    def batch(self, limit: int) -> Iterator[tuple[int, int, int, int, bytes]]:
        """Take up to `limit` commands, each copied out of the ring once and its length checked.

        A command's slots go back to the guest when the next one is asked for; the guest is told so
        now and then and at the end, because each time costs a cache line its way to the other side.

        Yields:
            opcode, flags, context, sequence, the whole command including its header.

        Raises:
            RingError: The guest's tail or a command's length is impossible.
        """
        memory, base, unpack = self._memory, self._base, self._unpack_header
        available = self.available()
        for count in range(limit):
            if not available:
                break
            slot = self.head & _SQ_MASK
            start = base + slot * _SLOT
            command = memory[start : start + 2 * _SLOT]  # most commands take one slot or two
            opcode, slots, flags, context, sequence = unpack(command)
            if not 0 < slots <= available or slots > abi.SQ_ENTRIES - slot or slots > _MAX_SLOTS:
                raise RingError(f"command 0x{opcode:x} at slot {slot} claims {slots} slots")
            if slots == 1:
                command = command[:_SLOT]
            elif slots > 2:
                command = memory[start : start + slots * _SLOT]
            yield opcode, flags, context, sequence, command
            available -= slots
            self.head += slots
            if not count % _PUBLISH_EVERY:
                self._words[self._head_index] = self.head
        self._words[self._head_index] = self.head

    def announce_sleep(self) -> bool:
        """Ask for a doorbell; False when work came in meanwhile and there is none to wait for."""
        self.ask_for_doorbell()
        full_barrier()
        if self._words[self._tail_index] == self.head:
            return True
        self.announce_awake()
        return False

    def ask_for_doorbell(self) -> None:
        """Ask for a doorbell, whether there is work or not."""
        self._control.words32[self._control.sq_sleeping_index] = 1

    def announce_awake(self) -> None:
        """Doorbells are not needed any more."""
        self._control.words32[self._control.sq_sleeping_index] = 0


class CompletionQueue:
    """Producer of the completion ring; holds completions back while the guest's ring is full."""

    def __init__(
        self,
        memory: mmap,
        channel_offset: int,
        control: ControlPage,
        interrupt: Callable[[], None],
    ) -> None:
        self._memory = memory
        self._base = channel_offset + abi.CQ_OFFSET
        self._words64 = control.words64
        self._words32 = control.words32
        self._tail_index = control.cq_tail_index
        self._head_index = control.cq_head_index
        self._waiting_index = control.cq_waiting_index
        self._pack = abi.COMPLETION.pack_into
        #: Signals the guest; whoever wants to see or hold back interrupts replaces it.
        self.interrupt = interrupt
        self._tail = 0
        self._held: deque[tuple[int, int, int, tuple[int, ...]]] = deque()

    @property
    def held(self) -> int:
        """Completions that wait for room in the ring."""
        return len(self._held)

    def post(self, sequence: int, status: int, flags: int, results: tuple[int, ...] = ()) -> None:
        """Write one completion and interrupt the guest if it asked for that."""
        self._held.append((sequence, status, flags, results))
        self.flush()

    def post_torn(
        self,
        sequence: int,
        status: int,
        flags: int,
        results: tuple[int, ...],
        written: int,
    ) -> Callable[[], None] | None:
        """Publish a completion of which only the first `written` bytes are there yet.

        Returns:
            What writes the rest, unless the guest may have been given the entry again; None where
            the ring has no room, and then nothing was done.
        """
        if self._held or (self._tail - self._words64[self._head_index]) & _U64 >= abi.CQ_ENTRIES:
            return None
        content = abi.COMPLETION.pack(
            sequence, status, flags, *results, *_EMPTY_RESULT[len(results) :]
        )
        index = self._tail
        start = self._base + (index & _CQ_MASK) * 64
        self._memory[start : start + written] = content[:written]
        self._tail = (index + 1) & _U64
        self._words64[self._tail_index] = self._tail
        full_barrier()
        if self._words32[self._waiting_index]:
            self.interrupt()

        def write_rest() -> None:
            if (self._tail - index) & _U64 < abi.CQ_ENTRIES:
                self._memory[start + written : start + 64] = content[written:]

        return write_rest

    def flush(self) -> None:
        """Write what is held back, as far as the guest has made room."""
        wrote = False
        while self._held:
            used = (self._tail - self._words64[self._head_index]) & _U64
            if used >= abi.CQ_ENTRIES:
                break
            sequence, status, flags, results = self._held.popleft()
            result = (*results, *_EMPTY_RESULT[len(results) :]) if results else _EMPTY_RESULT
            entry = self._base + (self._tail & _CQ_MASK) * 64
            self._pack(self._memory, entry, sequence, status, flags, *result)
            self._tail = (self._tail + 1) & _U64
            self._words64[self._tail_index] = self._tail
            wrote = True
        if wrote:
            full_barrier()
            if self._words32[self._waiting_index]:
                self.interrupt()


def channel_offset(channel: int) -> int:
    """Offset in BAR2 of a channel's memory, in bytes."""
    return abi.CHANNEL_BASE + channel * abi.CHANNEL_STRIDE
