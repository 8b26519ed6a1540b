"""Contexts of the software GPU: what belongs to one, its limits, and the fault that ends it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from vgpu_host.executors.base import Context, CudaError, Poll, Stream

from .errors import CudaResult, DeviceFault
from .gpu import SoftwareGpu
from .graph import SoftwareStream
from .module import Module

#: CU_CTX_FLAGS_MASK: every flag that cuCtxCreate knows.
_CONTEXT_FLAGS: Final = 0xFF
_PRINTF_FIFO_SIZE: Final = 1
#: CUlimit -> value of a new context: stack size, printf FIFO size, malloc heap size, in bytes.
_LIMITS: Final = {0: 1024, 1: 1 << 20, 2: 8 << 20}


@dataclass
class SoftwareContext:
    """What belongs to a context, and the fault that has ended it."""

    memory: set[int] = field(default_factory=set)
    modules: list[Module] = field(default_factory=list)
    limits: dict[int, int] = field(default_factory=lambda: dict(_LIMITS))
    fault: DeviceFault | None = None
    alive: bool = True


def done() -> bool:
    """Everything has run already."""
    return True


class SoftwareContexts:
    """The part of the executor that every other part stands on: the device and its context."""

    def __init__(self, gpu: SoftwareGpu) -> None:
        self._gpu = gpu
        self._current: SoftwareContext | None = None

    def context_create(self, flags: int) -> Context:
        """Make a context; its flags say how to wait, and nobody waits here."""
        if flags & ~_CONTEXT_FLAGS:
            raise CudaError(CudaResult.INVALID_VALUE, f"context flags {flags:#x}")
        return SoftwareContext()

    def context_destroy(self, context: Context) -> None:
        """Free everything that the context holds."""
        assert isinstance(context, SoftwareContext)
        for module in context.modules:
            module.unload()
        for device_ptr in context.memory:
            self._gpu.free(device_ptr)
        context.alive = False
        if self._current is context:
            self._current = None

    def context_activate(self, context: Context) -> None:
        """Make a context current."""
        assert isinstance(context, SoftwareContext)
        self._current = context

    def _context(self) -> SoftwareContext:
        context = self._current
        if context is None or not context.alive:
            raise CudaError(CudaResult.INVALID_CONTEXT, "no context is current")
        if context.fault:
            # A new exception each time: one that is raised again keeps every earlier traceback.
            raise CudaError(context.fault.result, context.fault.message)
        return context

    def context_synchronize(self) -> Poll:
        """Everything has run already."""
        self._context()
        return done

    def context_set_limit(self, limit: int, value: int) -> None:
        """Remember a limit of those that the device knows."""
        limits = self._context().limits
        if limit not in limits:
            raise CudaError(CudaResult.UNSUPPORTED_LIMIT, f"limit {limit}")
        limits[limit] = value
        if limit == _PRINTF_FIFO_SIZE:
            self._gpu.output.capacity = value

    def context_get_limit(self, limit: int) -> int:
        """Read a limit."""
        limits = self._context().limits
        if limit not in limits:
            raise CudaError(CudaResult.UNSUPPORTED_LIMIT, f"limit {limit}")
        return limits[limit]

    @property
    def output_bytes(self) -> int:
        """What kernels have printed so far."""
        return self._gpu.output.total

    def output_read(self, limit: int) -> bytes:
        """Take what kernels have printed."""
        return self._gpu.output.take(limit)

    def _ready(self, stream: Stream | None) -> SoftwareContext:
        if stream is not None and not (isinstance(stream, SoftwareStream) and stream.alive):
            raise CudaError(CudaResult.INVALID_HANDLE, "the stream is gone")
        return self._context()

    def _end(self, context: SoftwareContext, fault: DeviceFault) -> CudaError:
        """End a context by a fault; the error is what its call returns."""
        context.fault = DeviceFault(fault.result, fault.message)
        return CudaError(fault.result, fault.message)
