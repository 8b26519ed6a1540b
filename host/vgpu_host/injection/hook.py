"""The hook that makes the faults of a channel happen, and tells the device server that they did.

It is installed in the drain while the channel has rules. A rule of the injector says that a fault
happens now; what then happens is the function of that kind in `commands`, `completions`, `memory`.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Mapping, Sequence
from time import monotonic_ns
from typing import Any, Final

from vgpu_host.drain import ChannelDrain
from vgpu_host.hooks import Command, Completion, Hook, Interrupt, MemoryAccess
from vgpu_host.injection.commands import COMMAND_FAULTS
from vgpu_host.injection.completions import COMPLETION_FAULTS
from vgpu_host.injection.interrupts import INTERRUPT_FAULTS
from vgpu_host.injection.memory import MEMORY_FAULTS
from vgpu_host.session import ChannelSession
from vgpu_stub.abi import generated as abi
from vgpu_stub.faults import Injector, Point, Rule

#: Least time between two reports, so that a rule that fires always does not flood the link.
_REPORT_INTERVAL_NS: Final = 10_000_000
#: Commands whose opcode is remembered until they complete.
_REMEMBERED: Final = 2 * abi.CQ_ENTRIES

#: Takes totals by rule id (seen, fired, last_fired_ns) and what fired last, in words.
Report = Callable[[list[list[int]], str], None]


class FaultHook(Hook):
    """Injects the faults of one channel."""

    def __init__(
        self,
        drain: ChannelDrain,
        session: ChannelSession,
        control_fd: int,
        serve_control: Callable[[], None],
        report: Report,
    ) -> None:
        """Start without rules: `set_rules` installs it in the drain and takes it out.

        Args:
            drain: The channel's.
            session: The channel's.
            control_fd: The link, to go on serving it while a fault holds up the ring.
            serve_control: Handles the messages there.
            report: Tells the device server what was counted.
        """
        self.drain = drain
        self.session = session
        self.injector = Injector()
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
        if bool(rules) != self._installed:
            (self.drain.install if rules else self.drain.uninstall)(self)
            self._installed = bool(rules)

    def has_rule(self, rule: Rule) -> bool:
        """Whether a rule is still there: it may be cleared while its fault goes on."""
        return any(state.rule.id == rule.id for state in self.injector.rules())

    def hold(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Hold up the ring, serving the link, for a time or until a condition is true."""
        deadline = monotonic_ns() + int(seconds * 1e9)
        self.tell()
        while not until() and (left := deadline - monotonic_ns()) > 0:
            if self._control_poll.poll(min(left // 1_000_000 + 1, 1000)):
                self._serve_control()

    # -- vgpu_host.hooks.Hook ----------------------------------------------------------------------

    def execute(self, command: Command, proceed: Callable[[Command], None]) -> None:
        """Faults of commands."""
        if command.flags & abi.COMMAND_COMPLETE:
            self._remember(command)
        self.command = command
        rule = self._fires(Point.EXECUTE, command.opcode)
        try:
            if rule:
                COMMAND_FAULTS[rule.kind](self, rule, command, proceed)
            else:
                proceed(command)
        finally:
            self.command = None

    def memory(self, access: MemoryAccess) -> int:
        """Faults of guest memory; not of graphs, whose nodes only say here what they will use."""
        if access.in_graph or self.command is None:
            return access.address
        rule = self._fires(Point.DATA, self.command.opcode)
        return MEMORY_FAULTS[rule.kind](self, rule, access) if rule else access.address

    def complete(self, completion: Completion, proceed: Callable[[Completion], None]) -> None:
        """Faults of completions."""
        rule = self._fires(Point.COMPLETE, self._opcodes.pop(completion.sequence, None))
        if rule:
            COMPLETION_FAULTS[rule.kind](self, rule, completion, proceed)
        else:
            proceed(completion)

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

    def _fires(self, point: Point, opcode: int | None) -> Rule | None:
        rule = self.injector.fires(point, opcode=opcode, **self._identity)
        if rule:
            name = abi.COMMANDS[opcode].name if opcode in abi.COMMANDS else ""
            self._text = f"{rule} {name}".rstrip()
            if monotonic_ns() - self._reported_ns >= _REPORT_INTERVAL_NS:
                self.tell()
        return rule
