"""What every executor must do, value by value; the rules are those of the CUDA driver API."""

from __future__ import annotations

import ctypes
import json
import struct
import subprocess
import sys

import pytest

from vgpu_host.executors.base import Copy2D, CudaError, Executor, LinkPart

from .conftest import Device

pytestmark = pytest.mark.device

INVALID_VALUE = 1
OUT_OF_MEMORY = 2
INVALID_PTX = 218
INVALID_SOURCE = 300
NOT_FOUND = 500
ILLEGAL_ADDRESS = 700
SIZES = [1, 3, 4095, 4096, 4097, 1 << 20]

PTX = b""".version 6.0
.target sm_50
.address_size 64
.visible .global .align 4 .u32 counter = 41;
.visible .entry parameters(.param .u64 out, .param .u8 a, .param .u16 b, .param .u32 c,
                           .param .u64 d, .param .align 16 .b8 e[16])
{
    .reg .b64 %rd<4>;
    .reg .b32 %r<3>;
    .reg .b16 %h<3>;
    ld.param.u64 %rd1, [out];
    ld.param.u8 %h1, [a];
    st.global.u16 [%rd1], %h1;
    ld.param.u16 %h2, [b];
    st.global.u16 [%rd1+2], %h2;
    ld.param.u32 %r1, [c];
    st.global.u32 [%rd1+4], %r1;
    ld.param.u64 %rd2, [d];
    st.global.u64 [%rd1+8], %rd2;
    ld.param.u64 %rd3, [e+8];
    st.global.u64 [%rd1+16], %rd3;
    ret;
}
.visible .entry index(.param .u64 out)
{
    .reg .b64 %rd<4>;
    .reg .b32 %r<8>;
    ld.param.u64 %rd1, [out];
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %ntid.x;
    mov.u32 %r3, %tid.x;
    mad.lo.u32 %r4, %r1, %r2, %r3;
    mul.wide.u32 %rd2, %r4, 4;
    add.u64 %rd3, %rd1, %rd2;
    st.global.u32 [%rd3], %r4;
    ret;
}
"""


def test_description_is_sane(executor: Executor) -> None:
    described = executor.describe()
    assert described.name.startswith("VGPU-STUB ")
    assert len(described.uuid) == 16
    assert described.total_memory > 1 << 20
    attributes = described.attributes
    assert attributes[10] == 32  # warp size
    assert attributes[1] >= 1024  # threads of a block
    assert (attributes[75], attributes[76]) == described.compute_capability
    for absent in (19, 83, 102, 115):
        assert attributes[absent] == 0


@pytest.mark.parametrize("size", SIZES)
def test_bytes_come_back(device: Device, size: int) -> None:
    data = bytes(i * 7 & 0xFF for i in range(size))
    assert device.download(device.upload(data), size) == data


@pytest.mark.parametrize("size", SIZES)
def test_copies_with_offsets_touch_nothing_else(device: Device, size: int) -> None:
    executor = device.executor
    pointer = device.upload(b"\xaa" * (size + 32))
    source = ctypes.create_string_buffer(bytes(i * 5 & 0xFF for i in range(size)), size)
    executor.copy_host_to_device(pointer + 16, ctypes.addressof(source), size, None)
    other = executor.memory_allocate(size + 32)
    executor.memset(other, 0x55, 1, size + 32, None)
    executor.copy_device_to_device(other + 8, pointer + 16, size, None)
    got = device.download(other, size + 32)
    assert got == b"\x55" * 8 + source.raw + b"\x55" * 24


def test_allocations_are_refused_and_freed_as_documented(device: Device) -> None:
    executor = device.executor
    free_before, total = executor.memory_info()
    pointer = executor.memory_allocate(4 << 20)
    assert pointer % 256 == 0
    assert executor.memory_info()[0] < free_before
    assert device.refused("memory_allocate", 0) == INVALID_VALUE
    assert device.refused("memory_allocate", total * 2) == OUT_OF_MEMORY
    assert device.refused("memory_free", pointer + 256) == INVALID_VALUE
    executor.memory_free(pointer)
    assert device.refused("memory_free", pointer) == INVALID_VALUE


def test_copies_beyond_an_allocation_are_refused(device: Device) -> None:
    pointer = device.executor.memory_allocate(4096)
    beyond = bytes(4 << 20)
    for start in (pointer, 0, 1 << 60):
        assert device.refused("copy_bytes_to_device", start, beyond, None) == INVALID_VALUE
        assert device.refused("memset", start, 0, 4, 1 << 30, None) == INVALID_VALUE
    address = ctypes.addressof(ctypes.create_string_buffer(64))
    assert device.refused("copy_device_to_host", address, address, 64, None) == INVALID_VALUE


@pytest.mark.parametrize(("element_bytes", "value"), [(1, 0x1A5), (2, 0x1BEEF), (4, 0xDEADBEEF)])
def test_fills_repeat_the_element(device: Device, element_bytes: int, value: int) -> None:
    executor = device.executor
    pointer = device.upload(bytes(64))
    executor.memset(pointer + 8, value, element_bytes, 5, None)
    element = (value & (1 << 8 * element_bytes) - 1).to_bytes(element_bytes, "little")
    expected = bytes(8) + element * 5
    assert device.download(pointer, 64) == expected.ljust(64, b"\0")


def test_2d_fills_and_copies_keep_to_their_rectangle(device: Device) -> None:
    executor = device.executor
    pointer = device.upload(bytes(16 * 8))
    executor.memset_2d(pointer + 4, 16, 7, 1, 5, 3, None)
    rows = [bytes(4) + b"\7" * 5 + bytes(7)] * 3 + [bytes(16)] * 5
    assert device.download(pointer, 128) == b"".join(rows)
    host = ctypes.create_string_buffer(b"\xff" * 60, 60)
    address = ctypes.addressof(host)
    executor.copy_2d(Copy2D(address, True, 10, pointer + 4, False, 16, 5, 3), None)
    device.synchronize()
    assert host.raw[:30] == (b"\7" * 5 + b"\xff" * 5) * 3
    second = device.upload(bytes(128))
    executor.copy_2d(Copy2D(second, False, 32, address, True, 10, 6, 3), None)
    assert device.download(second, 96) == ((b"\7" * 5 + b"\xff").ljust(32, b"\0")) * 3
    third = device.upload(bytes(64))
    executor.copy_2d(Copy2D(third, False, 8, second, False, 32, 6, 3), None)
    assert device.download(third, 24) == ((b"\7" * 5 + b"\xff").ljust(8, b"\0")) * 3
    wide = ("memset_2d", pointer, 4, 0, 4, 2, 2, None)
    assert device.refused(*wide) == INVALID_VALUE


def test_parameters_of_every_size_arrive(device: Device) -> None:
    executor = device.executor
    module = executor.module_load(PTX)
    function, info = executor.module_get_function(module, "parameters")
    assert info.parameters == ((0, 8), (8, 1), (10, 2), (12, 4), (16, 8), (32, 16))
    out = device.upload(bytes(32))
    packed = struct.pack("<QBxHIQ8xQQ", out, 0xA1, 0xB2B2, 0xC3C3C3C3, 0xD4 << 56, 1, 0xE5 << 40)
    executor.launch(function, (1, 1, 1), (1, 1, 1), 0, None, packed)
    expected = struct.pack("<HHIQQ", 0xA1, 0xB2B2, 0xC3C3C3C3, 0xD4 << 56, 0xE5 << 40)
    assert device.download(out, 24) == expected
    assert device.refused("launch", function, (1, 1, 1), (1, 1, 1), 0, None, packed[:-4]) == (
        INVALID_VALUE
    )


@pytest.mark.parametrize(("grid", "block"), [(1, 1), (3, 33), (100, 256), (7, 1024)])
def test_every_thread_runs_once(device: Device, grid: int, block: int) -> None:
    executor = device.executor
    function, _ = executor.module_get_function(executor.module_load(PTX), "index")
    count = grid * block
    out = device.upload(bytes(4 * count + 4))
    executor.launch(function, (grid, 1, 1), (block, 1, 1), 0, None, struct.pack("<Q", out))
    assert device.download(out, 4 * count + 4) == struct.pack(f"<{count}II", *range(count), 0)


@pytest.mark.parametrize(("grid", "block"), [((1, 1, 1), (2048, 1, 1)), ((1, 1, 1), (1, 1, 128))])
def test_impossible_shapes_are_refused(
    device: Device, grid: tuple[int, int, int], block: tuple[int, int, int]
) -> None:
    executor = device.executor
    function, _ = executor.module_get_function(executor.module_load(PTX), "index")
    out = device.upload(bytes(64))
    assert device.refused("launch", function, grid, block, 0, None, struct.pack("<Q", out)) == (
        INVALID_VALUE
    )


def test_variables_keep_their_place_and_value(device: Device) -> None:
    executor = device.executor
    module = executor.module_load(PTX)
    pointer, size = executor.module_get_global(module, "counter")
    assert size == 4
    assert executor.module_get_global(module, "counter") == (pointer, 4)
    assert device.download(pointer, 4) == (41).to_bytes(4, "little")
    executor.copy_bytes_to_device(pointer, b"abcd", None)
    assert device.download(pointer, 4) == b"abcd"


def test_unknown_names_are_not_found(device: Device) -> None:
    module = device.executor.module_load(PTX)
    assert device.refused("module_get_function", module, "absent") == NOT_FOUND
    assert device.refused("module_get_global", module, "absent") == NOT_FOUND


def test_bad_ptx_is_refused_with_a_log(device: Device) -> None:
    bad = PTX.replace(b"mul.wide.u32 %rd2", b"frobnicate.u32 %rd2")
    with pytest.raises(CudaError) as error:
        module = device.executor.module_load(bad)
        device.executor.module_get_function(module, "index")
    assert error.value.result == INVALID_PTX
    assert "frobnicate" in error.value.log


CALLER = b""".version 6.0
.target sm_50
.address_size 64
.extern .func (.param .b32 r) twice (.param .b32 a);
.visible .entry index(.param .u64 out)
{
    .reg .b64 %rd<4>; .reg .b32 %r<8>; .param .b32 a; .param .b32 r;
    ld.param.u64 %rd1, [out]; mov.u32 %r1, %tid.x;
    st.param.b32 [a], %r1; call (r), twice, (a); ld.param.b32 %r2, [r];
    mul.wide.u32 %rd2, %r1, 4; add.u64 %rd3, %rd1, %rd2; st.global.u32 [%rd3], %r2;
    ret;
}
"""
CALLEE = b""".version 6.0
.target sm_50
.address_size 64
.visible .func (.param .b32 r) twice (.param .b32 a)
{
    .reg .b32 %v; ld.param.b32 %v, [a]; add.u32 %v, %v, %v; st.param.b32 [r], %v; ret;
}
"""


def test_linked_texts_are_one_image(device: Device) -> None:
    executor = device.executor
    parts = [LinkPart("caller", False, CALLER), LinkPart("", False, CALLEE)]
    module = executor.module_load(executor.module_link(parts))
    function, _ = executor.module_get_function(module, "index")
    pointer = executor.memory_allocate(128)
    executor.launch(function, (1, 1, 1), (32, 1, 1), 0, None, struct.pack("<Q", pointer))
    assert struct.unpack("<32I", device.download(pointer, 128)) == tuple(range(0, 64, 2))


def test_what_the_linker_misses_is_in_its_log(device: Device) -> None:
    with pytest.raises(CudaError) as error:
        device.executor.module_link([LinkPart("caller", False, CALLER)])
    assert error.value.result == INVALID_SOURCE
    assert "Undefined reference to 'twice' in 'caller'" in error.value.log


FAULT = """
import struct, sys
from vgpu_host.executors.base import CudaError
from vgpu_host.executors.options import ExecutorOptions, make_executor

executor = make_executor(ExecutorOptions(sys.argv[1], memory_bytes=64 << 20, threads=1))
executor.context_activate(executor.context_create(0))
function, _ = executor.module_get_function(executor.module_load(sys.stdin.buffer.read()), "index")
results = []
try:
    executor.launch(function, (1, 1, 1), (32, 1, 1), 0, None, struct.pack("<Q", 16))
    poll = executor.context_synchronize()
    while not poll():
        pass
except CudaError as error:
    results.append(error.result)
for _ in range(2):
    try:
        executor.memory_allocate(4096)
    except CudaError as error:
        results.append(error.result)
print(results, flush=True)
import os
os._exit(0)
"""


def test_fault_is_reported_by_every_later_call(
    request: pytest.FixtureRequest, device: Device
) -> None:
    """In a process of its own: on a physical GPU a fault ends all contexts of the process."""
    name = request.node.callspec.params["executor"]
    done = subprocess.run(
        [sys.executable, "-c", FAULT, name], input=PTX, capture_output=True, check=True, timeout=60
    )
    assert json.loads(done.stdout) == [ILLEGAL_ADDRESS] * 3


def test_events_order_streams_and_measure_time(device: Device) -> None:
    executor = device.executor
    first, second = executor.stream_create(1, 0), executor.stream_create(1, 0)
    start, end = executor.event_create(0), executor.event_create(0)
    pointer = device.upload(bytes(1 << 20))
    executor.event_record(start, first)
    executor.memset(pointer, 1, 1, 1 << 20, first)
    executor.event_record(end, first)
    executor.stream_wait_event(second, end, 0)
    executor.memset(pointer, 2, 1, 1 << 19, second)
    device.wait(executor.stream_synchronize(second))
    device.wait(executor.event_synchronize(end))
    assert executor.event_query(end)
    assert executor.stream_query(first)
    assert 0 <= executor.event_elapsed_ms(start, end) < 1000
    assert device.download(pointer, 1 << 20) == b"\2" * (1 << 19) + b"\1" * (1 << 19)
    executor.event_destroy(start)
    executor.stream_destroy(first)


def test_occupancy_and_attributes_of_kernels(device: Device) -> None:
    executor = device.executor
    function, info = executor.module_get_function(executor.module_load(PTX), "index")
    assert info.max_threads_per_block >= 1024
    assert executor.function_get_attribute(function, 0) == info.max_threads_per_block
    assert executor.function_occupancy(function, 256, 0, 0) >= 1
    assert executor.function_available_shared(function, 1, 32) > 0
    assert device.refused("function_get_attribute", function, 9999) == INVALID_VALUE


def test_contexts_do_not_share_allocations(device: Device) -> None:
    executor = device.executor
    pointer = executor.memory_allocate(4096)
    other = Device(executor)
    assert other.refused("memory_free", pointer) == INVALID_VALUE
    executor.context_destroy(other.context)
    executor.context_activate(device.context)
    executor.memory_free(pointer)
