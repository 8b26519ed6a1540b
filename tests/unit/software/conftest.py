"""One software GPU for all tests of this folder, and short ways to run PTX on it."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vgpu_host.executors.software.function import Function
from vgpu_host.executors.software.gpu import SoftwareGpu
from vgpu_host.executors.software.profiles import PROFILES
from vgpu_host.executors.software.translation import Translation
from vgpu_host.nvrtc import compile_ptx

KERNELS = Path(__file__).parents[3] / "guest" / "workloads" / "kernels"
Array = np.ndarray[Any, np.dtype[Any]]

HEADER = ".version 8.8\n.target sm_61\n.address_size 64\n"


class Device:
    """A software GPU with numpy arrays in and out."""

    def __init__(self, gpu: SoftwareGpu) -> None:
        self.gpu = gpu

    def upload(self, array: Array) -> int:
        """Copy an array to new device memory."""
        array = np.ascontiguousarray(array)
        pointer = self.gpu.alloc(max(array.nbytes, 1))
        ctypes.memmove(pointer, array.ctypes.data, array.nbytes)
        return pointer

    def zeros(self, count: int, dtype: Any) -> int:
        """New device memory full of zeros."""
        return self.upload(np.zeros(count, dtype))

    def download(self, pointer: int, shape: Any, dtype: Any) -> Array:
        """Copy device memory to a new array."""
        result = np.zeros(shape, dtype)
        self.gpu.check_range(pointer, result.nbytes)
        ctypes.memmove(result.ctypes.data, pointer, result.nbytes)
        return result

    def function(self, ptx: str, name: str = "f") -> Function:
        """A kernel from PTX without its header."""
        return self.gpu.load_module((HEADER + ptx).encode()).get_function(name)

    def cuda(self, source: str, name: str = "f") -> Function:
        """A kernel from CUDA C++."""
        return self.gpu.load_module(compile_ptx(source)).get_function(name)

    def run_lanes(
        self, body: str, inputs: list[Array], result: Any, threads: int | None = None
    ) -> Array:
        """Run PTX once per element: inputs in %a, %b, %c, result from %d.

        The element types give the registers' widths; `result` is the numpy type of %d.
        """
        count = len(inputs[0]) if inputs else (threads or 32)
        pointers = [self.upload(array) for array in inputs]
        out = self.zeros(count, result)
        names = "abc"[: len(inputs)]
        text = [".visible .entry f("]
        text.append(", ".join(f".param .u64 p{n}" for n in [*names, "d"]) + ", .param .u32 pn) {")
        text.append(".reg .pred %in, %p, %q; .reg .b32 %i, %n, %r<20>; .reg .b64 %x, %w<20>;")
        text.append(".reg .b16 %h<20>; .reg .f32 %f<20>; .reg .f64 %g<20>;")
        for name, array in [*zip(names, inputs, strict=True), ("d", np.zeros(1, result))]:
            text.append(f".reg .{register_type(array.dtype)} %{name};")
        text.append("mov.u32 %i, %ctaid.x; mov.u32 %n, %ntid.x; mov.u32 %r0, %tid.x;")
        text.append("mad.lo.u32 %i, %i, %n, %r0; ld.param.u32 %n, [pn];")
        text.append("setp.ge.u32 %in, %i, %n; @%in bra END;")
        for name, array in zip(names, inputs, strict=True):
            size = array.dtype.itemsize
            text.append(f"ld.param.u64 %x, [p{name}]; mad.wide.u32 %x, %i, {size}, %x;")
            text.append(f"ld.global.{memory_type(array.dtype)} %{name}, [%x];")
        text.append(body)
        size = np.dtype(result).itemsize
        text.append(f"ld.param.u64 %x, [pd]; mad.wide.u32 %x, %i, {size}, %x;")
        text.append(f"st.global.{memory_type(np.dtype(result))} [%x], %d;")
        text.append("END: ret; }")
        function = self.function("\n".join(text))
        packed = struct.pack(f"<{len(pointers) + 1}QI", *pointers, out, count)
        function.launch((-(-count // 64), 1, 1), (64, 1, 1), 0, packed)
        answer = self.download(out, count, result)
        for pointer in (*pointers, out):
            self.gpu.free(pointer)
        return answer


def memory_type(dtype: np.dtype[Any]) -> str:
    """PTX type of a numpy type in memory."""
    kind = {"f": "f", "u": "u", "i": "s"}[dtype.kind]
    bits = 8 * dtype.itemsize
    return "b16" if (kind, bits) == ("f", 16) else f"{kind}{bits}"


def register_type(dtype: np.dtype[Any]) -> str:
    """PTX register type that holds a numpy type."""
    if dtype.kind == "f" and dtype.itemsize > 2:
        return f"f{8 * dtype.itemsize}"
    return f"b{8 * max(dtype.itemsize, 2)}"


@pytest.fixture(scope="session")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """A GPU of 1 GiB with two host threads and a watchdog of half a second."""
    gpu = SoftwareGpu(
        total_memory=1 << 30,
        threads=2,
        cache_dir=tmp_path_factory.mktemp("kernels"),
        watchdog_s=0.5,
    )
    yield Device(gpu)
    gpu.close()


@pytest.fixture(scope="session")
def kernel(device: Device) -> Callable[[str], Function]:
    """A kernel of `guest/workloads/kernels` by name."""

    @cache
    def load(name: str) -> Function:
        source = (KERNELS / f"{name}.cu").read_text()
        return device.gpu.load_module(compile_ptx(source, name=f"{name}.cu")).get_function(name)

    return load


@pytest.fixture(scope="session")
def independent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """A device of capability 8.0, whose threads make progress apart from each other."""
    gpu = SoftwareGpu(
        total_memory=64 << 20,
        cache_dir=tmp_path_factory.mktemp("independent"),
        watchdog_s=60,
        translation=Translation(profile=PROFILES["sm_80"]),
    )
    yield Device(gpu)
    gpu.close()


@pytest.fixture(scope="session")
def hopper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """A device of the newest profile, which takes every instruction."""
    gpu = SoftwareGpu(
        total_memory=1 << 28,
        threads=1,
        cache_dir=tmp_path_factory.mktemp("hopper"),
        watchdog_s=20,
        translation=Translation(PROFILES["sm_90"]),
    )
    yield Device(gpu)
    gpu.close()
