"""Contexts of a physical GPU, and how its driver is called."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from vgpu_host.executors.base import Context, CudaError, DeviceDescription
from vgpu_host.executors.cuda_attributes import NOT_CARRIED, OWN
from vgpu_host.executors.cuda_blas import CudaBlas
from vgpu_host.executors.cuda_graphs import GraphBuilder
from vgpu_host.executors.cuda_library import available
from vgpu_host.executors.cuda_ranges import Ranges
from vgpu_host.identity import device_uuid

_LAST_ATTRIBUTE: Final = 160


@dataclass(eq=False)
class CudaContext:
    """What belongs to a context."""

    context: Any
    streams: set[int] = field(default_factory=set)
    events: list[Any] = field(default_factory=list)
    memory: dict[int, Any] = field(default_factory=dict)
    modules: list[CudaModule] = field(default_factory=list)
    blas: CudaBlas | None = None
    graphs: GraphBuilder | None = None


@dataclass(eq=False)
class CudaModule:
    """A loaded module and the addresses of its variables."""

    handle: Any
    variables: set[int] = field(default_factory=set)


class CudaContexts:
    """The part of the executor that every other part stands on: the driver and the contexts."""

    def __init__(self, ordinal: int = 0) -> None:
        """Open GPU number `ordinal`.

        Raises:
            CudaError: It cannot be opened.
        """
        reason = available()
        if reason:
            raise CudaError(100, reason)
        import pycuda.driver  # cannot be imported where there is no driver
        from cuda.bindings import driver

        self._pycuda = pycuda.driver
        self._driver = driver
        self._success = driver.CUresult.CUDA_SUCCESS
        self._pycuda.init()
        self._error_numbers = self._error_table()
        self._device = self._pycuda.Device(ordinal)
        self._ordinal = ordinal
        self._base = self._device.retain_primary_context()
        self._contexts: list[CudaContext] = []
        self._spare: CudaContext | None = self._new_context(0)
        self._current: CudaContext | None = None
        self._ranges = Ranges()
        self._registered: set[int] = set()
        self._null_stream = driver.CUstream(0)

    def _call(self, name: str, *arguments: object) -> Any:
        """Call a function of cuda.bindings; returns its results without the CUresult."""
        error, *results = getattr(self._driver, name)(*arguments)
        if error != self._success:
            raise self._error(error, name)
        if not results:
            return None
        return results[0] if len(results) == 1 else tuple(results)

    def _error(self, error: Any, name: str, log: str = "") -> CudaError:
        _, text = self._driver.cuGetErrorName(error)
        described = text.decode() if text else str(int(error))
        return CudaError(int(error), f"{name}: {described}", log)

    def _error_table(self) -> dict[str, int]:
        """CUresult by the text that pycuda puts into its exceptions."""
        table = {}
        for result in self._driver.CUresult:
            _, text = self._driver.cuGetErrorString(result)
            if text:
                table[text.decode()] = int(result)
        return table

    def _ask(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Call a function of pycuda, whose errors read "function failed: text[ - details]"."""
        try:
            return function(*arguments)
        except self._pycuda.Error as error:
            message = str(error)
            text = message.split(" failed: ", 1)[-1].split(" - ", 1)[0]
            raise CudaError(self._error_numbers.get(text, 999), message) from error

    def describe(self) -> DeviceDescription:
        """The GPU, less what the ABI does not carry yet."""
        attributes = {}
        for number in range(1, _LAST_ATTRIBUTE):
            try:
                attribute = self._driver.CUdevice_attribute(number)
            except ValueError:
                continue
            error, value = self._driver.cuDeviceGetAttribute(attribute, self._ordinal)
            if error == self._success:
                attributes[number] = 0 if number in NOT_CARRIED else int(value)
        attributes |= OWN
        identity = bytes(self._call("cuDeviceGetUuid", self._ordinal).bytes)
        return DeviceDescription(
            name=f"VGPU-STUB {self._device.name()}",
            uuid=device_uuid(identity),
            total_memory=self._device.total_memory(),
            driver_version=int(self._call("cuDriverGetVersion")),
            compute_capability=self._device.compute_capability(),
            attributes=attributes,
        )

    def _new_context(self, flags: int) -> CudaContext:
        context = CudaContext(self._ask(self._device.make_context, flags))
        self._pycuda.Context.pop()
        self._contexts.append(context)
        return context

    def context_create(self, flags: int) -> Context:
        """Take the context made ahead, or make one."""
        if self._spare and not flags:
            context, self._spare = self._spare, None
            return context
        return self._new_context(flags)

    def context_destroy(self, context: Context) -> None:
        """Destroy a context; its allocations, modules, streams and events go with it."""
        assert isinstance(context, CudaContext)
        if context.blas:
            # In a context that a kernel has broken this fails, and the context's end does it.
            with contextlib.suppress(CudaError), self._within(context.context):
                context.blas.close()
            context.blas = None
        for module in context.modules:
            self._forget_variables(module)
        context.modules.clear()
        for device_ptr in context.memory:
            self._ranges.remove(device_ptr)
        context.memory.clear()
        if self._current is context:
            self._leave()
        self._contexts.remove(context)
        self._ask(context.context.detach)

    def context_activate(self, context: Context) -> None:
        """Make a context current."""
        assert isinstance(context, CudaContext)
        if context is not self._current:
            self._leave()
            self._ask(context.context.push)
            self._current = context

    def _leave(self) -> None:
        if self._current:
            self._current = None
            # In a context that a kernel has broken this fails, after pycuda has let go of it.
            with contextlib.suppress(self._pycuda.Error):
                self._pycuda.Context.pop()

    def _active(self) -> CudaContext:
        if self._current is None:
            raise CudaError(201, "no context is current")
        return self._current

    def context_set_limit(self, limit: int, value: int) -> None:
        """cuCtxSetLimit."""
        self._call("cuCtxSetLimit", self._limit(limit), value)

    def context_get_limit(self, limit: int) -> int:
        """cuCtxGetLimit."""
        return int(self._call("cuCtxGetLimit", self._limit(limit)))

    @property
    def output_bytes(self) -> int:
        """None: CUDA itself prints what kernels print, on this process' standard output."""
        return 0

    def output_read(self, limit: int) -> bytes:
        """Nothing is kept here."""
        return b""

    def _limit(self, limit: int) -> Any:
        try:
            return self._driver.CUlimit(limit)
        except ValueError as error:
            raise CudaError(215, f"limit {limit}") from error

    @contextlib.contextmanager
    def _within(self, context: Any) -> Iterator[None]:
        """Make a pycuda context current for a while."""
        self._ask(context.push)
        try:
            yield
        finally:
            self._ask(self._pycuda.Context.pop)

    def _forget_variables(self, module: CudaModule) -> None:
        for device_ptr in module.variables:
            self._ranges.remove(device_ptr)
        module.variables.clear()
