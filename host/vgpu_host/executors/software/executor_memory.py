"""Memory of the software GPU: allocations, copies and fills, all checked before they touch it."""

from __future__ import annotations

import ctypes

from vgpu_host.executors.base import Copy2D, CudaError, Stream

from .errors import CudaResult, DeviceFault
from .executor_contexts import SoftwareContexts
from .graph import queued


class SoftwareMemory(SoftwareContexts):
    """The part of the executor that owns device memory."""

    def memory_allocate(self, size: int) -> int:
        """Allocate from the arena."""
        context = self._context()
        if size == 0:
            raise CudaError(CudaResult.INVALID_VALUE, "an allocation of 0 bytes")
        try:
            device_ptr = self._gpu.alloc(size)
        except MemoryError as error:
            raise CudaError(CudaResult.OUT_OF_MEMORY, f"{size} bytes: {error}") from error
        context.memory.add(device_ptr)
        return device_ptr

    def memory_free(self, device_ptr: int) -> None:
        """Free an allocation of the current context."""
        context = self._context()
        if device_ptr not in context.memory:
            raise CudaError(
                CudaResult.INVALID_VALUE, f"0x{device_ptr:x} is not the start of an allocation"
            )
        context.memory.remove(device_ptr)
        self._gpu.free(device_ptr)

    def memory_info(self) -> tuple[int, int]:
        """Free and total bytes."""
        self._context()
        return self._gpu.free_memory, self._gpu.total_memory

    def host_register(self, address: int, size: int) -> None:
        """Nothing to gain: copies are memory moves."""

    def host_unregister(self, address: int) -> None:
        """Nothing was done."""

    def _check(self, device_ptr: int, size: int) -> None:
        if not size:
            return  # nothing is touched: CUDA accepts any pointer
        try:
            self._gpu.check_range(device_ptr, size)
        except DeviceFault as fault:
            raise CudaError(fault.result, fault.message) from fault

    @queued
    def copy_host_to_device(
        self, device_ptr: int, address: int, size: int, stream: Stream | None
    ) -> None:
        """Copy from guest memory."""
        self._ready(stream)
        self._check(device_ptr, size)
        ctypes.memmove(device_ptr, address, size)
        self._gpu.written(device_ptr, size)

    @queued
    def copy_bytes_to_device(self, device_ptr: int, data: bytes, stream: Stream | None) -> None:
        """Copy from a command."""
        self._ready(stream)
        self._check(device_ptr, len(data))
        ctypes.memmove(device_ptr, data, len(data))
        self._gpu.written(device_ptr, len(data))

    @queued
    def copy_device_to_host(
        self, address: int, device_ptr: int, size: int, stream: Stream | None
    ) -> None:
        """Copy to guest memory."""
        self._ready(stream)
        self._check(device_ptr, size)
        ctypes.memmove(address, device_ptr, size)

    @queued
    def copy_device_to_device(
        self, destination: int, source: int, size: int, stream: Stream | None
    ) -> None:
        """Copy within device memory; the ranges may overlap."""
        self._ready(stream)
        self._check(destination, size)
        self._check(source, size)
        ctypes.memmove(destination, source, size)
        self._gpu.copied(destination, source, size)

    @queued
    def copy_2d(self, copy: Copy2D, stream: Stream | None) -> None:
        """Copy row by row."""
        self._ready(stream)
        pitch = min(copy.destination_pitch, copy.source_pitch)
        if copy.height > 1 and copy.width > pitch:
            raise CudaError(
                CudaResult.INVALID_VALUE, f"rows of {copy.width} bytes exceed a pitch of {pitch}"
            )
        if not copy.destination_is_host:
            self._check_rows(copy.destination, copy.destination_pitch, copy.width, copy.height)
        if not copy.source_is_host:
            self._check_rows(copy.source, copy.source_pitch, copy.width, copy.height)
        for row in range(copy.height):
            destination = copy.destination + row * copy.destination_pitch
            source = copy.source + row * copy.source_pitch
            ctypes.memmove(destination, source, copy.width)
            if copy.destination_is_host:
                continue
            if copy.source_is_host:
                self._gpu.written(destination, copy.width)
            else:
                self._gpu.copied(destination, source, copy.width)

    def _check_rows(self, device_ptr: int, pitch: int, width: int, height: int) -> None:
        if width and height:
            self._check(device_ptr, (height - 1) * pitch + width)

    @queued
    def memset(
        self, device_ptr: int, value: int, element_bytes: int, count: int, stream: Stream | None
    ) -> None:
        """Fill device memory."""
        self._ready(stream)
        size = count * element_bytes
        self._check_aligned(device_ptr, element_bytes)
        self._check(device_ptr, size)
        _fill(device_ptr, value, element_bytes, size)
        self._gpu.written(device_ptr, size)

    @queued
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
        """Fill row by row."""
        self._ready(stream)
        row_bytes = width * element_bytes
        if row_bytes > pitch:
            raise CudaError(
                CudaResult.INVALID_VALUE, f"rows of {row_bytes} bytes exceed a pitch of {pitch}"
            )
        self._check_aligned(device_ptr | pitch, element_bytes)
        self._check_rows(device_ptr, pitch, row_bytes, height)
        for row in range(height):
            _fill(device_ptr + row * pitch, value, element_bytes, row_bytes)
            self._gpu.written(device_ptr + row * pitch, row_bytes)

    def _check_aligned(self, device_ptr: int, element_bytes: int) -> None:
        if device_ptr % element_bytes:
            raise CudaError(
                CudaResult.INVALID_VALUE,
                f"0x{device_ptr:x} is not aligned to {element_bytes} bytes",
            )


def _fill(address: int, value: int, element_bytes: int, size: int) -> None:
    """Fill `size` bytes with an element; the part that is filled doubles until it is all."""
    element = (value & ((1 << 8 * element_bytes) - 1)).to_bytes(element_bytes, "little")
    if len(set(element)) == 1:
        ctypes.memset(address, element[0], size)
        return
    done = min(size, element_bytes)
    ctypes.memmove(address, element, done)
    while done < size:
        part = min(done, size - done)
        ctypes.memmove(address + done, address, part)
        done += part
