"""Software GPUs with checkers, and a short way to run CUDA C++ on them and see what they find."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vgpu_host.executors.software.errors import DeviceFault
from vgpu_host.executors.software.gpu import SoftwareGpu
from vgpu_host.executors.software.profiles import DEFAULT_PROFILE, PROFILES
from vgpu_host.executors.software.translation import Translation
from vgpu_host.findings import Finding
from vgpu_host.nvrtc import compile_ptx

KERNELS = Path(__file__).parents[4] / "guest" / "workloads" / "kernels"
HEADER = ".version 7.0\n.target sm_61\n.address_size 64\n"
Array = np.ndarray[Any, np.dtype[Any]]


class CheckedDevice:
    """A software GPU with checkers; what they find is taken with each launch."""

    def __init__(self, gpu: SoftwareGpu) -> None:
        self.gpu = gpu
        self.fault: int | None = None

    def upload(self, array: Array) -> int:
        """Copy an array to new device memory."""
        pointer = self.gpu.alloc(array.nbytes)
        ctypes.memmove(pointer, np.ascontiguousarray(array).ctypes.data, array.nbytes)
        self.gpu.written(pointer, array.nbytes)
        return pointer

    def zeros(self, count: int, dtype: Any = np.float32) -> int:
        """New device memory full of zeros."""
        return self.upload(np.zeros(count, dtype))

    def download(self, pointer: int, count: int, dtype: Any = np.float32) -> Array:
        """Copy device memory to a new array."""
        result = np.zeros(count, dtype)
        ctypes.memmove(result.ctypes.data, pointer, result.nbytes)
        return result

    def ptx(
        self, text: str, grid: int, block: int, *arguments: int | float, shared: int = 0
    ) -> list[Finding]:
        """Launch the kernel `f` of a PTX text without its header."""
        return self.run((HEADER + text).encode(), "f", grid, block, *arguments, shared=shared)

    def cuda(
        self, source: str, grid: int, block: int, *arguments: int | float, shared: int = 0
    ) -> list[Finding]:
        """Launch the kernel `f` of a CUDA source; integers beyond 32 bits are pointers."""
        image = compile_ptx(f'extern "C" {source}', name="f.cu", line_info=True)
        return self.run(image, "f", grid, block, *arguments, shared=shared)

    def run(
        self,
        image: bytes,
        name: str,
        grid: int | tuple[int, int, int],
        block: int | tuple[int, int, int],
        *arguments: int | float,
        shared: int = 0,
    ) -> list[Finding]:
        """Launch a kernel of a module; its fault is left in `fault`."""
        report = self.gpu.checker.report if self.gpu.checker else None
        assert report
        report.findings.clear()
        function = self.gpu.load_module(image).get_function(name)
        codes = "".join(
            "f" if isinstance(each, float) else "Q" if each >= 1 << 31 else "i"
            for each in arguments
        )
        packed = struct.pack("<" + codes, *arguments)
        self.fault = None
        try:
            function.launch(_extent(grid), _extent(block), shared, packed)
        except DeviceFault as fault:
            self.fault = fault.result
        return list(report.findings.values())


def _extent(size: int | tuple[int, int, int]) -> tuple[int, int, int]:
    return (size, 1, 1) if isinstance(size, int) else size


def make_device(folder: Path, checks: str, profile: str = DEFAULT_PROFILE) -> CheckedDevice:
    """A software GPU with some checkers; `folder` keeps its kernels."""
    translation = Translation(PROFILES[profile], frozenset(checks.split()))
    return CheckedDevice(
        SoftwareGpu(total_memory=256 << 20, threads=2, cache_dir=folder, translation=translation)
    )


@pytest.fixture(scope="session")
def memory_device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CheckedDevice]:
    """A GPU that checks memory."""
    device = make_device(tmp_path_factory.mktemp("memory"), "mem")
    yield device
    device.gpu.close()


@pytest.fixture(scope="session")
def race_device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CheckedDevice]:
    """A GPU that checks races."""
    device = make_device(tmp_path_factory.mktemp("race"), "race")
    yield device
    device.gpu.close()


@pytest.fixture(scope="session")
def newer_race_device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CheckedDevice]:
    """A GPU of capability 8.0 that checks races: it knows `.relaxed` and barrier objects."""
    device = make_device(tmp_path_factory.mktemp("newer"), "race", "sm_80")
    yield device
    device.gpu.close()


@pytest.fixture(scope="session")
def barrier_device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CheckedDevice]:
    """A GPU that checks barriers."""
    device = make_device(tmp_path_factory.mktemp("sync"), "sync")
    yield device
    device.gpu.close()


@pytest.fixture(scope="session")
def strict_device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CheckedDevice]:
    """A GPU with every checker, for programs without an error."""
    device = make_device(tmp_path_factory.mktemp("all"), "mem race sync")
    yield device
    device.gpu.close()


@pytest.fixture(scope="session")
def workload() -> Callable[[str], bytes]:
    """The PTX of a kernel of `guest/workloads/kernels` by name."""

    @cache
    def load(name: str) -> bytes:
        return compile_ptx((KERNELS / f"{name}.cu").read_text(), name=f"{name}.cu")

    return load
