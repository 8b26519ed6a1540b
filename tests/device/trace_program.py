"""A program whose CUDA calls are known: `trace_program.py WAY`. Plain ctypes over libcuda.so.1."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p

SPIN = b"""
.version 6.0
.target sm_50
.address_size 64
.visible .entry _Z4spinv() {
again:
    bra again;
}
"""
MIB = 1 << 20

cuda = ctypes.CDLL("libcuda.so.1")


def begin() -> c_void_p:
    context = c_void_p()
    cuda.cuInit(0)
    cuda.cuCtxCreate_v2(byref(context), c_uint(0), c_int(0))
    return context


def allocate(size: int) -> int:
    pointer = c_uint64()
    status: int = cuda.cuMemAlloc_v2(byref(pointer), c_size_t(size))
    return status


def one() -> None:
    begin()
    allocate(MIB)
    allocate(0)
    print("to standard output", flush=True)
    sys.exit(3)


def threads() -> None:
    """Two threads allocate 20 times each, and make children meanwhile."""
    context = begin()

    def work() -> None:
        cuda.cuCtxSetCurrent(context)
        for _ in range(20):
            allocate(MIB)

    both = [threading.Thread(target=work) for _ in range(2)]
    for thread in both:
        thread.start()
    # A child of a fork while others write: it must not wait for a lock that nobody gives back.
    children = []
    for _ in range(5):
        child = os.fork()
        if not child:
            allocate(MIB)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    for thread in both:
        thread.join()


def child() -> None:
    """A child with a device of its own; its parent makes no call."""
    sys.exit(os.spawnv(os.P_WAIT, sys.executable, [sys.executable, __file__, "one"]))


def failures() -> None:
    cuda.cuMemFree_v2(c_uint64(1))  # before cuInit
    begin()
    module, kernel = c_void_p(), c_void_p()
    cuda.cuModuleLoadData(byref(module), c_char_p(SPIN))
    cuda.cuModuleGetFunction(byref(kernel), module, b"no_such_kernel")
    cuda.cuTexRefCreate(byref(c_void_p()))


def hang() -> None:
    """Waits for a kernel without an end until it is killed."""
    begin()
    module, kernel = c_void_p(), c_void_p()
    cuda.cuModuleLoadData(byref(module), c_char_p(SPIN))
    cuda.cuModuleGetFunction(byref(kernel), module, b"_Z4spinv")
    cuda.cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, None, None, None)
    threading.Timer(1.3, os.kill, (os.getpid(), signal.SIGKILL)).start()
    cuda.cuCtxSynchronize()


if __name__ == "__main__":
    globals()[sys.argv[1]]()
