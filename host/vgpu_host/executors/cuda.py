"""The executor over a physical NVIDIA GPU.

pycuda makes contexts and holds memory; NVIDIA's `cuda.bindings` does what needs a raw address or a
handle that pycuda keeps to itself: modules, launches, streams, events, copies, page-locking. Work
is queued on real streams and nothing here ever blocks: whoever waits gets a poll. Taking away
page-locked memory is the exception: its copies must be over first.

The primary context belongs to this module: page-locking is done in it, portable to every context of
the guest. The guest's first context is made ahead of need, because that takes a tenth of a second.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import logging
from bisect import bisect_right, insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from vgpu_host.executors.base import (
    Context,
    Copy2D,
    CudaError,
    DeviceDescription,
    Dim3,
    Event,
    Function,
    FunctionInfo,
    Graph,
    GraphOperation,
    LinkPart,
    Module,
    Poll,
    Stream,
)
from vgpu_host.executors.blas import BlasCall
from vgpu_host.executors.cuda_attributes import NOT_CARRIED, OWN
from vgpu_host.executors.cuda_blas import CudaBlas
from vgpu_host.executors.cuda_graphs import CudaGraph, GraphBuilder
from vgpu_host.identity import device_uuid

_log = logging.getLogger(__name__)

_INVALID_VALUE: Final = 1
_NOT_READY: Final = 600
_STREAM_NON_BLOCKING: Final = 1
_EVENT_DISABLE_TIMING: Final = 2
_EVENT_RECORD_EXTERNAL: Final = 1
_HOST_REGISTER_PORTABLE: Final = 1
_MAX_PARAMETER_BYTES: Final = 32768
_LOG_BYTES: Final = 16384
#: CU_LAUNCH_PARAM_BUFFER_POINTER, CU_LAUNCH_PARAM_BUFFER_SIZE (cuda.h).
_PARAM_BUFFER_POINTER: Final = 1
_PARAM_BUFFER_SIZE: Final = 2

_LAST_ATTRIBUTE: Final = 160


def available() -> str | None:
    """Why the physical GPU cannot be used here, or None when it can."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "NVIDIA's driver library libcuda.so.1 is not installed"
    result = library.cuInit(0)
    if result:
        return f"cuInit fails with {result}"
    count = ctypes.c_int()
    if library.cuDeviceGetCount(ctypes.byref(count)) or count.value == 0:
        return "the driver shows no device"
    for module, name in (("pycuda.driver", "pycuda"), ("cuda.bindings", "cuda-bindings")):
        if not _installed(module):
            return f"the Python package {name} is not installed: pip install 'vgpu-stub[cuda]'"
    return None


def driver_folder() -> Path:
    """Folder of the driver library that this process has loaded (`available` loads it).

    Raises:
        FileNotFoundError: None is loaded.
    """
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "/libcuda.so" in line:
            return Path(line.split(maxsplit=5)[5]).parent
    raise FileNotFoundError("libcuda.so.1 is not loaded")


def _installed(module: str) -> bool:
    # Other packages of NVIDIA bring a `cuda` without bindings.
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@dataclass(eq=False)
class _Context:
    context: Any
    streams: set[int] = field(default_factory=set)
    events: list[Any] = field(default_factory=list)
    memory: dict[int, Any] = field(default_factory=dict)
    modules: list[_Module] = field(default_factory=list)
    blas: CudaBlas | None = None
    graphs: GraphBuilder | None = None


@dataclass(eq=False)
class _Module:
    handle: Any
    variables: set[int] = field(default_factory=set)


@dataclass
class _Function:
    handle: Any
    parameter_bytes: int
    #: Where each parameter is in the packed block.
    offsets: tuple[int, ...]


class _Ranges:
    """Device memory that copies may touch: allocations and variables of modules."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._sizes: dict[int, int] = {}

    def add(self, start: int, size: int) -> None:
        if start not in self._sizes:
            insort(self._starts, start)
        self._sizes[start] = size

    def remove(self, start: int) -> None:
        del self._sizes[start]
        self._starts.pop(bisect_right(self._starts, start) - 1)

    def check(self, start: int, size: int) -> None:
        if not size:
            return  # nothing is touched: CUDA accepts any pointer
        place = bisect_right(self._starts, start) - 1
        if place >= 0:
            first = self._starts[place]
            if start + size <= first + self._sizes[first]:
                return
        raise CudaError(_INVALID_VALUE, f"0x{start:x}+{size} is not device memory of this channel")


class CudaExecutor:
    """A physical GPU; implements `vgpu_host.executors.base.Executor`."""

    def __init__(self, ordinal: int = 0) -> None:
        """Open GPU number `ordinal`.

        Raises:
            CudaError: It cannot be opened.
        """
        reason = available()
        if reason:
            raise CudaError(100, reason)
        import pycuda.driver  # cannot be imported where there is no driver
        from cuda.bindings import driver

        self._pycuda = pycuda.driver
        self._driver = driver
        self._success = driver.CUresult.CUDA_SUCCESS
        self._pycuda.init()
        self._error_numbers = self._error_table()
        self._device = self._pycuda.Device(ordinal)
        self._ordinal = ordinal
        self._base = self._device.retain_primary_context()
        self._contexts: list[_Context] = []
        self._spare: _Context | None = self._new_context(0)
        self._current: _Context | None = None
        self._ranges = _Ranges()
        self._registered: set[int] = set()
        self._null_stream = driver.CUstream(0)
        self._launch_kernel = driver.cuLaunchKernel
        buffer = (ctypes.c_char * _MAX_PARAMETER_BYTES)()
        self._parameters = memoryview(buffer).cast("B")
        self._parameter_size = ctypes.c_size_t()
        self._size = 0
        self._extra = (ctypes.c_void_p * 5)(
            _PARAM_BUFFER_POINTER,
            ctypes.addressof(buffer),
            _PARAM_BUFFER_SIZE,
            ctypes.addressof(self._parameter_size),
            0,
        )
        self._extra_address = ctypes.addressof(self._extra)

    # -- errors ----------------------------------------------------------------------------------

    def _call(self, name: str, *arguments: object) -> Any:
        """Call a function of cuda.bindings; returns its results without the CUresult."""
        error, *results = getattr(self._driver, name)(*arguments)
        if error != self._success:
            raise self._error(error, name)
        if not results:
            return None
        return results[0] if len(results) == 1 else tuple(results)

    def _error(self, error: Any, name: str, log: str = "") -> CudaError:
        _, text = self._driver.cuGetErrorName(error)
        described = text.decode() if text else str(int(error))
        return CudaError(int(error), f"{name}: {described}", log)

    def _error_table(self) -> dict[str, int]:
        """CUresult by the text that pycuda puts into its exceptions."""
        table = {}
        for result in self._driver.CUresult:
            _, text = self._driver.cuGetErrorString(result)
            if text:
                table[text.decode()] = int(result)
        return table

    def _ask(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Call a function of pycuda, whose errors read "function failed: text[ - details]"."""
        try:
            return function(*arguments)
        except self._pycuda.Error as error:
            message = str(error)
            text = message.split(" failed: ", 1)[-1].split(" - ", 1)[0]
            raise CudaError(self._error_numbers.get(text, 999), message) from error

    # -- device and contexts ---------------------------------------------------------------------

    def describe(self) -> DeviceDescription:
        """The GPU, less what the ABI does not carry yet."""
        attributes = {}
        for number in range(1, _LAST_ATTRIBUTE):
            try:
                attribute = self._driver.CUdevice_attribute(number)
            except ValueError:
                continue
            error, value = self._driver.cuDeviceGetAttribute(attribute, self._ordinal)
            if error == self._success:
                attributes[number] = 0 if number in NOT_CARRIED else int(value)
        attributes |= OWN
        identity = bytes(self._call("cuDeviceGetUuid", self._ordinal).bytes)
        return DeviceDescription(
            name=f"VGPU-STUB {self._device.name()}",
            uuid=device_uuid(identity),
            total_memory=self._device.total_memory(),
            driver_version=int(self._call("cuDriverGetVersion")),
            compute_capability=self._device.compute_capability(),
            attributes=attributes,
        )

    def _new_context(self, flags: int) -> _Context:
        context = _Context(self._ask(self._device.make_context, flags))
        self._pycuda.Context.pop()
        self._contexts.append(context)
        return context

    def context_create(self, flags: int) -> Context:
        """Take the context made ahead, or make one."""
        if self._spare and not flags:
            context, self._spare = self._spare, None
            return context
        return self._new_context(flags)

    def context_destroy(self, context: Context) -> None:
        """Destroy a context; its allocations, modules, streams and events go with it."""
        assert isinstance(context, _Context)
        if context.blas:
            # In a context that a kernel has broken this fails, and the context's end does it.
            with contextlib.suppress(CudaError), self._within(context.context):
                context.blas.close()
            context.blas = None
        for module in context.modules:
            self._forget_variables(module)
        context.modules.clear()
        for device_ptr in context.memory:
            self._ranges.remove(device_ptr)
        context.memory.clear()
        if self._current is context:
            self._leave()
        self._contexts.remove(context)
        self._ask(context.context.detach)

    def context_activate(self, context: Context) -> None:
        """Make a context current."""
        assert isinstance(context, _Context)
        if context is not self._current:
            self._leave()
            self._ask(context.context.push)
            self._current = context

    def _leave(self) -> None:
        if self._current:
            self._current = None
            # In a context that a kernel has broken this fails, after pycuda has let go of it.
            with contextlib.suppress(self._pycuda.Error):
                self._pycuda.Context.pop()

    def _active(self) -> _Context:
        if self._current is None:
            raise CudaError(201, "no context is current")
        return self._current

    def context_synchronize(self) -> Poll:
        """Events on the legacy stream, which waits for all blocking ones, and on the others."""
        streams = self._active().streams
        polls = [self.stream_synchronize(None)]
        polls += [self.stream_synchronize(self._driver.CUstream(handle)) for handle in streams]
        return lambda: all(poll() for poll in polls)

    def context_set_limit(self, limit: int, value: int) -> None:
        """cuCtxSetLimit."""
        self._call("cuCtxSetLimit", self._limit(limit), value)

    def context_get_limit(self, limit: int) -> int:
        """cuCtxGetLimit."""
        return int(self._call("cuCtxGetLimit", self._limit(limit)))

    @property
    def output_bytes(self) -> int:
        """None: CUDA itself prints what kernels print, on this process' standard output."""
        return 0

    def output_read(self, limit: int) -> bytes:
        """Nothing is kept here."""
        return b""

    def _limit(self, limit: int) -> Any:
        try:
            return self._driver.CUlimit(limit)
        except ValueError as error:
            raise CudaError(215, f"limit {limit}") from error

    # -- memory ----------------------------------------------------------------------------------

    def memory_allocate(self, size: int) -> int:
        """cuMemAlloc."""
        context = self._active()
        allocation = self._ask(self._pycuda.mem_alloc, size)
        device_ptr = int(allocation)
        context.memory[device_ptr] = allocation
        self._ranges.add(device_ptr, size)
        return device_ptr

    def memory_free(self, device_ptr: int) -> None:
        """cuMemFree."""
        context = self._active()
        # pycuda only warns when cuMemFree fails, as it does in a context that a kernel has broken.
        self.stream_query(None)
        allocation = context.memory.pop(device_ptr, None)
        if allocation is None:
            raise CudaError(_INVALID_VALUE, f"0x{device_ptr:x} is not the start of an allocation")
        self._ranges.remove(device_ptr)
        self._ask(allocation.free)

    def memory_info(self) -> tuple[int, int]:
        """cuMemGetInfo."""
        self._active()
        free, total = self._ask(self._pycuda.mem_get_info)
        return int(free), int(total)

    def host_register(self, address: int, size: int) -> None:
        """Page-lock guest memory; where that fails copies go through the driver's own buffers."""
        try:
            with self._within(self._base):
                self._call("cuMemHostRegister", address, size, _HOST_REGISTER_PORTABLE)
            self._registered.add(address)
        except CudaError as error:
            _log.warning("%s: copies of this memory are staged by the driver", error)

    def host_unregister(self, address: int) -> None:
        """Undo the page-lock once the copies of all contexts are done.

        cuMemHostUnregister does not wait for them: the device would go on writing to memory that
        the guest has taken back (seen with driver 580.159).
        """
        for context in self._contexts:
            # A context that a kernel has broken says so here, and copies nothing any more.
            with contextlib.suppress(CudaError), self._within(context.context):
                self._call("cuCtxSynchronize")
        if address not in self._registered:
            return  # it could not be locked; graphs copy it all the same
        self._registered.discard(address)
        try:
            with self._within(self._base):
                self._call("cuMemHostUnregister", address)
        except CudaError as error:
            _log.warning("%s: the memory stays page-locked until the worker ends", error)

    @contextlib.contextmanager
    def _within(self, context: Any) -> Iterator[None]:
        """Make a pycuda context current for a while."""
        self._ask(context.push)
        try:
            yield
        finally:
            self._ask(self._pycuda.Context.pop)

    def copy_host_to_device(
        self, device_ptr: int, address: int, size: int, stream: Stream | None
    ) -> None:
        """cuMemcpyHtoDAsync."""
        self._ranges.check(device_ptr, size)
        self._call("cuMemcpyHtoDAsync", device_ptr, address, size, stream or self._null_stream)

    def copy_bytes_to_device(self, device_ptr: int, data: bytes, stream: Stream | None) -> None:
        """cuMemcpyHtoDAsync from pageable memory, which the driver has read when it returns."""
        self._ranges.check(device_ptr, len(data))
        source = ctypes.c_char_p(data)
        address = ctypes.cast(source, ctypes.c_void_p).value
        self._call("cuMemcpyHtoDAsync", device_ptr, address, len(data), stream or self._null_stream)

    def copy_device_to_host(
        self, address: int, device_ptr: int, size: int, stream: Stream | None
    ) -> None:
        """cuMemcpyDtoHAsync."""
        self._ranges.check(device_ptr, size)
        self._call("cuMemcpyDtoHAsync", address, device_ptr, size, stream or self._null_stream)

    def copy_device_to_device(
        self, destination: int, source: int, size: int, stream: Stream | None
    ) -> None:
        """cuMemcpyDtoDAsync."""
        self._ranges.check(destination, size)
        self._ranges.check(source, size)
        self._call("cuMemcpyDtoDAsync", destination, source, size, stream or self._null_stream)

    def copy_2d(self, copy: Copy2D, stream: Stream | None) -> None:
        """cuMemcpy2DAsync."""
        types = self._driver.CUmemorytype
        host, device = types.CU_MEMORYTYPE_HOST, types.CU_MEMORYTYPE_DEVICE
        rectangle = self._driver.CUDA_MEMCPY2D()
        rectangle.WidthInBytes = copy.width
        rectangle.Height = copy.height
        rectangle.srcPitch = copy.source_pitch
        rectangle.dstPitch = copy.destination_pitch
        if copy.source_is_host:
            rectangle.srcMemoryType, rectangle.srcHost = host, copy.source
        else:
            span = (copy.height - 1) * copy.source_pitch + copy.width
            self._ranges.check(copy.source, span)
            rectangle.srcMemoryType, rectangle.srcDevice = device, copy.source
        if copy.destination_is_host:
            rectangle.dstMemoryType, rectangle.dstHost = host, copy.destination
        else:
            span = (copy.height - 1) * copy.destination_pitch + copy.width
            self._ranges.check(copy.destination, span)
            rectangle.dstMemoryType, rectangle.dstDevice = device, copy.destination
        self._call("cuMemcpy2DAsync", rectangle, stream or self._null_stream)

    def memset(
        self, device_ptr: int, value: int, element_bytes: int, count: int, stream: Stream | None
    ) -> None:
        """cuMemsetD8Async, cuMemsetD16Async or cuMemsetD32Async."""
        self._ranges.check(device_ptr, count * element_bytes)
        mask = (1 << 8 * element_bytes) - 1
        name = f"cuMemsetD{8 * element_bytes}Async"
        self._call(name, device_ptr, value & mask, count, stream or self._null_stream)

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
        """cuMemsetD2D8Async, cuMemsetD2D16Async or cuMemsetD2D32Async."""
        if width * element_bytes > pitch:
            raise CudaError(_INVALID_VALUE, f"rows of {width} elements exceed the pitch")
        if not width or not height:
            return
        self._ranges.check(device_ptr, (height - 1) * pitch + width * element_bytes)
        mask = (1 << 8 * element_bytes) - 1
        name = f"cuMemsetD2D{8 * element_bytes}Async"
        target = stream or self._null_stream
        self._call(name, device_ptr, pitch, value & mask, width, height, target)

    # -- modules ---------------------------------------------------------------------------------

    def module_load(self, image: bytes) -> Module:
        """cuModuleLoadDataEx, with the JIT's error log."""
        context = self._active()
        log = bytearray(_LOG_BYTES)
        options = self._driver.CUjit_option
        error, module = self._driver.cuModuleLoadDataEx(
            image + b"\0",
            2,
            [
                options.CU_JIT_ERROR_LOG_BUFFER,
                options.CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
            ],
            [log, _LOG_BYTES],
        )
        if error != self._success:
            raise self._error(error, "cuModuleLoadDataEx", _text(log))
        made = _Module(module)
        context.modules.append(made)
        return made

    def module_link(self, parts: Sequence[LinkPart]) -> bytes:
        """cuLinkCreate to cuLinkComplete, with the linker's error log."""
        self._active()
        log = bytearray(_LOG_BYTES)
        options = self._driver.CUjit_option
        error, state = self._driver.cuLinkCreate(
            2,
            [
                options.CU_JIT_ERROR_LOG_BUFFER,
                options.CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
            ],
            [log, _LOG_BYTES],
        )
        if error != self._success:
            raise self._error(error, "cuLinkCreate")
        kinds = self._driver.CUjitInputType
        try:
            for number, part in enumerate(parts, 1):
                kind = kinds.CU_JIT_INPUT_CUBIN if part.is_cubin else kinds.CU_JIT_INPUT_PTX
                image = part.image if part.is_cubin else part.image + b"\0"
                name = (part.name or f"Input {number}").encode()
                (error,) = self._driver.cuLinkAddData(
                    state, kind, image, len(image), name, 0, [], []
                )
                if error != self._success:
                    raise self._error(error, "cuLinkAddData", _text(log))
            error, address, size = self._driver.cuLinkComplete(state)
            if error != self._success:
                raise self._error(error, "cuLinkComplete", _text(log))
            return ctypes.string_at(address, size)
        finally:
            self._call("cuLinkDestroy", state)

    def module_unload(self, module: Module) -> None:
        """cuModuleUnload."""
        assert isinstance(module, _Module)
        self._active().modules.remove(module)
        self._forget_variables(module)
        self._call("cuModuleUnload", module.handle)

    def _forget_variables(self, module: _Module) -> None:
        for device_ptr in module.variables:
            self._ranges.remove(device_ptr)
        module.variables.clear()

    def module_get_function(self, module: Module, name: str) -> tuple[Function, FunctionInfo]:
        """cuModuleGetFunction and cuFuncGetParamInfo, which says INVALID_VALUE after the last."""
        assert isinstance(module, _Module)
        handle = self._call("cuModuleGetFunction", module.handle, name.encode())
        parameters: list[tuple[int, int]] = []
        while True:
            error, offset, size = self._driver.cuFuncGetParamInfo(handle, len(parameters))
            if error != self._success:
                break
            parameters.append((int(offset), int(size)))
        if int(error) != _INVALID_VALUE:
            raise self._error(error, "cuFuncGetParamInfo")
        values = [self._attribute(handle, number) for number in range(7)]
        info = FunctionInfo(
            max_threads_per_block=values[0],
            shared_bytes=values[1],
            const_bytes=values[2],
            local_bytes=values[3],
            registers=values[4],
            ptx_version=values[5],
            binary_version=values[6],
            max_dynamic_shared_bytes=self._attribute(handle, 8),
            parameters=tuple(parameters),
        )
        end = max((offset + size for offset, size in parameters), default=0)
        return _Function(handle, end, tuple(offset for offset, _ in parameters)), info

    def _attribute(self, handle: Any, number: int) -> int:
        try:
            attribute = self._driver.CUfunction_attribute(number)
        except ValueError as error:
            raise CudaError(_INVALID_VALUE, f"function attribute {number}") from error
        return int(self._call("cuFuncGetAttribute", attribute, handle))

    def module_get_global(self, module: Module, name: str) -> tuple[int, int]:
        """cuModuleGetGlobal."""
        assert isinstance(module, _Module)
        pointer, size = self._call("cuModuleGetGlobal", module.handle, name.encode())
        self._ranges.add(int(pointer), int(size))
        module.variables.add(int(pointer))
        return int(pointer), int(size)

    def function_set_attribute(self, function: Function, attribute: int, value: int) -> None:
        """cuFuncSetAttribute."""
        assert isinstance(function, _Function)
        try:
            named = self._driver.CUfunction_attribute(attribute)
        except ValueError as error:
            raise CudaError(_INVALID_VALUE, f"function attribute {attribute}") from error
        self._call("cuFuncSetAttribute", function.handle, named, value)

    def function_get_attribute(self, function: Function, attribute: int) -> int:
        """cuFuncGetAttribute."""
        assert isinstance(function, _Function)
        return self._attribute(function.handle, attribute)

    def function_occupancy(
        self, function: Function, block_threads: int, shared_bytes: int, flags: int
    ) -> int:
        """cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags."""
        assert isinstance(function, _Function)
        name = "cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags"
        return int(self._call(name, function.handle, block_threads, shared_bytes, flags))

    def function_available_shared(self, function: Function, blocks: int, block_threads: int) -> int:
        """cuOccupancyAvailableDynamicSMemPerBlock."""
        assert isinstance(function, _Function)
        name = "cuOccupancyAvailableDynamicSMemPerBlock"
        return int(self._call(name, function.handle, blocks, block_threads))

    def launch(
        self,
        function: Function,
        grid: Dim3,
        block: Dim3,
        shared_bytes: int,
        stream: Stream | None,
        parameters: bytes,
    ) -> None:
        """cuLaunchKernel with the packed block as `extra`, which the driver copies."""
        # The hottest call of all: what costs a tenth of a microsecond here costs it each launch.
        size = len(parameters)
        if size < function.parameter_bytes or size > _MAX_PARAMETER_BYTES:  # type: ignore[attr-defined]  # always a _Function
            raise CudaError(_INVALID_VALUE, f"{size} bytes of parameters")
        self._parameters[:size] = parameters
        if size != self._size:
            self._parameter_size.value = self._size = size
        grid_x, grid_y, grid_z = grid
        block_x, block_y, block_z = block
        (error,) = self._launch_kernel(
            function.handle,  # type: ignore[attr-defined]  # always a _Function
            grid_x,
            grid_y,
            grid_z,
            block_x,
            block_y,
            block_z,
            shared_bytes,
            stream or self._null_stream,
            0,
            self._extra_address,
        )
        if error:
            raise self._error(error, "cuLaunchKernel")

    def launch_cooperative(
        self,
        function: Function,
        grid: Dim3,
        block: Dim3,
        shared_bytes: int,
        stream: Stream | None,
        parameters: bytes,
    ) -> None:
        """cuLaunchCooperativeKernel, which takes a pointer to each parameter."""
        assert isinstance(function, _Function)
        size = len(parameters)
        if size < function.parameter_bytes or size > _MAX_PARAMETER_BYTES:
            raise CudaError(_INVALID_VALUE, f"{size} bytes of parameters")
        self._parameters[:size] = parameters
        start = self._extra[1] or 0
        places = (ctypes.c_void_p * len(function.offsets))(
            *(start + offset for offset in function.offsets)
        )
        self._call(
            "cuLaunchCooperativeKernel",
            function.handle,
            *grid,
            *block,
            shared_bytes,
            stream or self._null_stream,
            ctypes.addressof(places),
        )

    def blas_prepare(self) -> None:
        """cublasCreate, once for each context."""
        self._blas()

    def _blas(self) -> CudaBlas:
        context = self._active()
        if context.blas is None:
            context.blas = CudaBlas()
        return context.blas

    def blas(self, call: BlasCall, stream: Stream | None) -> None:
        """The routine of cuBLAS."""
        self._blas().run(call, stream)

    # -- streams and events ----------------------------------------------------------------------

    def stream_create(self, flags: int, priority: int) -> Stream:
        """cuStreamCreateWithPriority."""
        streams = self._active().streams
        stream = self._call("cuStreamCreateWithPriority", flags, priority)
        if flags & _STREAM_NON_BLOCKING:
            streams.add(int(stream))
        return stream

    def stream_destroy(self, stream: Stream) -> None:
        """cuStreamDestroy."""
        self._active().streams.discard(int(stream))  # type: ignore[call-overload]  # a CUstream
        self._call("cuStreamDestroy", stream)

    def stream_synchronize(self, stream: Stream | None) -> Poll:
        """An event behind the work queued so far, unless the stream is idle already."""
        target = stream or self._null_stream
        if self.stream_query(target):
            return _done
        context = self._active()
        event = (
            context.events.pop()
            if context.events
            else self._call("cuEventCreate", _EVENT_DISABLE_TIMING)
        )
        self._call("cuEventRecord", event, target)

        def poll() -> bool:
            if not self.event_query(event):
                return False
            context.events.append(event)
            return True

        return _once(poll)

    def stream_query(self, stream: Stream | None) -> bool:
        """cuStreamQuery."""
        (error,) = self._driver.cuStreamQuery(stream or self._null_stream)
        return self._is_ready(error, "cuStreamQuery")

    def stream_wait_event(self, stream: Stream | None, event: Event, flags: int) -> None:
        """cuStreamWaitEvent."""
        self._call("cuStreamWaitEvent", stream or self._null_stream, event, flags)

    def event_create(self, flags: int) -> Event:
        """cuEventCreate."""
        event: Event = self._call("cuEventCreate", flags)
        return event

    def event_destroy(self, event: Event) -> None:
        """cuEventDestroy."""
        self._call("cuEventDestroy", event)

    def event_record(self, event: Event, stream: Stream | None) -> None:
        """cuEventRecord; while a graph is built, a node that records at each launch."""
        builder = self._active().graphs
        flags = _EVENT_RECORD_EXTERNAL if builder and stream is builder.stream else 0
        self._call("cuEventRecordWithFlags", event, stream or self._null_stream, flags)

    def event_query(self, event: Event) -> bool:
        """cuEventQuery."""
        (error,) = self._driver.cuEventQuery(event)
        return self._is_ready(error, "cuEventQuery")

    def event_synchronize(self, event: Event) -> Poll:
        """Polls the event."""
        return lambda: self.event_query(event)

    def event_elapsed_ms(self, start: Event, end: Event) -> float:
        """cuEventElapsedTime."""
        return float(self._call("cuEventElapsedTime", start, end))

    def _is_ready(self, error: Any, name: str) -> bool:
        if error == self._success:
            return True
        if int(error) == _NOT_READY:
            return False
        raise self._error(error, name)

    # -- graphs ----------------------------------------------------------------------------------

    def _builder(self) -> GraphBuilder:
        context = self._active()
        if context.graphs is None:
            context.graphs = GraphBuilder(self._driver, self._call)
        return context.graphs

    def graph_instantiate(self, operations: Sequence[GraphOperation]) -> Graph:
        """Capture and cuGraphInstantiate."""
        return self._builder().instantiate(operations)

    def graph_update(self, graph: Graph, operations: Sequence[GraphOperation]) -> None:
        """Capture and cuGraphExecUpdate."""
        assert isinstance(graph, CudaGraph)
        self._builder().update(graph, operations)

    def graph_launch(self, graph: Graph, stream: Stream | None) -> None:
        """cuGraphLaunch."""
        assert isinstance(graph, CudaGraph)
        self._call("cuGraphLaunch", graph.handle, stream or self._null_stream)

    def graph_upload(self, graph: Graph, stream: Stream | None) -> None:
        """cuGraphUpload."""
        assert isinstance(graph, CudaGraph)
        self._call("cuGraphUpload", graph.handle, stream or self._null_stream)

    def graph_destroy(self, graph: Graph) -> None:
        """cuGraphExecDestroy, which lets a launch that is under way end."""
        assert isinstance(graph, CudaGraph)
        self._call("cuGraphExecDestroy", graph.handle)

    def close(self) -> None:
        """Leave everything to the end of the process, which releases it at once."""
        self._leave()


def _text(log: bytearray) -> str:
    return bytes(log).split(b"\0", 1)[0].decode(errors="replace")


def _done() -> bool:
    return True


def _once(poll: Poll) -> Poll:
    """A poll that is not asked again after it was true."""
    state = [False]

    def ask() -> bool:
        state[0] = state[0] or poll()
        return state[0]

    return ask
