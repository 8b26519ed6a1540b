"""The choice between KVM and emulation, for every kind of machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from vgpu_qemu.accelerator import Accelerator, HostFacts, choose_accelerator, host_facts
from vgpu_qemu.errors import AcceleratorError

GOOD = HostFacts(kvm_problem=None, virtualization_flags=True)
NO_FLAGS = HostFacts(kvm_problem=None, virtualization_flags=False)
NO_DEVICE = HostFacts(kvm_problem="there is no /dev/kvm", virtualization_flags=True)


class Trial:
    """A trial boot with a known end that counts how often it was asked for."""

    def __init__(self, problem: str | None) -> None:
        self.problem = problem
        self.runs = 0

    def __call__(self) -> str | None:
        self.runs += 1
        return self.problem


def test_kvm_is_used_where_a_trial_guest_runs() -> None:
    trial = Trial(None)
    assert choose_accelerator("auto", GOOD, trial) == Accelerator("kvm")
    assert trial.runs == 1


def test_missing_flags_decide_without_a_trial() -> None:
    trial = Trial(None)
    chosen = choose_accelerator("auto", NO_FLAGS, trial)
    assert chosen == Accelerator(
        "tcg", "emulating (TCG), because the processor shows neither vmx nor svm"
    )
    assert trial.runs == 0


def test_hanging_trial_means_emulation_with_a_reason() -> None:
    chosen = choose_accelerator("auto", GOOD, Trial("it hung"))
    assert chosen == Accelerator("tcg", "emulating (TCG), because it hung")


def test_missing_device_means_emulation() -> None:
    chosen = choose_accelerator("auto", NO_DEVICE, Trial(None))
    assert chosen.name == "tcg"
    assert "there is no /dev/kvm" in chosen.reason


def test_tcg_on_request_asks_nothing() -> None:
    trial = Trial(None)
    assert choose_accelerator("tcg", GOOD, trial) == Accelerator("tcg")
    assert trial.runs == 0


@pytest.mark.parametrize(
    ("facts", "problem"), [(NO_DEVICE, "there is no /dev/kvm"), (GOOD, "it hung")]
)
def test_kvm_on_request_is_an_error_where_it_does_not_run(facts: HostFacts, problem: str) -> None:
    with pytest.raises(AcceleratorError, match=problem):
        choose_accelerator("kvm", facts, Trial("it hung"))


def test_kvm_on_request_overrules_the_flags_when_the_trial_succeeds() -> None:
    assert choose_accelerator("kvm", NO_FLAGS, Trial(None)) == Accelerator("kvm")


def test_unknown_request_is_refused() -> None:
    with pytest.raises(AcceleratorError, match="auto, kvm, tcg"):
        choose_accelerator("xen", GOOD, Trial(None))


def test_facts_are_read_from_the_machine(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags\t\t: fpu vme svm\n")
    device = tmp_path / "kvm"
    assert host_facts(device, cpuinfo) == HostFacts(f"there is no {device}", True)
    device.touch()
    cpuinfo.write_text("processor : 0\nflags\t\t: fpu svm_lock hypervisor\n")
    assert host_facts(device, cpuinfo) == HostFacts(None, False)
