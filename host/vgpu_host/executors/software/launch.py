"""Runs compiled kernels: launch structures, host threads, watchdog, fault reports.

One launch runs at a time. A small one stays on the calling thread; a larger one is shared with a
pool of host threads, each of which claims chunks of blocks in ascending order in compiled code.
"""

from __future__ import annotations

import contextlib
import ctypes
import queue
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .arena import PAGE, Arena, round_up
from .checks.checker import Checker, Watched
from .codegen.state import (
    CONTEXT_ALIGNMENT,
    FAULT_ADDRESS,
    FAULT_ASSERT,
    FAULT_DEADLOCK,
    FAULT_NO_FUNCTION,
    FAULT_STACK,
    FAULT_STOPPED,
    FAULT_TRAP,
    LAUNCH,
    LAUNCH_SIZE,
    WORKER,
    WORKER_SIZE,
)
from .coordinates import coordinates
from .counts import CountTable
from .device_attributes import LOCAL_PER_THREAD, MAX_THREADS
from .errors import CudaResult, DeviceFault
from .ir import WARP_SIZE
from .output import DeviceOutput
from .profiles import SHARED_PER_BLOCK, Profile
from .statement import Statement

PARAMETER_WINDOW = 64 * 1024
#: Room for what a checker puts between the variables in shared memory.
GAP_ROOM = SHARED_PER_BLOCK
#: Memory behind the parameters by which the blocks of a cooperative launch wait for each other.
WORKSPACE = 4096
#: Local memory of the blocks that one host thread has under way.
LOCAL_PER_MULTIPROCESSOR = MAX_THREADS * LOCAL_PER_THREAD
#: Shared memory of the blocks that one host thread holds begins at multiples of this.
SHARED_GRANULARITY = 256
#: A launch with fewer threads than this is not worth waking other host threads for.
PARALLEL_THREADS = 8192

_HEADER = struct.Struct("<QQQqqqIIIIIIIIiiQI")
_FAULT = struct.Struct("<iqqii")

EntryPoint = Callable[[int, int], None]
ENTRY_TYPE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)


def shared_window(profile: Profile) -> int:
    """Bytes for the shared memory of one host thread, with room for gaps behind it."""
    return round_up(profile.shared_optin, PAGE) + GAP_ROOM


def worker_scratch(window: int) -> int:
    """Bytes of scratch of one host thread: shared memory in its window, then local memory."""
    return window + LOCAL_PER_MULTIPROCESSOR


def scratch_size(threads: int, window: int) -> int:
    """Bytes of arena scratch that a launcher with so many host threads needs."""
    return PARAMETER_WINDOW + WORKSPACE + threads * worker_scratch(window)


@dataclass(frozen=True, slots=True)
class CompiledKernel:
    """What a launch needs to know of a kernel."""

    name: str
    entry: EntryPoint
    context_size: int
    shared_size: int
    local_size: int
    #: Address of the table of the addresses of the module variables that it uses.
    globals: int
    statement: Callable[[int], Statement]
    #: What checkers may find in it, if there are any.
    watched: Watched | None = None
    #: How often its blocks ran, if that is counted.
    counts: CountTable | None = None


class _Worker:
    """Memory of one host thread that runs blocks."""

    def __init__(self, index: int, scratch: int, window: int) -> None:
        self.block = ctypes.create_string_buffer(WORKER_SIZE)
        self.address = ctypes.addressof(self.block)
        self._sink = ctypes.create_string_buffer(128)
        self._context: ctypes.Array[ctypes.c_char] | None = None
        self._context_size = 0
        self._resident: ctypes.Array[ctypes.c_char] | None = None
        sink = round_up(ctypes.addressof(self._sink), 64)
        struct.pack_into("<QQQQ", self.block, WORKER["shared"], scratch, scratch + window, 0, sink)
        struct.pack_into("<I", self.block, WORKER["index"], index)

    def reserve(self, size: int) -> None:
        """Have at least `size` bytes of context for suspended warps."""
        if size > self._context_size:
            self._context = ctypes.create_string_buffer(size + CONTEXT_ALIGNMENT)
            self._context_size = size
            address = round_up(ctypes.addressof(self._context), CONTEXT_ALIGNMENT)
            struct.pack_into("<Q", self.block, WORKER["context"], address)

    def hold(self, blocks: range, shared: int, local: int, context: int) -> None:
        """Have a state for each of some blocks of a cooperative launch.

        Each gets a part of this host thread's memory, of as many bytes as the arguments say.
        """
        self._resident = ctypes.create_string_buffer(WORKER_SIZE * len(blocks))
        address = ctypes.addressof(self._resident)
        starts = struct.unpack_from("<QQQ", self.block, WORKER["shared"])
        for number, block in enumerate(blocks):
            at = number * WORKER_SIZE
            ctypes.memmove(address + at, self.address, WORKER_SIZE)
            places = (
                start + number * size
                for start, size in zip(starts, (shared, local, context), strict=True)
            )
            struct.pack_into("<QQQ", self._resident, at + WORKER["shared"], *places)
            struct.pack_into("<q", self._resident, at + WORKER["cta"], block)
        struct.pack_into("<QQ", self.block, WORKER["resident"], address, len(blocks))

    def let_go(self) -> None:
        """Hold no blocks any more."""
        struct.pack_into("<QQ", self.block, WORKER["resident"], 0, 0)
        self._resident = None


class Launcher:
    """Runs kernels of one GPU on `threads` host threads."""

    def __init__(
        self,
        arena: Arena,
        threads: int,
        window: int,
        watchdog_s: float | None,
        output: DeviceOutput,
        checker: Checker | None = None,
    ) -> None:
        self._arena = arena
        self._output = output
        self._launch = ctypes.create_string_buffer(LAUNCH_SIZE)
        self._address = ctypes.addressof(self._launch)
        self._parameters = arena.scratch
        self._workspace = arena.scratch + PARAMETER_WINDOW
        start = self._workspace + WORKSPACE
        self._checker = checker
        self._window = window
        windows = [start + i * worker_scratch(window) for i in range(threads)]
        self._workers = [_Worker(i, place, window) for i, place in enumerate(windows)]
        if checker:
            checker.attach(windows, window)
            if checker.in_turn:
                del self._workers[1:]
        self._lock = threading.Lock()
        self._thread_ids: dict[tuple[int, int, int], np.ndarray[tuple[int], np.dtype[np.int32]]]
        self._thread_ids = {}
        self._jobs: queue.SimpleQueue[tuple[EntryPoint, int] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._pool: list[threading.Thread] = []
        self._launches = 0
        self._watchdog = Watchdog(watchdog_s, self._stop) if watchdog_s else None

    @property
    def host_threads(self) -> int:
        """Host threads that run blocks."""
        return len(self._workers)

    def run(
        self,
        kernel: CompiledKernel,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        shared_bytes: int,
        parameters: bytes | memoryview,
        cooperative: bool = False,
    ) -> None:
        """Run a kernel to its end.

        Of a cooperative launch every block is under way until its end; there must not be more than
        the host threads can hold (see `Function.resident_blocks`).

        Raises:
            DeviceFault: the kernel touched bad memory, trapped, or ran too long.
        """
        with self._lock:
            blocks = grid[0] * grid[1] * grid[2]
            threads = block[0] * block[1] * block[2]
            self._prepare(kernel, grid, block, shared_bytes, blocks, threads)
            ctypes.memmove(self._parameters, bytes(parameters), len(parameters))
            if self._watchdog:
                self._watchdog.start_launch()
            try:
                if cooperative:
                    self._run_cooperative(kernel, blocks, threads, shared_bytes)
                elif blocks == 1 or blocks * threads < PARALLEL_THREADS or len(self._workers) == 1:
                    self._workers[0].reserve(kernel.context_size * MAX_THREADS // WARP_SIZE)
                    kernel.entry(self._address, self._workers[0].address)
                else:
                    self._run_parallel(kernel, blocks)
            finally:
                if self._watchdog:
                    self._watchdog.end_launch()
            fault = _FAULT.unpack_from(self._launch, LAUNCH["fault_code"])
            if kernel.watched and self._checker:
                self._checker.collect(kernel.name, kernel.watched, kernel.statement, grid, block)
            if fault[0]:
                raise self._fault(kernel, grid, block, fault)

    def _prepare(
        self,
        kernel: CompiledKernel,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        shared_bytes: int,
        blocks: int,
        threads: int,
    ) -> None:
        self._launches += 1
        ids = self._thread_ids.get(block)
        if ids is None:
            ids = self._thread_ids[block] = thread_ids(block)
        workers = len(self._workers)
        arena = self._arena
        _HEADER.pack_into(
            self._launch,
            0,
            self._parameters,
            arena.base,
            arena.size + arena.scratch_size,
            0,
            blocks,
            max(1, blocks // (workers * 8)) if workers > 1 else blocks,
            *grid,
            *block,
            threads,
            -(-threads // WARP_SIZE),
            0,
            0,
            ids.ctypes.data,
            kernel.shared_size + shared_bytes,
        )
        _FAULT.pack_into(self._launch, LAUNCH["fault_code"], 0, 0, 0, 0, 0)
        struct.pack_into(
            "<qI4xQQ",
            self._launch,
            LAUNCH["launch_id"],
            self._launches,
            workers,
            self._output.callback,
            kernel.globals,
        )
        self._output.block = block
        if kernel.watched and self._checker:
            self._checker.begin()
            struct.pack_into("<Q", self._launch, LAUNCH["checks"], kernel.watched.address)
        if kernel.counts:
            kernel.counts.launched()
            for index, worker in enumerate(self._workers):
                struct.pack_into("<Q", worker.block, WORKER["counts"], kernel.counts.address(index))

    def _run_parallel(self, kernel: CompiledKernel, blocks: int) -> None:
        self._start_pool()
        helpers = self._workers[1 : min(len(self._workers), blocks)]
        for worker in (self._workers[0], *helpers):
            worker.reserve(kernel.context_size * MAX_THREADS // WARP_SIZE)
        for worker in helpers:
            self._jobs.put((kernel.entry, worker.address))
        kernel.entry(self._address, self._workers[0].address)
        for _ in helpers:
            self._done.get()

    def _start_pool(self) -> None:
        while len(self._pool) < len(self._workers) - 1:
            thread = threading.Thread(target=self._serve, name="vgpu-software", daemon=True)
            thread.start()
            self._pool.append(thread)

    def _run_cooperative(
        self, kernel: CompiledKernel, blocks: int, threads: int, shared_bytes: int
    ) -> None:
        """Give each host thread blocks to hold; a kernel that never waits claims them instead."""
        ctypes.memset(self._workspace, 0, WORKSPACE)
        struct.pack_into("<Q", self._launch, LAUNCH["workspace"], self._workspace)
        warps = -(-threads // WARP_SIZE)
        shared = round_up(kernel.shared_size + shared_bytes, SHARED_GRANULARITY)
        workers = self._workers[: min(len(self._workers), blocks)]
        for first, worker in enumerate(workers):
            held = range(first, blocks, len(workers))
            contexts = max(MAX_THREADS // WARP_SIZE, warps * len(held))
            worker.reserve(contexts * kernel.context_size)
            worker.hold(
                held,
                shared,
                warps * WARP_SIZE * kernel.local_size,
                warps * kernel.context_size,
            )
        try:
            self._run_parallel(kernel, blocks)
        finally:
            struct.pack_into("<Q", self._launch, LAUNCH["workspace"], 0)
            for worker in workers:
                worker.let_go()

    def _serve(self) -> None:
        while job := self._jobs.get():
            entry, worker = job
            entry(self._address, worker)
            self._done.put(None)

    def _stop(self) -> None:
        struct.pack_into("<i", self._launch, LAUNCH["stop"], 1)

    def _fault(
        self,
        kernel: CompiledKernel,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        fault: tuple[int, ...],
    ) -> DeviceFault:
        code, address, cta, thread, position = fault
        where = f"block {coordinates(cta, grid)}, thread {coordinates(thread, block)}"
        message = f"kernel {kernel.name}, {where}"
        if code == FAULT_STOPPED:
            return DeviceFault(
                CudaResult.LAUNCH_TIMEOUT,
                f"kernel {kernel.name} ran longer than the watchdog allows",
            )
        if code == FAULT_DEADLOCK:
            if self._checker:
                self._checker.deadlock(kernel.name, None, coordinates(cta, grid))
            return DeviceFault(
                CudaResult.LAUNCH_TIMEOUT,
                f"kernel {kernel.name}, block {coordinates(cta, grid)}: all threads that have not "
                "ended wait at barriers, for threads that never come",
            )
        statement = kernel.statement(position)
        message = f"{message}, {statement}"
        if code == FAULT_TRAP:
            return DeviceFault(CudaResult.LAUNCH_FAILED, f"{message}: trap")
        if code == FAULT_STACK:
            return DeviceFault(CudaResult.HARDWARE_STACK_ERROR, f"{message}: the stack is full")
        if code == FAULT_NO_FUNCTION:
            return DeviceFault(
                CudaResult.LAUNCH_FAILED,
                f"{message}: a call by a pointer that is to no such function",
            )
        if code == FAULT_ASSERT:
            return DeviceFault(CudaResult.ASSERT, f"{message}: an assertion failed")
        assert code == FAULT_ADDRESS, code
        address &= 0xFFFF_FFFF_FFFF_FFFF
        found = self._address_fault(message, address, statement.text)
        if kernel.watched and self._checker:
            size = access_size(statement.text)
            misaligned = found.result == CudaResult.MISALIGNED_ADDRESS
            thread_at = coordinates(cta, grid), coordinates(thread, block)
            self._checker.fault(
                kernel.name, kernel.watched, statement, address, size, misaligned, thread_at
            )
        return found

    def _address_fault(self, message: str, address: int, instruction: str) -> DeviceFault:
        inside = 0 <= address - self._arena.base < self._arena.size
        shared = ".shared" in instruction and address < self._window
        if (inside or shared) and address % access_size(instruction):
            return DeviceFault(
                CudaResult.MISALIGNED_ADDRESS, f"{message}: misaligned address {address:#x}"
            )
        return DeviceFault(CudaResult.ILLEGAL_ADDRESS, f"{message}: illegal address {address:#x}")

    def close(self) -> None:
        """End the host threads and the watchdog."""
        for _ in self._pool:
            self._jobs.put(None)
        for thread in self._pool:
            thread.join()
        self._pool.clear()
        if self._watchdog:
            self._watchdog.close()


def access_size(instruction: str) -> int:
    """Bytes that one lane of a memory instruction (as PTX text) touches."""
    mnemonic = next(
        (w for w in instruction.split() if w.startswith(("ld", "st", "atom", "red"))), ""
    )
    if "matrix." in mnemonic:
        return 16  # a row
    parts = mnemonic.rstrip(";").split(".")
    digits = "".join(character for character in parts[-1] if character.isdigit())
    element = {"f16x2": 4}.get(parts[-1], int(digits or "8") // 8)
    return element * (4 if "v4" in parts else 2 if "v2" in parts else 1)


def thread_ids(
    block: tuple[int, int, int],
) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """`%tid` of every lane: for each warp 32 x, then 32 y, then 32 z."""
    warps = -(-block[0] * block[1] * block[2] // WARP_SIZE)
    linear = np.arange(warps * WARP_SIZE, dtype=np.int32).reshape(warps, WARP_SIZE)
    axes = (linear % block[0], linear // block[0] % block[1], linear // (block[0] * block[1]))
    return np.ascontiguousarray(np.stack(axes, axis=1)).reshape(-1)


class Watchdog:
    """Calls `stop` when a launch lasts longer than `limit` seconds; costs nothing per launch."""

    def __init__(self, limit: float, stop: Callable[[], None]) -> None:
        self._limit = limit
        self._stop = stop
        self._lock = threading.Lock()
        self._deadline: float | None = None
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def start_launch(self) -> None:
        """A launch begins now."""
        if self._thread is None:
            # Only now: a thread would not be there in a process forked meanwhile.
            self._thread = threading.Thread(target=self._watch, name="vgpu-watchdog", daemon=True)
            self._thread.start()
        with self._lock:
            self._deadline = time.monotonic() + self._limit

    def end_launch(self) -> None:
        """The launch is over."""
        with self._lock:
            self._deadline = None

    def _watch(self) -> None:
        # Any launch that begins while this thread sleeps ends its allowance after it wakes.
        wait = self._limit
        while not self._closed.wait(wait):
            wait = self._limit
            with self._lock:
                if self._deadline is not None:
                    left = self._deadline - time.monotonic()
                    if left <= 0:
                        self._stop()
                    else:
                        wait = left

    def close(self) -> None:
        """End the watching thread."""
        self._closed.set()
        if self._thread is not None:
            with contextlib.suppress(RuntimeError):
                self._thread.join()
