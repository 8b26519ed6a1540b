"""How often the blocks of a kernel ran, and so its instructions: tables that outlive their process.

Compiled code counts in memory that is mapped from a file, so a worker may be killed at any time.
A file has one kernel: a line of JSON that says what is counted, then launches, then for each host
thread and each block of the flow graph the warps and the threads that ran it.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import struct
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SUFFIX: Final = ".counts"
#: Of one block in one host thread: warps, threads.
BLOCK_SIZE: Final = 16
_ALIGNMENT: Final = 64
_LAUNCHES: Final = struct.Struct("<Q56x")


@dataclass(frozen=True, slots=True)
class KernelCounts:
    """What one kernel executed.

    Attributes:
        kernel: Its name, as in the PTX.
        launches: How often it was launched.
        warps: How often each instruction was executed by a warp.
        threads: The same for the threads of those warps that took part.
    """

    kernel: str
    launches: int
    warps: Counter[str]
    threads: Counter[str]


class CountTable:
    """Counts of one kernel, which compiled code keeps.

    Args:
        folder: Where the table is a file; None for memory of this process alone.
        kernel: The kernel's name.
        blocks: The instructions of each block, blank separated.
        workers: Host threads.
    """

    def __init__(
        self, folder: Path | None, kernel: str, blocks: tuple[str, ...], workers: int
    ) -> None:
        head = json.dumps({"kernel": kernel, "blocks": blocks, "workers": workers})
        head += " " * (-(len(head) + 1) % _ALIGNMENT) + "\n"
        self._start = len(head)
        self._stride = BLOCK_SIZE * len(blocks)
        size = self._start + _LAUNCHES.size + self._stride * workers
        self._memory = _map(folder, size)
        self._memory[: self._start] = head.encode()
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))

    def address(self, worker: int) -> int:
        """Where the counts of a host thread are."""
        return self._address + self._start + _LAUNCHES.size + self._stride * worker

    def launched(self) -> None:
        """Count a launch."""
        (launches,) = _LAUNCHES.unpack_from(self._memory, self._start)
        _LAUNCHES.pack_into(self._memory, self._start, launches + 1)

    def read(self) -> KernelCounts:
        """What was counted so far."""
        return _decode(self._memory[:])


def _map(folder: Path | None, size: int) -> mmap.mmap:
    if folder is None:
        return mmap.mmap(-1, size)
    number = 0
    while True:
        path = folder / f"{os.getpid()}-{number}{SUFFIX}"
        try:
            file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            number += 1
            continue
        try:
            os.ftruncate(file, size)
            return mmap.mmap(file, size)
        finally:
            os.close(file)


def _decode(data: bytes) -> KernelCounts:
    end = data.index(b"\n") + 1
    head = json.loads(data[:end])
    (launches,) = _LAUNCHES.unpack_from(data, end)
    counts = KernelCounts(head["kernel"], launches, Counter(), Counter())
    cells = struct.iter_unpack("<QQ", data[end + _LAUNCHES.size :])
    for _ in range(head["workers"]):
        for block, (warps, threads) in zip(head["blocks"], cells, strict=False):
            for name in block.split():
                counts.warps[name] += warps
                counts.threads[name] += threads
    return counts


def read_counts(folder: Path) -> list[KernelCounts]:
    """What the processes that write to a folder have counted so far, kernel by kernel."""
    tables = (path.read_bytes() for path in sorted(folder.glob(f"*{SUFFIX}")))
    # A process may have been killed before it wrote what it counts.
    return merged(_decode(data) for data in tables if b"\n" in data)


def merged(counts: Iterable[KernelCounts]) -> list[KernelCounts]:
    """One entry for all counts of kernels of one name."""
    kernels: dict[str, KernelCounts] = {}
    for new in counts:
        if known := kernels.get(new.kernel):
            new = KernelCounts(
                new.kernel,
                known.launches + new.launches,
                known.warps + new.warps,
                known.threads + new.threads,
            )
        kernels[new.kernel] = new
    return list(kernels.values())
