"""What becomes of a test, by what its machine's kernel said and whether it answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest

from vgpu_qemu.agent_client import CommandTimeoutError
from vgpu_qemu.errors import VmError
from vgpu_stub.harness.kernel_log import KernelProblem
from vgpu_stub.pytest_plugin.machines import VgpuMachine, problems_in
from vgpu_stub.pytest_plugin.verdict import (
    GuestWedgedError,
    KernelProblemError,
    is_wedge,
    judge,
    judge_failed,
)

WARNING = """\
[   12.000001] ------------[ cut here ]------------
[   12.000002] WARNING: CPU: 0 PID: 99 at drivers/gpu/mine.c:12 mine_probe+0x1/0x10
[   12.000003] Call Trace:
[   12.000004]  <TASK>
[   12.000005] ---[ end trace 0000000000000000 ]---
"""


class FakeMachine:
    """A machine that says what a test of the verdict wants it to."""

    def __init__(self, log: str = "", silence: str = "") -> None:
        self.log = log
        self.silence = silence
        self.unusable = ""

    def end_test(self) -> str:
        return self.silence

    def problems(self, expected: Sequence[str]) -> tuple[list[KernelProblem], list[str]]:
        return problems_in(self.log, expected)


def machine(log: str = "", silence: str = "") -> VgpuMachine:
    return cast(VgpuMachine, FakeMachine(log, silence))


def test_a_quiet_kernel_passes() -> None:
    judge(machine("[   12.000001] vgpu 0000:00:05.0: ready\n"), [])


def test_a_warning_fails_the_test_with_its_report() -> None:
    with pytest.raises(KernelProblemError, match=r"(?s)WARNING: .*mine_probe.*Call Trace"):
        judge(machine(WARNING), [])


def test_a_warning_that_was_expected_passes() -> None:
    judge(machine(WARNING), ["mine_probe"])


def test_another_warning_than_the_expected_one_fails() -> None:
    with pytest.raises(KernelProblemError, match="reported"):
        judge(machine(WARNING), ["other_probe"])


def test_an_expected_problem_that_does_not_come_fails() -> None:
    with pytest.raises(KernelProblemError, match="did not report what was expected: mine_probe"):
        judge(machine(), ["mine_probe"])


def test_a_silent_guest_is_wedged() -> None:
    with pytest.raises(GuestWedgedError, match="the guest is wedged: no answer"):
        judge(machine(silence="no answer"), [])


def test_a_panic_that_was_expected_passes() -> None:
    panic = "[   12.0] Kernel panic - not syncing: sysrq triggered crash\n"
    judge(machine(panic, silence="the guest ended by itself"), ["sysrq triggered crash"])


@pytest.mark.parametrize(
    ("error", "wedged"),
    [
        (CommandTimeoutError(["sleep"], 1.0, b"", b""), True),
        (VmError("the guest ended by itself"), True),
        (GuestWedgedError("silent"), True),
        (AssertionError("wrong"), False),
    ],
)
def test_which_errors_say_that_a_machine_is_wedged(error: Exception, wedged: bool) -> None:
    assert is_wedge(error) is wedged


def test_a_machine_whose_command_did_not_end_is_not_used_again() -> None:
    used = machine()
    assert judge_failed(used, CommandTimeoutError(["sleep"], 1.0, b"", b""))
    assert used.unusable == "a command in it did not end"


def test_a_test_that_failed_by_itself_leaves_its_machine() -> None:
    used = machine()
    assert not judge_failed(used, AssertionError("wrong"))
    assert used.unusable == ""
