"""The hook that makes the faults of a channel happen, and tells the device server that they did.

It is installed in the drain while the channel has rules. A rule of the injector says that a fault
happens now; what then happens is the function of that kind in `commands`, `completions`, `memory`.
"""

from __future__ import annotations

import ctypes
import logging
import select
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from time import monotonic, monotonic_ns, sleep
from typing import Any, Final

from vgpu_host.decode import HEADER_BYTES
from vgpu_host.drain import ChannelDrain
from vgpu_host.executors.base import CudaError
from vgpu_host.hooks import Command, Completion, Hook, Interrupt, MemoryAccess
from vgpu_host.injection.commands import COMMAND_FAULTS
from vgpu_host.injection.completions import COMPLETION_FAULTS
from vgpu_host.injection.interrupts import INTERRUPT_FAULTS
from vgpu_host.injection.memory import INLINE_FAULTS, MEMORY_FAULTS
from vgpu_host.registrations import Registration, Registrations
from vgpu_host.session import ChannelSession
from vgpu_stub.abi import generated as abi
from vgpu_stub.faults import Injector, Point, Rule
from vgpu_stub.faults.points import TO_DEVICE, TO_HOST

_log = logging.getLogger(__name__)

#: Least time between two reports, so that a rule that fires always does not flood the link.
_REPORT_INTERVAL_NS: Final = 10_000_000
#: Commands whose opcode is remembered until they complete.
_REMEMBERED: Final = 2 * abi.CQ_ENTRIES
#: Changed copies of guest memory that are kept: a GPU may read one after the command is done.
_KEPT: Final = 2
_NAP_S: Final = 0.00005

#: Takes totals by rule id (seen, fired, last_fired_ns) and what fired last, in words.
Report = Callable[[list[list[int]], str], None]


class FaultHook(Hook):
    """Injects the faults of one channel."""

    def __init__(
        self,
        drain: ChannelDrain,
        session: ChannelSession,
        registrations: Registrations,
        control_fd: int,
        serve_control: Callable[[], None],
        report: Report,
    ) -> None:
        """Start without rules: `set_rules` installs it in the drain and takes it out.

        Args:
            drain: The channel's.
            session: The channel's.
            registrations: Guest memory of the channel.
            control_fd: The link, to go on serving it while a fault holds up the ring.
            serve_control: Handles the messages there.
            report: Tells the device server what was counted.
        """
        self.drain = drain
        self.injector = Injector()
        #: Errors of contexts that a fault has broken, by handle.
        self.broken: dict[int, CudaError] = {}
        #: Completions that wait for the next one to overtake them.
        self.overtaken: list[tuple[Completion, Callable[[Completion], None]]] = []
        self._session = session
        self._registrations = registrations
        self._kept: deque[ctypes.Array[ctypes.c_char]] = deque(maxlen=_KEPT)
        self._used: dict[int, Registration] = {}
        self._changes: dict[int, list[Callable[[], None]]] = {}
        #: The command that is being carried out, None between commands.
        self.command: Command | None = None
        self._identity: dict[str, Any] = {}
        self._installed = False
        self._opcodes: dict[int, int] = {}
        self._serve_control = serve_control
        self._control_poll = select.poll()
        self._control_poll.register(control_fd, select.POLLIN)
        self._report = report
        self._reported: list[list[int]] = []
        self._reported_ns = 0
        self._text = ""

    def set_rules(self, rules: Sequence[tuple[Rule, int]], identity: Mapping[str, Any]) -> None:
        """Replace the rules; those that stay keep their counts.

        Args:
            rules: Each with when it was added, by the monotonic clock.
            identity: `device`, `channel`, `process` and `pid` of the events here.
        """
        self._identity = dict(identity)
        wanted = {rule.id for rule, _ in rules}
        present = {state.rule.id for state in self.injector.rules()}
        for number in present - wanted:
            self.injector.clear(number)
        for rule, added_ns in rules:
            if rule.id not in present:
                self.injector.add(rule, added_ns)
        wants = bool(rules) or bool(self.broken)
        if wants != self._installed:
            (self.drain.install if wants else self.drain.uninstall)(self)
            self._installed = wants

    def has_rule(self, rule: Rule) -> bool:
        """Whether a rule is still there: it may be cleared while its fault goes on."""
        return any(state.rule.id == rule.id for state in self.injector.rules())

    def hold(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Hold up the ring, serving the link, for a time or until a condition is true."""
        deadline = monotonic() + seconds
        self.tell()
        self.drain.show_busy(False)
        while not until() and (left := deadline - monotonic()) > 0:
            if self._control_poll.poll(min(left, 1.0) * 1000):
                self._serve_control()
        self.drain.show_busy(True)

    def wait_for_stream(self, command: Command) -> None:
        """Wait until the stream of a copy has reached it, holding up the ring."""
        layout = abi.COMMANDS[command.opcode]
        fields = layout.fields.unpack_from(command.data, HEADER_BYTES)
        try:
            poll = self._session.wait_for_stream(fields[layout.field_names.index("stream")])
            while not poll():
                sleep(_NAP_S)
        except CudaError as error:  # the copy was refused, and that is reported already
            _log.info("%s has nothing to wait for: %s", layout.name, error)

    def keep(self, data: bytearray) -> int:
        """Address of a copy of data, which outlives the copy that now is made from there."""
        buffer = ctypes.create_string_buffer(bytes(data), len(data))
        self._kept.append(buffer)
        return ctypes.addressof(buffer)

    def still_registered(self, access: MemoryAccess) -> bool:
        """Whether the guest memory that a command named is still its."""
        registration = self._used.get(access.registration)
        return registration is not None and self._registrations.holds(
            access.registration, registration
        )

    def before_completion(self, change: Callable[[], None]) -> None:
        """Have something done between the current command's copy and its completion."""
        if self.command:
            self._changes.setdefault(self.command.sequence, []).append(change)

    # -- vgpu_host.hooks.Hook ----------------------------------------------------------------------

    def execute(self, command: Command, proceed: Callable[[Command], None]) -> None:
        """Faults of commands."""
        if command.flags & abi.COMMAND_COMPLETE:
            self._remember(command)
        self.command = command
        try:
            if command.opcode == abi.Opcode.CONTEXT_DESTROY:
                self.broken.pop(command.context, None)
            if command.context in self.broken:
                error = self.broken[command.context]
                self.drain.fail(command.opcode, command.flags, command.sequence, error)
            elif rule := self._fires(
                Point.EXECUTE, command.opcode, bytes=self._bytes_after(command)
            ):
                COMMAND_FAULTS[rule.kind](self, rule, command, proceed)
            elif command.opcode == abi.Opcode.COPY_INLINE and (
                rule := self._fires(Point.DATA, command.opcode, *INLINE_FAULTS, direction=TO_DEVICE)
            ):
                INLINE_FAULTS[rule.kind](self, rule, command, proceed)
            else:
                proceed(command)
            if not command.flags & abi.COMMAND_COMPLETE and command.sequence in self._changes:
                self.wait_for_stream(command)
                self._change_data(command.sequence)
        finally:
            self.command = None

    def memory(self, access: MemoryAccess) -> int:
        """Faults of guest memory; not of graphs, whose nodes only say here what they will use."""
        if access.in_graph or self.command is None:
            return access.address
        if access.access & abi.REGISTER_READ:
            kinds, direction = ("dma-read-error", "data-corrupted"), TO_DEVICE
        else:
            kinds, direction = ("dma-write-error", "data-corrupted"), TO_HOST
        rule = self._fires(Point.DATA, self.command.opcode, *kinds, direction=direction)
        if rule is None:
            return access.address
        self._used[access.registration] = self._registrations.get(access.registration)
        return MEMORY_FAULTS[rule.kind](self, rule, access)

    def complete(self, completion: Completion, proceed: Callable[[Completion], None]) -> None:
        """Faults of completions."""
        if completion.status:  # nothing was copied that could be changed
            self._changes.pop(completion.sequence, None)
        self._change_data(completion.sequence)
        overtaken, self.overtaken = self.overtaken, []
        rule = self._fires(Point.COMPLETE, self._opcodes.pop(completion.sequence, None))
        if rule:
            COMPLETION_FAULTS[rule.kind](self, rule, completion, proceed)
        else:
            proceed(completion)
        for earlier, proceed_earlier in overtaken:
            proceed_earlier(earlier)

    def interrupt(self, proceed: Interrupt) -> None:
        """Faults of the channel's interrupt."""
        rule = self._fires(Point.INTERRUPT, None)
        if rule:
            INTERRUPT_FAULTS[rule.kind](self, rule, proceed)
        else:
            proceed()

    def idle(self) -> None:
        """Tell what has been counted since the last report."""
        self.tell()

    # -- helpers -----------------------------------------------------------------------------------

    def tell(self) -> None:
        """Tell the device server now, if there is news."""
        totals = [
            [state.rule.id, state.seen, state.fired, state.last_fired_ns]
            for state in self.injector.rules()
        ]
        if totals != self._reported:
            self._report(totals, self._text)
            self._text = ""
            self._reported = totals
            self._reported_ns = monotonic_ns()

    def _remember(self, command: Command) -> None:
        if len(self._opcodes) >= _REMEMBERED:
            del self._opcodes[next(iter(self._opcodes))]
        self._opcodes[command.sequence] = command.opcode

    def _change_data(self, sequence: int) -> None:
        for change in self._changes.pop(sequence, ()):
            change()

    def _bytes_after(self, command: Command) -> int:
        """Device memory of the channel once the command has allocated what it asks for."""
        if command.opcode != abi.Opcode.MEMORY_ALLOCATE or len(command.data) < HEADER_BYTES + 8:
            return 0
        (size,) = abi.COMMANDS[command.opcode].fields.unpack_from(command.data, HEADER_BYTES)
        return self._session.memory_bytes + int(size)

    def _fires(
        self, point: Point, opcode: int | None, /, *kinds: str, **event: int | str
    ) -> Rule | None:
        rule = self.injector.fires(point, *kinds, opcode=opcode, **self._identity, **event)
        if rule:
            name = abi.COMMANDS[opcode].name if opcode in abi.COMMANDS else ""
            self._text = f"{rule} {name}".rstrip()
            if rule.times or monotonic_ns() - self._reported_ns >= _REPORT_INTERVAL_NS:
                self.tell()
        return rule
