"""libnvidia-ml.so.1 without a device: what it refuses, and how it says so."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from vgpu_stub.abi.library_api import LIBRARIES, State, symbols

SUCCESS, UNINITIALIZED, INVALID_ARGUMENT = 0, 1, 2
DRIVER_NOT_LOADED = 9
NO_GPUS = 1
TABLE = next(symbols(library) for library in LIBRARIES if library.name == "nvml")


@pytest.fixture
def nvml(build: Path, monkeypatch: pytest.MonkeyPatch) -> ctypes.CDLL:
    assert not Path("/dev/vgpu0").exists(), "these tests are for a machine without the device"
    monkeypatch.delenv("VGPU_STUB_SOCKET", raising=False)
    return ctypes.CDLL(str(build / "libnvidia-ml.so.1"))


def test_without_a_device_there_is_no_driver(
    nvml: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert nvml.nvmlInit_v2() == DRIVER_NOT_LOADED
    monkeypatch.setenv("VGPU_STUB_SOCKET", "/nonexistent/device.sock")
    assert nvml.nvmlInit_v2() == DRIVER_NOT_LOADED
    assert nvml.nvmlShutdown() == UNINITIALIZED


def test_a_program_may_ask_for_a_system_without_gpus(nvml: ctypes.CDLL) -> None:
    count = ctypes.c_uint(9)
    assert nvml.nvmlInitWithFlags(4) == INVALID_ARGUMENT
    assert nvml.nvmlInitWithFlags(NO_GPUS) == SUCCESS
    assert nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) == SUCCESS
    assert count.value == 0
    device = ctypes.c_void_p()
    assert nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(device)) == INVALID_ARGUMENT
    assert nvml.nvmlShutdown() == SUCCESS


@pytest.mark.parametrize(
    "symbol", [s.name for s in TABLE if s.state is State.REFUSED or "Device" in s.name]
)
def test_every_function_wants_an_initialised_library(nvml: ctypes.CDLL, symbol: str) -> None:
    zeros = [ctypes.c_void_p()] * 4
    assert getattr(nvml, symbol)(*zeros) == UNINITIALIZED


def test_error_texts_exist_for_every_code(nvml: ctypes.CDLL) -> None:
    nvml.nvmlErrorString.restype = ctypes.c_char_p
    texts = [nvml.nvmlErrorString(code) for code in range(31)]
    assert len(set(texts)) == 31
    assert b"Unknown error" not in texts
    assert nvml.nvmlErrorString(999) == b"Unknown error"
    assert nvml.nvmlErrorString(-1) == b"Unknown error"
