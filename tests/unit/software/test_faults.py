"""Kernels that do what they must not: the launch fails with its CUresult, nothing else does."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from vgpu_host.executors.software.errors import DeviceFault
from vgpu_host.executors.software.function import Function

from .conftest import Device

INVALID_VALUE, ILLEGAL_ADDRESS, TIMEOUT, MISALIGNED, FAILED = 1, 700, 702, 716, 719


@pytest.fixture(autouse=True)
def still_works(device: Device, kernel: Callable[[str], Function]) -> Iterator[None]:
    """After each test the same GPU adds vectors, on several host threads."""
    yield
    values = np.arange(20_000, dtype=np.float32)
    pointer, out = device.upload(values), device.zeros(20_000, np.float32)
    parameters = struct.pack("<QQQI", pointer, pointer, out, 20_000)
    kernel("vector_add").launch((79, 1, 1), (256, 1, 1), 0, parameters)
    assert np.array_equal(device.download(out, 20_000, np.float32), values * 2)
    device.gpu.free(pointer)
    device.gpu.free(out)


def fault_of(function: Function, *pointers: int, shared: int = 0, threads: int = 64) -> DeviceFault:
    with pytest.raises(DeviceFault) as caught:
        function.launch(
            (3, 1, 1), (threads, 1, 1), shared, struct.pack(f"<{len(pointers)}Q", *pointers)
        )
    return caught.value


WRITE = (
    ".visible .entry f(.param .u64 p) {{ .reg .b64 %x<4>; .reg .b32 %r<4>; .reg .pred %p;"
    "ld.param.u64 %x1, [p]; mov.u32 %r1, %tid.x; {} ret; }}"
)


@pytest.mark.parametrize("pointer", [0, 8, 0x1234567890, 1 << 63, (1 << 64) - 4])
def test_store_to_a_bad_pointer(device: Device, pointer: int) -> None:
    fault = fault_of(device.function(WRITE.format("st.global.u32 [%x1], %r1;")), pointer)
    assert fault.result == ILLEGAL_ADDRESS
    assert f"{pointer:#x}" in fault.message
    assert "kernel f, block (0, 0, 0), thread (0, 0, 0)" in fault.message


def test_load_outside_the_device_memory_names_the_thread(device: Device) -> None:
    pointer = device.zeros(64, np.uint32)
    ptx = WRITE.format(
        "setp.eq.u32 %p, %r1, 37; mul.wide.u32 %x2, %r1, 4; add.u64 %x1, %x1, %x2;"
        "@%p mov.u64 %x1, 64; ld.u32 %r2, [%x1]; st.global.u32 [%x1], %r2;"
    )
    fault = fault_of(device.function(ptx), pointer)
    assert fault.result == ILLEGAL_ADDRESS
    assert "thread (37, 0, 0)" in fault.message
    assert "0x40" in fault.message
    assert "ld.u32 %r2, [%x1]" in fault.message


def test_access_that_only_ends_outside(device: Device) -> None:
    ptx = (
        ".visible .entry f() { .reg .b64 %x; .shared .align 8 .b8 buffer[20];"
        "ld.shared.u64 %x, [buffer+16]; ret; }"
    )
    assert fault_of(device.function(ptx)).result == ILLEGAL_ADDRESS


def test_lanes_that_are_off_may_hold_bad_pointers(device: Device) -> None:
    pointer = device.zeros(64, np.uint32)
    ptx = WRITE.format(
        "setp.ge.u32 %p, %r1, 5; mul.wide.u32 %x2, %r1, 4; add.u64 %x2, %x1, %x2;"
        "@%p mov.u64 %x2, 3; @!%p st.global.u32 [%x2], %r1;"
        "setp.ge.u32 %p, %r1, 64; mov.u64 %x3, 0; @%p st.global.u32 [%x3], %r1;"
        "@%p bra SKIP; add.u64 %x3, %x1, 252; SKIP: st.global.u32 [%x3], 9;"
    )
    device.function(ptx).launch((1, 1, 1), (64, 1, 1), 0, struct.pack("<Q", pointer))
    got = device.download(pointer, 64, np.uint32).tolist()
    assert got == [0, 1, 2, 3, 4] + [0] * 58 + [9]


@pytest.mark.parametrize(
    ("access", "offset"),
    [
        ("ld.global.u32 %r2, [%x1]", 2),
        ("ld.global.u64 %x2, [%x1]", 4),
        ("st.global.v2.u32 [%x1], {%r1, %r1}", 4),
        ("st.global.v4.u32 [%x1], {%r1, %r1, %r1, %r1}", 8),
        ("atom.global.add.u32 %r2, [%x1], 1", 1),
    ],
)
def test_misaligned_access(device: Device, access: str, offset: int) -> None:
    pointer = device.zeros(64, np.uint32)
    fault = fault_of(device.function(WRITE.format(access + ";")), pointer + offset)
    assert fault.result == MISALIGNED
    assert f"{pointer + offset:#x}" in fault.message


SHARED = (
    ".visible .entry f(.param .u64 p) {{ .reg .b64 %x<4>; .reg .b32 %r<4>; .reg .pred %p;"
    ".shared .align 4 .b8 buffer[64]; mov.u32 %r1, %tid.x; mov.u32 %r2, buffer; {} ret; }}"
)


def test_shared_access_out_of_range(device: Device) -> None:
    function = device.function(SHARED.format("shl.b32 %r3, %r1, 2; st.shared.u32 [%r3], %r1;"))
    fault = fault_of(function, 0)
    assert fault.result == ILLEGAL_ADDRESS
    assert "thread (16, 0, 0)" in fault.message
    function.launch((1, 1, 1), (16, 1, 1), 0, bytes(8))
    function.launch((1, 1, 1), (32, 1, 1), 64, bytes(8))


def test_negative_shared_address(device: Device) -> None:
    function = device.function(SHARED.format("ld.shared.u32 %r1, [%r2+-4];"))
    assert fault_of(function, 0).result == ILLEGAL_ADDRESS


def test_local_access_out_of_range(device: Device) -> None:
    ptx = (
        ".visible .entry f(.param .u64 p) { .reg .b64 %x<3>; .local .align 4 .b8 room[16];"
        "mov.u64 %x1, room; ld.param.u64 %x2, [p]; add.u64 %x1, %x1, %x2;"
        "st.local.u32 [%x1], 1; ret; }"
    )
    function = device.function(ptx)
    function.launch((1, 1, 1), (64, 1, 1), 0, struct.pack("<Q", 12))
    assert fault_of(function, 16).result == ILLEGAL_ADDRESS


def test_trap(device: Device) -> None:
    function = device.function(WRITE.format("setp.eq.u32 %p, %r1, 40; @%p trap;"))
    fault = fault_of(function, 0)
    assert fault.result == FAILED
    assert "thread (40, 0, 0)" in fault.message
    assert "trap" in fault.message
    function.launch((1, 1, 1), (40, 1, 1), 0, bytes(8))


@pytest.mark.parametrize(
    "loop",
    [
        "L: bra L;",
        "L: ld.volatile.global.u32 %r2, [%x1]; setp.eq.u32 %p, %r2, 0; @%p bra L;",
        "L: add.u32 %r1, %r1, 2; setp.ne.u32 %p, %r1, 1; @%p bra L;",
    ],
)
@pytest.mark.parametrize("blocks", [1, 200])
def test_watchdog_ends_an_endless_loop(device: Device, loop: str, blocks: int) -> None:
    pointer = device.zeros(1, np.uint32)
    function = device.function(WRITE.format(loop))
    with pytest.raises(DeviceFault) as caught:
        function.launch((blocks, 1, 1), (64, 1, 1), 0, struct.pack("<Q", pointer))
    assert caught.value.result == TIMEOUT
    assert "kernel f" in caught.value.message


def test_integer_division_by_zero_has_a_result(device: Device) -> None:
    values = np.array([0, 1, 2, 0] * 16, np.int32)
    got = device.run_lanes("div.s32 %d, 1000, %a;", [values], np.int32)
    assert got.tolist() == [-1, 1000, 500, -1] * 16
    lowest = np.full(32, -(1 << 63), np.int64)
    got = device.run_lanes("div.s64 %d, %a, -1;", [lowest], np.int64)
    assert got.tolist() == lowest.tolist()


def test_check_range_accepts_one_live_allocation_only(device: Device) -> None:
    gpu = device.gpu
    first, second = gpu.alloc(1000), gpu.alloc(1000)
    gpu.check_range(first, 1000)
    gpu.check_range(first + 990, 10)
    for pointer, size in [(first, 1001), (first - 1, 2), (second + 1000, 1), (0, 4), (first, -1)]:
        with pytest.raises(DeviceFault) as caught:
            gpu.check_range(pointer, size)
        assert caught.value.result == INVALID_VALUE
    gpu.free(first)
    with pytest.raises(DeviceFault):
        gpu.check_range(first, 1)
    with pytest.raises(KeyError):
        gpu.free(first)
    gpu.free(second)


def test_launch_dimensions_are_checked(device: Device) -> None:
    function = device.function(WRITE.format(""))
    for grid, block, shared in [
        ((0, 1, 1), (1, 1, 1), 0),
        ((1, 1, 1), (1025, 1, 1), 0),
        ((1, 1, 1), (32, 33, 1), 0),
        ((1, 1 << 31, 1), (1, 1, 1), 0),
        ((1, 1, 1), (1, 1, 65), 0),
        ((1, 1, 1), (1, 1, 1), 48 * 1024 + 1),
    ]:
        with pytest.raises(ValueError, match="exceed"):
            function.launch(grid, block, shared, bytes(8))
    with pytest.raises(ValueError, match="parameters"):
        function.launch((1, 1, 1), (1, 1, 1), 0, bytes(7))
