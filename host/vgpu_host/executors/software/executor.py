"""The executor over the software GPU.

Everything runs in order, on the thread that calls, before the call returns; so streams are only
names that are checked, and whoever waits has already waited. A fault ends the context, as CUDA has
it: every later call in it repeats the error.
"""

from __future__ import annotations

import ctypes
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns
from typing import Final

from vgpu_host.executors.base import (
    Context,
    Copy2D,
    CudaError,
    DeviceDescription,
    Dim3,
    Event,
    FunctionInfo,
    Graph,
    GraphOperation,
    Poll,
    Stream,
)
from vgpu_host.executors.base import Function as FunctionHandle
from vgpu_host.executors.base import Module as ModuleHandle
from vgpu_host.executors.blas import BlasCall
from vgpu_host.executors.software.blas import Blas
from vgpu_host.executors.software.device_attributes import SHARED_PER_BLOCK
from vgpu_host.executors.software.errors import DeviceFault, PtxError
from vgpu_host.executors.software.function import Function
from vgpu_host.executors.software.gpu import SoftwareGpu
from vgpu_host.executors.software.graph import SoftwareGraph, SoftwareStream, queued, record
from vgpu_host.executors.software.module import Module
from vgpu_host.executors.software.translation import Translation
from vgpu_host.findings import Report

NAME: Final = "VGPU-STUB software GPU"
#: Clients want at least the release that they were built for; 13.0 satisfies those in use.
DRIVER_VERSION: Final = 13000

_INVALID_VALUE: Final = 1
_OUT_OF_MEMORY: Final = 2
_INVALID_IMAGE: Final = 200
_INVALID_CONTEXT: Final = 201
_NO_BINARY_FOR_GPU: Final = 209
_UNSUPPORTED_LIMIT: Final = 215
_INVALID_HANDLE: Final = 400
_NOT_FOUND: Final = 500
_NOT_SUPPORTED: Final = 801

#: CU_CTX_FLAGS_MASK: every flag that cuCtxCreate knows.
_CONTEXT_FLAGS: Final = 0xFF
_EVENT_DISABLE_TIMING: Final = 2
_MAX_DYNAMIC_SHARED: Final = 8
_PREFERRED_CARVEOUT: Final = 9
_PRINTF_FIFO_SIZE: Final = 1
_ELF_MAGIC: Final = b"\x7fELF"

#: CUlimit -> value of a new context: stack size, printf FIFO size, malloc heap size, in bytes.
_LIMITS: Final = {0: 1024, 1: 1 << 20, 2: 8 << 20}


@dataclass
class _Context:
    memory: set[int] = field(default_factory=set)
    modules: list[Module] = field(default_factory=list)
    limits: dict[int, int] = field(default_factory=lambda: dict(_LIMITS))
    fault: DeviceFault | None = None
    alive: bool = True


@dataclass
class _Event:
    timing: bool
    recorded_ns: int | None = None


@dataclass
class _Function:
    function: Function
    info: FunctionInfo
    dynamic_shared_limit: int


def _done() -> bool:
    return True


def _machine_id() -> str:
    try:
        return Path("/etc/machine-id").read_text().strip()
    except OSError:
        return ""


class SoftwareExecutor:
    """PTX on the CPU; implements `vgpu_host.executors.base.Executor`."""

    def __init__(
        self,
        *,
        total_memory: int,
        threads: int | None = None,
        watchdog_s: float | None = None,
        cache_dir: Path | None = None,
        translation: Translation | None = None,
        report: Report | None = None,
    ) -> None:
        """Make a software GPU; the arguments are those of `SoftwareGpu`."""
        self._gpu = SoftwareGpu(
            total_memory=total_memory,
            threads=threads,
            watchdog_s=watchdog_s,
            cache_dir=cache_dir,
            translation=translation,
            report=report,
        )
        self._blas = Blas(self._gpu.lend_range, self._gpu.total_memory, threads)
        self._current: _Context | None = None

    def describe(self) -> DeviceDescription:
        """What the software GPU is."""
        return DeviceDescription(
            name=NAME,
            uuid=uuid.uuid5(uuid.NAMESPACE_OID, NAME + _machine_id()).bytes,
            total_memory=self._gpu.total_memory,
            driver_version=DRIVER_VERSION,
            compute_capability=self._gpu.compute_capability,
            attributes=self._gpu.attributes(),
        )

    # -- contexts --------------------------------------------------------------------------------

    def context_create(self, flags: int) -> Context:
        """Make a context; its flags say how to wait, and nobody waits here."""
        if flags & ~_CONTEXT_FLAGS:
            raise CudaError(_INVALID_VALUE, f"context flags {flags:#x}")
        return _Context()

    def context_destroy(self, context: Context) -> None:
        """Free everything that the context holds."""
        assert isinstance(context, _Context)
        for module in context.modules:
            module.unload()
        for device_ptr in context.memory:
            self._gpu.free(device_ptr)
        context.alive = False
        if self._current is context:
            self._current = None

    def context_activate(self, context: Context) -> None:
        """Make a context current."""
        assert isinstance(context, _Context)
        self._current = context

    def _context(self) -> _Context:
        context = self._current
        if context is None or not context.alive:
            raise CudaError(_INVALID_CONTEXT, "no context is current")
        if context.fault:
            # A new exception each time: one that is raised again keeps every earlier traceback.
            raise CudaError(context.fault.result, context.fault.message)
        return context

    def context_synchronize(self) -> Poll:
        """Everything has run already."""
        self._context()
        return _done

    def context_set_limit(self, limit: int, value: int) -> None:
        """Remember a limit of those that the device knows."""
        limits = self._context().limits
        if limit not in limits:
            raise CudaError(_UNSUPPORTED_LIMIT, f"limit {limit}")
        limits[limit] = value
        if limit == _PRINTF_FIFO_SIZE:
            self._gpu.output.capacity = value

    def context_get_limit(self, limit: int) -> int:
        """Read a limit."""
        limits = self._context().limits
        if limit not in limits:
            raise CudaError(_UNSUPPORTED_LIMIT, f"limit {limit}")
        return limits[limit]

    @property
    def output_bytes(self) -> int:
        """What kernels have printed so far."""
        return self._gpu.output.total

    def output_read(self, limit: int) -> bytes:
        """Take what kernels have printed."""
        return self._gpu.output.take(limit)

    # -- memory ----------------------------------------------------------------------------------

    def memory_allocate(self, size: int) -> int:
        """Allocate from the arena."""
        context = self._context()
        if size == 0:
            raise CudaError(_INVALID_VALUE, "an allocation of 0 bytes")
        try:
            device_ptr = self._gpu.alloc(size)
        except MemoryError as error:
            raise CudaError(_OUT_OF_MEMORY, f"{size} bytes: {error}") from error
        context.memory.add(device_ptr)
        return device_ptr

    def memory_free(self, device_ptr: int) -> None:
        """Free an allocation of the current context."""
        context = self._context()
        if device_ptr not in context.memory:
            raise CudaError(_INVALID_VALUE, f"0x{device_ptr:x} is not the start of an allocation")
        context.memory.remove(device_ptr)
        self._gpu.free(device_ptr)

    def memory_info(self) -> tuple[int, int]:
        """Free and total bytes."""
        self._context()
        return self._gpu.free_memory, self._gpu.total_memory

    def host_register(self, address: int, size: int) -> None:
        """Nothing to gain: copies are memory moves."""

    def host_unregister(self, address: int) -> None:
        """Nothing was done."""

    def _check(self, device_ptr: int, size: int) -> None:
        if not size:
            return  # nothing is touched: CUDA accepts any pointer
        try:
            self._gpu.check_range(device_ptr, size)
        except DeviceFault as fault:
            raise CudaError(fault.result, fault.message) from fault

    @queued
    def copy_host_to_device(
        self, device_ptr: int, address: int, size: int, stream: Stream | None
    ) -> None:
        """Copy from guest memory."""
        self._ready(stream)
        self._check(device_ptr, size)
        ctypes.memmove(device_ptr, address, size)
        self._gpu.written(device_ptr, size)

    @queued
    def copy_bytes_to_device(self, device_ptr: int, data: bytes, stream: Stream | None) -> None:
        """Copy from a command."""
        self._ready(stream)
        self._check(device_ptr, len(data))
        ctypes.memmove(device_ptr, data, len(data))
        self._gpu.written(device_ptr, len(data))

    @queued
    def copy_device_to_host(
        self, address: int, device_ptr: int, size: int, stream: Stream | None
    ) -> None:
        """Copy to guest memory."""
        self._ready(stream)
        self._check(device_ptr, size)
        ctypes.memmove(address, device_ptr, size)

    @queued
    def copy_device_to_device(
        self, destination: int, source: int, size: int, stream: Stream | None
    ) -> None:
        """Copy within device memory; the ranges may overlap."""
        self._ready(stream)
        self._check(destination, size)
        self._check(source, size)
        ctypes.memmove(destination, source, size)
        self._gpu.copied(destination, source, size)

    @queued
    def copy_2d(self, copy: Copy2D, stream: Stream | None) -> None:
        """Copy row by row."""
        self._ready(stream)
        pitch = min(copy.destination_pitch, copy.source_pitch)
        if copy.height > 1 and copy.width > pitch:
            raise CudaError(_INVALID_VALUE, f"rows of {copy.width} bytes exceed a pitch of {pitch}")
        if not copy.destination_is_host:
            self._check_rows(copy.destination, copy.destination_pitch, copy.width, copy.height)
        if not copy.source_is_host:
            self._check_rows(copy.source, copy.source_pitch, copy.width, copy.height)
        for row in range(copy.height):
            destination = copy.destination + row * copy.destination_pitch
            source = copy.source + row * copy.source_pitch
            ctypes.memmove(destination, source, copy.width)
            if copy.destination_is_host:
                continue
            if copy.source_is_host:
                self._gpu.written(destination, copy.width)
            else:
                self._gpu.copied(destination, source, copy.width)

    def _check_rows(self, device_ptr: int, pitch: int, width: int, height: int) -> None:
        if width and height:
            self._check(device_ptr, (height - 1) * pitch + width)

    @queued
    def memset(
        self, device_ptr: int, value: int, element_bytes: int, count: int, stream: Stream | None
    ) -> None:
        """Fill device memory."""
        self._ready(stream)
        size = count * element_bytes
        self._check_aligned(device_ptr, element_bytes)
        self._check(device_ptr, size)
        _fill(device_ptr, value, element_bytes, size)
        self._gpu.written(device_ptr, size)

    @queued
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
        """Fill row by row."""
        self._ready(stream)
        row_bytes = width * element_bytes
        if row_bytes > pitch:
            raise CudaError(_INVALID_VALUE, f"rows of {row_bytes} bytes exceed a pitch of {pitch}")
        self._check_aligned(device_ptr | pitch, element_bytes)
        self._check_rows(device_ptr, pitch, row_bytes, height)
        for row in range(height):
            _fill(device_ptr + row * pitch, value, element_bytes, row_bytes)
            self._gpu.written(device_ptr + row * pitch, row_bytes)

    def _check_aligned(self, device_ptr: int, element_bytes: int) -> None:
        if device_ptr % element_bytes:
            raise CudaError(
                _INVALID_VALUE, f"0x{device_ptr:x} is not aligned to {element_bytes} bytes"
            )

    # -- modules ---------------------------------------------------------------------------------

    def module_load(self, image: bytes) -> ModuleHandle:
        """Load PTX; machine code for a physical GPU cannot run here."""
        context = self._context()
        if image.startswith(_ELF_MAGIC):
            text = "the image is machine code (a cubin); the software GPU runs PTX"
            raise CudaError(_NO_BINARY_FOR_GPU, text, text)
        if not image.strip(b"\0 \t\r\n"):
            raise CudaError(_INVALID_IMAGE, "the image is empty")
        try:
            module = self._gpu.load_module(image)
        except PtxError as error:
            raise CudaError(error.result, error.log, error.log) from error
        except MemoryError as error:
            raise CudaError(_OUT_OF_MEMORY, f"variables of the module: {error}") from error
        context.modules.append(module)
        return module

    def module_unload(self, module: ModuleHandle) -> None:
        """Free a module's variables."""
        assert isinstance(module, Module)
        self._context().modules.remove(module)
        module.unload()

    def module_get_function(
        self, module: ModuleHandle, name: str
    ) -> tuple[FunctionHandle, FunctionInfo]:
        """Find a kernel; it is compiled when it is first launched."""
        assert isinstance(module, Module)
        self._context()
        try:
            function = module.get_function(name)
        except KeyError as error:
            raise CudaError(_NOT_FOUND, f"the module has no kernel {name!r}") from error
        except PtxError as error:
            raise CudaError(error.result, error.log, error.log) from error
        major, minor = self._gpu.compute_capability
        info = FunctionInfo(
            max_threads_per_block=function.max_threads_per_block,
            shared_bytes=function.static_shared_bytes,
            const_bytes=function.const_bytes,
            local_bytes=function.local_bytes,
            registers=function.num_regs,
            ptx_version=10 * major + minor,
            binary_version=10 * major + minor,
            max_dynamic_shared_bytes=SHARED_PER_BLOCK - function.static_shared_bytes,
            parameters=tuple((place.offset, place.size) for place in function.params),
        )
        return _Function(function, info, info.max_dynamic_shared_bytes), info

    def module_get_global(self, module: ModuleHandle, name: str) -> tuple[int, int]:
        """Find a variable."""
        assert isinstance(module, Module)
        self._context()
        try:
            return module.get_global(name)
        except KeyError as error:
            raise CudaError(_NOT_FOUND, f"the module has no variable {name!r}") from error

    def function_set_attribute(self, function: FunctionHandle, attribute: int, value: int) -> None:
        """Set the limit of dynamic shared memory, or the carve-out, which changes nothing here."""
        assert isinstance(function, _Function)
        self._context()
        if attribute == _MAX_DYNAMIC_SHARED:
            if not 0 <= value <= function.info.max_dynamic_shared_bytes:
                raise CudaError(_INVALID_VALUE, f"{value} bytes of dynamic shared memory")
            function.dynamic_shared_limit = value
        elif attribute != _PREFERRED_CARVEOUT:
            raise CudaError(_INVALID_VALUE, f"function attribute {attribute} cannot be set")

    def function_get_attribute(self, function: FunctionHandle, attribute: int) -> int:
        """Read an attribute."""
        assert isinstance(function, _Function)
        self._context()
        info = function.info
        values = {
            0: info.max_threads_per_block,
            1: info.shared_bytes,
            2: info.const_bytes,
            3: info.local_bytes,
            4: info.registers,
            5: info.ptx_version,
            6: info.binary_version,
            7: 0,  # CACHE_MODE_CA
            _MAX_DYNAMIC_SHARED: function.dynamic_shared_limit,
            _PREFERRED_CARVEOUT: -1,
        }
        if attribute not in values:
            raise CudaError(_INVALID_VALUE, f"function attribute {attribute}")
        return values[attribute]

    def function_occupancy(
        self, function: FunctionHandle, block_threads: int, shared_bytes: int, flags: int
    ) -> int:
        """A host thread runs one block at a time, if the block fits at all."""
        assert isinstance(function, _Function)
        self._context()
        if block_threads <= 0:
            raise CudaError(_INVALID_VALUE, f"blocks of {block_threads} threads")
        fits = (
            block_threads <= function.info.max_threads_per_block
            and shared_bytes <= function.info.max_dynamic_shared_bytes
        )
        return 1 if fits else 0

    def function_available_shared(
        self, function: FunctionHandle, blocks: int, block_threads: int
    ) -> int:
        """What one block may have; more blocks do not run at a time."""
        assert isinstance(function, _Function)
        self._context()
        if blocks != 1 or not 0 < block_threads <= function.info.max_threads_per_block:
            raise CudaError(_INVALID_VALUE, f"{blocks} blocks of {block_threads} threads")
        return function.info.max_dynamic_shared_bytes

    @queued
    def launch(
        self,
        function: FunctionHandle,
        grid: Dim3,
        block: Dim3,
        shared_bytes: int,
        stream: Stream | None,
        parameters: bytes,
    ) -> None:
        """Run a kernel to its end."""
        context = self._ready(stream)
        assert isinstance(function, _Function)
        if shared_bytes > function.dynamic_shared_limit:
            raise CudaError(_INVALID_VALUE, f"{shared_bytes} bytes of dynamic shared memory")
        try:
            function.function.launch(grid, block, shared_bytes, parameters)
        except DeviceFault as fault:
            context.fault = DeviceFault(fault.result, fault.message)
            raise CudaError(fault.result, fault.message) from fault
        except PtxError as error:
            raise CudaError(error.result, error.log, error.log) from error
        except ValueError as error:
            raise CudaError(_INVALID_VALUE, str(error)) from error

    def blas_prepare(self) -> None:
        """Set the number of threads."""
        self._context()
        self._blas.prepare()

    @queued
    def blas(self, call: BlasCall, stream: Stream | None) -> None:
        """Run a routine of cuBLAS to its end."""
        context = self._ready(stream)
        try:
            self._blas.run(call)
        except DeviceFault as fault:
            context.fault = DeviceFault(fault.result, fault.message)
            raise CudaError(fault.result, fault.message) from fault

    # -- streams and events ----------------------------------------------------------------------

    def _ready(self, stream: Stream | None) -> _Context:
        if stream is not None and not (isinstance(stream, SoftwareStream) and stream.alive):
            raise CudaError(_INVALID_HANDLE, "the stream is gone")
        return self._context()

    def stream_create(self, flags: int, priority: int) -> Stream:
        """Make a name."""
        self._context()
        if flags & ~1:
            raise CudaError(_INVALID_VALUE, f"stream flags {flags}")
        return SoftwareStream()

    def stream_destroy(self, stream: Stream) -> None:
        """Forget a name."""
        self._ready(stream)
        assert isinstance(stream, SoftwareStream)
        stream.alive = False

    def stream_synchronize(self, stream: Stream | None) -> Poll:
        """Everything has run already."""
        self._ready(stream)
        return _done

    def stream_query(self, stream: Stream | None) -> bool:
        """Everything has run already."""
        self._ready(stream)
        return True

    @queued
    def stream_wait_event(self, stream: Stream | None, event: Event, flags: int) -> None:
        """What was recorded has happened already."""
        self._ready(stream)

    def event_create(self, flags: int) -> Event:
        """Make an event."""
        self._context()
        if flags & ~7:
            raise CudaError(_INVALID_VALUE, f"event flags {flags}")
        if flags & 4:
            raise CudaError(_NOT_SUPPORTED, "events between processes")
        return _Event(timing=not flags & _EVENT_DISABLE_TIMING)

    def event_destroy(self, event: Event) -> None:
        """Forget an event."""
        self._context()

    @queued
    def event_record(self, event: Event, stream: Stream | None) -> None:
        """Take the time: all earlier work is done."""
        self._ready(stream)
        assert isinstance(event, _Event)
        event.recorded_ns = perf_counter_ns()

    def event_query(self, event: Event) -> bool:
        """What was recorded has happened already."""
        self._context()
        return True

    def event_synchronize(self, event: Event) -> Poll:
        """What was recorded has happened already."""
        self._context()
        return _done

    def event_elapsed_ms(self, start: Event, end: Event) -> float:
        """Time between the two records."""
        self._context()
        assert isinstance(start, _Event)
        assert isinstance(end, _Event)
        if not start.timing or not end.timing:
            raise CudaError(_INVALID_HANDLE, "an event was made without timing")
        if start.recorded_ns is None or end.recorded_ns is None:
            raise CudaError(_INVALID_HANDLE, "an event was not recorded")
        return (end.recorded_ns - start.recorded_ns) / 1e6

    # -- graphs ----------------------------------------------------------------------------------

    def graph_instantiate(self, operations: Sequence[GraphOperation]) -> Graph:
        """Record the operations."""
        self._context()
        return SoftwareGraph(record(operations))

    def graph_update(self, graph: Graph, operations: Sequence[GraphOperation]) -> None:
        """Record them anew."""
        self._context()
        assert isinstance(graph, SoftwareGraph)
        graph.operations = record(operations)

    def graph_launch(self, graph: Graph, stream: Stream | None) -> None:
        """Carry out the operations."""
        self._ready(stream)
        assert isinstance(graph, SoftwareGraph)
        for carry_out in graph.operations:
            carry_out()

    def graph_upload(self, graph: Graph, stream: Stream | None) -> None:
        """Nothing to prepare."""
        self._ready(stream)

    def graph_destroy(self, graph: Graph) -> None:
        """Forget a graph: no launch outlasts its call."""

    def close(self) -> None:
        """End the software GPU."""
        self._gpu.close()


def _fill(address: int, value: int, element_bytes: int, size: int) -> None:
    """Fill `size` bytes with an element; the part that is filled doubles until it is all."""
    element = (value & ((1 << 8 * element_bytes) - 1)).to_bytes(element_bytes, "little")
    if len(set(element)) == 1:
        ctypes.memset(address, element[0], size)
        return
    done = min(size, element_bytes)
    ctypes.memmove(address, element, done)
    while done < size:
        part = min(done, size - done)
        ctypes.memmove(address + done, address, part)
        done += part
