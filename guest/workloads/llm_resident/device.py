"""The device as this workload uses it: CUDA's driver API through cuda-bindings, and an account.

What crosses the bus, what is launched and what is waited for is counted by phase, because that is
what the verdict is made of.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from cuda.bindings import driver as cuda
from numpy.typing import NDArray

Array = NDArray[Any]


class DeviceError(Exception):
    """A driver API call failed; `result` is its CUresult."""

    def __init__(self, function: str, result: cuda.CUresult) -> None:
        super().__init__(f"{function}: {result.name} ({result.value})")
        self.result = result


def call(function: str, *arguments: object) -> Any:
    """Call a function of the driver API; returns its value, or a tuple of several.

    Raises:
        DeviceError: It did not return CUDA_SUCCESS.
    """
    result, *values = getattr(cuda, function)(*arguments)
    if result != cuda.CUresult.CUDA_SUCCESS:
        raise DeviceError(function, result)
    return values[0] if len(values) == 1 else tuple(values)


@dataclass
class Traffic:
    """What one phase asked of the device; sizes in bytes."""

    to_device_bytes: int = 0
    to_device_copies: int = 0
    to_host_bytes: int = 0
    to_host_copies: int = 0
    weight_bytes: int = 0
    launches: int = 0
    kernels: int = 0
    waits: int = 0
    allocations: int = 0

    @property
    def moved_bytes(self) -> int:
        """Bytes copied, both ways."""
        return self.to_device_bytes + self.to_host_bytes


@dataclass
class Device:
    """Device 0 with its primary context current, a stream for work and one for copies."""

    phases: dict[str, Traffic] = field(default_factory=dict)
    phase: str = "start"

    def __enter__(self) -> Self:
        call("cuInit", 0)
        self.handle = call("cuDeviceGet", 0)
        call("cuCtxSetCurrent", call("cuDevicePrimaryCtxRetain", self.handle))
        self.work = call("cuStreamCreate", cuda.CUstream_flags.CU_STREAM_NON_BLOCKING)
        self.copies = call("cuStreamCreate", cuda.CUstream_flags.CU_STREAM_NON_BLOCKING)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            call("cuDevicePrimaryCtxRelease", self.handle)

    @property
    def traffic(self) -> Traffic:
        """The account of the phase that runs now."""
        return self.phases.setdefault(self.phase, Traffic())

    @property
    def name(self) -> str:
        """What cuDeviceGetName says."""
        text: bytes = call("cuDeviceGetName", 256, self.handle)
        return text.split(b"\0")[0].decode()

    def memory(self) -> tuple[int, int]:
        """Free and total memory, in bytes."""
        free, total = call("cuMemGetInfo")
        return int(free), int(total)

    def module(self, ptx: Path) -> Any:
        """Load a module from a PTX file."""
        return call("cuModuleLoadData", ptx.read_bytes() + b"\0")

    # -- memory ------------------------------------------------------------------------------------

    def allocate(self, size: int) -> int:
        """Allocate device memory; returns its address."""
        self.traffic.allocations += 1
        return int(call("cuMemAlloc", size))

    def free(self, address: int) -> None:
        """Free device memory."""
        call("cuMemFree", address)

    def pinned(self, size: int) -> Array:
        """Memory of the host that copies need not stage."""
        address = call("cuMemHostAlloc", size, 0)
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(int(address)))

    def upload(self, address: int, array: Array, stream: Any = None) -> None:
        """Queue a copy of an array to the device; the array must live until it is done."""
        self.traffic.to_device_bytes += array.nbytes
        self.traffic.to_device_copies += 1
        call("cuMemcpyHtoDAsync", address, array.ctypes.data, array.nbytes, stream or self.work)

    def download(self, array: Array, address: int, stream: Any = None) -> None:
        """Queue a copy from the device to an array."""
        self.traffic.to_host_bytes += array.nbytes
        self.traffic.to_host_copies += 1
        call("cuMemcpyDtoHAsync", array.ctypes.data, address, array.nbytes, stream or self.work)

    # -- order -------------------------------------------------------------------------------------

    def launch(self, kernel: Any, grid: Sequence[int], block: int, arguments: Arguments) -> None:
        """Queue a kernel; `grid` has one to three sizes, `block` is a number of threads."""
        self.traffic.launches += 1
        self.traffic.kernels += 1
        sizes = (*grid, 1, 1)[:3]
        call("cuLaunchKernel", kernel, *sizes, block, 1, 1, 0, self.work, arguments, 0)

    def wait(self, stream: Any = None) -> None:
        """Wait until a stream, usually that of the work, is idle."""
        self.traffic.waits += 1
        call("cuStreamSynchronize", stream or self.work)

    def event(self) -> Any:
        """Make an event that takes times."""
        return call("cuEventCreate", cuda.CUevent_flags.CU_EVENT_DEFAULT)

    def record(self, event: Any, stream: Any = None) -> None:
        """Queue an event."""
        call("cuEventRecord", event, stream or self.work)

    def wait_for(self, event: Any) -> None:
        """Wait until an event has happened."""
        self.traffic.waits += 1
        call("cuEventSynchronize", event)

    def hold(self, stream: Any, event: Any) -> None:
        """Have a stream wait for an event."""
        call("cuStreamWaitEvent", stream, event, 0)

    def elapsed(self, start: Any, end: Any) -> float:
        """Time between two events, in seconds."""
        return float(call("cuEventElapsedTime", start, end)) / 1e3

    # -- graphs ------------------------------------------------------------------------------------

    def capture(self, queue: Callable[[], None]) -> Graph:
        """Make a graph of what `queue` puts into the stream of the work, without running it."""
        before = replace(self.traffic)
        mode = cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        call("cuStreamBeginCapture", self.work, mode)
        queue()
        captured = call("cuStreamEndCapture", self.work)
        kernels = self.traffic.kernels - before.kernels
        self.phases[self.phase] = before
        executable = call("cuGraphInstantiate", captured, 0)
        call("cuGraphDestroy", captured)
        return Graph(executable, kernels)

    def launch_graph(self, graph: Graph) -> None:
        """Queue a graph."""
        self.traffic.launches += 1
        self.traffic.kernels += graph.kernels
        call("cuGraphLaunch", graph.executable, self.work)


@dataclass(frozen=True)
class Graph:
    """A graph that can be launched."""

    executable: Any
    kernels: int


Arguments = tuple[tuple[Any, ...], tuple[Any, ...]]


def arguments(*pairs: tuple[Any, type[ctypes._SimpleCData[Any]]]) -> Arguments:
    """Arguments of a kernel as cuda-bindings takes them: values and their C types."""
    return tuple(value for value, _ in pairs), tuple(kind for _, kind in pairs)
