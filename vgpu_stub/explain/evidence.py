"""All that is known about one run of a program: its processes, and how it ended."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from vgpu_stub.explain.activity import Use
from vgpu_stub.explain.elf import exported_symbols
from vgpu_stub.explain.journal import Call, Journal
from vgpu_stub.explain.loader import LinkerLog, LoadError, Wanted

_GPU_LIBRARY: Final = re.compile(
    r"cuda|cublas|cudnn|cufft|curand|cusolver|cusparse|nvrtc|nvjitlink|nccl|cupti", re.IGNORECASE
)
#: What a preloaded object must define to come between a program and its CUDA libraries.
_INTERPOSED: Final = re.compile(r"^(dlopen|dlmopen|dlsym|dlvsym|cu[A-Z]\w+|cuda[A-Z]\w+)$")


def is_gpu_library(path: str) -> bool:
    """Whether a library belongs to CUDA or to a program's use of it, by its name."""
    return bool(_GPU_LIBRARY.search(Path(path).name))


@dataclass
class Process:
    """One process of the program.

    Attributes:
        pid: Process id.
        linker: What the dynamic linker said; None for a child that started no program of its own.
        journal: What our CUDA library wrote; None where it was not loaded.
        uses: What its channels did.
    """

    pid: int
    linker: LinkerLog | None = None
    journal: Journal | None = None
    uses: list[Use] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What it ran, for people."""
        if self.journal and self.journal.program:
            return self.journal.program
        return self.linker.programs[-1] if self.linker and self.linker.programs else "?"

    @property
    def launches(self) -> int:
        """Kernels, graphs and BLAS calls that reached the device."""
        return sum(use.last.launches for use in self.uses)

    @property
    def failure(self) -> Call | None:
        """The first call that failed."""
        return next(iter(self.journal.failures), None) if self.journal else None

    def library(self, stem: str) -> str | None:
        """Path of a loaded library, by the start of its name."""
        path = self.linker.path_of(stem) if self.linker else None
        # A process that changed its user may have lost the linker's file.
        if path is None and self.journal and stem == "libcuda.so":
            return self.journal.library
        return path

    @property
    def load_errors(self) -> list[LoadError]:
        """GPU libraries that were found and could not be used, or what needs them."""
        if not self.linker:
            return []
        users = {wanted.by for wanted in self.linker.wanted if is_gpu_library(wanted.name)}
        return [
            error
            for error in self.linker.errors
            if is_gpu_library(error.path) or error.path in users
        ]

    @property
    def missing_libraries(self) -> list[Wanted]:
        """Libraries that were not found and that the GPU's use needed."""
        if not self.linker:
            return []
        return [
            wanted
            for wanted in self.linker.missing
            if (is_gpu_library(wanted.name) or (not wanted.dynamic and is_gpu_library(wanted.by)))
            and not (wanted.dynamic and self._found_another(wanted.name))
        ]

    def _found_another(self, name: str) -> bool:
        """Programs try several names of one library."""
        return self.library(Path(name).name.partition(".so")[0] + ".so") is not None

    @property
    def interposers(self) -> list[str]:
        """Preloaded objects that define functions of CUDA or of the dynamic linker."""
        preload = self.journal.preload if self.journal else ""
        paths = re.split(r"[ :]+", preload)
        return [
            path
            for path in paths
            if path and any(_INTERPOSED.match(name) for name in exported_symbols(Path(path)))
        ]


@dataclass
class Evidence:
    """One run.

    Attributes:
        command: The program with its arguments.
        status: Its exit status as a shell has it.
        elapsed_s: How long it ran.
        libraries: Folder of our CUDA libraries.
        processes: Those that did anything with GPU libraries, parents first.
        server_log: What the device server and its workers wrote.
        server_ended: Whether the server was gone before the program.
    """

    command: Sequence[str]
    status: int
    elapsed_s: float
    libraries: Path
    processes: list[Process]
    server_log: str = ""
    server_ended: bool = False

    def worker_lines(self, process: Process) -> list[str]:
        """What the workers of a process complained of, without time and name."""
        marks = [f" worker[{use.last.worker_pid}] " for use in process.uses]
        return [
            line.partition(mark)[2].partition(" ")[2]
            for line in self.server_log.splitlines()
            for mark in marks
            if mark in line
        ]

    def is_ours(self, path: str) -> bool:
        """Whether a library is one of ours."""
        return Path(path).resolve().parent == self.libraries.resolve()


def gather(
    linker: dict[int, LinkerLog], journals: dict[int, Journal], uses: Sequence[Use]
) -> list[Process]:
    """Put together what belongs to each process; those that never came near a GPU are left out."""
    pids = sorted({*linker, *journals})
    processes = []
    for pid in pids:
        journal = journals.get(pid)
        log = linker.get(pid)
        if log is None and journal:  # a forked child has its parent's libraries
            log = linker.get(journal.parent)
        own = [use for use in uses if use.last.pid == pid]
        process = Process(pid, log, journal, own)
        near = log and any(is_gpu_library(w.name) for w in log.wanted)
        if journal or own or near:
            processes.append(process)
    return processes
