"""The software GPU: memory, modules and launches of one device."""

from __future__ import annotations

import os
from pathlib import Path

from vgpu_host.findings import Report

from .arena import Arena
from .checks.checker import Checker
from .checks.shadow import CheckedArena, shadow_arena
from .counts import CountTable
from .device_attributes import device_attributes
from .jit import Compiler
from .kernel_cache import KernelCache
from .launch import PARAMETER_WINDOW, WORKSPACE, Launcher, scratch_size, shared_window
from .module import Module
from .object_cache import ObjectCache, default_cache_dir
from .output import DeviceOutput
from .translation import Translation


class SoftwareGpu:
    """A CUDA device that compiles PTX for the host processor.

    Device pointers are host addresses within one range; copies are plain memory moves after
    `check_range`.

    Args:
        total_memory: bytes of device memory; only touched pages cost host memory.
        threads: host threads that run blocks; all processors of this process by default.
        cache_dir: where compiled kernels are kept; see `default_cache_dir`.
        translation: what the device is, and how kernels are translated for it.
        watchdog_s: seconds after which a launch ends with `LAUNCH_TIMEOUT`; None for no limit.
        report: told of what the checkers of `translation` find, at the end of the launch.
        counts_dir: where tables of counts are, if `translation` has them counted; without it they
            are in `counts` alone.
        processor: what code is made for; see `Compiler`.
    """

    def __init__(
        self,
        *,
        total_memory: int,
        threads: int | None = None,
        cache_dir: Path | None = None,
        watchdog_s: float | None = None,
        translation: Translation | None = None,
        report: Report | None = None,
        counts_dir: Path | None = None,
        processor: str = "",
    ) -> None:
        self.translation = translation or Translation()
        self._threads = threads or len(os.sched_getaffinity(0))
        self.checker: Checker | None = None
        checks = self.translation.checks
        window = shared_window(self.translation.profile)
        scratch = scratch_size(self._threads, window)
        if "mem" in checks:
            self._arena: Arena = shadow_arena(total_memory, scratch, PARAMETER_WINDOW + WORKSPACE)
        else:
            self._arena = Arena(total_memory, scratch)
        if checks:
            self.checker = Checker(checks, self._arena, report or Report())
        self._counts_dir = counts_dir
        #: What kernels executed, if it is counted.
        self.counts: list[CountTable] = []
        self._globals: set[int] = set()
        self.compiler = Compiler(processor)
        store = ObjectCache(cache_dir or default_cache_dir())
        self.cache = KernelCache(store, self.compiler.processor)
        self.output = DeviceOutput(self._arena.contains)
        self.launcher = Launcher(
            self._arena, self._threads, window, watchdog_s, self.output, self.checker
        )

    @property
    def compute_capability(self) -> tuple[int, int]:
        """Major and minor compute capability."""
        return self.translation.profile.capability

    @property
    def total_memory(self) -> int:
        """Bytes of device memory."""
        return self._arena.size

    @property
    def free_memory(self) -> int:
        """Bytes that are not allocated."""
        return self._arena.size - self._arena.used

    def attributes(self) -> dict[int, int]:
        """Device attributes by `CUdevice_attribute` number; what is absent is 0."""
        return device_attributes(self.translation.profile, self.launcher.host_threads)

    def alloc(self, size: int, alignment: int = 512) -> int:
        """Allocate device memory; MemoryError when no range is large enough."""
        return self._arena.allocate(size, alignment)

    def free(self, ptr: int) -> None:
        """Free an allocation; KeyError when `ptr` is not the start of one."""
        if ptr in self._globals:
            raise KeyError(ptr)
        self._arena.release(ptr)

    def place_global(self, size: int, alignment: int) -> int:
        """Allocate a module variable, which `free` does not accept."""
        address = self._arena.allocate(size, alignment)
        self._globals.add(address)
        return address

    def free_global(self, address: int) -> None:
        """Free a module variable."""
        self._globals.remove(address)
        self._arena.release(address)

    def check_range(self, ptr: int, size: int) -> None:
        """Check that a range lies within one live allocation or module variable.

        Raises:
            DeviceFault: with `INVALID_VALUE`.
        """
        self._arena.check_range(ptr, size)

    def lend_range(self, ptr: int, size: int) -> None:
        """As `check_range`, for memory that a library routine is going to write, or read."""
        self.check_range(ptr, size)
        self.written(ptr, size)

    def written(self, ptr: int, size: int) -> None:
        """Say that a checked range has been written by something else than a kernel."""
        if isinstance(self._arena, CheckedArena):
            self._arena.shadow.written(ptr, size)

    def copied(self, destination: int, source: int, size: int) -> None:
        """Say that a checked range has been copied to another one."""
        if isinstance(self._arena, CheckedArena):
            self._arena.shadow.copied(destination, source, size)

    def count(self, kernel: str, blocks: tuple[str, ...]) -> CountTable | None:
        """A table that counts how often the blocks of a kernel run, if that is asked for."""
        if not self.translation.count:
            return None
        table = CountTable(self._counts_dir, kernel, blocks, self._threads)
        self.counts.append(table)
        return table

    def load_module(self, image: bytes) -> Module:
        """Load PTX text, with or without a trailing NUL.

        Raises:
            PtxError: the text cannot be run on this device; the log names line and reason.
        """
        return Module(self, image)

    def close(self) -> None:
        """End the host threads and unmap the memory."""
        self.launcher.close()
        self._arena.close()
