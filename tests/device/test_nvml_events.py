"""NVML's events and ECC counters in a program, from what a device reports of itself."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from vgpu_host.pool import WorkerPool
from vgpu_stub.device.gpu import VirtualGpu
from vgpu_stub.device.status import DeviceEvent, DeviceStatus
from vgpu_stub.harness.build import cuda_libraries
from vgpu_stub.harness.program import program_environment
from vgpu_stub.vfio_user import Server

pytestmark = pytest.mark.device

PRELUDE = """
import json, sys, time
import pynvml as nvml
nvml.nvmlInit()
handle = nvml.nvmlDeviceGetHandleByIndex(0)
def next_line():
    print("ready", flush=True)
    return sys.stdin.readline()
def code(function, *arguments):
    try:
        return function(*arguments)
    except nvml.NVMLError as error:
        return -error.value
def wait(events, timeout_ms=0):
    try:
        data = nvml.nvmlEventSetWait_v2(events, timeout_ms)
        return [data.eventType, data.eventData, data.gpuInstanceId]
    except nvml.NVMLError as error:
        return -error.value
"""
NO_INSTANCE = 0xFFFF_FFFF


class Reported:
    """A `DeviceStatusSource` that says what the test wants."""

    def __init__(self) -> None:
        self.status = DeviceStatus(1, "580.00", 1, event_types=0x1B)

    def device_status(self) -> DeviceStatus:
        return self.status

    def happen(self, *events: tuple[int, int]) -> None:
        old = self.status
        self.status = replace(
            old,
            event_count=old.event_count + len(events),
            events=old.events + tuple(DeviceEvent(*event) for event in events),
        )


@pytest.fixture
def reported() -> Reported:
    return Reported()


@pytest.fixture
def environment(workers: WorkerPool, reported: Reported) -> Iterator[dict[str, str]]:
    device = VirtualGpu(workers, "test", status_source=reported)
    with tempfile.TemporaryDirectory(prefix="vgpu") as folder:
        path = Path(folder) / "device.sock"
        with Server(path, lambda: device):
            yield program_environment(path, cuda_libraries())
    device.close()


class Program:
    """A program that waits at each `next_line()` until the test lets it go on."""

    def __init__(self, text: str, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + textwrap.dedent(text)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go on\n")
        self._process.stdin.flush()

    def result(self) -> object:
        output, _ = self._process.communicate(timeout=30)
        assert self._process.returncode == 0
        return json.loads(output)


def test_an_event_set_sees_what_happens_after_it_was_registered(
    reported: Reported, environment: dict[str, str]
) -> None:
    reported.happen((8, 13))
    program = Program(
        """
        events = nvml.nvmlEventSetCreate()
        nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, events)
        before = wait(events)
        next_line()
        found = [wait(events, 5000), wait(events, 5000), wait(events, 30)]
        nvml.nvmlEventSetFree(events)
        print(json.dumps([before, found]))
        """,
        environment,
    )
    assert program.read() == "ready"
    reported.happen((8, 79), (1, 0), (8, 48))
    program.go_on()
    assert program.result() == [-10, [[8, 79, NO_INSTANCE], [8, 48, NO_INSTANCE], -10]]


def test_a_waiting_program_wakes_when_the_event_comes(
    reported: Reported, environment: dict[str, str]
) -> None:
    program = Program(
        """
        import threading
        events = nvml.nvmlEventSetCreate()
        nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeClock, events)
        threading.Timer(0.2, next_line).start()
        start = time.monotonic()
        found = wait(events, 20000)
        print(json.dumps([found, 0.15 < time.monotonic() - start < 10]))
        """,
        environment,
    )
    assert program.read() == "ready"
    reported.happen((0x10, 0))
    program.go_on()
    assert program.result() == [[16, 0, NO_INSTANCE], True]


def test_who_does_not_wait_gets_the_last_sixteen_events(
    reported: Reported, environment: dict[str, str]
) -> None:
    program = Program(
        """
        events = nvml.nvmlEventSetCreate()
        nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, events)
        next_line()
        found = [wait(events, 5000)[1]]
        while (event := wait(events)) != -10:
            found.append(event[1])
        print(json.dumps(found))
        """,
        environment,
    )
    assert program.read() == "ready"
    reported.happen(*((8, number) for number in range(40)))
    program.go_on()
    assert program.result() == list(range(24, 40))


def test_event_types_that_the_device_lacks_are_refused(environment: dict[str, str]) -> None:
    program = Program(
        """
        events = nvml.nvmlEventSetCreate()
        print(json.dumps([
            nvml.nvmlDeviceGetSupportedEventTypes(handle),
            code(nvml.nvmlDeviceRegisterEvents, handle, nvml.nvmlEventTypePState, events),
            code(nvml.nvmlDeviceRegisterEvents, handle, 0, events),
            code(nvml.nvmlDeviceRegisterEvents, handle, 8, None),
            wait(None), wait(events),
        ]))
        """,
        environment,
    )
    assert program.result() == [0x1B, -3, -2, -2, -2, -10]


def test_ecc_counters_tell_kinds_lives_and_locations_apart(
    reported: Reported, environment: dict[str, str]
) -> None:
    program = """
        kinds = nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED
        lives = nvml.NVML_VOLATILE_ECC, nvml.NVML_AGGREGATE_ECC
        total, memory = nvml.nvmlDeviceGetTotalEccErrors, nvml.nvmlDeviceGetMemoryErrorCounter
        print(json.dumps([
            [code(total, handle, kind, life) for kind in kinds for life in lives],
            [code(memory, handle, kind, life, 2) for kind in kinds for life in lives],
            [code(memory, handle, *wrong) for wrong in ((2, 0, 2), (0, 2, 2), (0, 0, 8))],
            code(memory, handle, 0, 0, nvml.NVML_MEMORY_LOCATION_SRAM),
        ]))
    """
    refused = [-3] * 4
    assert Program(program, environment).result() == [refused, refused, [-2, -2, -2], -3]
    counters = {
        f"ecc_{place}{life}_{kind}": number
        for number, (place, kind, life) in enumerate(
            (place, kind, life)
            for place in ("", "memory_")
            for kind in ("corrected", "uncorrected")
            for life in ("volatile", "aggregate")
        )
    }
    reported.status = replace(reported.status, measured=counters)
    assert Program(program, environment).result() == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [-2, -2, -2],
        -3,
    ]
