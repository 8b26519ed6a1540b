"""Commands that load and link modules, and ask of functions and launch them."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from typing import Final

from vgpu_host.executors.base import CudaError, FunctionInfo
from vgpu_host.link_parts import read_link_parts
from vgpu_host.session_contexts import (
    INVALID_CONTEXT,
    INVALID_HANDLE,
    INVALID_VALUE,
    NOT_FOUND,
    SessionContexts,
    find,
)
from vgpu_stub.abi import generated as abi

_MAX_IMAGE_BYTES: Final = 1 << 30


class SessionModules(SessionContexts):
    """The part of a session that has modules and their functions."""

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
        found = find(state.modules, module, "module")
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
        found = find(state.modules, module, "module")
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
        found = find(self._current.modules, module, "module")
        return self._executor.module_get_global(found, _name(tail))

    def function_set_attribute(
        self, function: int, attribute: int, value: int, reserved: int
    ) -> None:
        """FUNCTION_SET_ATTRIBUTE."""
        found = find(self._current.functions, function, "function")
        self._executor.function_set_attribute(found, attribute, value)

    def function_get_attribute(self, function: int, attribute: int) -> abi.Results:
        """FUNCTION_GET_ATTRIBUTE."""
        found = find(self._current.functions, function, "function")
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
        found = find(self._current.functions, function, "function")
        return (
            self._executor.function_occupancy(found, block_threads, shared_bytes, occupancy_flags),
        )

    def function_available_shared(
        self, function: int, blocks: int, block_threads: int, reserved: int
    ) -> abi.Results:
        """FUNCTION_AVAILABLE_SHARED."""
        found = find(self._current.functions, function, "function")
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
            find(state.functions, function, "function"),
            (grid_0, grid_1, grid_2),
            (block_0, block_1, block_2),
            shared_bytes,
            find(state.streams, stream, "stream"),
            tail,
        )


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
