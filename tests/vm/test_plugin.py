"""The fixtures `vgpu_vm` and `vgpu_exec` as their users have them, on real machines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from vgpu_qemu.kernels import find_kernel
from vgpu_stub.harness.build import own_modules

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("vm"), pytest.mark.timeout(300)]

RunPytest = Callable[..., pytest.RunResult]

#: One session with two boots: the machine that is shared, and the one that replaces it.
SESSION = """
import pytest
from vgpu_qemu.agent_client import CommandTimeoutError

MODULE = {module!r}

def test_command(vgpu_vm, vgpu_machines):
    assert vgpu_vm.run("uname -r").stdout.startswith(b"6.12.")
    assert vgpu_machines.boots == 1

def test_device(vgpu_vm, tmp_path):
    assert vgpu_vm.device.registers["MAGIC"] == 0x55504756
    assert vgpu_vm.device.registers["STATUS"] == 3
    resets = vgpu_vm.device.registers["RESET_COUNT"]
    vgpu_vm.reset()
    assert vgpu_vm.device.registers["RESET_COUNT"] > resets
    assert vgpu_vm.device.channels == []
    assert vgpu_vm.qmp("query-status")["status"] == "running"
    vgpu_vm.get("/proc/version", tmp_path / "version")
    assert "6.12." in (tmp_path / "version").read_text()

def test_fault_and_program(vgpu_vm):
    fault = vgpu_vm.faults.inject("command-error", opcode="LAUNCH_KERNEL", nth=1)
    done = vgpu_vm.run("python3 /opt/vgpu-stub/workloads/programs.py vector_add")
    assert done.status != 0
    assert fault.fired == 1
    assert any(
        command.name == "LAUNCH_KERNEL"
        for trace in vgpu_vm.device.ring_trace()
        for command in trace.commands
    )

def test_the_fault_is_gone(vgpu_vm, vgpu_machines):
    vgpu_vm.run("python3 /opt/vgpu-stub/workloads/programs.py vector_add").check()
    assert vgpu_machines.boots == 1

def test_caught_timeout_leaves_the_machine(vgpu_vm, vgpu_machines):
    with pytest.raises(CommandTimeoutError):
        vgpu_vm.run("sleep 60", timeout=0.5)

def test_panic(vgpu_vm):
    vgpu_vm.run("echo c > /proc/sysrq-trigger")

def test_replaced(vgpu_vm, vgpu_machines):
    assert vgpu_vm.run("true").status == 0
    assert vgpu_machines.boots == 2
    assert vgpu_machines.replaced == ["it does not answer"]

def test_warning(vgpu_vm, vgpu_machines):
    assert vgpu_machines.boots == 2
    vgpu_vm.put(MODULE, "/tmp/complaining.ko")
    vgpu_vm.run("insmod /tmp/complaining.ko").check()
    assert "complaining: loaded" in vgpu_vm.dmesg()
"""


@pytest.fixture(scope="module")
def complaining() -> Path:
    (module,) = own_modules(Path(__file__).parent / "complaining", find_kernel("6.12"))
    return module


def test_verdicts_of_a_session(
    run_pytest: RunPytest, pytester: pytest.Pytester, complaining: Path
) -> None:
    found = run_pytest(
        SESSION.format(module=str(complaining)),
        *("-v", "--junit-xml", "junit.xml", "--vgpu-artifacts", "kept"),
    )
    found.assert_outcomes(passed=6, failed=2)
    found.stdout.fnmatch_lines(
        [
            "*::test_panic WEDGED*",
            "*::test_replaced PASSED*",
            "*::test_warning FAILED*",
            "*VGPU-STUB: guest console*",
            "*Kernel panic - not syncing: sysrq triggered crash*",
            "*KernelProblemError: the guest's kernel reported:",
            "*WARNING: *complaining*",
            "*VGPU-STUB: kernel log of this test*",
            "*complaining: loaded*",
            "VGPU-STUB: 1 of the failed tests wedged their machine",
        ]
    )
    tree = ElementTree.parse(pytester.path / "junit.xml")
    wedged = tree.find(".//testcase[@name='test_panic']")
    assert wedged is not None
    assert wedged.find("failure") is not None
    names = {entry.attrib["name"] for entry in wedged.iter("property")}
    assert names >= {"vgpu_guest_console", "vgpu_device_server_s_log"}
    assert not list(pytester.path.glob("kept/*test_command*"))
