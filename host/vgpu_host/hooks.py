"""Places on a command's way where others can look and interfere: `Hook`, installed in a drain.

A command passes its hooks in `execute`, the guest memory that it names in `memory`, its completion
in `complete`, and the interrupt in `interrupt`. Each gets the next step as a function: calling it
goes on, not calling it swallows the step, calling it with other values changes what the guest gets.
Hooks run in the worker's only thread, and may take time only on purpose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

#: Carries out (opcode, flags, context, sequence, command with its header).
Execute = Callable[[int, int, int, int, bytes], None]
#: Writes a completion (sequence, status, flags, results).
Post = Callable[[int, int, int, tuple[int, ...]], None]
#: Signals the channel's vector.
Interrupt = Callable[[], None]


@dataclass(frozen=True)
class Command:
    """A command as it was taken from the ring; nothing of it is checked yet.

    Attributes:
        opcode: Of `abi.COMMANDS`, or any other number that the guest wrote.
        flags: COMMAND_*.
        context: Handle of the context, 0 for none.
        sequence: Number that its completion carries.
        data: The whole command: header, fields, tail, padding.
    """

    opcode: int
    flags: int
    context: int
    sequence: int
    data: bytes


@dataclass(frozen=True)
class Completion:
    """A completion as the guest is to get it."""

    sequence: int
    status: int
    flags: int
    results: tuple[int, ...]


@dataclass(frozen=True)
class MemoryAccess:
    """Registered guest memory that the current command names, checked.

    Attributes:
        registration: Its id.
        offset: Into the registration, in bytes.
        size: In bytes.
        access: REGISTER_READ where the device reads, REGISTER_WRITE where it writes.
        address: Where it is mapped in this process. What is read lies there already; what is
            written does once the command's stream has reached it.
        in_graph: Whether a node of a graph names it, which accesses it at each launch.
    """

    registration: int
    offset: int
    size: int
    access: int
    address: int
    in_graph: bool


class Hook:
    """Sees everything and changes nothing; derive and override what is of interest."""

    def execute(self, command: Command, proceed: Callable[[Command], None]) -> None:
        """A command was taken; `proceed` carries it out, and has completed it if it could.

        Times around `proceed` are those of the submission; commands whose completion waits for
        the device complete later, from the drain's loop.
        """
        proceed(command)

    def memory(self, access: MemoryAccess) -> int:
        """A command is about to use guest memory; returns the address to use in its place.

        Raises:
            CudaError: The command fails with it.
        """
        return access.address

    def complete(self, completion: Completion, proceed: Callable[[Completion], None]) -> None:
        """A completion is due; `proceed` writes it into the ring."""
        proceed(completion)

    def interrupt(self, proceed: Interrupt) -> None:
        """The guest asked for an interrupt and is due it; `proceed` signals the vector."""
        proceed()

    def idle(self) -> None:
        """There is nothing to do: the drain is about to sleep, or to nap while commands wait."""


def wrap_execute(hook: Hook, following: Execute) -> Execute:
    """The step that passes commands through a hook."""

    def proceed(command: Command) -> None:
        following(command.opcode, command.flags, command.context, command.sequence, command.data)

    def execute(opcode: int, flags: int, context: int, sequence: int, data: bytes) -> None:
        hook.execute(Command(opcode, flags, context, sequence, data), proceed)

    return execute


def wrap_complete(hook: Hook, following: Post) -> Post:
    """The step that passes completions through a hook."""

    def proceed(completion: Completion) -> None:
        following(completion.sequence, completion.status, completion.flags, completion.results)

    def post(sequence: int, status: int, flags: int, results: tuple[int, ...] = ()) -> None:
        hook.complete(Completion(sequence, status, flags, results), proceed)

    return post


def wrap_interrupt(hook: Hook, following: Interrupt) -> Interrupt:
    """The step that passes interrupts through a hook."""
    return lambda: hook.interrupt(following)
