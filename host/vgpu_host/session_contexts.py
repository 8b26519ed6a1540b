"""What a channel's commands stand on: contexts, handles, and memory of the guest."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from vgpu_host.decode import Decoder
from vgpu_host.executors.base import Context, CudaError, Event, Executor, Function, Module, Stream
from vgpu_host.graphs import ChannelGraph
from vgpu_host.hooks import MemoryAccess
from vgpu_host.registrations import Registration, Registrations
from vgpu_stub.abi import generated as abi

INVALID_VALUE: Final = 1
INVALID_CONTEXT: Final = 201
INVALID_HANDLE: Final = 400
NOT_FOUND: Final = 500
NOT_READY: Final = 600

T = TypeVar("T")

#: Host address of (registration, offset, size, access), or None when it is not the guest's to use.
Resolve = Callable[[int, int, int, int], int | None]


class ContextState:
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


def find(table: dict[int, T], handle: int, what: str) -> T:
    """What a handle stands for; CudaError if nothing does."""
    try:
        return table[handle]
    except KeyError:
        raise CudaError(INVALID_HANDLE, f"there is no {what} {handle}") from None


class SessionContexts:
    """The part of a session that every other part stands on."""

    #: How commands are taken apart, by opcode.
    decoders: dict[int, Decoder]

    def __init__(self, executor: Executor, registrations: Registrations) -> None:
        self._executor = executor
        self._registrations = registrations
        self._resolve: Resolve = registrations.resolve
        self._contexts: dict[int, ContextState] = {}
        self._active: ContextState | None = None
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
    def _current(self) -> ContextState:
        if self._active is None:
            raise CudaError(INVALID_CONTEXT, "the command names no context")
        return self._active

    def _new_handle(self) -> int:
        self._next_handle += 1
        return self._next_handle

    def _host(self, registration: int, offset: int, size: int, access: int) -> int:
        address = self._resolve(registration, offset, size, access)
        if address is None:
            raise CudaError(
                INVALID_VALUE,
                f"registration {registration} does not grant {size} bytes at offset {offset}",
            )
        if self._graph_registrations is not None:
            self._graph_registrations[registration] = self._registrations.get(registration)
        return address

    def observe_memory(self, observers: Sequence[Callable[[MemoryAccess], int]]) -> None:
        """Have observers see each access to guest memory and name the address to use in its place.

        See `vgpu_host.hooks.Hook.memory`; the observers given replace earlier ones.
        """
        self._resolve = self._registrations.resolve
        for observer in observers:
            self._resolve = self._observed(self._resolve, observer)

    def _observed(self, resolve: Resolve, observer: Callable[[MemoryAccess], int]) -> Resolve:
        def resolved(registration: int, offset: int, size: int, access: int) -> int | None:
            address = resolve(registration, offset, size, access)
            if address is None:
                return None
            in_graph = self._graph_registrations is not None
            return observer(MemoryAccess(registration, offset, size, access, address, in_graph))

        return resolved

    def wait_for_stream(self, stream: int) -> Callable[[], bool]:
        """Poll for what COMMAND_WAIT asks: the stream has reached the command."""
        return self._executor.stream_synchronize(find(self._current.streams, stream, "stream"))

    def context_create(self, context_flags: int, reserved: int) -> abi.Results:
        """CONTEXT_CREATE."""
        context = self._executor.context_create(context_flags)
        handle = next(h for h in range(1, 0x10000) if h not in self._contexts)
        self._contexts[handle] = ContextState(handle, context)
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
