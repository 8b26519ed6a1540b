"""Calls libcuda step by step and says what each step returned: run by test_libcuda.py.

The argument names the kernel to launch: "empty" or "wait_3_s". Prints one JSON object: the CUresult
of each step by name, how many bits of the data came back wrong, and the seconds that all took.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time

SIZE = 1 << 16
PTX = b""".version 6.0
.target sm_50
.address_size 64
.visible .entry empty() { ret; }
.visible .entry wait_3_s()
{
    .reg .u64 %start, %now;
    .reg .pred %early;
    mov.u64 %start, %globaltimer;
    add.u64 %start, %start, 3000000000;
again:
    mov.u64 %now, %globaltimer;
    setp.lt.u64 %early, %now, %start;
    @%early bra again;
    ret;
}
"""

cuda = ctypes.CDLL("libcuda.so.1")
steps: dict[str, int] = {}


def call(step: str, function: str, *arguments: object) -> int:
    result = int(getattr(cuda, function)(*arguments))
    steps[step] = result
    return result


def main() -> None:
    start = time.monotonic()
    context = ctypes.c_void_p()
    pointer = ctypes.c_uint64()
    module = ctypes.c_void_p()
    kernel = ctypes.c_void_p()
    sent = bytes(range(256)) * (SIZE // 256)
    received = ctypes.create_string_buffer(SIZE)
    call("init", "cuInit", 0)
    call("context", "cuCtxCreate_v2", ctypes.byref(context), 0, 0)
    call("allocate", "cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(SIZE))
    call("to_device", "cuMemcpyHtoD_v2", pointer, sent, ctypes.c_size_t(SIZE))
    call("module", "cuModuleLoadData", ctypes.byref(module), PTX)
    call("function", "cuModuleGetFunction", ctypes.byref(kernel), module, sys.argv[1].encode())
    call("launch", "cuLaunchKernel", kernel, 1, 1, 1, 1, 1, 1, 0, None, None, None)
    call("synchronize", "cuCtxSynchronize")
    call("to_host", "cuMemcpyDtoH_v2", received, pointer, ctypes.c_size_t(SIZE))
    call("free", "cuMemFree_v2", pointer)
    call("destroy", "cuCtxDestroy_v2", context)
    wrong = sum(bin(a ^ b).count("1") for a, b in zip(sent, received.raw, strict=True))
    print(json.dumps({"steps": steps, "wrong": wrong, "seconds": time.monotonic() - start}))
    sys.exit(0)


main()
