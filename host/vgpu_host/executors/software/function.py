"""One kernel of a loaded module: what programs ask of it, its compilation, its launch."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .device_attributes import MAX_BLOCK, MAX_BLOCKS, MAX_GRID, MAX_THREADS, SHARED_PER_BLOCK
from .kernel_cache import KernelDescription
from .launch import ENTRY_TYPE, PARAMETER_WINDOW, CompiledKernel
from .statement import Statement

if TYPE_CHECKING:
    from .gpu import SoftwareGpu


@dataclass(frozen=True, slots=True)
class ParamInfo:
    """Place of a kernel parameter in the parameter buffer, in bytes."""

    offset: int
    size: int


class Function:
    """One kernel; made by `Module.get_function`.

    Args:
        gpu: the device.
        description: what is known of the kernel.
        code: its object, or what makes it when it is first launched.
        addresses: of the module variables that `description.globals` names.
        const_bytes: size of the module's constants.
        statement: tells what stands at an offset of the module text.
    """

    def __init__(
        self,
        gpu: SoftwareGpu,
        description: KernelDescription,
        code: bytes | Callable[[], bytes],
        addresses: Sequence[int],
        const_bytes: int,
        statement: Callable[[int], Statement],
    ) -> None:
        self._gpu = gpu
        self._description = description
        self._code = code
        self._statement = statement
        self._globals = (ctypes.c_uint64 * len(addresses))(*addresses)
        self._lock = threading.Lock()
        self._compiled: CompiledKernel | None = None
        self._linked: object = None
        self.name = description.name
        self.params = tuple(ParamInfo(offset, size) for offset, size in description.parameters)
        self.param_bytes = max((p.offset + p.size for p in self.params), default=0)
        self.static_shared_bytes = description.shared_size
        self.local_bytes = description.local_size
        self.const_bytes = const_bytes
        self.num_regs = description.registers
        self.max_threads_per_block = min(description.max_threads or MAX_THREADS, MAX_THREADS)

    def launch(
        self,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        shared_bytes: int,
        params: bytes | memoryview,
    ) -> None:
        """Run the kernel to its end.

        Args:
            grid: blocks in x, y, z.
            block: threads of a block in x, y, z.
            shared_bytes: dynamic shared memory per block.
            params: the parameter buffer, laid out as `params` says.

        Raises:
            ValueError: dimensions, shared memory or parameters that this device cannot launch.
            DeviceFault: the kernel failed; the message names kernel, block, thread and address.
        """
        self._check(grid, block, shared_bytes, params)
        compiled = self._compiled or self.compile()
        self._gpu.launcher.run(compiled, grid, block, shared_bytes, params)

    def _check(
        self,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        shared_bytes: int,
        params: bytes | memoryview,
    ) -> None:
        for size, limit in zip(grid + block, MAX_GRID + MAX_BLOCK, strict=True):
            if not 0 < size <= limit:
                raise ValueError(f"grid {grid} of blocks {block} exceeds {MAX_GRID}, {MAX_BLOCK}")
        if grid[0] * grid[1] * grid[2] > MAX_BLOCKS:
            raise ValueError(f"grid {grid} has more than {MAX_BLOCKS} blocks")
        if block[0] * block[1] * block[2] > self.max_threads_per_block:
            raise ValueError(f"block {block} exceeds {self.max_threads_per_block} threads")
        if not 0 <= shared_bytes <= SHARED_PER_BLOCK - self.static_shared_bytes:
            raise ValueError(
                f"{self.static_shared_bytes} + {shared_bytes} bytes of shared memory exceed "
                f"{SHARED_PER_BLOCK}"
            )
        if len(params) < self.param_bytes or len(params) > PARAMETER_WINDOW:
            raise ValueError(f"{len(params)} bytes of parameters, {self.param_bytes} expected")

    def compile(self) -> CompiledKernel:
        """Have the kernel ready now instead of at its first launch.

        Raises:
            PtxError: its types do not fit together.
        """
        with self._lock:
            if self._compiled is None:
                if not isinstance(self._code, bytes):
                    self._code = self._code()
                address, self._linked = self._gpu.compiler.link(self._code)
                checker = self._gpu.checker
                self._compiled = CompiledKernel(
                    self.name,
                    ENTRY_TYPE(address),
                    self._description.context_size,
                    self._description.shared_frame,
                    ctypes.addressof(self._globals),
                    self._statement,
                    checker.watch(self._description) if checker else None,
                )
            return self._compiled
