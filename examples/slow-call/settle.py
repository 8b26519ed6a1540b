"""Lets heat settle on the GPU until it is even enough, and takes far too long for it. Why?

`vgpu-stub exec -- python3 settle.py` shows the problem, docs/call-trace.md how to find its cause,
and `--mended` is the same program without it. It needs only Python and libcuda.so.1.
"""

from __future__ import annotations

import ctypes
import sys
import time
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint, c_uint32, c_uint64, c_void_p

CELLS = 16 << 20
THREADS = 256
STEPS = 20
ENOUGH = 1000

# Every 4096th cell stands for its neighbourhood: it loses a step's worth of heat.
SOURCE = b"""
.version 6.0
.target sm_50
.address_size 64
.visible .entry settle(.param .u64 cells) {
    .reg .u64 %place, %offset; .reg .u32 %thread, %block, %size, %heat;
    ld.param.u64 %place, [cells];
    mov.u32 %thread, %tid.x; mov.u32 %block, %ctaid.x; mov.u32 %size, %ntid.x;
    mad.lo.u32 %thread, %block, %size, %thread;
    mul.wide.u32 %offset, %thread, 16384;
    add.u64 %place, %place, %offset;
    ld.global.u32 %heat, [%place];
    sub.u32 %heat, %heat, 1;
    st.global.u32 [%place], %heat;
    ret;
}
"""


class Simulation:
    """Cells of heat in device memory."""

    def __init__(self) -> None:
        self._cuda = ctypes.CDLL("libcuda.so.1")
        self._memory, self._kernel, module = c_uint64(), c_void_p(), c_void_p()
        self._cells = (c_uint32 * CELLS)()
        self._call("cuInit", 0)
        self._call("cuCtxCreate_v2", byref(c_void_p()), c_uint(0), c_int(0))
        self._call("cuModuleLoadData", byref(module), c_char_p(SOURCE))
        self._call("cuModuleGetFunction", byref(self._kernel), module, b"settle")
        self._call("cuMemAlloc_v2", byref(self._memory), c_size_t(4 * CELLS))
        self._call("cuMemsetD32_v2", self._memory, c_uint(ENOUGH + STEPS), c_size_t(CELLS))

    def _call(self, name: str, *arguments: object) -> None:
        if status := getattr(self._cuda, name)(*arguments):
            raise RuntimeError(f"{name}: {status}")

    def step(self) -> None:
        """Let heat flow once."""
        packed = (c_void_p * 1)(ctypes.addressof(self._memory))
        blocks = CELLS // 4096 // THREADS
        self._call(
            "cuLaunchKernel", self._kernel, blocks, 1, 1, THREADS, 1, 1, 0, None, packed, None
        )

    def settled(self, mended: bool) -> bool:
        """Whether the first cell is cool enough."""
        size = 4 if mended else 4 * CELLS
        self._call("cuMemcpyDtoH_v2", self._cells, self._memory, c_size_t(size))
        return self._cells[0] <= ENOUGH


def main(mended: bool) -> None:
    simulation = Simulation()
    started = time.perf_counter()
    steps = 0
    while steps == 0 or not simulation.settled(mended):
        simulation.step()
        steps += 1
    took = time.perf_counter() - started
    print(f"{steps} steps, {1000 * took / steps:.1f} ms each")
    if steps != STEPS:
        raise SystemExit(f"it should have taken {STEPS} steps")


if __name__ == "__main__":
    main(mended="--mended" in sys.argv)
