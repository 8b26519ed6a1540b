"""Devices for `vgpu_device`: a fresh one for each test, with workers from a pool that they share.

A worker serves one channel and is killed with it, so a test never meets what another one left; what
is shared is only where workers come from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from vgpu_host.executors.options import ExecutorOptions, why_no_gpu
from vgpu_host.pool import WorkerPool
from vgpu_stub.abi import generated as abi
from vgpu_stub.harness.local_device import LocalDevice
from vgpu_stub.pytest_plugin.settings import VgpuSettings

_SPARES: Final = 2


def executor_options(settings: VgpuSettings, threads: int = 0) -> ExecutorOptions:
    """The executor that a test wants.

    Args:
        settings: The test's.
        threads: CPU threads of the software GPU, 0 for one each core.

    Raises:
        ValueError: There is no such executor, or the physical GPU cannot be used.
    """
    if settings.executor not in ("auto", "software", "cuda"):
        raise ValueError(f"executor {settings.executor!r}: choose auto, software or cuda")
    reason = why_no_gpu() if settings.executor != "software" else ""
    if settings.executor == "cuda" and reason:
        raise ValueError(f"the physical GPU cannot be used: {reason}")
    return ExecutorOptions(
        "cuda" if reason is None else "software",
        memory_bytes=settings.gpu_memory << 20,
        threads=threads,
        profile=settings.profile,
    )


class DeviceMaker:
    """Makes devices; keeps the workers' pool as long as tests want the same executor."""

    def __init__(self) -> None:
        self._options: ExecutorOptions | None = None
        self._pool: WorkerPool | None = None

    def workers(self, settings: VgpuSettings) -> WorkerPool:
        """The pool of the executor that a test wants.

        Kernels run on one thread, because tests run side by side.
        """
        options = executor_options(settings, threads=1)
        if self._pool is None or options != self._options:
            self.close()
            self._pool, self._options = WorkerPool(options, _SPARES), options
        return self._pool

    def device(self, settings: VgpuSettings) -> LocalDevice:
        """A device in its power-on state."""
        usual = (abi.PCI_VENDOR_ID, abi.PCI_DEVICE_ID)
        return LocalDevice(self.workers(settings), settings.identity_ids or usual)

    def close(self) -> None:
        """End the pool."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None


class DeviceWitness:
    """Says what a device was like when its test failed."""

    def __init__(self, device: LocalDevice) -> None:
        self._device = device

    def explain(self) -> Mapping[str, str]:
        """State of the device, and what its rings carried last."""
        return {
            "device state": json.dumps(self._device.snapshot(), indent=1),
            "ring trace": "\n".join(str(trace) for trace in self._device.ring_trace()),
        }
