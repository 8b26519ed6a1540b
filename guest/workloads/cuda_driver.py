"""A thin view of libcuda.so.1 for workloads: the CUDA driver API through ctypes, nothing else.

It needs no package but the standard library and numpy, so the same file runs in the guest, by
`vgpu-stub exec`, and natively on a machine with a GPU.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray


class CudaError(Exception):
    """A driver API call failed; `result` is its CUresult."""

    def __init__(self, function: str, result: int, name: str) -> None:
        super().__init__(f"{function}: {name} ({result})")
        self.function = function
        self.result = result


class Driver:
    """libcuda.so.1 with device 0's primary context current; a context manager."""

    def __init__(self, library: str = "libcuda.so.1") -> None:
        self._library = ctypes.CDLL(library)
        self.call("cuInit", c_uint(0))
        self._device = c_int()
        self.call("cuDeviceGet", byref(self._device), c_int(0))
        context = c_void_p()
        self.call("cuDevicePrimaryCtxRetain", byref(context), self._device)
        self.call("cuCtxSetCurrent", context)

    def call(self, name: str, *arguments: object) -> None:
        """Call a function of the driver API.

        Raises:
            CudaError: It did not return CUDA_SUCCESS.
        """
        result = getattr(self._library, name)(*arguments)
        if result:
            text = c_char_p()
            self._library.cuGetErrorName(c_int(result), byref(text))
            raise CudaError(name, result, (text.value or b"unknown error").decode())

    @property
    def device_name(self) -> str:
        """What cuDeviceGetName says."""
        buffer = ctypes.create_string_buffer(256)
        self.call("cuDeviceGetName", buffer, c_int(len(buffer)), self._device)
        return buffer.value.decode()

    def attribute(self, number: int) -> int:
        """What cuDeviceGetAttribute says."""
        value = c_int()
        self.call("cuDeviceGetAttribute", byref(value), c_int(number), self._device)
        return value.value

    def load(self, ptx: Path) -> Module:
        """Load a module from a PTX file."""
        return Module(self, ptx.read_bytes() + b"\0")

    def allocate(self, size: int) -> Buffer:
        """Allocate device memory, in bytes."""
        pointer = c_uint64()
        self.call("cuMemAlloc_v2", byref(pointer), c_size_t(size))
        return Buffer(self, pointer.value, size)

    def upload(self, array: NDArray[np.generic]) -> Buffer:
        """Copy an array to new device memory."""
        buffer = self.allocate(array.nbytes)
        buffer.write(array)
        return buffer

    def zeros(self, size: int) -> Buffer:
        """Allocate device memory filled with zeros, in bytes."""
        buffer = self.allocate(size)
        buffer.clear()
        return buffer

    def synchronize(self) -> None:
        """Wait until the device is idle."""
        self.call("cuCtxSynchronize")

    def close(self) -> None:
        """Give the primary context back."""
        self.call("cuDevicePrimaryCtxRelease_v2", self._device)

    def __enter__(self) -> Driver:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()


class Buffer:
    """Device memory; kernels take it as an argument."""

    def __init__(self, driver: Driver, pointer: int, size: int) -> None:
        self._driver = driver
        self.pointer = pointer
        self.size = size

    def write(self, array: NDArray[np.generic]) -> None:
        """Copy an array to the start of the memory."""
        contiguous = np.ascontiguousarray(array)
        source = contiguous.ctypes.data_as(c_void_p)
        size = c_size_t(contiguous.nbytes)
        self._driver.call("cuMemcpyHtoD_v2", c_uint64(self.pointer), source, size)

    def clear(self) -> None:
        """Fill the memory with zeros."""
        arguments = c_uint64(self.pointer), ctypes.c_ubyte(0), c_size_t(self.size)
        self._driver.call("cuMemsetD8_v2", *arguments)

    def download(
        self, shape: int | tuple[int, ...], dtype: type[np.generic]
    ) -> NDArray[np.generic]:
        """Copy the start of the memory to a new array."""
        array = np.empty(shape, dtype)
        target = array.ctypes.data_as(c_void_p)
        self._driver.call("cuMemcpyDtoH_v2", target, c_uint64(self.pointer), c_size_t(array.nbytes))
        return array

    def free(self) -> None:
        """Free the memory."""
        self._driver.call("cuMemFree_v2", c_uint64(self.pointer))


class Module:
    """A loaded module."""

    def __init__(self, driver: Driver, image: bytes) -> None:
        self._driver = driver
        self._handle = c_void_p()
        driver.call("cuModuleLoadData", byref(self._handle), c_char_p(image))

    def kernel(self, name: str) -> Kernel:
        """Find a kernel."""
        handle = c_void_p()
        self._driver.call("cuModuleGetFunction", byref(handle), self._handle, name.encode())
        return Kernel(self._driver, handle)

    def variable(self, name: str) -> Buffer:
        """Memory of a variable of the module, which goes with it."""
        pointer, size = c_uint64(), c_size_t()
        self._driver.call(
            "cuModuleGetGlobal_v2", byref(pointer), byref(size), self._handle, name.encode()
        )
        return Buffer(self._driver, pointer.value, size.value)


class Kernel:
    """A kernel; called with its grid, block and arguments."""

    def __init__(self, driver: Driver, handle: c_void_p) -> None:
        self._driver = driver
        self.handle = handle

    def __call__(
        self,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        *arguments: Buffer | c_int | c_uint | c_float,
        shared_bytes: int = 0,
    ) -> None:
        """Launch it on the default stream."""
        values = [
            c_uint64(argument.pointer) if isinstance(argument, Buffer) else argument
            for argument in arguments
        ]
        pointers = (c_void_p * len(values))(
            *(ctypes.cast(ctypes.pointer(value), c_void_p) for value in values)
        )
        self._driver.call(
            "cuLaunchKernel",
            self.handle,
            *(c_uint(size) for size in (*grid, *block)),
            c_uint(shared_bytes),
            c_void_p(0),
            ctypes.cast(pointers, POINTER(c_void_p)),
            c_void_p(0),
        )
