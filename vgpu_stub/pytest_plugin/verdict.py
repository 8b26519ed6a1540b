"""Judges a machine after a test: what its kernel reported, and whether it still answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vgpu_qemu.agent_client import CommandTimeoutError
from vgpu_qemu.errors import VmError

if TYPE_CHECKING:
    from vgpu_stub.pytest_plugin.machines import VgpuMachine


class GuestWedgedError(Exception):
    """The guest does not answer any more."""


class KernelProblemError(Exception):
    """The guest's kernel reported a problem during the test, or not the one expected."""


def is_wedge(error: BaseException) -> bool:
    """Whether an error that ended a test says that its machine is wedged."""
    return isinstance(error, CommandTimeoutError | VmError | GuestWedgedError)


def judge(machine: VgpuMachine, expected: Sequence[str]) -> None:
    """Judge the machine of a test that has passed so far.

    Args:
        machine: The machine.
        expected: Patterns of problems that its kernel was to report.

    Raises:
        GuestWedgedError: It does not answer, and that was not expected.
        KernelProblemError: Its kernel reported what was not expected, or did not what was.
    """
    silence = machine.end_test()
    found, missing = machine.problems(expected)
    if silence and (found or missing or not expected):
        raise GuestWedgedError(f"the guest is wedged: {silence}")
    if found:
        titles = "\n".join(f"{problem.kind}: {problem.title}" for problem in found)
        raise KernelProblemError(f"the guest's kernel reported:\n{titles}\n\n{found[0].report}")
    if missing:
        raise KernelProblemError(
            f"the guest's kernel did not report what was expected: {', '.join(missing)}"
        )


def judge_failed(machine: VgpuMachine, error: BaseException) -> bool:
    """Judge the machine of a test that has failed; returns whether it is wedged."""
    silence = machine.end_test()
    wedged = bool(silence) or is_wedge(error)
    if wedged and not machine.unusable:
        machine.unusable = "a command in it did not end"
    return wedged
