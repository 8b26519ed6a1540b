"""Memory of a physical GPU: allocations, copies, fills, and page-locked memory."""

from __future__ import annotations

import contextlib
import ctypes
import logging
from typing import Final

from vgpu_host.executors.base import Copy2D, CudaError, Stream
from vgpu_host.executors.cuda_streams import CudaStreams

_log = logging.getLogger(__name__)

_INVALID_VALUE: Final = 1
_HOST_REGISTER_PORTABLE: Final = 1


class CudaMemory(CudaStreams):
    """The part of the executor that owns device memory and page-locks the guest's."""

    def memory_allocate(self, size: int) -> int:
        """cuMemAlloc."""
        context = self._active()
        allocation = self._ask(self._pycuda.mem_alloc, size)
        device_ptr = int(allocation)
        context.memory[device_ptr] = allocation
        self._ranges.add(device_ptr, size)
        return device_ptr

    def memory_free(self, device_ptr: int) -> None:
        """cuMemFree."""
        context = self._active()
        # pycuda only warns when cuMemFree fails, as it does in a context that a kernel has broken.
        self.stream_query(None)
        allocation = context.memory.pop(device_ptr, None)
        if allocation is None:
            raise CudaError(_INVALID_VALUE, f"0x{device_ptr:x} is not the start of an allocation")
        self._ranges.remove(device_ptr)
        self._ask(allocation.free)

    def memory_info(self) -> tuple[int, int]:
        """cuMemGetInfo."""
        self._active()
        free, total = self._ask(self._pycuda.mem_get_info)
        return int(free), int(total)

    def host_register(self, address: int, size: int) -> None:
        """Page-lock guest memory; where that fails copies go through the driver's own buffers."""
        try:
            with self._within(self._base):
                self._call("cuMemHostRegister", address, size, _HOST_REGISTER_PORTABLE)
            self._registered.add(address)
        except CudaError as error:
            _log.warning("%s: copies of this memory are staged by the driver", error)

    def host_unregister(self, address: int) -> None:
        """Undo the page-lock once the copies of all contexts are done.

        cuMemHostUnregister does not wait for them: the device would go on writing to memory that
        the guest has taken back (seen with driver 580.159).
        """
        for context in self._contexts:
            # A context that a kernel has broken says so here, and copies nothing any more.
            with contextlib.suppress(CudaError), self._within(context.context):
                self._call("cuCtxSynchronize")
        if address not in self._registered:
            return  # it could not be locked; graphs copy it all the same
        self._registered.discard(address)
        try:
            with self._within(self._base):
                self._call("cuMemHostUnregister", address)
        except CudaError as error:
            _log.warning("%s: the memory stays page-locked until the worker ends", error)

    def copy_host_to_device(
        self, device_ptr: int, address: int, size: int, stream: Stream | None
    ) -> None:
        """cuMemcpyHtoDAsync."""
        self._ranges.check(device_ptr, size)
        self._call("cuMemcpyHtoDAsync", device_ptr, address, size, stream or self._null_stream)

    def copy_bytes_to_device(self, device_ptr: int, data: bytes, stream: Stream | None) -> None:
        """cuMemcpyHtoDAsync from pageable memory, which the driver has read when it returns."""
        self._ranges.check(device_ptr, len(data))
        source = ctypes.c_char_p(data)
        address = ctypes.cast(source, ctypes.c_void_p).value
        self._call("cuMemcpyHtoDAsync", device_ptr, address, len(data), stream or self._null_stream)

    def copy_device_to_host(
        self, address: int, device_ptr: int, size: int, stream: Stream | None
    ) -> None:
        """cuMemcpyDtoHAsync."""
        self._ranges.check(device_ptr, size)
        self._call("cuMemcpyDtoHAsync", address, device_ptr, size, stream or self._null_stream)

    def copy_device_to_device(
        self, destination: int, source: int, size: int, stream: Stream | None
    ) -> None:
        """cuMemcpyDtoDAsync."""
        self._ranges.check(destination, size)
        self._ranges.check(source, size)
        self._call("cuMemcpyDtoDAsync", destination, source, size, stream or self._null_stream)

    def copy_2d(self, copy: Copy2D, stream: Stream | None) -> None:
        """cuMemcpy2DAsync."""
        types = self._driver.CUmemorytype
        host, device = types.CU_MEMORYTYPE_HOST, types.CU_MEMORYTYPE_DEVICE
        rectangle = self._driver.CUDA_MEMCPY2D()
        rectangle.WidthInBytes = copy.width
        rectangle.Height = copy.height
        rectangle.srcPitch = copy.source_pitch
        rectangle.dstPitch = copy.destination_pitch
        if copy.source_is_host:
            rectangle.srcMemoryType, rectangle.srcHost = host, copy.source
        else:
            span = (copy.height - 1) * copy.source_pitch + copy.width
            self._ranges.check(copy.source, span)
            rectangle.srcMemoryType, rectangle.srcDevice = device, copy.source
        if copy.destination_is_host:
            rectangle.dstMemoryType, rectangle.dstHost = host, copy.destination
        else:
            span = (copy.height - 1) * copy.destination_pitch + copy.width
            self._ranges.check(copy.destination, span)
            rectangle.dstMemoryType, rectangle.dstDevice = device, copy.destination
        self._call("cuMemcpy2DAsync", rectangle, stream or self._null_stream)

    def memset(
        self, device_ptr: int, value: int, element_bytes: int, count: int, stream: Stream | None
    ) -> None:
        """cuMemsetD8Async, cuMemsetD16Async or cuMemsetD32Async."""
        self._ranges.check(device_ptr, count * element_bytes)
        mask = (1 << 8 * element_bytes) - 1
        name = f"cuMemsetD{8 * element_bytes}Async"
        self._call(name, device_ptr, value & mask, count, stream or self._null_stream)

    def memset_2d(
        self,
        device_ptr: int,
        pitch: int,
        value: int,
        element_bytes: int,
        width: int,
        height: int,
        stream: Stream | None,
    ) -> None:
        """cuMemsetD2D8Async, cuMemsetD2D16Async or cuMemsetD2D32Async."""
        if width * element_bytes > pitch:
            raise CudaError(_INVALID_VALUE, f"rows of {width} elements exceed the pitch")
        if not width or not height:
            return
        self._ranges.check(device_ptr, (height - 1) * pitch + width * element_bytes)
        mask = (1 << 8 * element_bytes) - 1
        name = f"cuMemsetD2D{8 * element_bytes}Async"
        target = stream or self._null_stream
        self._call(name, device_ptr, pitch, value & mask, width, height, target)
