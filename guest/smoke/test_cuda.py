"""CUDA through libcuda.so.1 with ctypes: right results, and a data path without the kernel."""

import ctypes
import itertools
from ctypes import c_uint, c_uint64, c_void_p
from pathlib import Path

import numpy as np
import pytest
import vgpu_abi as abi

COUNT = 10_007  # ragged: the last block is partly idle
BLOCK = 256
BATCHES, WAKING, LAUNCHES = 20, 10, 100
GRID = (-(-COUNT // BLOCK), 1, 1)


@pytest.fixture(scope="module")
def vector_add(cuda, ptx):
    return cuda.load(ptx("vector_add")).kernel("vector_add")


def test_the_device_is_ours(cuda):
    count = ctypes.c_int()
    cuda.call("cuDeviceGetCount", ctypes.byref(count))
    assert count.value == 1
    assert cuda.device_name


def test_vector_add_gives_what_numpy_gives(cuda, vector_add):
    a, b = np.random.default_rng(1).standard_normal((2, COUNT)).astype(np.float32)
    total = cuda.zeros(4 * (COUNT + 5))
    vector_add(GRID, (BLOCK, 1, 1), cuda.upload(a), cuda.upload(b), total, c_uint(COUNT))
    got = total.download(COUNT + 5, np.float32)
    assert np.array_equal(got[:COUNT], a + b)
    assert not got[COUNT:].any(), "the kernel wrote beyond the end"


def test_an_unknown_kernel_is_an_error_with_a_name(cuda, ptx):
    from cuda_driver import CudaError

    with pytest.raises(CudaError, match=r"cuModuleGetFunction: CUDA_ERROR_NOT_FOUND \(500\)"):
        cuda.load(ptx("vector_add")).kernel("no_such_kernel")


class GuestCounters(ctypes.LittleEndianStructure):
    """struct vgpu_guest_counters."""

    _fields_ = [(name, c_uint64) for name in abi.GUEST_COUNTERS_OFFSETS]


def guest_counters():
    """The counters of the library's channel, found by its mapping; they change as one looks."""
    (address,) = (
        int(line.split("-")[0], 16)
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith("/dev/vgpu0") and line.split()[2] == "00000000"
    )
    return GuestCounters.from_address(address + abi.GUEST_COUNTERS_OFFSET)


def test_launches_in_the_steady_state_cost_no_doorbell_and_no_wait(cuda, vector_add):
    a = cuda.upload(np.ones(COUNT, np.float32))
    total = cuda.zeros(4 * COUNT)
    # The arguments are made once: in between there is nothing but calls of cuLaunchKernel.
    values = c_uint64(a.pointer), c_uint64(a.pointer), c_uint64(total.pointer), c_uint(COUNT)
    pointers = (c_void_p * len(values))(*map(ctypes.addressof, values))
    sizes = [c_uint(size) for size in (*GRID, BLOCK, 1, 1, 0)]
    arguments = vector_add.handle, *sizes, c_void_p(), pointers, c_void_p()
    launch = ctypes.CDLL("libcuda.so.1").cuLaunchKernel
    counters = guest_counters()
    doorbells, waits = [], []
    for _ in range(BATCHES):
        for _ in range(WAKING):
            launch(*arguments)
        launches, doorbell, wait = counters.launches, counters.doorbells, counters.waits
        for _ in range(LAUNCHES):
            launch(*arguments)
        doorbells.append(counters.doorbells - doorbell)
        waits.append(counters.waits - wait)
        assert counters.launches - launches == LAUNCHES
    cuda.synchronize()
    assert waits == [0] * BATCHES, "launches slept for interrupts"
    # The device falls asleep while the guest is not scheduled; waking it costs a doorbell.
    assert doorbells.count(0) >= BATCHES // 2, (
        f"doorbells, each a trapped write, of batches of {LAUNCHES} launches: {doorbells}"
    )
    got = total.download(COUNT, np.float32)
    assert np.array_equal(got, np.full(COUNT, 2, np.float32))


def test_results_are_right_for_every_size_around_a_block(cuda, vector_add):
    b = cuda.upload(np.arange(3 * BLOCK, dtype=np.float32))
    for count, blocks in itertools.product((1, BLOCK - 1, BLOCK, BLOCK + 1), (1, 2)):
        total = cuda.zeros(4 * 3 * BLOCK)
        vector_add((blocks, 1, 1), (BLOCK, 1, 1), b, b, total, c_uint(count))
        expected = np.zeros(3 * BLOCK, np.float32)
        done = min(count, blocks * BLOCK)
        expected[:done] = 2 * np.arange(done)
        assert np.array_equal(total.download(3 * BLOCK, np.float32), expected), (count, blocks)
        total.free()
