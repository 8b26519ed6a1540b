"""Modules of the software GPU, the functions in them, and launches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vgpu_host.executors.base import CudaError, Dim3, FunctionInfo, LinkPart, Stream
from vgpu_host.executors.base import Function as FunctionHandle
from vgpu_host.executors.base import Module as ModuleHandle

from .errors import CudaResult, DeviceFault, PtxError, TooManyBlocksError
from .executor_contexts import SoftwareContexts
from .function import Function
from .graph import queued
from .linker import link
from .module import Module
from .profiles import SHARED_PER_BLOCK

_MAX_DYNAMIC_SHARED: Final = 8
_PREFERRED_CARVEOUT: Final = 9
_ELF_MAGIC: Final = b"\x7fELF"


@dataclass
class _Function:
    function: Function
    info: FunctionInfo
    dynamic_shared_limit: int


class SoftwareModules(SoftwareContexts):
    """The part of the executor that loads and launches."""

    def module_load(self, image: bytes) -> ModuleHandle:
        """Load PTX; machine code for a physical GPU cannot run here."""
        context = self._context()
        if image.startswith(_ELF_MAGIC):
            text = "the image is machine code (a cubin); the software GPU runs PTX"
            raise CudaError(CudaResult.NO_BINARY_FOR_GPU, text, text)
        if not image.strip(b"\0 \t\r\n"):
            raise CudaError(CudaResult.INVALID_IMAGE, "the image is empty")
        try:
            module = self._gpu.load_module(image)
        except PtxError as error:
            raise CudaError(error.result, error.log, error.log) from error
        except MemoryError as error:
            raise CudaError(
                CudaResult.OUT_OF_MEMORY, f"variables of the module: {error}"
            ) from error
        context.modules.append(module)
        return module

    def module_link(self, parts: Sequence[LinkPart]) -> bytes:
        """Link PTX texts to one text, which stands for the machine code of a physical GPU."""
        self._context()
        if any(part.image.startswith(_ELF_MAGIC) for part in parts):
            text = "a part is machine code (a cubin); the software GPU runs PTX"
            raise CudaError(CudaResult.NO_BINARY_FOR_GPU, text, text)
        try:
            profile = self._gpu.translation.profile
            return link([(part.name, part.image) for part in parts], profile)
        except PtxError as error:
            raise CudaError(error.result, error.log, error.log) from error

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
            raise CudaError(CudaResult.NOT_FOUND, f"the module has no kernel {name!r}") from error
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
            raise CudaError(CudaResult.NOT_FOUND, f"the module has no variable {name!r}") from error

    def function_set_attribute(self, function: FunctionHandle, attribute: int, value: int) -> None:
        """Set the limit of dynamic shared memory, or the carve-out, which changes nothing here.

        Without this call the limit is what is left of 48 KiB; the profile may allow more.
        """
        assert isinstance(function, _Function)
        self._context()
        if attribute == _MAX_DYNAMIC_SHARED:
            most = function.function.shared_optin
            if not 0 <= value <= most:
                raise CudaError(
                    CudaResult.INVALID_VALUE,
                    f"{value} bytes of dynamic shared memory, {most} exist",
                )
            function.dynamic_shared_limit = value
        elif attribute != _PREFERRED_CARVEOUT:
            raise CudaError(
                CudaResult.INVALID_VALUE, f"function attribute {attribute} cannot be set"
            )

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
            raise CudaError(CudaResult.INVALID_VALUE, f"function attribute {attribute}")
        return values[attribute]

    def function_occupancy(
        self, function: FunctionHandle, block_threads: int, shared_bytes: int, flags: int
    ) -> int:
        """Blocks that a host thread runs in turns in a cooperative launch."""
        assert isinstance(function, _Function)
        self._context()
        if block_threads <= 0:
            raise CudaError(CudaResult.INVALID_VALUE, f"blocks of {block_threads} threads")
        if shared_bytes > function.dynamic_shared_limit:
            return 0
        return function.function.resident_blocks(block_threads, shared_bytes)

    def function_available_shared(
        self, function: FunctionHandle, blocks: int, block_threads: int
    ) -> int:
        """The most with which a host thread still holds so many blocks."""
        assert isinstance(function, _Function)
        self._context()
        found = function.function
        if not 0 < blocks <= found.resident_blocks(block_threads, 0):
            raise CudaError(CudaResult.INVALID_VALUE, f"{blocks} blocks of {block_threads} threads")
        return found.available_shared(blocks)

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
        self._launch(function, grid, block, shared_bytes, stream, parameters, cooperative=False)

    @queued
    def launch_cooperative(
        self,
        function: FunctionHandle,
        grid: Dim3,
        block: Dim3,
        shared_bytes: int,
        stream: Stream | None,
        parameters: bytes,
    ) -> None:
        """Run a kernel whose blocks wait for each other to its end."""
        self._launch(function, grid, block, shared_bytes, stream, parameters, cooperative=True)

    def _launch(
        self,
        function: FunctionHandle,
        grid: Dim3,
        block: Dim3,
        shared_bytes: int,
        stream: Stream | None,
        parameters: bytes,
        *,
        cooperative: bool,
    ) -> None:
        context = self._ready(stream)
        assert isinstance(function, _Function)
        if shared_bytes > function.dynamic_shared_limit:
            raise CudaError(
                CudaResult.INVALID_VALUE, f"{shared_bytes} bytes of dynamic shared memory"
            )
        try:
            function.function.launch(grid, block, shared_bytes, parameters, cooperative)
        except TooManyBlocksError as error:
            raise CudaError(error.result, error.message) from error
        except DeviceFault as fault:
            raise self._end(context, fault) from fault
        except PtxError as error:
            raise CudaError(error.result, error.log, error.log) from error
        except ValueError as error:
            raise CudaError(CudaResult.INVALID_VALUE, str(error)) from error
