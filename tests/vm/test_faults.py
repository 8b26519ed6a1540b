"""Every fault in a guest: the right error in time, no hang, no oops, and recovery.

One boot for each kernel. The default kernel gets every case of `fault_cases`, the others a few;
`--every-fault` gives them all.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.vm.fault_cases import CASES, DEVICE_UNAVAILABLE, SHORT, FaultCase
from vgpu_host.executors.options import ExecutorOptions
from vgpu_qemu.command_line import ROOT_PORT_DEVICE_ADDRESS
from vgpu_qemu.kernels import DEFAULT_KERNEL, SUPPORTED
from vgpu_qemu.progress import silent
from vgpu_qemu.vm import Vm
from vgpu_stub.faults import KINDS, Rule
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.harness.machine import GuestSettings, running_vm

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("vm"), pytest.mark.timeout(300)]

PROGRAM = Path(__file__).with_name("fault_guest.py")
FOLDER = "/tmp/faults"
#: What a kernel says that has a bug, or believes to have one.
BAD_WORDS = re.compile(
    r"BUG[: ]|WARNING: |Oops|general protection|blocked for more than|rcu.*stall|Call Trace|"
    r"KASAN|scheduling while atomic|possible recursive|soft lockup|nobody cared"
)
#: Its guest has the device behind a root port, which reports PCI Express errors.
ROOT_PORT_KERNEL = "7.2"
PARAMETERS = "/sys/module/vgpu_stub/parameters"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    every = metafunc.config.getoption("every_fault", default=False)
    rows = [
        pytest.param(kernel, case, id=f"{kernel}-{case.rule}")
        for kernel in SUPPORTED
        for case in CASES
        if every or kernel == DEFAULT_KERNEL or case.rule in SHORT
    ]
    if "case" in metafunc.fixturenames:
        metafunc.parametrize(("guest", "case"), rows, indirect=["guest"], scope="module")


class Guest:
    """A booted guest with the server of `fault_guest`, and the faults of its device."""

    def __init__(self, vm: Vm, server: DeviceServer) -> None:
        self.faults = server.control.faults
        self._server = server
        self._vm = vm
        self._next = 1

    def shell(self, line: str, timeout: float = 30.0) -> str:
        result = self._vm.run(line, timeout=timeout)
        output = (result.stdout + result.stderr).decode(errors="replace")
        assert result.status == 0, f"{line!r} ended with {result.status}: {output}"
        return output

    def serve(self, address: str) -> None:
        self._vm.put(PROGRAM, "/tmp/fault_guest.py")
        self.shell(f"setsid python3 /tmp/fault_guest.py {address} > /tmp/fault_guest.log 2>&1 &")
        self._await("serving", 30)

    def start(self, scenario: str, **request: Any) -> int:
        """Have the guest do something; returns its number."""
        number, self._next = self._next, self._next + 1
        line = json.dumps({"id": number, "scenario": scenario, **request})
        self.shell(f"cat > {FOLDER}/requests <<'END'\n{line}\nEND")
        return number

    def ready(self, number: int) -> None:
        """Wait until the program is there for the fault."""
        self._await(f"{number}.ready", 30, f"{number}.json")

    def go(self, number: int) -> None:
        self.shell(f"touch {FOLDER}/{number}.go")

    def answer(self, number: int, limit_s: float) -> dict[str, Any]:
        """The program's answer; fails with where it hangs when the time is over."""
        answer: dict[str, Any] = json.loads(self._await(f"{number}.json", limit_s))
        return answer

    def do(self, scenario: str, limit_s: float = 20.0, **request: Any) -> dict[str, Any]:
        return self.answer(self.start(scenario, **request), limit_s)

    def pcie_error(self, error: str) -> None:
        """Have the root port report an error of the link."""
        line = f"pcie_aer_inject_error port0 {error}"
        said = self._vm.qmp.execute("human-monitor-command", {"command-line": line})
        assert said.startswith("OK"), said

    def begin_log(self, rule: str) -> None:
        """Mark in the kernel log where a case begins."""
        self.shell(f"echo 'case {rule}' > /dev/kmsg")

    def log(self, rule: str) -> str:
        """What the kernel has said since the case began."""
        text = self.shell("dmesg")
        return text[text.rindex(f"case {rule}") :]

    def set_parameters(self, values: dict[str, int]) -> dict[str, int]:
        """Set parameters of the driver; returns what they were."""
        before = {}
        for name, value in values.items():
            before[name] = int(self.shell(f"cat {PARAMETERS}/{name}"))
            self.shell(f"echo {value} > {PARAMETERS}/{name}")
        return before

    def _await(self, name: str, limit_s: float, other: str = "") -> bytes:
        """Wait for a file, or another one; returns what is in it."""
        deadline = time.monotonic() + limit_s
        look = "; ".join(
            f"[ -e {FOLDER}/{file} ] && exec cat {FOLDER}/{file}" for file in (name, other) if file
        )
        while True:
            found = self._vm.run(
                f"for i in $(seq 20); do {look}; sleep 0.05; done; exit 1", timeout=30
            )
            if found.status == 0:
                return bytes(found.stdout)
            if time.monotonic() > deadline:
                stacks = self._vm.run(
                    "cat /tmp/fault_guest.log; for p in /proc/[0-9]*; do grep -q fault_guest"
                    " $p/cmdline && cat $p/stack; done; dmesg | tail -30",
                    timeout=30,
                )
                text = (stacks.stdout + stacks.stderr).decode(errors="replace")
                log = self._server.log_tail(20)
                pytest.fail(f"no {name} in {limit_s} s: the program hangs\n{text}\n{log}")


@pytest.fixture(scope="module")
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    options = ExecutorOptions("software", memory_bytes=256 << 20)
    root_port = request.param == ROOT_PORT_KERNEL
    settings = GuestSettings(kernel=request.param, root_port=root_port)
    with running_vm(options, settings, silent) as (vm, server):
        found = Guest(vm, server)
        found.serve(ROOT_PORT_DEVICE_ADDRESS if root_port else "0000:00:05.0")
        yield found


def test_guest_survives(guest: Guest, case: FaultCase) -> None:
    guest.begin_log(case.rule)
    before = guest.set_parameters(dict(case.parameters))
    try:
        fault = run_case(guest, case)
        assert fault["fired"], f"{case.rule} never happened; it has seen {fault['seen']} events"
    finally:
        guest.faults.clear()
        guest.set_parameters(before)
        if case.recovery:
            recovered = guest.do(case.recovery)
    if case.recovery:
        assert recovered["outcome"] == "live", recovered
    after = guest.do("add")
    assert after["outcome"] == "right", after
    assert after["state"] == "live"
    log = guest.log(case.rule)
    assert case.log in log
    assert not BAD_WORDS.search(log), log


def run_case(guest: Guest, case: FaultCase) -> dict[str, Any]:
    """Inject the fault and compare what the program sees; returns the rule's state."""
    rule = Rule.parse(case.rule)
    if case.running:
        number = guest.start(case.scenario, **case.request)
        guest.ready(number)
        (fault,) = guest.faults.add([rule])
        guest.go(number)
    else:
        (fault,) = guest.faults.add([rule])
        number = guest.start(case.scenario, **case.request)
    answer = guest.answer(number, case.limit_s)
    assert answer["outcome"] == case.outcome, answer
    assert {name: answer[name] for name in case.answer} == dict(case.answer)
    if case.then is not None:
        assert guest.do("add")["outcome"] == case.then
    return fault.state


@pytest.mark.parametrize("guest", [ROOT_PORT_KERNEL], indirect=True, scope="module")
def test_a_fatal_pcie_error_ends_programs_and_a_rescan_helps(guest: Guest) -> None:
    guest.begin_log("SDN")
    number = guest.start("running_add", seconds=8)
    guest.ready(number)
    guest.pcie_error("SDN")
    guest.go(number)
    assert guest.answer(number, 20)["outcome"] == DEVICE_UNAVAILABLE
    assert guest.do("rescan")["outcome"] == "live"
    assert guest.do("add")["outcome"] == "right"
    log = guest.log("SDN")
    assert "SDES" in log
    assert not BAD_WORDS.search(log), log


@pytest.mark.parametrize("guest", [ROOT_PORT_KERNEL], indirect=True, scope="module")
@pytest.mark.parametrize("error", ["RCVR", "COMP_TIME"])
def test_pcie_errors_that_leave_the_link_intact_do_no_harm(guest: Guest, error: str) -> None:
    guest.begin_log(error)
    number = guest.start("running_add", seconds=1)
    guest.ready(number)
    guest.pcie_error(error)
    guest.go(number)
    assert guest.answer(number, 20)["outcome"] == "right"
    log = guest.log(error)
    assert "PCIe Bus Error" in log
    assert not BAD_WORDS.search(log), log


def test_every_kind_has_a_case() -> None:
    assert {case.kind for case in CASES} == set(KINDS)
    assert set(SHORT) <= {case.rule for case in CASES}
