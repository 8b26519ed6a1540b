"""Loaded modules and their functions.

Loading indexes the text and places the module's variables; a function is parsed, checked and
translated when it is asked for, and compiled when it is first launched.
"""

from __future__ import annotations

import ctypes
import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .cfg import Block, build_blocks
from .codegen.kernel import KernelText, generate
from .device_attributes import (
    LOCAL_PER_THREAD,
    MAX_BLOCK,
    MAX_BLOCKS,
    MAX_GRID,
    MAX_THREADS,
    SHARED_PER_BLOCK,
)
from .errors import CudaResult, PtxError, UnsupportedError
from .inline import inline_calls
from .ir import BITS, Body, Parameter, definitions, uses
from .launch import ENTRY_TYPE, PARAMETER_WINDOW, CompiledKernel
from .layout import initial_bytes, lay_out
from .liveness import live_in
from .parser import ModuleSource, index_module, parse_function
from .uniformity import analyze

if TYPE_CHECKING:
    from .gpu import SoftwareGpu

OLDEST_PTX, NEWEST_PTX = (3, 0), (9, 9)


@dataclass(frozen=True, slots=True)
class ParamInfo:
    """Place of a kernel parameter in the parameter buffer, in bytes."""

    offset: int
    size: int


def index_image(image: bytes, capability: tuple[int, int]) -> ModuleSource:
    """Index a PTX image and check that this device may run it.

    Raises:
        PtxError: no PTX, a target beyond `capability`, or an unknown PTX version.
    """
    text = image.rstrip(b"\0")
    if b"\0" in text or not text.strip():
        raise PtxError(CudaResult.INVALID_IMAGE, "the image is not PTX text")
    try:
        source = index_module(text.decode())
    except UnicodeDecodeError:
        raise PtxError(CudaResult.INVALID_IMAGE, "the image is not PTX text") from None
    if not OLDEST_PTX <= source.version <= NEWEST_PTX:
        number = ".".join(map(str, source.version))
        raise PtxError(
            CudaResult.UNSUPPORTED_PTX_VERSION,
            f".version {number} is not between {OLDEST_PTX[0]}.{OLDEST_PTX[1]} and "
            f"{NEWEST_PTX[0]}.{NEWEST_PTX[1]}",
        )
    target = re.match(r"sm_(\d+)(\d)([af]?)$", source.target)
    if not target:
        raise PtxError(CudaResult.INVALID_PTX, f"unknown .target {source.target}")
    wanted = (int(target[1]), int(target[2]))
    if wanted > capability or target[3]:
        raise PtxError(
            CudaResult.NO_BINARY_FOR_GPU,
            f".target {source.target} needs more than this device's compute capability "
            f"{capability[0]}.{capability[1]}",
        )
    return source


class Module:
    """A loaded PTX module; made by `SoftwareGpu.load_module`."""

    def __init__(self, gpu: SoftwareGpu, image: bytes) -> None:
        self._gpu = gpu
        self._source = index_image(image, gpu.compute_capability)
        self._functions: dict[str, Function] = {}
        self._globals: dict[str, int] = {}
        self._place_variables()

    def _place_variables(self) -> None:
        variables = [
            variable
            for variable in self._source.variables.values()
            if variable.space in ("global", "const") and not variable.external and variable.size
        ]
        try:
            for variable in variables:
                self._globals[variable.name] = self._gpu.place_global(
                    variable.size, max(variable.alignment, 16)
                )
            for variable in variables:
                data = initial_bytes(variable, self._globals)
                ctypes.memmove(self._globals[variable.name], data, len(data))
        except UnsupportedError as error:
            self.unload()
            raise PtxError(CudaResult.INVALID_PTX, error.reason) from None
        except MemoryError:
            self.unload()
            raise

    def function_names(self) -> tuple[str, ...]:
        """Names of the kernels, in the order of the text."""
        return tuple(f.name for f in self._source.functions.values() if f.is_entry)

    def get_function(self, name: str) -> Function:
        """A kernel by name, parsed, checked and ready to be launched.

        Raises:
            KeyError: the module has no such kernel.
            PtxError: the kernel uses something that cannot be run; the log names it.
        """
        if name not in self._functions:
            if name not in self._source.functions or not self._source.functions[name].is_entry:
                raise KeyError(name)
            self._functions[name] = self._translate(name)
        return self._functions[name]

    def get_global(self, name: str) -> tuple[int, int]:
        """Device pointer and size in bytes of a module variable; KeyError if there is none."""
        return self._globals[name], self._source.variables[name].size

    def unload(self) -> None:
        """Free the module's variables; its functions must not be used any more."""
        for address in self._globals.values():
            self._gpu.free_global(address)
        self._globals.clear()
        self._functions.clear()

    def _translate(self, name: str) -> Function:
        source = self._source

        def load(callee: str) -> Body | None:
            return parse_function(source, callee) if callee in source.functions else None

        try:
            body = parse_function(source, name)
            inline_calls(body, load)
            blocks = build_blocks(body)
            live = live_in(blocks)
            analysis = analyze(body, blocks, live)
            layout = lay_out(body, source.variables, self._globals)
            self._check_limits(layout.shared_size, layout.local_size, layout.parameter_size)
            text = generate(body, analysis, layout)
        except UnsupportedError as error:
            raise PtxError(CudaResult.INVALID_PTX, self._log(name, error)) from None
        except RecursionError:
            reason = f"{name}: loops or calls are nested too deeply"
            raise PtxError(CudaResult.INVALID_PTX, reason) from None
        registers = register_estimate(body, blocks, live)
        return Function(
            self._gpu, self._source, body, text, layout.shared_size, layout.local_size, registers
        )

    def _check_limits(self, shared: int, local: int, parameters: int) -> None:
        if shared > SHARED_PER_BLOCK:
            raise UnsupportedError(
                f"uses {shared} bytes of shared memory, {SHARED_PER_BLOCK} exist"
            )
        if local > LOCAL_PER_THREAD:
            raise UnsupportedError(f"uses {local} bytes of local memory, {LOCAL_PER_THREAD} exist")
        if parameters > PARAMETER_WINDOW:
            raise UnsupportedError(f"takes {parameters} bytes of parameters")

    def _log(self, name: str, error: UnsupportedError) -> str:
        where = f"line {self._source.line(error.position)}: " if error.position >= 0 else ""
        text = f": {error.text}" if error.text else ""
        return f"{name}: {where}{error.reason}{text}"


def register_estimate(body: Body, blocks: list[Block], live: list[frozenset[str]]) -> int:
    """32-bit registers live at once, at most: what a register allocator cannot go below."""

    def weight(names: set[str]) -> int:
        return sum(-(-BITS[body.registers[name]] // 32) for name in names)

    most = 0
    for block in blocks:
        now: set[str] = set()
        for successor in block.successors:
            now |= live[successor]
        for instruction in reversed(block.instructions):
            now -= set(definitions(instruction))
            now |= set(uses(instruction))
            most = max(most, weight(now))
    return max(1, min(most, 255))


class Function:
    """One kernel; made by `Module.get_function`."""

    def __init__(
        self,
        gpu: SoftwareGpu,
        source: ModuleSource,
        body: Body,
        text: KernelText,
        shared_size: int,
        local_size: int,
        registers: int,
    ) -> None:
        self._gpu = gpu
        self._source = source
        self._text = text
        self._lock = threading.Lock()
        self._compiled: CompiledKernel | None = None
        self._code: object = None
        self.name = body.name
        self.params = tuple(ParamInfo(p.offset, p.size) for p in body.parameters)
        self.param_bytes = _end(body.parameters)
        self.static_shared_bytes = shared_size
        self.local_bytes = local_size
        self.const_bytes = sum(v.size for v in source.variables.values() if v.space == "const")
        self.num_regs = registers
        self.max_threads_per_block = min(body.max_threads or MAX_THREADS, MAX_THREADS)

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
        """Compile the kernel now instead of at its first launch."""
        with self._lock:
            if self._compiled is None:
                try:
                    address, self._code = self._gpu.compiler.compile(
                        self._text.llvm, optimize=not self._text.is_large
                    )
                except RuntimeError as error:
                    raise PtxError(
                        CudaResult.INVALID_PTX, f"{self.name}: types do not fit together: {error}"
                    ) from error
                self._compiled = CompiledKernel(
                    self.name,
                    ENTRY_TYPE(address),
                    self._text.context_size,
                    self.static_shared_bytes,
                    self._describe,
                )
            return self._compiled

    def _describe(self, position: int) -> str:
        text = self._source.text
        statement = text[position : text.find(";", position)]
        return f"PTX line {self._source.line(position)}: {' '.join(statement.split())}"


def _end(parameters: tuple[Parameter, ...]) -> int:
    return max((parameter.offset + parameter.size for parameter in parameters), default=0)
