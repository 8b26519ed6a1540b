"""What libcuda makes of each fault of a worker: the right CUresult, no crash, no hang."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vgpu_stub.cli.exec_command import program_environment
from vgpu_stub.faults import Rule
from vgpu_stub.harness.build import cuda_libraries
from vgpu_stub.harness.control import FaultControl
from vgpu_stub.harness.device_server import DeviceServer

pytestmark = pytest.mark.device

PROGRAM = Path(__file__).with_name("cuda_faults.py")
WATCHDOG_S = 2
UNAVAILABLE = 46
TIMEOUT = 702
#: Steps in order, as the program calls them.
STEPS = (
    *("init", "context", "allocate", "to_device", "module", "function", "launch"),
    *("synchronize", "to_host", "free", "destroy"),
)


def run(server: DeviceServer, kernel: str = "empty", **variables: str) -> dict[str, Any]:
    environment = program_environment(server.device_socket, cuda_libraries())
    done = subprocess.run(
        [sys.executable, str(PROGRAM), kernel],
        env={**environment, "VGPU_STUB_WATCHDOG": str(WATCHDOG_S), **variables},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr  # it survived, whatever calls returned
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def results(**failed: int) -> dict[str, int]:
    """Results of the steps: 0 but for those that failed."""
    return {step: failed.get(step, 0) for step in STEPS}


def test_nothing_goes_wrong_without_faults(server: DeviceServer) -> None:
    answer = run(server)
    assert (answer["steps"], answer["wrong"]) == (results(), 0)


@pytest.mark.parametrize(
    "rule",
    [
        "completion-late:every=2,delay_ms=20",
        "completion-duplicate:times=0",
        "completion-reordered:every=2,delay_ms=20",
        "ring-slow:delay_ms=5",
        "worker-slow-start:delay_ms=300",
    ],
)
def test_what_is_only_slow_or_out_of_order_is_right(
    server: DeviceServer, faults: FaultControl, rule: str
) -> None:
    (fault,) = faults.add([Rule.parse(rule)])
    answer = run(server)
    assert (answer["steps"], answer["wrong"]) == (results(), 0)
    assert fault.wait_fired() >= 1


@pytest.mark.parametrize(
    ("rule", "step", "error"),
    [
        ("completion-lost:opcode=cuMemAlloc", "allocate", TIMEOUT),
        ("completion-lost:opcode=CONTEXT_SYNCHRONIZE", "synchronize", TIMEOUT),
        ("completion-wrong-sequence:opcode=MODULE_LOAD", "module", TIMEOUT),
        ("completion-torn:opcode=cuMemAlloc", "allocate", TIMEOUT),
        ("ring-stuck:opcode=cuMemAlloc", "allocate", TIMEOUT),
        ("worker-hang:opcode=MODULE_LOAD", "module", TIMEOUT),
        ("worker-crash:opcode=MODULE_LOAD,signal=SEGV", "module", UNAVAILABLE),
    ],
)
def test_channel_that_does_not_answer_is_given_up_in_time(
    server: DeviceServer, faults: FaultControl, rule: str, step: str, error: int
) -> None:
    (fault,) = faults.add([Rule.parse(rule)])
    answer = run(server)
    steps = answer["steps"]
    assert next(name for name in STEPS if steps[name]) == step
    assert steps[step] == steps["synchronize"] == steps["destroy"] == error
    assert answer["seconds"] < WATCHDOG_S + 3
    assert fault.wait_fired() == 1


@pytest.mark.parametrize(
    ("rule", "failed"),
    [
        ("command-error:opcode=cuMemFree,error=1", {"free": 1}),
        ("dma-read-error:opcode=cuMemcpyHtoD", {"to_device": 999}),
        ("dma-write-error:opcode=cuMemcpyDtoH", {"to_host": 999}),
        ("dma-short:opcode=cuMemcpyDtoH", {"to_host": 999}),
        ("out-of-memory", {"allocate": 2}),
    ],
)
def test_error_is_returned_by_the_call_that_failed(
    server: DeviceServer, faults: FaultControl, rule: str, failed: dict[str, int]
) -> None:
    (fault,) = faults.add([Rule.parse(rule)])
    steps = run(server)["steps"]
    assert {name: steps[name] for name in failed} == failed
    before = STEPS[: STEPS.index(next(iter(failed)))]
    assert all(steps[name] == 0 for name in before)
    assert fault.wait_fired() >= 1


@pytest.mark.parametrize(("kind", "error"), [("launch-timeout", 702), ("illegal-address", 700)])
def test_kernel_that_fails_breaks_its_context_from_the_next_wait_on(
    server: DeviceServer, faults: FaultControl, kind: str, error: int
) -> None:
    fault = faults.inject(kind)
    steps = run(server)["steps"]
    assert steps["launch"] == 0
    assert steps["synchronize"] == steps["to_host"] == error
    assert fault.wait_fired() == 1


@pytest.mark.parametrize("direction", ["to_device", "to_host"])
def test_corrupted_data_is_only_found_by_looking_at_it(
    server: DeviceServer, faults: FaultControl, direction: str
) -> None:
    faults.inject("data-corrupted", direction=direction, bits=3)
    answer = run(server)
    assert (answer["steps"], answer["wrong"]) == (results(), 3)


def test_process_without_a_worker_is_refused_and_the_next_one_is_not(
    server: DeviceServer, faults: FaultControl
) -> None:
    faults.inject("worker-start-failure")
    assert run(server)["steps"]["init"] == UNAVAILABLE
    assert run(server)["steps"] == results()


def test_half_written_completions_crash_nothing(server: DeviceServer, faults: FaultControl) -> None:
    fault = faults.inject("completion-torn", written="sequence", every=2, delay_ms=5)
    run(server)
    assert fault.wait_fired() >= 1


def test_kernel_may_run_for_longer_than_the_watchdog(server: DeviceServer) -> None:
    answer = run(server, "wait_3_s", VGPU_STUB_WATCHDOG="1")
    assert (answer["steps"], answer["wrong"]) == (results(), 0)
    assert answer["seconds"] > 3


def test_work_may_wait_for_longer_than_the_watchdog(
    server: DeviceServer, faults: FaultControl
) -> None:
    """As on a physical GPU: the worker has taken the command, and waits for the device."""
    fault = faults.inject("completion-late", opcode="CONTEXT_SYNCHRONIZE", delay_ms=2500)
    answer = run(server, VGPU_STUB_WATCHDOG="1")
    assert (answer["steps"], answer["wrong"]) == (results(), 0)
    assert answer["seconds"] > 2.5
    assert fault.wait_fired() == 1


def test_watchdog_can_be_switched_off_and_refuses_nonsense(server: DeviceServer) -> None:
    assert run(server, VGPU_STUB_WATCHDOG="0")["steps"] == results()
    assert run(server, VGPU_STUB_WATCHDOG="soon")["steps"] == results()
