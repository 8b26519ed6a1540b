"""The executor over the software GPU.

Everything runs in order, on the thread that calls, before the call returns; so streams are only
names that are checked, and whoever waits has already waited. A fault ends the context, as CUDA has
it: every later call in it repeats the error.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Final

from vgpu_host.executors.base import DeviceDescription, Stream
from vgpu_host.executors.blas import BlasCall
from vgpu_host.findings import Report

from .blas import Blas
from .errors import DeviceFault
from .executor_memory import SoftwareMemory
from .executor_modules import SoftwareModules
from .executor_streams import SoftwareStreams
from .gpu import SoftwareGpu
from .graph import queued
from .translation import Translation

NAME: Final = "VGPU-STUB software GPU"
#: Clients want at least the release that they were built for; 13.0 satisfies those in use.
DRIVER_VERSION: Final = 13000


def _machine_id() -> str:
    try:
        return Path("/etc/machine-id").read_text().strip()
    except OSError:
        return ""


class SoftwareExecutor(SoftwareMemory, SoftwareModules, SoftwareStreams):
    """PTX on the CPU; implements `vgpu_host.executors.base.Executor`."""

    def __init__(
        self,
        *,
        total_memory: int,
        threads: int | None = None,
        watchdog_s: float | None = None,
        cache_dir: Path | None = None,
        translation: Translation | None = None,
        report: Report | None = None,
        counts_dir: Path | None = None,
        processor: str = "",
    ) -> None:
        """Make a software GPU; the arguments are those of `SoftwareGpu`."""
        gpu = SoftwareGpu(
            total_memory=total_memory,
            threads=threads,
            watchdog_s=watchdog_s,
            cache_dir=cache_dir,
            translation=translation,
            report=report,
            counts_dir=counts_dir,
        )
        super().__init__(gpu)
        self._blas = Blas(gpu.lend_range, gpu.total_memory, threads)

    def describe(self) -> DeviceDescription:
        """What the software GPU is."""
        return DeviceDescription(
            name=NAME,
            uuid=uuid.uuid5(uuid.NAMESPACE_OID, NAME + _machine_id()).bytes,
            total_memory=self._gpu.total_memory,
            driver_version=DRIVER_VERSION,
            compute_capability=self._gpu.compute_capability,
            attributes=self._gpu.attributes(),
        )

    def blas_prepare(self) -> None:
        """Set the number of threads."""
        self._context()
        self._blas.prepare()

    @queued
    def blas(self, call: BlasCall, stream: Stream | None) -> None:
        """Run a routine of cuBLAS to its end."""
        context = self._ready(stream)
        try:
            self._blas.run(call)
        except DeviceFault as fault:
            raise self._end(context, fault) from fault

    def close(self) -> None:
        """End the software GPU."""
        self._gpu.close()
