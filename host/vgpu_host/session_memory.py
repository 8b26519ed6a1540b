"""Commands that allocate, copy and fill memory."""

from __future__ import annotations

from vgpu_host.executors.base import Copy2D, CudaError
from vgpu_host.session_contexts import INVALID_VALUE, SessionContexts, find
from vgpu_stub.abi import generated as abi


class SessionMemory(SessionContexts):
    """The part of a session that owns allocations."""

    def memory_allocate(self, size: int) -> abi.Results:
        """MEMORY_ALLOCATE."""
        handle = self._current.handle
        device_ptr = self._executor.memory_allocate(size)
        self.memory[device_ptr] = (size, handle)
        self.memory_bytes += size
        return (device_ptr,)

    def memory_free(self, device_ptr: int) -> None:
        """MEMORY_FREE."""
        if device_ptr not in self.memory:
            raise CudaError(INVALID_VALUE, f"0x{device_ptr:x} is not the start of an allocation")
        self._executor.memory_free(device_ptr)
        self.memory_bytes -= self.memory.pop(device_ptr)[0]

    def memory_get_info(self) -> abi.Results:
        """MEMORY_GET_INFO."""
        return self._executor.memory_info()

    def copy_host_to_device(
        self, device_ptr: int, offset: int, size: int, registration: int, stream: int
    ) -> None:
        """COPY_HOST_TO_DEVICE."""
        address = self._host(registration, offset, size, abi.REGISTER_READ)
        target = find(self._current.streams, stream, "stream")
        self._executor.copy_host_to_device(device_ptr, address, size, target)
        self.bytes_to_device += size

    def copy_device_to_host(
        self, device_ptr: int, offset: int, size: int, registration: int, stream: int
    ) -> None:
        """COPY_DEVICE_TO_HOST."""
        address = self._host(registration, offset, size, abi.REGISTER_WRITE)
        target = find(self._current.streams, stream, "stream")
        self._executor.copy_device_to_host(address, device_ptr, size, target)
        self.bytes_to_host += size

    def copy_device_to_device(
        self, destination: int, source: int, size: int, stream: int, reserved: int
    ) -> None:
        """COPY_DEVICE_TO_DEVICE."""
        target = find(self._current.streams, stream, "stream")
        self._executor.copy_device_to_device(destination, source, size, target)

    def copy_inline(self, device_ptr: int, stream: int, tail_bytes: int, tail: bytes) -> None:
        """COPY_INLINE."""
        target = find(self._current.streams, stream, "stream")
        self._executor.copy_bytes_to_device(device_ptr, tail, target)
        self.bytes_to_device += tail_bytes

    def copy_2d(
        self,
        destination: int,
        destination_pitch: int,
        source: int,
        source_pitch: int,
        width: int,
        height: int,
        destination_registration: int,
        source_registration: int,
        stream: int,
        reserved: int,
    ) -> None:
        """COPY_2D."""
        if not width or not height:
            return
        if width > destination_pitch or width > source_pitch:
            raise CudaError(INVALID_VALUE, f"rows of {width} bytes exceed the pitch")
        if destination_registration:
            span = (height - 1) * destination_pitch + width
            destination = self._host(
                destination_registration, destination, span, abi.REGISTER_WRITE
            )
        if source_registration:
            span = (height - 1) * source_pitch + width
            source = self._host(source_registration, source, span, abi.REGISTER_READ)
        copy = Copy2D(
            destination,
            bool(destination_registration),
            destination_pitch,
            source,
            bool(source_registration),
            source_pitch,
            width,
            height,
        )
        self._executor.copy_2d(copy, find(self._current.streams, stream, "stream"))
        if source_registration and not destination_registration:
            self.bytes_to_device += width * height
        elif destination_registration and not source_registration:
            self.bytes_to_host += width * height

    def memset(
        self,
        device_ptr: int,
        count: int,
        value: int,
        element_bytes: int,
        stream: int,
        reserved: int,
    ) -> None:
        """MEMSET."""
        _check_element(element_bytes)
        target = find(self._current.streams, stream, "stream")
        self._executor.memset(device_ptr, value, element_bytes, count, target)

    def memset_2d(
        self,
        device_ptr: int,
        pitch: int,
        width: int,
        height: int,
        value: int,
        element_bytes: int,
        stream: int,
        reserved: int,
    ) -> None:
        """MEMSET_2D."""
        _check_element(element_bytes)
        target = find(self._current.streams, stream, "stream")
        self._executor.memset_2d(device_ptr, pitch, value, element_bytes, width, height, target)


def _check_element(element_bytes: int) -> None:
    if element_bytes not in (1, 2, 4):
        raise CudaError(INVALID_VALUE, f"elements of {element_bytes} bytes")
