"""Cooperative launches: every block of the grid is under way until its end."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vgpu_host.executors.software.errors import CudaResult, DeviceFault, TooManyBlocksError
from vgpu_host.executors.software.gpu import SoftwareGpu

from .conftest import Device

BARRIER = """
__device__ volatile unsigned *arrivals() {
    unsigned high, low;
    asm("mov.u32 %0, %%envreg1;" : "=r"(high));
    asm("mov.u32 %0, %%envreg2;" : "=r"(low));
    return (volatile unsigned *)((unsigned long long)high << 32 | low) + 1;
}
__device__ void wait_for_all(unsigned *round) {
    __syncthreads();
    if (threadIdx.x == 0) {
        volatile unsigned *arrived = arrivals();
        *round += gridDim.x;
        __threadfence();
        atomicAdd((unsigned *)arrived, 1);
        while (*arrived < *round) {}
        __threadfence();
    }
    __syncthreads();
}
"""
#: Each block passes what it has to the next one, in every round, and keeps a sum three times over.
RING = (
    BARRIER
    + """
extern "C" __global__ void f(int *cells, int *sums, int rounds) {
    __shared__ int shared[100];
    int local[4], t = threadIdx.x, b = blockIdx.x, n = blockDim.x;
    unsigned round = 0;
    shared[t] = 0;
    for (int i = 0; i < 4; i++) local[i] = i * b;
    cells[b * n + t] = b * n + t;
    for (int r = 0; r < rounds; r++) {
        wait_for_all(&round);
        int seen = cells[(b + 1) % gridDim.x * n + t];
        wait_for_all(&round);
        cells[b * n + t] = seen;
        shared[t] += seen;
        local[(r + t) & 3] += seen;
    }
    int all = 0;
    for (int i = 0; i < 4; i++) all += local[i] - i * b;
    sums[b * n + t] = all == shared[t] ? all : -1;
}"""
)


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Device, int]]:
    """A device, and the number of its host threads."""
    count: int = request.param
    gpu = SoftwareGpu(
        total_memory=16 << 20, threads=count, cache_dir=tmp_path / "cache", watchdog_s=1
    )
    yield Device(gpu), count
    gpu.close()


@pytest.mark.parametrize(("block", "each"), [(40, 32), (96, 21)])
def test_blocks_wait_for_each_other(threads: tuple[Device, int], block: int, each: int) -> None:
    """As many blocks as there can be, each with shared and local memory of its own."""
    device, workers = threads
    function = device.cuda(RING)
    assert function.resident_blocks(block, 0) == each
    blocks, rounds = each * workers, 5
    cells, sums = (device.zeros(blocks * block, np.int32) for _ in range(2))
    parameters = struct.pack("<QQi", cells, sums, rounds)
    function.launch((blocks, 1, 1), (block, 1, 1), 0, parameters, True)
    expected = [
        sum((b + r) % blocks * block + t for r in range(1, rounds + 1))
        for b in range(blocks)
        for t in range(block)
    ]
    assert device.download(sums, blocks * block, np.int32).tolist() == expected


def test_more_blocks_than_fit_are_refused(threads: tuple[Device, int]) -> None:
    device, workers = threads
    function = device.cuda(RING)
    with pytest.raises(TooManyBlocksError) as caught:
        function.launch((32 * workers + 1, 1, 1), (40, 1, 1), 0, bytes(20), True)
    assert caught.value.result == CudaResult.COOPERATIVE_LAUNCH_TOO_LARGE


def test_shared_memory_bounds_the_blocks(threads: tuple[Device, int]) -> None:
    function = threads[0].cuda(RING)
    assert function.static_shared_bytes == 400
    counts = {size: function.resident_blocks(64, size) for size in (0, 6000, 24000, 48000)}
    assert counts == {0: 32, 6000: 15, 24000: 4, 48000: 2}
    assert function.resident_blocks(64, 49000) == function.resident_blocks(1025, 0) == 0
    assert function.available_shared(1) == 48 * 1024 - 400
    left = function.available_shared(5)
    assert function.resident_blocks(64, left) == 5
    assert function.resident_blocks(64, left + 256) == 4


def test_kernel_that_waits_for_nobody(threads: tuple[Device, int]) -> None:
    device, workers = threads
    function = device.cuda(
        """extern "C" __global__ void f(int *out) {
            out[blockIdx.x * blockDim.x + threadIdx.x] = blockIdx.x * 100 + threadIdx.x;
        }"""
    )
    blocks = 32 * workers
    out = device.zeros(blocks * 64, np.int32)
    function.launch((blocks, 1, 1), (64, 1, 1), 0, struct.pack("<Q", out), True)
    expected = [b * 100 + t for b in range(blocks) for t in range(64)]
    assert device.download(out, blocks * 64, np.int32).tolist() == expected


def test_workspace_exists_in_cooperative_launches_alone(threads: tuple[Device, int]) -> None:
    device, _ = threads
    function = device.cuda(
        BARRIER
        + """extern "C" __global__ void f(long long *out) {
            volatile unsigned *cell = arrivals();
            *out = (unsigned long long)cell <= 4 ? 0 : 1 + *cell;
        }"""
    )
    out = device.zeros(1, np.int64)
    got = []
    for cooperative in (False, True, False):
        function.launch((1, 1, 1), (1, 1, 1), 0, struct.pack("<Q", out), cooperative)
        got += device.download(out, 1, np.int64).tolist()
    assert got == [0, 1, 0]


def test_waiting_for_ever_ends_by_the_watchdog(threads: tuple[Device, int]) -> None:
    device, _ = threads
    function = device.cuda(
        """extern "C" __global__ void f(volatile int *flag) {
            while (blockIdx.x == 1 && !*flag) {}
        }"""
    )
    flag = device.zeros(1, np.int32)
    with pytest.raises(DeviceFault) as caught:
        function.launch((3, 1, 1), (32, 1, 1), 0, struct.pack("<Q", flag), True)
    assert caught.value.result == CudaResult.LAUNCH_TIMEOUT
