"""Which executor a worker uses, and how; passed to workers as JSON.

The one place that knows every executor. An executor's module is imported only when it is chosen,
because pycuda cannot even be imported where there is no CUDA driver.
"""

from __future__ import annotations

import importlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from vgpu_host.executors.base import Executor
from vgpu_host.findings import Report


@dataclass(frozen=True)
class ExecutorOptions:
    """Options of an executor.

    Attributes:
        name: "software" or "cuda".
        memory_bytes: Device memory of each channel (software).
        threads: CPU threads that run blocks, 0 for one each core (software).
        watchdog_s: Longest run of a kernel in seconds, 0 for no limit (software).
        profile: What the software GPU is: "sm_61", "sm_75", "sm_80" or "sm_90".
        checks: Checkers of the software GPU: "mem", "race", "sync".
        reports: Folder to which workers write what they find and count, "" for none.
        general: Translate kernels in the simple way, to compare with (software).
        count: Count what kernels execute, for the fidelity report (software).
        processor: What host code is made for: "x86-64-v2", "x86-64-v3" or "x86-64-v4", "" for what
            the host has (software).
        ordinal: Number of the physical GPU (cuda).
    """

    name: str = "software"
    memory_bytes: int = 0
    threads: int = 0
    watchdog_s: float = 0.0
    profile: str = "sm_61"
    checks: tuple[str, ...] = ()
    reports: str = ""
    general: bool = False
    count: bool = False
    processor: str = ""
    ordinal: int = 0

    def to_json(self) -> str:
        """For the command line of a worker."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ExecutorOptions:
        """The inverse of `to_json`."""
        values = json.loads(text)
        return cls(**{**values, "checks": tuple(values["checks"])})


def default_memory_bytes() -> int:
    """Default memory of the software GPU: half of the machine's, at most 16 GiB."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(installed // 2, 16 << 30) & ~((2 << 20) - 1)


def why_no_gpu() -> str | None:
    """Why the physical GPU cannot be used here, or None when it can."""
    library = importlib.import_module("vgpu_host.executors.cuda_library")
    reason: str | None = library.available()
    return reason


def make_executor(options: ExecutorOptions) -> Executor:
    """Make the executor that `options` name.

    Raises:
        CudaError: The device cannot be used.
        ValueError: There is no such executor, or no such profile.
    """
    if options.name == "cuda":
        cuda = importlib.import_module("vgpu_host.executors.cuda")
        executor: Executor = cuda.CudaExecutor(options.ordinal)
        return executor
    if options.name == "software":
        software = importlib.import_module("vgpu_host.executors.software.executor")
        profiles = importlib.import_module("vgpu_host.executors.software.profiles")
        translation = importlib.import_module("vgpu_host.executors.software.translation")
        reports = Path(options.reports) if options.reports else None
        made: Executor = software.SoftwareExecutor(
            total_memory=options.memory_bytes or default_memory_bytes(),
            threads=options.threads or None,
            watchdog_s=options.watchdog_s or None,
            translation=translation.Translation(
                profile=profiles.profile_of(options.profile),
                checks=frozenset(options.checks),
                general=options.general,
                count=options.count,
            ),
            report=Report(reports),
            counts_dir=reports,
            processor=options.processor,
        )
        return made
    raise ValueError(f"there is no executor {options.name!r}; choose software or cuda")
