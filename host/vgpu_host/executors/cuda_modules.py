"""Modules of a physical GPU, the functions in them, and launches."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from vgpu_host.executors.base import (
    CudaError,
    Dim3,
    Function,
    FunctionInfo,
    LinkPart,
    Module,
    Stream,
)
from vgpu_host.executors.cuda_contexts import CudaContexts, CudaModule

_INVALID_VALUE: Final = 1
_MAX_PARAMETER_BYTES: Final = 32768
_LOG_BYTES: Final = 16384
#: CU_LAUNCH_PARAM_BUFFER_POINTER, CU_LAUNCH_PARAM_BUFFER_SIZE (cuda.h).
_PARAM_BUFFER_POINTER: Final = 1
_PARAM_BUFFER_SIZE: Final = 2


@dataclass
class _Function:
    handle: Any
    parameter_bytes: int
    #: Where each parameter is in the packed block.
    offsets: tuple[int, ...]


class CudaModules(CudaContexts):
    """The part of the executor that loads, links and launches."""

    def __init__(self, ordinal: int = 0) -> None:
        super().__init__(ordinal)
        self._launch_kernel = self._driver.cuLaunchKernel
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
        made = CudaModule(module)
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
        assert isinstance(module, CudaModule)
        self._active().modules.remove(module)
        self._forget_variables(module)
        self._call("cuModuleUnload", module.handle)

    def module_get_function(self, module: Module, name: str) -> tuple[Function, FunctionInfo]:
        """cuModuleGetFunction and cuFuncGetParamInfo, which says INVALID_VALUE after the last."""
        assert isinstance(module, CudaModule)
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
        assert isinstance(module, CudaModule)
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


def _text(log: bytearray) -> str:
    return bytes(log).split(b"\0", 1)[0].decode(errors="replace")
