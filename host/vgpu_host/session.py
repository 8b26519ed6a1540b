"""The commands of one channel: checks what the guest sent and asks the executor for it.

`ChannelSession` has one method for each command of the ABI, named like it (the generated protocol
`ChannelCommands`). Handles and registrations are looked up here, so an executor never sees a number
that the guest made up, except for device pointers, which are the executor's to check.
"""

from __future__ import annotations

import contextlib
import ctypes
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from vgpu_host.decode import decoders
from vgpu_host.executors.base import (
    Context,
    Copy2D,
    CudaError,
    Event,
    Executor,
    Function,
    FunctionInfo,
    Graph,
    GraphOperation,
    Module,
    Stream,
)
from vgpu_host.executors.blas import (
    BlasCall,
    DataType,
    Diagonal,
    Fill,
    Operation,
    Routine,
    Side,
)
from vgpu_host.graphs import ChannelGraph, operation, read_nodes
from vgpu_host.link_parts import read_link_parts
from vgpu_host.registrations import Registration, Registrations
from vgpu_stub.abi import generated as abi

INVALID_VALUE: Final = 1
INVALID_CONTEXT: Final = 201
INVALID_HANDLE: Final = 400
NOT_FOUND: Final = 500
NOT_READY: Final = 600

_MAX_IMAGE_BYTES: Final = 1 << 30
_MAX_GRAPH_BYTES: Final = 1 << 28
_LAUNCHES: Final = frozenset((abi.Opcode.LAUNCH_KERNEL, abi.Opcode.LAUNCH_COOPERATIVE))

T = TypeVar("T")


class _ContextState:
    """What lives in one context of the guest."""

    def __init__(self, handle: int, context: Context) -> None:
        self.handle = handle
        self.context = context
        self.modules: dict[int, Module] = {}
        self.functions: dict[int, Function] = {}
        self.module_functions: dict[int, list[int]] = {}
        self.streams: dict[int, Stream | None] = {abi.STREAM_LEGACY: None}
        self.events: dict[int, Event] = {}
        self.graphs: dict[int, ChannelGraph] = {}


def _find(table: dict[int, T], handle: int, what: str) -> T:
    try:
        return table[handle]
    except KeyError:
        raise CudaError(INVALID_HANDLE, f"there is no {what} {handle}") from None


class ChannelSession:
    """Everything that one guest process has on the device."""

    def __init__(self, executor: Executor, registrations: Registrations) -> None:
        self._executor = executor
        self._registrations = registrations
        self._contexts: dict[int, _ContextState] = {}
        self._active: _ContextState | None = None
        #: Handle of the context that commands now go to, 0 for none.
        self.active_handle = 0
        self._next_handle = abi.STREAM_FIRST
        #: Modules loaded, in all contexts.
        self.modules = 0
        self.bytes_to_device = 0
        self.bytes_to_host = 0
        #: Allocations alive: device pointer to size and context.
        self.memory: dict[int, tuple[int, int]] = {}
        self.memory_bytes = 0
        #: Nodes that graph launches ran, and kernel launches among them.
        self.graph_nodes = 0
        self.graph_kernels = 0
        #: Registrations that the graph that is being built uses.
        self._graph_registrations: dict[int, Registration] | None = None
        #: How commands are taken apart, by opcode.
        self.decoders = decoders(self)

    # -- context of the next command -----------------------------------------------------------

    def activate(self, handle: int) -> None:
        """Make a context current; 0 leaves things as they are for commands that need none.

        Raises:
            CudaError: There is no such context.
        """
        state = self._contexts.get(handle)
        if state is None:
            raise CudaError(INVALID_CONTEXT, f"there is no context {handle}")
        self._executor.context_activate(state.context)
        self._active = state
        self.active_handle = handle

    @property
    def _current(self) -> _ContextState:
        if self._active is None:
            raise CudaError(INVALID_CONTEXT, "the command names no context")
        return self._active

    def _new_handle(self) -> int:
        self._next_handle += 1
        return self._next_handle

    def _host(self, registration: int, offset: int, size: int, access: int) -> int:
        address = self._registrations.resolve(registration, offset, size, access)
        if address is None:
            raise CudaError(
                INVALID_VALUE,
                f"registration {registration} does not grant {size} bytes at offset {offset}",
            )
        if self._graph_registrations is not None:
            self._graph_registrations[registration] = self._registrations.get(registration)
        return address

    def wait_for_stream(self, stream: int) -> Callable[[], bool]:
        """Poll for what COMMAND_WAIT asks: the stream has reached the command."""
        return self._executor.stream_synchronize(_find(self._current.streams, stream, "stream"))

    # -- commands ------------------------------------------------------------------------------

    def nop(self) -> None:
        """NOP."""

    def context_create(self, context_flags: int, reserved: int) -> abi.Results:
        """CONTEXT_CREATE."""
        context = self._executor.context_create(context_flags)
        handle = next(h for h in range(1, 0x10000) if h not in self._contexts)
        self._contexts[handle] = _ContextState(handle, context)
        return (handle,)

    def context_destroy(self) -> None:
        """CONTEXT_DESTROY."""
        state = self._current
        self._active = None
        self.active_handle = 0
        del self._contexts[state.handle]
        self.modules -= len(state.modules)
        self.memory = {p: (n, h) for p, (n, h) in self.memory.items() if h != state.handle}
        self.memory_bytes = sum(size for size, _ in self.memory.values())
        for graph in state.graphs.values():
            # In a context that a kernel has broken there is nothing left to destroy.
            with contextlib.suppress(CudaError):
                self._executor.graph_destroy(graph.graph)
        self._executor.context_destroy(state.context)

    def context_synchronize(self) -> Callable[[], bool]:
        """CONTEXT_SYNCHRONIZE."""
        self._current  # noqa: B018  # refuses a command without a context
        return self._executor.context_synchronize()

    def context_set_limit(self, limit: int, reserved: int, value: int) -> None:
        """CONTEXT_SET_LIMIT."""
        self._executor.context_set_limit(limit, value)

    def context_get_limit(self, limit: int, reserved: int) -> abi.Results:
        """CONTEXT_GET_LIMIT."""
        return (self._executor.context_get_limit(limit),)

    @property
    def output_bytes(self) -> int:
        """Bytes that kernels have printed so far."""
        return self._executor.output_bytes

    def output_read(
        self, reply_offset: int, reply_registration: int, reply_size: int
    ) -> abi.Results:
        """OUTPUT_READ."""
        address = self._host(reply_registration, reply_offset, reply_size, abi.REGISTER_WRITE)
        text = self._executor.output_read(reply_size)
        ctypes.memmove(address, text, len(text))
        return (len(text),)

    def memory_allocate(self, size: int) -> abi.Results:
        """MEMORY_ALLOCATE."""
        handle = self._current.handle
        device_ptr = self._executor.memory_allocate(size)
        self.memory[device_ptr] = (size, handle)
        self.memory_bytes += size
        return (device_ptr,)

    def memory_free(self, device_ptr: int) -> None:
        """MEMORY_FREE."""
        if device_ptr not in self.memory:
            raise CudaError(INVALID_VALUE, f"0x{device_ptr:x} is not the start of an allocation")
        self._executor.memory_free(device_ptr)
        self.memory_bytes -= self.memory.pop(device_ptr)[0]

    def memory_get_info(self) -> abi.Results:
        """MEMORY_GET_INFO."""
        return self._executor.memory_info()

    def copy_host_to_device(
        self, device_ptr: int, offset: int, size: int, registration: int, stream: int
    ) -> None:
        """COPY_HOST_TO_DEVICE."""
        address = self._host(registration, offset, size, abi.REGISTER_READ)
        target = _find(self._current.streams, stream, "stream")
        self._executor.copy_host_to_device(device_ptr, address, size, target)
        self.bytes_to_device += size

    def copy_device_to_host(
        self, device_ptr: int, offset: int, size: int, registration: int, stream: int
    ) -> None:
        """COPY_DEVICE_TO_HOST."""
        address = self._host(registration, offset, size, abi.REGISTER_WRITE)
        target = _find(self._current.streams, stream, "stream")
        self._executor.copy_device_to_host(address, device_ptr, size, target)
        self.bytes_to_host += size

    def copy_device_to_device(
        self, destination: int, source: int, size: int, stream: int, reserved: int
    ) -> None:
        """COPY_DEVICE_TO_DEVICE."""
        target = _find(self._current.streams, stream, "stream")
        self._executor.copy_device_to_device(destination, source, size, target)

    def copy_inline(self, device_ptr: int, stream: int, tail_bytes: int, tail: bytes) -> None:
        """COPY_INLINE."""
        target = _find(self._current.streams, stream, "stream")
        self._executor.copy_bytes_to_device(device_ptr, tail, target)
        self.bytes_to_device += tail_bytes

    def copy_2d(
        self,
        destination: int,
        destination_pitch: int,
        source: int,
        source_pitch: int,
        width: int,
        height: int,
        destination_registration: int,
        source_registration: int,
        stream: int,
        reserved: int,
    ) -> None:
        """COPY_2D."""
        if not width or not height:
            return
        if width > destination_pitch or width > source_pitch:
            raise CudaError(INVALID_VALUE, f"rows of {width} bytes exceed the pitch")
        if destination_registration:
            span = (height - 1) * destination_pitch + width
            destination = self._host(
                destination_registration, destination, span, abi.REGISTER_WRITE
            )
        if source_registration:
            span = (height - 1) * source_pitch + width
            source = self._host(source_registration, source, span, abi.REGISTER_READ)
        copy = Copy2D(
            destination,
            bool(destination_registration),
            destination_pitch,
            source,
            bool(source_registration),
            source_pitch,
            width,
            height,
        )
        self._executor.copy_2d(copy, _find(self._current.streams, stream, "stream"))
        if source_registration and not destination_registration:
            self.bytes_to_device += width * height
        elif destination_registration and not source_registration:
            self.bytes_to_host += width * height

    def memset(
        self,
        device_ptr: int,
        count: int,
        value: int,
        element_bytes: int,
        stream: int,
        reserved: int,
    ) -> None:
        """MEMSET."""
        _check_element(element_bytes)
        target = _find(self._current.streams, stream, "stream")
        self._executor.memset(device_ptr, value, element_bytes, count, target)

    def memset_2d(
        self,
        device_ptr: int,
        pitch: int,
        width: int,
        height: int,
        value: int,
        element_bytes: int,
        stream: int,
        reserved: int,
    ) -> None:
        """MEMSET_2D."""
        _check_element(element_bytes)
        target = _find(self._current.streams, stream, "stream")
        self._executor.memset_2d(device_ptr, pitch, value, element_bytes, width, height, target)

    def module_load(
        self,
        offset: int,
        size: int,
        log_offset: int,
        registration: int,
        log_registration: int,
        log_size: int,
        image_kind: int,
    ) -> abi.Results:
        """MODULE_LOAD."""
        if not 0 < size <= _MAX_IMAGE_BYTES:
            raise CudaError(INVALID_VALUE, f"an image of {size} bytes")
        address = self._host(registration, offset, size, abi.REGISTER_READ)
        log_address = (
            self._host(log_registration, log_offset, log_size, abi.REGISTER_WRITE)
            if log_registration
            else 0
        )
        state = self._current
        image = ctypes.string_at(address, size)
        with _log_to(log_address, log_size):
            module = self._executor.module_load(image)
        handle = self._new_handle()
        state.modules[handle] = module
        state.module_functions[handle] = []
        self.modules += 1
        self.bytes_to_device += size
        return (handle, 0)

    def module_link(
        self,
        offset: int,
        size: int,
        image_offset: int,
        image_room: int,
        log_offset: int,
        registration: int,
        log_size: int,
    ) -> abi.Results:
        """MODULE_LINK."""
        if size > _MAX_IMAGE_BYTES:
            raise CudaError(INVALID_VALUE, f"parts of {size} bytes")
        address = self._host(registration, offset, size, abi.REGISTER_READ)
        image_address = self._host(registration, image_offset, image_room, abi.REGISTER_WRITE)
        log_address = self._host(registration, log_offset, log_size, abi.REGISTER_WRITE)
        parts = read_link_parts(ctypes.string_at(address, size))
        with _log_to(log_address, log_size):
            image = self._executor.module_link(parts)
        if len(image) <= image_room:
            ctypes.memmove(image_address, image, len(image))
        return (len(image),)

    def module_unload(self, module: int, reserved: int) -> None:
        """MODULE_UNLOAD."""
        state = self._current
        found = _find(state.modules, module, "module")
        self._executor.module_unload(found)
        del state.modules[module]
        self.modules -= 1
        for function in state.module_functions.pop(module):
            del state.functions[function]

    def module_get_function(
        self,
        reply_offset: int,
        reply_registration: int,
        reply_size: int,
        module: int,
        tail_bytes: int,
        tail: bytes,
    ) -> abi.Results:
        """MODULE_GET_FUNCTION."""
        state = self._current
        found = _find(state.modules, module, "module")
        address = self._host(reply_registration, reply_offset, reply_size, abi.REGISTER_WRITE)
        function, info = self._executor.module_get_function(found, _name(tail))
        reply = _pack_function_info(info)
        if len(reply) > reply_size:
            raise CudaError(INVALID_VALUE, f"the reply needs {len(reply)} bytes, got {reply_size}")
        ctypes.memmove(address, reply, len(reply))
        handle = self._new_handle()
        state.functions[handle] = function
        state.module_functions[module].append(handle)
        return (handle, len(reply))

    def module_get_global(self, module: int, tail_bytes: int, tail: bytes) -> abi.Results:
        """MODULE_GET_GLOBAL."""
        found = _find(self._current.modules, module, "module")
        return self._executor.module_get_global(found, _name(tail))

    def function_set_attribute(
        self, function: int, attribute: int, value: int, reserved: int
    ) -> None:
        """FUNCTION_SET_ATTRIBUTE."""
        found = _find(self._current.functions, function, "function")
        self._executor.function_set_attribute(found, attribute, value)

    def function_get_attribute(self, function: int, attribute: int) -> abi.Results:
        """FUNCTION_GET_ATTRIBUTE."""
        found = _find(self._current.functions, function, "function")
        return (self._executor.function_get_attribute(found, attribute) & 0xFFFF_FFFF,)

    def function_occupancy(
        self,
        shared_bytes: int,
        function: int,
        block_threads: int,
        occupancy_flags: int,
        reserved: int,
    ) -> abi.Results:
        """FUNCTION_OCCUPANCY."""
        found = _find(self._current.functions, function, "function")
        return (
            self._executor.function_occupancy(found, block_threads, shared_bytes, occupancy_flags),
        )

    def function_available_shared(
        self, function: int, blocks: int, block_threads: int, reserved: int
    ) -> abi.Results:
        """FUNCTION_AVAILABLE_SHARED."""
        found = _find(self._current.functions, function, "function")
        return (self._executor.function_available_shared(found, blocks, block_threads),)

    def launch_kernel(
        self,
        function: int,
        grid_0: int,
        grid_1: int,
        grid_2: int,
        block_0: int,
        block_1: int,
        block_2: int,
        shared_bytes: int,
        stream: int,
        tail_bytes: int,
        tail: bytes,
    ) -> None:
        """LAUNCH_KERNEL."""
        # The hottest command: two dictionary look-ups and one call.
        state = self._active
        if state is None:
            raise CudaError(INVALID_CONTEXT, "the command names no context")
        try:
            found = state.functions[function]
            target = state.streams[stream]
        except KeyError:
            raise CudaError(
                INVALID_HANDLE, f"there is no function {function} or no stream {stream}"
            ) from None
        self._executor.launch(
            found,
            (grid_0, grid_1, grid_2),
            (block_0, block_1, block_2),
            shared_bytes,
            target,
            tail,
        )

    def launch_cooperative(
        self,
        function: int,
        grid_0: int,
        grid_1: int,
        grid_2: int,
        block_0: int,
        block_1: int,
        block_2: int,
        shared_bytes: int,
        stream: int,
        tail_bytes: int,
        tail: bytes,
    ) -> None:
        """LAUNCH_COOPERATIVE."""
        state = self._current
        self._executor.launch_cooperative(
            _find(state.functions, function, "function"),
            (grid_0, grid_1, grid_2),
            (block_0, block_1, block_2),
            shared_bytes,
            _find(state.streams, stream, "stream"),
            tail,
        )

    def stream_create(self, stream_flags: int, priority: int) -> abi.Results:
        """STREAM_CREATE."""
        state = self._current
        stream = self._executor.stream_create(stream_flags, priority)
        handle = self._new_handle()
        state.streams[handle] = stream
        return (handle,)

    def stream_destroy(self, stream: int, reserved: int) -> None:
        """STREAM_DESTROY."""
        state = self._current
        found = _find(state.streams, stream, "stream")
        if found is None:
            raise CudaError(INVALID_HANDLE, "the default stream cannot be destroyed")
        del state.streams[stream]
        self._executor.stream_destroy(found)

    def stream_synchronize(self, stream: int, reserved: int) -> Callable[[], bool]:
        """STREAM_SYNCHRONIZE."""
        return self.wait_for_stream(stream)

    def stream_query(self, stream: int, reserved: int) -> None:
        """STREAM_QUERY."""
        if not self._executor.stream_query(_find(self._current.streams, stream, "stream")):
            raise CudaError(NOT_READY, "the stream is busy")

    def stream_wait_event(self, stream: int, event: int, wait_flags: int, reserved: int) -> None:
        """STREAM_WAIT_EVENT."""
        target = _find(self._current.streams, stream, "stream")
        found = _find(self._current.events, event, "event")
        self._executor.stream_wait_event(target, found, wait_flags)

    def event_create(self, event_flags: int, reserved: int) -> abi.Results:
        """EVENT_CREATE."""
        state = self._current
        event = self._executor.event_create(event_flags)
        handle = self._new_handle()
        state.events[handle] = event
        return (handle,)

    def event_destroy(self, event: int, reserved: int) -> None:
        """EVENT_DESTROY."""
        state = self._current
        found = _find(state.events, event, "event")
        del state.events[event]
        self._executor.event_destroy(found)

    def event_record(self, event: int, stream: int) -> None:
        """EVENT_RECORD."""
        found = _find(self._current.events, event, "event")
        self._executor.event_record(found, _find(self._current.streams, stream, "stream"))

    def event_query(self, event: int, reserved: int) -> None:
        """EVENT_QUERY."""
        if not self._executor.event_query(_find(self._current.events, event, "event")):
            raise CudaError(NOT_READY, "the event has not happened")

    def event_synchronize(self, event: int, reserved: int) -> Callable[[], bool]:
        """EVENT_SYNCHRONIZE."""
        return self._executor.event_synchronize(_find(self._current.events, event, "event"))

    def event_elapsed_time(self, start: int, end: int) -> abi.Results:
        """EVENT_ELAPSED_TIME."""
        events = self._current.events
        elapsed = self._executor.event_elapsed_ms(
            _find(events, start, "event"), _find(events, end, "event")
        )
        return (int.from_bytes(struct.pack("<f", elapsed), "little"),)

    def graph_instantiate(
        self, offset: int, size: int, registration: int, nodes: int
    ) -> abi.Results:
        """GRAPH_INSTANTIATE."""
        state = self._current
        made = self._build_graph(
            offset, size, registration, nodes, self._executor.graph_instantiate
        )
        handle = self._new_handle()
        state.graphs[handle] = made
        return (handle,)

    def graph_update(
        self, offset: int, size: int, registration: int, nodes: int, graph: int, reserved: int
    ) -> None:
        """GRAPH_UPDATE."""
        graphs = self._current.graphs
        updated = _find(graphs, graph, "graph").graph

        def build(operations: Sequence[GraphOperation]) -> Graph:
            self._executor.graph_update(updated, operations)
            return updated

        graphs[graph] = self._build_graph(offset, size, registration, nodes, build)

    def _build_graph(
        self,
        offset: int,
        size: int,
        registration: int,
        nodes: int,
        build: Callable[[Sequence[GraphOperation]], Graph],
    ) -> ChannelGraph:
        if size > _MAX_GRAPH_BYTES:
            raise CudaError(INVALID_VALUE, f"a graph of {size} bytes")
        address = self._host(registration, offset, size, abi.REGISTER_READ)
        described = read_nodes(ctypes.string_at(address, size), nodes)
        streams = self._current.streams
        handle = self._new_handle()

        def name_stream(stream: Stream) -> int:
            streams[handle] = stream
            return handle

        counted = self.bytes_to_device, self.bytes_to_host
        used = self._graph_registrations = {}
        try:
            graph = build([operation(node, self.decoders, name_stream) for node in described])
            to_device = self.bytes_to_device - counted[0]
            to_host = self.bytes_to_host - counted[1]
        finally:
            # Nothing was copied yet: that is counted at each launch.
            self.bytes_to_device, self.bytes_to_host = counted
            self._graph_registrations = None
            streams.pop(handle, None)
        kernels = sum(node.opcode in _LAUNCHES for node in described)
        return ChannelGraph(graph, nodes, kernels, to_device, to_host, used)

    def graph_launch(self, graph: int, stream: int) -> None:
        """GRAPH_LAUNCH."""
        state = self._current
        found = _find(state.graphs, graph, "graph")
        target = _find(state.streams, stream, "stream")
        for number, registration in found.registrations.items():
            if not self._registrations.holds(number, registration):
                raise CudaError(INVALID_VALUE, f"the graph uses registration {number}, now gone")
        self._executor.graph_launch(found.graph, target)
        self.graph_nodes += found.nodes
        self.graph_kernels += found.kernels
        self.bytes_to_device += found.bytes_to_device
        self.bytes_to_host += found.bytes_to_host

    def graph_upload(self, graph: int, stream: int) -> None:
        """GRAPH_UPLOAD."""
        state = self._current
        found = _find(state.graphs, graph, "graph")
        self._executor.graph_upload(found.graph, _find(state.streams, stream, "stream"))

    def graph_destroy(self, graph: int, reserved: int) -> None:
        """GRAPH_DESTROY."""
        graphs = self._current.graphs
        self._executor.graph_destroy(_find(graphs, graph, "graph").graph)
        del graphs[graph]

    def blas_prepare(self) -> None:
        """BLAS_PREPARE."""
        self._current  # noqa: B018  # refuses a command without a context
        self._executor.blas_prepare()

    def blas(
        self,
        routine: int,
        a_type: int,
        b_type: int,
        c_type: int,
        compute_type: int,
        math_mode: int,
        a_operation: int,
        b_operation: int,
        side: int,
        fill: int,
        diagonal: int,
        blas_flags: int,
        stream: int,
        reserved: int,
        m: int,
        n: int,
        k: int,
        a: int,
        b: int,
        c: int,
        a_step: int,
        b_step: int,
        c_step: int,
        a_stride: int,
        b_stride: int,
        c_stride: int,
        batch: int,
        workspace: int,
        workspace_bytes: int,
        alpha: bytes,
        beta: bytes,
    ) -> None:
        """BLAS."""
        target = _find(self._current.streams, stream, "stream")
        try:
            call = BlasCall(
                Routine(routine),
                DataType(a_type),
                DataType(b_type),
                DataType(c_type),
                compute_type,
                math_mode,
                Operation(a_operation),
                Operation(b_operation),
                Side(side),
                Fill(fill),
                Diagonal(diagonal),
                bool(blas_flags & abi.BLAS_FLAG_DEVICE_SCALARS),
                bool(blas_flags & abi.BLAS_FLAG_POINTER_ARRAYS),
                m,
                n,
                k,
                a,
                b,
                c,
                a_step,
                b_step,
                c_step,
                a_stride,
                b_stride,
                c_stride,
                batch,
                workspace,
                workspace_bytes,
                alpha,
                beta,
            )
        except ValueError as error:
            raise CudaError(INVALID_VALUE, f"BLAS: {error}") from error
        if min(m, n, k, batch) < 0:
            raise CudaError(INVALID_VALUE, f"BLAS: {batch} problems of {m} x {n} x {k}")
        self._executor.blas(call, target)


def _check_element(element_bytes: int) -> None:
    if element_bytes not in (1, 2, 4):
        raise CudaError(INVALID_VALUE, f"elements of {element_bytes} bytes")


def _name(tail: bytes) -> str:
    try:
        return tail.decode()
    except UnicodeDecodeError as error:
        raise CudaError(NOT_FOUND, f"the name is not text: {error}") from error


@contextlib.contextmanager
def _log_to(address: int, size: int) -> Iterator[None]:
    """Write why a compilation failed to memory, or that it did not; address 0 for no memory."""
    log = b""
    try:
        yield
    except CudaError as error:
        log = (error.log or str(error)).encode()[: max(size - 1, 0)]
        raise
    finally:
        if address and size:
            ctypes.memmove(address, log + b"\0", len(log) + 1)


def _pack_function_info(info: FunctionInfo) -> bytes:
    size = max((offset + length for offset, length in info.parameters), default=0)
    head = abi.FUNCTION_INFO.pack(
        info.max_threads_per_block,
        info.shared_bytes,
        info.const_bytes,
        info.local_bytes,
        info.registers,
        info.ptx_version,
        info.binary_version,
        info.max_dynamic_shared_bytes,
        len(info.parameters),
        size,
    )
    return head + b"".join(abi.PARAMETER_INFO.pack(*place) for place in info.parameters)
