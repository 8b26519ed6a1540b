"""The ring drain of a worker: fetch, decode, execute, complete - in that order, in this file.

It polls while there is work and for a while after; the while adapts to how soon work usually
comes back. Then it announces that it sleeps and waits for a doorbell. Commands that wait for the
device (synchronise, COMMAND_WAIT) do not hold up later ones: they are polled between commands.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import struct
from collections.abc import Callable
from mmap import mmap
from time import monotonic_ns, sleep
from typing import Final

from vgpu_host.decode import HEADER_BYTES
from vgpu_host.executors.base import CudaError
from vgpu_host.hooks import (
    Execute,
    Hook,
    Post,
    wrap_complete,
    wrap_execute,
    wrap_interrupt,
)
from vgpu_host.registrations import Registrations
from vgpu_host.session import ChannelSession
from vgpu_host.session_contexts import INVALID_VALUE
from vgpu_stub.abi import generated as abi
from vgpu_stub.device.rings import (
    CompletionQueue,
    ControlPage,
    SubmissionQueue,
)

_log = logging.getLogger(__name__)

_NOT_SUPPORTED: Final = 801
_UNKNOWN: Final = 999
_COMPLETE: Final = abi.COMMAND_COMPLETE
_CONTEXT_FREE: Final = frozenset(
    (abi.Opcode.NOP, abi.Opcode.CONTEXT_CREATE, abi.Opcode.OUTPUT_READ)
)

#: Polling after the last command before the worker sleeps: at first, at least, at most.
_SPIN_NS: Final = (500_000, 250_000, 4_000_000)
_BATCH: Final = 128
#: Commands taken and not yet answered in the guest's ring, beyond which no more are taken: a guest
#: that keeps the rules has half as many, one that takes no completions would fill the memory.
_MAX_UNANSWERED: Final = 2 * abi.CQ_ENTRIES
#: Failed commands that a channel may have in the log.
_MAX_LOGGED: Final = 1000
#: The members of `struct vgpu_host_counters` from `bytes_to_device` to `worker_pid`.
_TOTALS: Final = struct.Struct("<14Q")
_PID: Final = os.getpid()
_CONTROL_INTERVAL_NS: Final = 500_000
#: Polling for a waiting command before the worker naps between polls; naps are what a guest's
#: every wait would last longer.
_PENDING_SPIN_NS: Final = 5_000_000
#: Sleep between polls of the device once a waiting command has outlasted the spin.
_NAP_S: Final = 0.00005
_MAX_SLEEP_MS: Final = 1000


class ChannelDrain:
    """Drains one channel until told to stop."""

    def __init__(
        self,
        memory: mmap,
        session: ChannelSession,
        registrations: Registrations,
        serve_control: Callable[[], None],
        control_fd: int,
        kick_fd: int,
    ) -> None:
        """Prepare to drain.

        Args:
            memory: The channel's part of BAR2, mapped.
            session: Handlers of the commands.
            registrations: Guest memory of the channel, for its counters.
            serve_control: Handles messages of the device server; called when `control_fd` is
                readable, between commands.
            control_fd: The worker's end of the link.
            kick_fd: eventfd that a doorbell signals.
        """
        self._memory = memory
        self._control = ControlPage(memory, 0)
        self._submissions = SubmissionQueue(memory, 0, self._control)
        self.completions = CompletionQueue(memory, 0, self._control, self._signal)
        self._session = session
        self._registrations = registrations
        self._serve_control = serve_control
        self._kick_fd = kick_fd
        self._control_poll = select.poll()
        self._control_poll.register(control_fd, select.POLLIN)
        self._sleep_poll = select.poll()
        self._sleep_poll.register(control_fd, select.POLLIN)
        self._sleep_poll.register(kick_fd, select.POLLIN)
        self.interrupt_fd: int | None = None
        self._pending: list[tuple[int | None, Callable[[], bool]]] = []
        self._async_error = 0
        self._spin_ns = _SPIN_NS[0]
        counters = abi.HOST_COUNTERS_OFFSET
        self._commands = [0] * abi.OPCODE_COUNT
        self._shared_commands = memoryview(memory)[counters : counters + 8 * abi.OPCODE_COUNT].cast(
            "Q"
        )
        self._totals_offset = counters + abi.HOST_COUNTERS_OFFSETS["bytes_to_device"]
        busy = counters + abi.HOST_COUNTERS_OFFSETS["busy_since_ns"]
        self._shared_busy_since = memoryview(memory)[busy : busy + 8].cast("Q")
        output = counters + abi.HOST_COUNTERS_OFFSETS["output_bytes"]
        self._shared_output_bytes = memoryview(memory)[output : output + 8].cast("Q")
        high = counters + abi.HOST_COUNTERS_OFFSETS["ring_high_water"]
        self._shared_high_water = memoryview(memory)[high : high + 8].cast("Q")
        self._high_water = 0
        self._errors = 0
        self._last_error = 0
        self._logged = 0
        self._sleeps = 0
        self._interrupts = 0
        self._busy_ns = 0
        self._decoders = session.decoders
        self._hooks: tuple[Hook, ...] = ()
        # What hooks wrap; without hooks the steps themselves, so that none costs anything.
        self._execute: Execute = self._carry_out
        self._post: Post = self.completions.post

    def install(self, hook: Hook) -> None:
        """Have a hook see every command from now on; between commands only.

        Hooks nest: the one installed last is the outermost.
        """
        self._hooks = (*self._hooks, hook)
        self._wrap()

    def uninstall(self, hook: Hook) -> None:
        """Take a hook out again; between commands only.

        Raises:
            ValueError: It is not installed.
        """
        hooks = list(self._hooks)
        hooks.remove(hook)
        self._hooks = tuple(hooks)
        self._wrap()

    def _wrap(self) -> None:
        self._execute = self._carry_out
        self._post = self.completions.post
        self.completions.interrupt = self._signal
        for hook in self._hooks:
            self._execute = wrap_execute(hook, self._execute)
            self._post = wrap_complete(hook, self._post)
            self.completions.interrupt = wrap_interrupt(hook, self.completions.interrupt)
        self._session.observe_memory([hook.memory for hook in self._hooks])

    def show_busy(self, busy: bool) -> None:
        """Tell monitors and the guest's watchdog whether a command is being carried out."""
        self._shared_busy_since[0] = monotonic_ns() if busy else 0

    def defer(self, poll: Callable[[], bool]) -> None:
        """Call `poll` between commands until it says that it is done."""
        self._pending.append((None, poll))

    def run(self) -> None:
        """Drain until the link closes.

        Raises:
            RingError: The guest's ring is impossible.
            LinkClosedError: From `serve_control`: the device server is gone.
        """
        now = monotonic_ns()
        idle_since = now
        next_control = now
        while True:
            worked = self.step()
            now = monotonic_ns()
            if now >= next_control:
                next_control = now + _CONTROL_INTERVAL_NS
                if self._control_poll.poll(0):
                    self._serve_control()
                    worked = True
            if worked:
                idle_since = now
            elif now - idle_since > (_PENDING_SPIN_NS if self._pending else self._spin_ns):
                self._sleep(now)
                if not self._pending:
                    idle_since = monotonic_ns()
                    next_control = idle_since

    def step(self) -> bool:
        """Carry out what was submitted and look at what waits; False when there was nothing.

        Raises:
            RingError: The guest's ring is impossible.
        """
        worked = self._drain_batch()
        if self._pending:
            worked = self._poll_pending() or worked
        if self.completions.held:
            self.completions.flush()
        return worked

    def _drain_batch(self) -> bool:
        available = self._submissions.available()
        if not available:
            return False
        if available > self._high_water:
            self._high_water = self._shared_high_water[0] = available
        if len(self._pending) + self.completions.held >= _MAX_UNANSWERED:
            return False
        start = monotonic_ns()
        # A kernel may run for long: monitors see that the worker is busy before it is done.
        self._shared_busy_since[0] = start
        execute = self._execute
        for command in self._submissions.batch(_BATCH):
            execute(*command)
        self._busy_ns += monotonic_ns() - start
        self._shared_busy_since[0] = 0
        self._publish()
        return True

    def _carry_out(
        self, opcode: int, flags: int, context: int, sequence: int, command: bytes
    ) -> None:
        count = self._commands[opcode & 0xFF] + 1
        self._commands[opcode & 0xFF] = count
        # The guest can write there: what is shown is never read back.
        self._shared_commands[opcode & 0xFF] = count
        try:
            if opcode not in self._decoders:
                raise CudaError(_NOT_SUPPORTED, f"opcode 0x{opcode:x}")
            handler, unpack, tail_start, stream_place = self._decoders[opcode]
            if context != self._session.active_handle and opcode not in _CONTEXT_FREE:
                self._session.activate(context)
            fields = unpack(command, HEADER_BYTES)
            if tail_start:
                tail_end = tail_start + fields[-1]
                if tail_end > len(command):
                    raise CudaError(INVALID_VALUE, f"{fields[-1]} bytes do not fit the command")
                outcome = handler(*fields, command[tail_start:tail_end])
            else:
                outcome = handler(*fields)
            if not flags & _COMPLETE:
                return
            if callable(outcome):
                self._pending.append((sequence, outcome))
            elif flags & abi.COMMAND_WAIT and stream_place is not None:
                poll = self._session.wait_for_stream(fields[stream_place])
                self._pending.append((sequence, poll))
            else:
                self._complete(sequence, 0, outcome or ())
        except CudaError as error:
            self.fail(opcode, flags, sequence, error)
        except struct.error:
            shorter = CudaError(INVALID_VALUE, "the command is shorter than its fields")
            self.fail(opcode, flags, sequence, shorter)
        except Exception as error:  # a bug in here must cost the guest an error, not the channel
            _log.exception("command 0x%x failed unexpectedly", opcode)
            self.fail(opcode, flags, sequence, CudaError(_UNKNOWN, str(error)))

    def fail(self, opcode: int, flags: int, sequence: int, error: CudaError) -> None:
        """Complete a command with an error; without COMMAND_COMPLETE the next one reports it."""
        if flags & _COMPLETE:
            self._complete(sequence, error.result, ())
        elif not self._async_error:
            self._async_error = error.result
            self._control.publish_error(error.result)
        if error.result == 600:  # CUDA_ERROR_NOT_READY is an answer, not a failure
            return
        self._errors += 1
        self._last_error = error.result
        # A guest must not fill the host's disk: the counters go on where the log stops.
        self._logged += 1
        if self._logged > _MAX_LOGGED:
            return
        name = abi.COMMANDS[opcode].name if opcode in abi.COMMANDS else f"0x{opcode:x}"
        _log.warning("%s (sequence %d): %d: %s", name, sequence, error.result, error)

    def _complete(self, sequence: int, status: int, results: tuple[int, ...]) -> None:
        # Whoever waits for the completion then looks whether there is text to print.
        self._shared_output_bytes[0] = self._session.output_bytes
        if self._async_error:
            status, results = self._async_error, ()
            self._async_error = 0
            self._control.publish_error(0)
            self._post(sequence, status, abi.COMPLETION_ASYNC_ERROR, results)
        else:
            self._post(sequence, status, 0, results)

    def _poll_pending(self) -> bool:
        finished = False
        waiting, self._pending = self._pending, []
        for sequence, poll in waiting:
            try:
                if poll():
                    if sequence is not None:
                        self._complete(sequence, 0, ())
                    finished = True
                else:
                    self._pending.append((sequence, poll))
            except CudaError as error:
                self._errors += 1
                self._last_error = error.result
                _log.warning("waiting command (sequence %s): %s", sequence, error)
                if sequence is not None:
                    self._complete(sequence, error.result, ())
                finished = True
        return finished

    def _sleep(self, now: int) -> None:
        """Wait for a doorbell or a message; how soon it comes sets the length of the next spin."""
        for hook in self._hooks:
            hook.idle()
        if self._pending or self.completions.held:
            # The device and the guest's completion ring ring no doorbell: look again soon.
            sleep(_NAP_S)
            return
        if not self._submissions.announce_sleep():
            return
        self._sleeps += 1
        self._publish()
        ready = self._sleep_poll.poll(_MAX_SLEEP_MS)
        self._submissions.announce_awake()
        if any(fd == self._kick_fd for fd, _ in ready):
            os.eventfd_read(self._kick_fd)
            slept = monotonic_ns() - now
            _, least, most = _SPIN_NS
            if slept < most:
                self._spin_ns = min(self._spin_ns * 2, most)
            else:
                self._spin_ns = max(self._spin_ns // 2, least)

    def _signal(self) -> None:
        self._interrupts += 1
        if self.interrupt_fd is not None:
            # A full counter means that an interrupt is pending anyway.
            with contextlib.suppress(BlockingIOError):
                os.eventfd_write(self.interrupt_fd, 1)

    def _publish(self) -> None:
        """Show the totals; the counts of commands are shown as they happen."""
        session = self._session
        _TOTALS.pack_into(
            self._memory,
            self._totals_offset,
            session.bytes_to_device,
            session.bytes_to_host,
            self._errors,
            self._last_error,
            self._sleeps,
            self._interrupts,
            self._busy_ns,
            session.memory_bytes,
            len(session.memory),
            self._registrations.total_bytes,
            session.modules,
            _PID,
            session.graph_nodes,
            session.graph_kernels,
        )
