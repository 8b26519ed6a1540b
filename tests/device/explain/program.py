"""A CUDA program that uses the device well, badly, or not at all: `program.py WAY [ARGUMENT]`.

Plain ctypes over libcuda.so.1 (and the path of another library where the way needs one), so that
every call is this file's. Loops end after a number of rounds, not after a time.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint, c_uint32, c_uint64, c_void_p
from pathlib import Path

PTX = b"""
.version 6.0
.target sm_50
.address_size 64
.visible .entry empty() { ret; }
.visible .entry spin(.param .u32 count) {
    .reg .u32 %r<3>; .reg .pred %p;
    ld.param.u32 %r1, [count];
    mov.u32 %r2, 0;
again:
    add.u32 %r2, %r2, 1;
    setp.lt.u32 %p, %r2, %r1;
    @%p bra again;
    ret;
}
.visible .entry stray() {
    .reg .u64 %d; .reg .u32 %r;
    mov.u64 %d, 16;
    mov.u32 %r, 1;
    st.global.u32 [%d], %r;
    ret;
}
"""
MIB = 1 << 20


class CallError(Exception):
    """A call returned an error."""


class Device:
    """The device with a context."""

    def __init__(self) -> None:
        self.cuda = ctypes.CDLL("libcuda.so.1")
        self.call("cuInit", 0)
        self.context = c_void_p()
        self.call("cuCtxCreate_v2", byref(self.context), c_uint(0), c_int(0))

    def call(self, name: str, *arguments: object) -> None:
        status = getattr(self.cuda, name)(*arguments)
        if status:
            raise CallError(f"{name}: {status}")

    def kernel(self, name: bytes, image: bytes = PTX) -> c_void_p:
        module, kernel = c_void_p(), c_void_p()
        self.call("cuModuleLoadData", byref(module), c_char_p(image))
        self.call("cuModuleGetFunction", byref(kernel), module, name)
        return kernel

    def launch(self, kernel: c_void_p, *numbers: int) -> None:
        values = [c_uint32(number) for number in numbers]
        packed = (c_void_p * 1)(*[ctypes.addressof(value) for value in values])
        self.call("cuLaunchKernel", kernel, 1, 1, 1, 1, 1, 1, 0, None, packed, None)

    def wait(self) -> None:
        self.call("cuCtxSynchronize")

    def allocate(self, size: int) -> c_uint64:
        pointer = c_uint64()
        self.call("cuMemAlloc_v2", byref(pointer), c_size_t(size))
        return pointer


def init() -> None:
    """Opens the device, and no more."""
    cuda = ctypes.CDLL("libcuda.so.1")
    if status := cuda.cuInit(0):
        raise CallError(f"cuInit: {status}")


def fork() -> None:
    """A child that goes on with its parent's device."""
    device = Device()
    if os.fork() == 0:
        device.allocate(MIB)
    os.wait()


def look() -> None:
    """Finds the device and makes a context."""
    device = Device()
    free, total = c_size_t(), c_size_t()
    device.call("cuMemGetInfo_v2", byref(free), byref(total))


def compute(beside: str = "") -> None:
    """Computes; with a folder, at the same time as another one with the same folder."""
    device = Device()
    spin = device.kernel(b"spin")
    if beside:
        meet(Path(beside))
    for _ in range(10):
        for _ in range(20):
            device.launch(spin, 3_000_000)
        device.wait()


def meet(folder: Path) -> None:
    """Waits until two processes have come here."""
    (folder / str(os.getpid())).touch()
    deadline = time.monotonic() + 60
    while len(list(folder.iterdir())) < 2:
        if time.monotonic() > deadline:
            raise TimeoutError("the other process has not come")
        time.sleep(0.001)


def forever() -> None:
    """Computes until it is killed."""
    device = Device()
    spin = device.kernel(b"spin")
    print("ready", flush=True)
    while True:
        device.launch(spin, 3_000_000)
        device.wait()


def once() -> None:
    device = Device()
    device.launch(device.kernel(b"empty"))
    device.wait()


def waits() -> None:
    device = Device()
    empty = device.kernel(b"empty")
    for _ in range(1500):
        device.launch(empty)
        device.wait()
        # What a program does with a result before it launches again; here, nothing.
        time.sleep(0.0005)


def launches() -> None:
    device = Device()
    empty = device.kernel(b"empty")
    for _ in range(60_000):
        device.launch(empty)
    device.wait()


def copies() -> None:
    device = Device()
    empty = device.kernel(b"empty")
    memory, host = device.allocate(4 * MIB), ctypes.create_string_buffer(4 * MIB)
    for _ in range(150):
        device.call("cuMemcpyHtoD_v2", memory, host, c_size_t(4 * MIB))
        device.launch(empty)
        device.call("cuMemcpyDtoH_v2", host, memory, c_size_t(4 * MIB))


def processor() -> None:
    device = Device()
    empty = device.kernel(b"empty")
    for index in range(120):
        device.launch(empty)
        sum(range(1_000_000))
        if index % 20 == 0:
            device.wait()


def idle() -> None:
    device = Device()
    empty = device.kernel(b"empty")
    for _ in range(100):
        device.launch(empty)
        time.sleep(0.005)


def stray() -> None:
    device = Device()
    device.launch(device.kernel(b"stray"))
    device.wait()


def too_new() -> None:
    Device().kernel(b"empty", PTX.replace(b"sm_50", b"sm_90").replace(b"6.0", b"8.0"))


def too_much() -> None:
    Device().allocate(1 << 50)


def missing() -> None:
    init()
    found = c_void_p()
    cuda = ctypes.CDLL("libcuda.so.1")
    status = cuda.cuGetProcAddress_v2(
        b"cuComputeEverything", byref(found), 13000, c_uint64(0), None
    )
    raise CallError(f"cuGetProcAddress: {status}")


def refused() -> None:
    Device().call("cuArray3DCreate_v2", byref(c_void_p()), (c_uint64 * 8)())


def table(identifier: str) -> None:
    """Asks for a table that no public interface has, by its UUID in hexadecimal."""
    init()
    cuda, found = ctypes.CDLL("libcuda.so.1"), c_void_p()
    status = cuda.cuGetExportTable(byref(found), bytes.fromhex(identifier))
    raise CallError(f"cuGetExportTable: {status}")


def load(path: str) -> None:
    """Loads a library as a program loads its GPU backend."""
    ctypes.CDLL(path, os.RTLD_NOW)


def runtime(path: str) -> None:
    """Starts a CUDA runtime."""
    count = c_int()
    status = ctypes.CDLL(path).cudaGetDeviceCount(byref(count))
    if status:
        raise CallError(f"cudaGetDeviceCount: {status}")


WAYS = {
    way.__name__: way
    for way in (
        init,
        fork,
        look,
        compute,
        forever,
        once,
        waits,
        launches,
        copies,
        processor,
        idle,
        stray,
        too_new,
        too_much,
        missing,
        refused,
        table,
        load,
        runtime,
    )
}

if __name__ == "__main__":
    try:
        WAYS[sys.argv[1]](*sys.argv[2:])
    except (CallError, OSError) as error:
        sys.exit(f"program: {error}")
