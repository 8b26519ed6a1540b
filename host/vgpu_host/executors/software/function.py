"""One kernel of a loaded module: what programs ask of it, its compilation, its launch."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .arena import round_up
from .device_attributes import MAX_BLOCK, MAX_BLOCKS, MAX_GRID, MAX_THREADS
from .errors import CudaResult, TooManyBlocksError
from .ir import WARP_SIZE
from .kernel_cache import KernelCode, KernelDescription
from .launch import (
    ENTRY_TYPE,
    LOCAL_PER_MULTIPROCESSOR,
    PARAMETER_WINDOW,
    SHARED_GRANULARITY,
    CompiledKernel,
)
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
        code: makes its code, for blocks whose first dimension is a multiple of the warp size or
            for any block.
        addresses: of the module variables that `description.globals` names.
        const_bytes: size of the module's constants.
        statement: tells what stands at an offset of the module text.
    """

    def __init__(
        self,
        gpu: SoftwareGpu,
        description: KernelDescription,
        code: Callable[[bool], KernelCode],
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
        self._compiled: dict[bool, CompiledKernel] = {}
        self._linked: list[object] = []
        self.name = description.name
        self.params = tuple(ParamInfo(offset, size) for offset, size in description.parameters)
        self.param_bytes = max((p.offset + p.size for p in self.params), default=0)
        self.static_shared_bytes = description.shared_size
        #: Dynamic shared memory that a block can have at most.
        self.shared_optin = gpu.translation.profile.shared_optin - description.shared_size
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
        cooperative: bool = False,
    ) -> None:
        """Run the kernel to its end.

        Args:
            grid: blocks in x, y, z.
            block: threads of a block in x, y, z.
            shared_bytes: dynamic shared memory per block.
            params: the parameter buffer, laid out as `params` says.
            cooperative: whether all blocks must be under way at a time, because they wait for
                each other.

        Raises:
            ValueError: dimensions, shared memory or parameters that this device cannot launch.
            TooManyBlocksError: a cooperative launch of more blocks than can be under way.
            DeviceFault: the kernel failed; the message names kernel, block, thread and address.
        """
        self._check(grid, block, shared_bytes, params)
        if cooperative:
            self._check_residency(grid, block, shared_bytes)
        in_rows = self._gpu.translation.uses_rows and block[0] % WARP_SIZE == 0
        compiled = self._compiled.get(in_rows) or self._compile(in_rows)
        self._gpu.launcher.run(compiled, grid, block, shared_bytes, params, cooperative)

    def resident_blocks(self, threads: int, shared_bytes: int) -> int:
        """Blocks of a cooperative launch that one host thread can hold; 0 for impossible blocks."""
        if not 0 < threads <= self.max_threads_per_block:
            return 0
        if not 0 <= shared_bytes <= self.shared_optin:
            return 0
        profile = self._gpu.translation.profile
        threads = round_up(threads, WARP_SIZE)
        most = [profile.blocks_per_multiprocessor, profile.threads_per_multiprocessor // threads]
        shared = self._description.shared_frame + shared_bytes + profile.shared_reserved
        if shared:
            each = round_up(shared, SHARED_GRANULARITY)
            most.append(profile.shared_per_multiprocessor // each)
        if self.local_bytes:
            most.append(LOCAL_PER_MULTIPROCESSOR // (threads * self.local_bytes))
        return max(1, min(most))

    def available_shared(self, blocks: int) -> int:
        """Bytes of dynamic shared memory with which a host thread still holds so many blocks."""
        if blocks == 1:
            return self.shared_optin
        profile = self._gpu.translation.profile
        each = profile.shared_per_multiprocessor // blocks
        each = each // SHARED_GRANULARITY * SHARED_GRANULARITY - profile.shared_reserved
        return min(self.shared_optin, max(0, each - self._description.shared_frame))

    def _check_residency(
        self, grid: tuple[int, int, int], block: tuple[int, int, int], shared_bytes: int
    ) -> None:
        processors = self._gpu.launcher.host_threads
        blocks = grid[0] * grid[1] * grid[2]
        most = processors * self.resident_blocks(block[0] * block[1] * block[2], shared_bytes)
        if blocks > most:
            raise TooManyBlocksError(
                CudaResult.COOPERATIVE_LAUNCH_TOO_LARGE,
                f"a cooperative launch of {blocks} blocks: {processors} host threads hold {most}",
            )

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
        if not 0 <= shared_bytes <= self.shared_optin:
            raise ValueError(
                f"{self.static_shared_bytes} + {shared_bytes} bytes of shared memory exceed "
                f"{self.static_shared_bytes + self.shared_optin}"
            )
        if len(params) < self.param_bytes or len(params) > PARAMETER_WINDOW:
            raise ValueError(f"{len(params)} bytes of parameters, {self.param_bytes} expected")

    def compile(self) -> None:
        """Have the code for blocks of whole warps ready now instead of at the first launch.

        Raises:
            PtxError: its types do not fit together.
        """
        self._compile(self._gpu.translation.uses_rows)

    def _compile(self, in_rows: bool) -> CompiledKernel:
        with self._lock:
            if in_rows not in self._compiled:
                code = self._code(in_rows)
                address, linked = self._gpu.compiler.link(code.image)
                self._linked.append(linked)
                checker = self._gpu.checker
                self._compiled[in_rows] = CompiledKernel(
                    self.name,
                    ENTRY_TYPE(address),
                    code.context_size,
                    self._description.shared_frame,
                    self._description.local_size,
                    ctypes.addressof(self._globals),
                    self._statement,
                    checker.watch(self._description) if checker else None,
                    self._gpu.count(self.name, code.blocks),
                )
            return self._compiled[in_rows]
