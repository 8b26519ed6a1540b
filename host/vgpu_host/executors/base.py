"""The executor interface: what a worker asks of a GPU.

One worker process holds one executor and calls it from one thread. Two implementations exist,
`cuda` and `software`; both pass the same conformance tests (`tests/device/conformance`). Host
addresses are valid addresses in this process, already checked against the registrations of the
channel; device pointers and handles come from the guest and are the executor's to check.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from vgpu_host.executors.blas import BlasCall

#: Says whether what was asked for is done; raises CudaError when it failed.
Poll = Callable[[], bool]

#: Objects that an executor gives out and takes back; nobody else looks into them.
Context = object
Module = object
Function = object
Stream = object
Event = object
Graph = object

Dim3 = tuple[int, int, int]


class CudaError(Exception):
    """A command failed with a CUresult.

    Attributes:
        result: The CUresult, never 0.
        log: Text for the caller's log buffer (the JIT's error log), or "".
    """

    def __init__(self, result: int, message: str = "", log: str = "") -> None:
        super().__init__(message or f"CUresult {result}")
        self.result = result
        self.log = log


@dataclass(frozen=True)
class DeviceDescription:
    """What `struct vgpu_device_info` says; attributes by number of CUdevice_attribute."""

    name: str
    uuid: bytes
    total_memory: int
    driver_version: int
    compute_capability: tuple[int, int]
    attributes: dict[int, int]


@dataclass(frozen=True)
class FunctionInfo:
    """What `struct vgpu_function_info` says; `parameters` are (offset, size) in bytes."""

    max_threads_per_block: int
    shared_bytes: int
    const_bytes: int
    local_bytes: int
    registers: int
    ptx_version: int
    binary_version: int
    max_dynamic_shared_bytes: int
    parameters: tuple[tuple[int, int], ...] = field(default=())


@dataclass(frozen=True)
class LinkPart:
    """One input of the linker: PTX text or a cubin, and a name for the log."""

    name: str
    is_cubin: bool
    image: bytes


@dataclass(frozen=True)
class Copy2D:
    """A rectangle to copy: device pointers or host addresses, pitches and width in bytes."""

    destination: int
    destination_is_host: bool
    destination_pitch: int
    source: int
    source_is_host: bool
    source_pitch: int
    width: int
    height: int


@dataclass(frozen=True)
class GraphOperation:
    """A node of a graph.

    Attributes:
        dependencies: Places of the operations that it waits for, all before its own.
        queue: Queues it on the stream it is given, by methods of the executor that take a stream.
            Events recorded or waited for there are those of each launch (CU_EVENT_RECORD_EXTERNAL).
    """

    dependencies: tuple[int, ...]
    queue: Callable[[Stream], None]


class Executor(Protocol):
    """A GPU as one worker uses it. Every method raises CudaError where the CUDA API has an error.

    `stream` is a Stream of the current context, or None for its legacy default stream. Copies,
    memsets and launches only have to be queued; synchronising methods return a Poll.
    """

    def describe(self) -> DeviceDescription:
        """What the device is."""
        ...

    def context_create(self, flags: int) -> Context:
        """Make a context; it is not made current (cuCtxCreate)."""
        ...

    def context_destroy(self, context: Context) -> None:
        """Destroy a context and what it holds (cuCtxDestroy)."""
        ...

    def context_activate(self, context: Context) -> None:
        """Make a context current for the calls that follow (cuCtxSetCurrent)."""
        ...

    def context_synchronize(self) -> Poll:
        """All earlier work of the current context (cuCtxSynchronize)."""
        ...

    def context_set_limit(self, limit: int, value: int) -> None:
        """Set a CUlimit."""
        ...

    def context_get_limit(self, limit: int) -> int:
        """Read a CUlimit."""
        ...

    @property
    def output_bytes(self) -> int:
        """Bytes that kernels have printed so far, of those that `output_read` gives out."""
        ...

    def output_read(self, limit: int) -> bytes:
        """Take what kernels have printed, the oldest `limit` bytes at most."""
        ...

    def memory_allocate(self, size: int) -> int:
        """Allocate `size` bytes; returns the device pointer (cuMemAlloc)."""
        ...

    def memory_free(self, device_ptr: int) -> None:
        """Free an allocation (cuMemFree)."""
        ...

    def memory_info(self) -> tuple[int, int]:
        """Free and total bytes (cuMemGetInfo)."""
        ...

    def host_register(self, address: int, size: int) -> None:
        """Page-lock host memory for direct copies, where the device gains from it."""
        ...

    def host_unregister(self, address: int) -> None:
        """Undo `host_register`, once no copy uses the memory."""
        ...

    def copy_host_to_device(
        self, device_ptr: int, address: int, size: int, stream: Stream | None
    ) -> None:
        """Queue a copy from page-locked host memory (cuMemcpyHtoDAsync)."""
        ...

    def copy_bytes_to_device(self, device_ptr: int, data: bytes, stream: Stream | None) -> None:
        """Queue a copy of `data`, which may be reused as soon as this returns."""
        ...

    def copy_device_to_host(
        self, address: int, device_ptr: int, size: int, stream: Stream | None
    ) -> None:
        """Queue a copy to page-locked host memory (cuMemcpyDtoHAsync)."""
        ...

    def copy_device_to_device(
        self, destination: int, source: int, size: int, stream: Stream | None
    ) -> None:
        """Queue a copy within device memory (cuMemcpyDtoDAsync)."""
        ...

    def copy_2d(self, copy: Copy2D, stream: Stream | None) -> None:
        """Queue a copy of a rectangle (cuMemcpy2DAsync)."""
        ...

    def memset(
        self, device_ptr: int, value: int, element_bytes: int, count: int, stream: Stream | None
    ) -> None:
        """Queue a fill of `count` elements of 1, 2 or 4 bytes (cuMemsetD8Async and so on)."""
        ...

    def memset_2d(
        self,
        device_ptr: int,
        pitch: int,
        value: int,
        element_bytes: int,
        width: int,
        height: int,
        stream: Stream | None,
    ) -> None:
        """Queue a fill of `height` rows of `width` elements (cuMemsetD2D8Async and so on)."""
        ...

    def module_load(self, image: bytes) -> Module:
        """Load PTX text or a cubin (cuModuleLoadDataEx); CudaError.log holds the JIT's log."""
        ...

    def module_link(self, parts: Sequence[LinkPart]) -> bytes:
        """Link parts to an image for `module_load` (cuLinkAddData, cuLinkComplete)."""
        ...

    def module_unload(self, module: Module) -> None:
        """Unload a module (cuModuleUnload)."""
        ...

    def module_get_function(self, module: Module, name: str) -> tuple[Function, FunctionInfo]:
        """Find a kernel and its parameter layout (cuModuleGetFunction, cuFuncGetParamInfo)."""
        ...

    def module_get_global(self, module: Module, name: str) -> tuple[int, int]:
        """Device pointer and size of a variable (cuModuleGetGlobal)."""
        ...

    def function_set_attribute(self, function: Function, attribute: int, value: int) -> None:
        """Set a CUfunction_attribute (cuFuncSetAttribute)."""
        ...

    def function_get_attribute(self, function: Function, attribute: int) -> int:
        """Read a CUfunction_attribute (cuFuncGetAttribute)."""
        ...

    def function_occupancy(
        self, function: Function, block_threads: int, shared_bytes: int, flags: int
    ) -> int:
        """Blocks that a multiprocessor holds (cuOccupancyMaxActiveBlocksPerMultiprocessor)."""
        ...

    def function_available_shared(self, function: Function, blocks: int, block_threads: int) -> int:
        """Dynamic shared bytes left to a block (cuOccupancyAvailableDynamicSMemPerBlock)."""
        ...

    def launch(
        self,
        function: Function,
        grid: Dim3,
        block: Dim3,
        shared_bytes: int,
        stream: Stream | None,
        parameters: bytes,
    ) -> None:
        """Queue a kernel with its packed parameter block (cuLaunchKernel)."""
        ...

    def launch_cooperative(
        self,
        function: Function,
        grid: Dim3,
        block: Dim3,
        shared_bytes: int,
        stream: Stream | None,
        parameters: bytes,
    ) -> None:
        """Queue a kernel whose blocks may wait for each other (cuLaunchCooperativeKernel)."""
        ...

    def stream_create(self, flags: int, priority: int) -> Stream:
        """Make a stream (cuStreamCreateWithPriority)."""
        ...

    def stream_destroy(self, stream: Stream) -> None:
        """Destroy a stream once its work is done (cuStreamDestroy)."""
        ...

    def stream_synchronize(self, stream: Stream | None) -> Poll:
        """All earlier work of the stream (cuStreamSynchronize)."""
        ...

    def stream_query(self, stream: Stream | None) -> bool:
        """Whether all earlier work of the stream is done (cuStreamQuery)."""
        ...

    def stream_wait_event(self, stream: Stream | None, event: Event, flags: int) -> None:
        """Later work of the stream waits for the event (cuStreamWaitEvent)."""
        ...

    def event_create(self, flags: int) -> Event:
        """Make an event (cuEventCreate)."""
        ...

    def event_destroy(self, event: Event) -> None:
        """Destroy an event (cuEventDestroy)."""
        ...

    def event_record(self, event: Event, stream: Stream | None) -> None:
        """Record the stream's position (cuEventRecord)."""
        ...

    def event_query(self, event: Event) -> bool:
        """Whether the recorded position is reached (cuEventQuery)."""
        ...

    def event_synchronize(self, event: Event) -> Poll:
        """The recorded position (cuEventSynchronize)."""
        ...

    def event_elapsed_ms(self, start: Event, end: Event) -> float:
        """Milliseconds between two recorded events (cuEventElapsedTime)."""
        ...

    def graph_instantiate(self, operations: Sequence[GraphOperation]) -> Graph:
        """Make a graph: each operation is queued once now, and carried out at each launch.

        (cuStreamBeginCapture, cuStreamEndCapture, cuGraphInstantiate)
        """
        ...

    def graph_update(self, graph: Graph, operations: Sequence[GraphOperation]) -> None:
        """Replace the operations, for later launches (cuGraphExecUpdate)."""
        ...

    def graph_launch(self, graph: Graph, stream: Stream | None) -> None:
        """Queue the operations of a graph (cuGraphLaunch)."""
        ...

    def graph_upload(self, graph: Graph, stream: Stream | None) -> None:
        """Prepare a launch (cuGraphUpload)."""
        ...

    def graph_destroy(self, graph: Graph) -> None:
        """Destroy a graph once its launches are done (cuGraphExecDestroy)."""
        ...

    def blas_prepare(self) -> None:
        """Get ready for routines of cuBLAS in the current context (cublasCreate)."""
        ...

    def blas(self, call: BlasCall, stream: Stream | None) -> None:
        """Queue a routine of cuBLAS."""
        ...

    def close(self) -> None:
        """Release the device and everything on it."""
        ...
