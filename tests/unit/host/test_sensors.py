"""Sensors of a physical GPU: which GPU of NVML is ours, and what it does not have."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from vgpu_host.identity import device_uuid
from vgpu_host.sensors import open_sensors
from vgpu_host.telemetry import Telemetry
from vgpu_stub.abi import generated as abi

UUIDS = ["67384c3d-afd4-926b-68c9-7fd882fdda22", "11111111-2222-3333-4444-555555555555"]


class NoSuchValueError(Exception):
    """What the module below raises for every value that it does not have."""


class FakeNvml(ModuleType):
    """As much of pynvml as a machine with two GPUs without sensors needs."""

    NVMLError = NoSuchValueError

    def __getattr__(self, name: str) -> Any:
        if name.startswith("NVML_"):
            return 0
        if not name.startswith("nvml"):
            raise AttributeError(name)
        return ANSWERS.get(name, refuse)


def refuse(*_arguments: object) -> None:
    raise NoSuchValueError


ANSWERS: dict[str, Callable[..., object]] = {
    "nvmlInit": lambda: None,
    "nvmlDeviceGetCount": lambda: len(UUIDS),
    "nvmlDeviceGetHandleByIndex": lambda index: index,
    "nvmlDeviceGetUUID": lambda handle: f"GPU-{UUIDS[handle]}",
    "nvmlSystemGetDriverVersion": lambda: "580.159.04",
    "nvmlDeviceGetPowerUsage": lambda handle: 70_000 + handle,
}


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml("pynvml"))


def info_of(physical: str, executor: bytes = b"cuda") -> bytes:
    identity = device_uuid(uuid.UUID(physical).bytes)
    attributes = [0] * abi.ATTRIBUTE_COUNT
    numbers = (abi.MAGIC, abi.ABI_VERSION, 1 << 30, 13000, 9, 0, abi.ATTRIBUTE_COUNT)
    return abi.DEVICE_INFO.pack(*numbers, identity, b"GPU", executor, *attributes)


def test_the_gpu_behind_the_device_is_found_by_its_uuid() -> None:
    sensors = open_sensors(info_of(UUIDS[1]))
    assert sensors is not None
    assert sensors.driver_version == "580.159.04"
    assert sensors.measure() == {"power_mw": 70_001}
    assert sensors.process_memory() == {}
    assert sensors.process_use() == {}


def test_a_gpu_that_nvml_does_not_know_has_no_sensors() -> None:
    assert open_sensors(info_of("00000000-0000-0000-0000-000000000001")) is None


def test_a_physical_gpu_without_sensors_shows_its_total_memory_only() -> None:
    telemetry = Telemetry(info_of(UUIDS[0]), list, None)
    assert telemetry.device_status().measured == {"memory_total": 1 << 30}
