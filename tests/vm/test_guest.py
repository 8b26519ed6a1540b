"""CUDA programs in a guest, and what happens to them when things die under load."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vgpu_host.executors.options import ExecutorOptions
from vgpu_qemu.progress import silent
from vgpu_qemu.vm import Vm
from vgpu_stub.calltrace.call import Traced, TracedCall
from vgpu_stub.cli.trace_run import CallFollower, trace_in_guest
from vgpu_stub.fuzz.ioctls import IoctlSettings, build_program, fuzz_guest
from vgpu_stub.harness.device_server import DeviceServer, DeviceServerError
from vgpu_stub.harness.machine import GuestSettings, running_vm
from vgpu_stub.harness.replay.runs import replays
from vgpu_stub.harness.timeline_calls import CallTrace, assign
from vgpu_stub.models.writer import write_model
from vgpu_stub.recording.reader import Recording

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("vm"), pytest.mark.timeout(300)]

Machine = tuple[Vm, DeviceServer]

PROGRAMS = "python3 /opt/vgpu-stub/workloads/programs.py"
DEVICE = "/sys/bus/pci/devices/0000:00:05.0"
START_LOAD = (
    "python3 /opt/vgpu-stub/workloads/endless.py > /tmp/{0}.out 2>&1 & echo $! > /tmp/{0}.pid"
)
READY = "for i in $(seq 600); do grep -q ready /tmp/{0}.out && exit 0; sleep 0.05; done; exit 1"
#: Waits for the load to end by itself; prints what it said.
ENDED = (
    "for i in $(seq 600); do kill -0 $(cat /tmp/{0}.pid) 2>/dev/null || break; sleep 0.05; done;"
    " cat /tmp/{0}.out"
)
RELEASED = (
    "for i in $(seq 200); do [ $(cat {0}/registered_bytes) = 0 ] && grep -q '^0/' {0}/channels"
    " && exit 0; sleep 0.05; done; exit 1"
)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    options = ExecutorOptions("software", memory_bytes=1 << 30)
    with running_vm(options, GuestSettings(), silent) as pair:
        yield pair


def guest(vm: Vm, line: str) -> str:
    result = vm.run(line, timeout=90)
    output = (result.stdout + result.stderr).decode(errors="replace")
    assert result.status == 0, f"{line!r} ended with {result.status}: {output}"
    return result.stdout.decode()


def start_load(vm: Vm, name: str = "load") -> None:
    guest(vm, START_LOAD.format(name))
    guest(vm, READY.format(name))


def channels(server: DeviceServer) -> list[dict[str, int]]:
    return [row for device in server.snapshot()["devices"] for row in device["channels"]]


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"not within 20 s: {what}"
        time.sleep(0.02)


def assert_all_released(machine: Machine) -> None:
    vm, server = machine
    guest(vm, RELEASED.format(DEVICE))
    wait_until(lambda: not channels(server), "channels released on the host")


def test_what_a_guest_did_is_played_without_it(machine: Machine, tmp_path: Path) -> None:
    vm, server = machine
    path = tmp_path / "guest.vgpurec"
    server.control.call("recording.start", path=str(path))
    try:
        guest(vm, f"{PROGRAMS} vector_add histogram")
        assert_all_released(machine)
    finally:
        server.control.call("recording.stop")
    report = replays(path)
    assert report.commands >= 20
    assert [channel.title.split()[1:3] for channel in report.channels] == [["channel", "1"]]


def test_calls_of_a_guest_lead_to_what_the_host_did(machine: Machine, tmp_path: Path) -> None:
    vm, server = machine
    path = tmp_path / "guest.vgpurec"
    trace = CallTrace(same_clock=False)

    def show(happened: Traced) -> None:
        if isinstance(happened, TracedCall):
            trace.calls.append(happened)

    server.control.call("recording.start", path=str(path))
    try:
        command = [*PROGRAMS.split(), "vector_add"]
        assert trace_in_guest(vm, command, CallFollower(show, lambda *_: None)) == 0
        assert_all_released(machine)
    finally:
        server.control.call("recording.stop")
    with Recording(path) as recording:
        channels_, strangers, offset = assign(trace, recording.channels)
    assert strangers == []
    assert offset is not None
    # Each bound is off by what a call takes until the host sees it: under emulation, milliseconds.
    assert offset.error_ns < 50_000_000
    (channel,) = channels_.values()
    (launch,) = [call for call in channel.calls if call.function == "cuLaunchKernel"]
    assert launch.kernel == "vector_add"
    taken_ns = channel.taken_ns(launch.last_command)
    assert taken_ns is not None
    begin_ns = launch.begin_ns + offset.offset_ns
    assert -offset.error_ns <= taken_ns - begin_ns < 1_000_000_000


def test_every_program_gives_the_right_answer(machine: Machine) -> None:
    report = json.loads(guest(machine[0], f"{PROGRAMS} --json"))
    assert report["device"] == "VGPU-STUB software GPU"
    assert {row["program"]: row["right"] for row in report["results"]} == dict.fromkeys(
        (
            "vector_add",
            "matrix_multiply",
            "tree_reduction",
            "shuffle_reduction",
            "histogram",
            "mandelbrot",
            "nbody",
        ),
        True,
    )


def test_a_resident_model_gives_numpys_tokens(machine: Machine, tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    write_model(model, "1m", "q4_k", 3, lambda what, part: None)
    machine[0].put(model, "/tmp/model.gguf")
    workload = "python3 /opt/vgpu-stub/workloads/llm_resident /tmp/model.gguf"
    report = json.loads(guest(machine[0], f"{workload} --check --tokens 6 --json"))
    assert report["verdict"] == "RESIDENT"
    assert report["check"]["tokens_right"]
    assert (report["bytes_per_token"], report["fallbacks"]) == (4, [])


def test_killed_process_is_released_and_another_goes_on(machine: Machine) -> None:
    vm, server = machine
    start_load(vm, "victim")
    start_load(vm, "other")
    assert len(channels(server)) == 2
    guest(vm, "kill -9 $(cat /tmp/victim.pid)")
    wait_until(lambda: len(channels(server)) == 1, "the killed process' channel released")
    before = channels(server)[0]["completion_ring"]["tail"]  # type: ignore[index]
    wait_until(
        lambda: channels(server)[0]["completion_ring"]["tail"] > before,  # type: ignore[index]
        "the other process goes on",
    )
    guest(vm, "kill -9 $(cat /tmp/other.pid)")
    assert_all_released(machine)


def test_killed_worker_gives_its_program_an_error(machine: Machine) -> None:
    vm, server = machine
    start_load(vm)
    (row,) = channels(server)
    os.kill(row["worker_pid"], signal.SIGKILL)
    assert guest(vm, ENDED.format("load")).splitlines()[-1] == "error 46"
    assert_all_released(machine)
    guest(vm, f"{PROGRAMS} vector_add")


def test_sysfs_reset_under_load(machine: Machine) -> None:
    vm, _ = machine
    start_load(vm)
    guest(vm, f"echo 1 > {DEVICE}/reset")
    assert guest(vm, ENDED.format("load")).splitlines()[-1].startswith("error ")
    assert_all_released(machine)
    guest(vm, f"{PROGRAMS} vector_add")


def test_driver_is_unloaded_and_loaded_under_load(machine: Machine) -> None:
    vm, _ = machine
    start_load(vm)
    guest(vm, f"echo 0000:00:05.0 > {DEVICE}/driver/unbind")
    assert guest(vm, ENDED.format("load")).splitlines()[-1].startswith("error ")
    guest(vm, "rmmod vgpu_stub && insmod /usr/lib/vgpu-stub/modules/*vgpu_stub.ko")
    guest(vm, f"{PROGRAMS} vector_add")
    assert_all_released(machine)


def test_driver_survives_threads_that_race_on_its_interface(machine: Machine) -> None:
    vm, server = machine
    result = fuzz_guest(vm, server, build_program(), IoctlSettings(random.randrange(10**9), 5.0))
    assert result.failures == (), result
    assert result.cases > 100, result


def test_guest_kernel_has_not_complained(machine: Machine) -> None:
    log = guest(machine[0], "dmesg")
    complaints = [
        line
        for line in log.splitlines()
        if any(word in line for word in ("BUG", "WARNING", "Oops", "Call Trace", "hung task"))
    ]
    assert complaints == []


def test_killed_device_server_ends_programs_and_is_named() -> None:
    """The guest survives, or QEMU's own error path ends it; either way it is said what happened."""
    options = ExecutorOptions("software", memory_bytes=1 << 30)
    try:
        with running_vm(options, GuestSettings(), silent) as (vm, server):
            start_load(vm)
            os.kill(server.pid, signal.SIGKILL)
            assert guest(vm, ENDED.format("load")).splitlines()[-1].startswith("error ")
            assert server.has_ended
    except DeviceServerError as error:
        assert "the device server ended" in str(error)
