"""Makes kernels of rows of the table and runs them on any executor.

Many rows share a kernel: each thread loads one tuple of operands, computes every row in turn and
stores each result in a field of that row.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from vgpu_host.executors.base import CudaError, Executor

from .rows import WIDTHS, Outcome, Row, judge

BLOCK = 64
ROWS_PER_KERNEL = 24
#: A PTX version that has all that the table uses.
VERSION = "8.3"
_REGISTERS = (
    ".reg .pred %p, %q; .reg .b16 %h<6>; .reg .b32 %r<8>; .reg .b64 %w<4>;"
    ".reg .f32 %f<3>; .reg .f64 %g<3>;"
)


@dataclass(frozen=True)
class Kernel:
    """Rows that share operands and so a kernel.

    Attributes:
        uniform: One thread for each block, so that operands are the same for all of a warp.
        mixed: Flushing instructions stand beside one that does not flush.
    """

    rows: tuple[Row, ...]
    uniform: bool
    mixed: bool

    @property
    def count(self) -> int:
        """How many tuples of operands there are."""
        return len(self.rows[0].operands)

    def text(self, name: str) -> str:
        """The kernel in PTX."""
        types = self.rows[0].types
        lines = [f".visible .entry {name}(.param .u64 inputs, .param .u64 results) {{"]
        lines.append(".reg .b32 %i, %n; .reg .b64 %x, %wide, %out<9>;")
        lines.append("mov.u32 %i, %ctaid.x;")
        if not self.uniform:
            lines.append("mov.u32 %n, %tid.x; mad.lo.u32 %i, %i, " + f"{BLOCK}, %n;")
        lines.append("ld.param.u64 %x, [inputs]; mad.wide.u32 %x, %i, 8, %x;")
        for index, (register, kind) in enumerate(zip("abc", types, strict=False)):
            lines.append(f".reg .{register_type(kind)} %{register};")
            where = f"[%x+{8 * index * self.count}]"
            lines.append(f"ld.global.{register_type(kind)} %{register}, {where};")
        lines.append("ld.param.u64 %x, [results];")
        lines += [f"mad.wide.u32 %out{size}, %i, {size}, %x;" for size in (4, 8)]
        if self.mixed:
            lines.append("{ .reg .f32 %f; mov.f32 %f, 0f00000000; add.f32 %f, %f, %f; }")
        for index, row in enumerate(self.rows):
            result = register_type(row.result)
            lines.append(f"{{ {_REGISTERS} .reg .{result} %d;")
            lines.append(row.text)
            where = f"[%out{field_size(row)}+{8 * index * self.count}]"
            if result == "b16":
                # Halfwords are widened, because they cost the software GPU twice as much to store.
                lines.append(f"cvt.u32.u16 %r7, %d; st.global.b32 {where}, %r7; }}")
            else:
                lines.append(f"st.global.{result} {where}, %d; }}")
        return "\n".join([*lines, "ret; }"])

    def inputs(self) -> bytes:
        """The operands as the kernel reads them: one column of 8-byte fields for each."""
        columns = zip(*self.rows[0].operands, strict=True)
        return b"".join(np.array(column, np.uint64).tobytes() for column in columns)

    def results(self, data: bytes) -> list[list[int]]:
        """What the kernel has written, as bits for each row."""
        answers = []
        for index, row in enumerate(self.rows):
            kind = np.uint32 if field_size(row) == 4 else np.uint64
            column = np.frombuffer(data, kind, self.count, 8 * index * self.count)
            answers.append([int(bits) for bits in column])
        return answers


def field_size(row: Row) -> int:
    """Bytes of a stored result."""
    return max(4, WIDTHS[row.result] // 8)


def register_type(kind: str) -> str:
    """The type by which values of a PTX type are held, loaded and stored."""
    return kind if kind in ("f32", "f64") else f"b{WIDTHS[kind]}"


def kernels(
    rows: Iterable[Row], uniform: bool = False, mixed: bool = False, limit: int = ROWS_PER_KERNEL
) -> list[Kernel]:
    """Group rows that have operands, target and flushing in common."""

    def key(row: Row) -> tuple[str, bool, int]:
        return row.target, row.flushes, id(row.operands)

    result = []
    for _, group in groupby(sorted(rows, key=key), key):
        members = [row for row in group if not (uniform and row.warp)]
        for start in range(0, len(members), limit):
            result.append(Kernel(tuple(members[start : start + limit]), uniform, mixed))
    return result


def module(members: Sequence[Kernel], target: str) -> str:
    """A PTX module with kernels `k0`, `k1` and so on."""
    header = f".version {VERSION}\n.target {target}\n.address_size 64\n"
    return header + "\n".join(kernel.text(f"k{i}") for i, kernel in enumerate(members)) + "\n"


class Machine:
    """An executor with one context and a page-locked buffer, ready to run kernels."""

    def __init__(self, executor: Executor, buffer_bytes: int = 32 << 20) -> None:
        self._executor = executor
        executor.context_activate(executor.context_create(0))
        self._buffer = mmap.mmap(-1, buffer_bytes)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._buffer))
        executor.host_register(self._address, buffer_bytes)
        self._memory = executor.memory_allocate(buffer_bytes)
        self.size = buffer_bytes

    def run(
        self, text: str, launches: Iterable[tuple[str, int, int]], inputs: bytes, output_bytes: int
    ) -> bytes:
        """Run kernels `name(inputs, results)` in turn; the results start as zeros.

        Args:
            text: A PTX module.
            launches: Names of kernels, with how many blocks of how many threads.
            inputs: What the kernels read.
            output_bytes: Size of the results.

        Raises:
            CudaError: The text cannot be translated, or the kernel fails.
        """
        loaded = self._executor.module_load(text.encode())
        try:
            start = self._memory + (len(inputs) + 255 & ~255)
            self._executor.copy_bytes_to_device(self._memory, inputs, None)
            self._executor.memset(start, 0, 1, output_bytes, None)
            parameters = struct.pack("<QQ", self._memory, start)
            for name, blocks, threads in launches:
                function, _ = self._executor.module_get_function(loaded, name)
                grid, block = (blocks, 1, 1), (threads, 1, 1)
                self._executor.launch(function, grid, block, 0, None, parameters)
            self._executor.copy_device_to_host(self._address, start, output_bytes, None)
            done = self._executor.context_synchronize()
            while not done():
                pass
            return self._buffer[:output_bytes]
        finally:
            self._executor.module_unload(loaded)

    def run_kernel(self, kernel: Kernel) -> list[Outcome]:
        """Run a kernel of the table.

        Raises:
            CudaError: As `run`.
        """
        text = module([kernel], kernel.rows[0].target)
        grid, block = (kernel.count, 1) if kernel.uniform else (kernel.count // BLOCK, BLOCK)
        output_bytes = 8 * kernel.count * len(kernel.rows)
        data = self.run(text, [("k0", grid, block)], kernel.inputs(), output_bytes)
        return [
            judge(row, bits) for row, bits in zip(kernel.rows, kernel.results(data), strict=True)
        ]

    def run_rows(
        self, rows: Iterable[Row], uniform: bool = False, mixed: bool = False
    ) -> tuple[list[Outcome], dict[Row, str]]:
        """Run rows; where a kernel cannot be run, each of its rows on its own.

        Returns:
            The outcomes, and why the other rows could not be run.
        """
        outcomes: list[Outcome] = []
        refused: dict[Row, str] = {}
        for kernel in kernels(rows, uniform, mixed):
            try:
                outcomes += self.run_kernel(kernel)
                continue
            except CudaError as error:
                if len(kernel.rows) == 1:
                    refused[kernel.rows[0]] = reason(error)
                    continue
            for single in kernels(kernel.rows, uniform, mixed, 1):
                try:
                    outcomes += self.run_kernel(single)
                except CudaError as error:
                    refused[single.rows[0]] = reason(error)
        return outcomes, refused


def reason(error: CudaError) -> str:
    """Why a module was refused, in a line."""
    lines = [line.strip() for line in error.log.splitlines() if line.strip()]
    return "; ".join(lines[:3]) or str(error)
