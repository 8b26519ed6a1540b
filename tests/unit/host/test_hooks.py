"""Hooks of the drain: what they see, what they change, and that without them nothing is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.unit.host.test_drain import Guest
from vgpu_host.hooks import Command, Completion, Hook
from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.generated import Opcode


class Notes(Hook):
    """Writes down what passes, under a name."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self.name = name
        self.notes = notes

    def execute(self, command: Command, proceed: Callable[[Command], None]) -> None:
        self.notes.append(f"{self.name} execute {command.opcode:#x} {command.sequence}")
        proceed(command)
        self.notes.append(f"{self.name} executed {command.sequence}")

    def complete(self, completion: Completion, proceed: Callable[[Completion], None]) -> None:
        self.notes.append(f"{self.name} complete {completion.sequence} {completion.status}")
        proceed(completion)

    def idle(self) -> None:
        self.notes.append(f"{self.name} idle")


class Swallow(Hook):
    """Loses completions, and fails what it is told to."""

    def complete(self, completion: Completion, proceed: Callable[[Completion], None]) -> None:
        if completion.sequence % 2:
            proceed(Completion(completion.sequence + 100, 7, completion.flags, (1, 2)))


@pytest.fixture
def guest() -> Iterator[Guest]:
    made = Guest()
    yield made
    made.close()


def test_hooks_nest_and_the_last_is_outermost(guest: Guest) -> None:
    notes: list[str] = []
    guest.drain.install(Notes("inner", notes))
    guest.drain.install(Notes("outer", notes))
    guest.submit(Opcode.NOP, 5, 0, abi.COMMAND_COMPLETE, b"")
    assert guest.run() == [(5, 0, 0)]
    assert notes == [
        "outer execute 0x0 5",
        "inner execute 0x0 5",
        "outer complete 5 0",
        "inner complete 5 0",
        "inner executed 5",
        "outer executed 5",
    ]


def test_hook_sees_errors_and_commands_that_nobody_knows(guest: Guest) -> None:
    notes: list[str] = []
    guest.drain.install(Notes("hook", notes))
    guest.submit(0x77, 6, 0, abi.COMMAND_COMPLETE, b"")
    guest.run()
    assert notes == ["hook execute 0x77 6", "hook complete 6 801", "hook executed 6"]


def test_hook_changes_and_swallows_completions(guest: Guest) -> None:
    guest.drain.install(Swallow())
    for sequence in (1, 2, 3):
        guest.submit(Opcode.NOP, sequence, 0, abi.COMMAND_COMPLETE, b"")
    assert guest.run() == [(101, 7, 0), (103, 7, 0)]


def test_uninstalled_hook_leaves_the_drain_as_it_was(guest: Guest) -> None:
    before = (guest.drain._execute, guest.drain._post, guest.drain.completions.interrupt)
    hook = Swallow()
    guest.drain.install(hook)
    assert guest.drain._execute != before[0]
    guest.drain.uninstall(hook)
    assert (guest.drain._execute, guest.drain._post, guest.drain.completions.interrupt) == before
    guest.submit(Opcode.NOP, 2, 0, abi.COMMAND_COMPLETE, b"")
    assert guest.run() == [(2, 0, 0)]
    with pytest.raises(ValueError, match="not in"):
        guest.drain.uninstall(hook)


def test_what_was_deferred_is_asked_until_it_is_done(guest: Guest) -> None:
    answers = iter([False, False, True])
    guest.drain.defer(lambda: next(answers))
    assert [guest.drain.step() for _ in range(4)] == [False, False, True, False]
