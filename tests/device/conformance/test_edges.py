"""Smallest, odd and impossible arguments, which every executor takes or refuses alike."""

from __future__ import annotations

import ctypes
import struct

import pytest

from vgpu_host.executors.base import Copy2D, CudaError, Executor

from .conftest import Device

pytestmark = pytest.mark.device

INVALID_VALUE = 1
INVALID_CONTEXT = 201
INVALID_IMAGE = 200
NO_BINARY = 209
INVALID_PTX = 218
UNSUPPORTED_LIMIT = 215
SIZES = [1, 3, 4095, 4096, 4097, 1 << 20]

#: Attributes of what no command of the ABI carries, by number of CUdevice_attribute.
NOT_CARRIED = {
    "CAN_MAP_HOST_MEMORY": 19,
    "STREAM_PRIORITIES_SUPPORTED": 78,
    "MANAGED_MEMORY": 83,
    "PAGEABLE_MEMORY_ACCESS": 88,
    "CONCURRENT_MANAGED_ACCESS": 89,
    "COOPERATIVE_MULTI_DEVICE_LAUNCH": 96,
    "HOST_REGISTER_SUPPORTED": 99,
    "VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED": 102,
    "GENERIC_COMPRESSION_SUPPORTED": 107,
    "MAX_PERSISTING_L2_CACHE_SIZE": 108,
    "MAX_ACCESS_POLICY_WINDOW_SIZE": 109,
    "SPARSE_CUDA_ARRAY_SUPPORTED": 112,
    "READ_ONLY_HOST_REGISTER_SUPPORTED": 113,
    "TIMELINE_SEMAPHORE_INTEROP_SUPPORTED": 114,
    "MEMORY_POOLS_SUPPORTED": 115,
    "GPU_DIRECT_RDMA_SUPPORTED": 116,
    "CLUSTER_LAUNCH": 120,
    "IPC_EVENT_SUPPORTED": 125,
    "TENSOR_MAP_ACCESS_SUPPORTED": 127,
    "MULTICAST_SUPPORTED": 132,
    "MEM_DECOMPRESS_ALGORITHM_MASK": 136,
    "HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED": 141,
    "HOST_NUMA_MEMORY_POOLS_SUPPORTED": 142,
    "HOST_MEMORY_POOLS_SUPPORTED": 144,
    "HOST_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED": 145,
}
#: Attributes that every program reads to choose its launches.
NEEDED = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 13, 16, 39, 41, 75, 81, 82, 97, 106)

PTX = b""".version 6.0
.target sm_50
.address_size 64
.extern .shared .align 4 .b8 words[];
.visible .entry nothing()
{
    ret;
}
.visible .entry last(.param .u64 out)
{
    .reg .b64 %rd<2>;
    .reg .b32 %r<5>;
    ld.param.u64 %rd1, [out];
    mov.u32 %r1, words;
    mov.u32 %r2, 77;
    st.shared.u32 [%r1+1020], %r2;
    ld.shared.u32 %r3, [%r1+1020];
    st.global.u32 [%rd1], %r3;
    ret;
}
"""


@pytest.mark.parametrize("name", NOT_CARRIED)
def test_what_is_not_carried_is_reported_absent(executor: Executor, name: str) -> None:
    assert executor.describe().attributes.get(NOT_CARRIED[name], 0) == 0


def test_what_launches_depend_on_is_reported(executor: Executor) -> None:
    attributes = executor.describe().attributes
    assert [number for number in NEEDED if attributes.get(number, 0) <= 0] == []


def test_identity_does_not_change(executor: Executor) -> None:
    first, second = executor.describe(), executor.describe()
    assert first == second
    assert any(first.uuid)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("offset", [0, 1, 13])
def test_host_memory_goes_there_and_back(device: Device, size: int, offset: int) -> None:
    executor = device.executor
    pattern = bytes((i * 31 + offset) & 0xFF for i in range(size))
    source = ctypes.create_string_buffer(b"\x11" * offset + pattern, size + offset)
    pointer = device.upload(b"\xee" * (size + 2 * offset + 1))
    executor.copy_host_to_device(pointer + offset, ctypes.addressof(source) + offset, size, None)
    target = ctypes.create_string_buffer(b"\xcc" * (size + 2 * offset + 1))
    executor.copy_device_to_host(ctypes.addressof(target) + offset, pointer + offset, size, None)
    device.synchronize()
    assert target.raw[: size + 2 * offset + 1] == (
        b"\xcc" * offset + pattern + b"\xcc" * (offset + 1)
    )
    assert device.download(pointer + offset + size, 1) == b"\xee"


def test_copies_and_fills_of_nothing_do_nothing(device: Device) -> None:
    executor = device.executor
    pointer = device.upload(b"x" * 64)
    host = ctypes.create_string_buffer(b"y" * 64, 64)
    address = ctypes.addressof(host)
    for start in (0, pointer, pointer + 32, pointer + 64):
        executor.copy_host_to_device(start, address, 0, None)
        executor.copy_device_to_host(address, start, 0, None)
        executor.copy_device_to_device(start, pointer, 0, None)
        executor.copy_bytes_to_device(start, b"", None)
        executor.memset(start, 0, 4, 0, None)
        executor.memset_2d(start, 16, 0, 1, 0, 4, None)
        executor.memset_2d(start, 16, 0, 1, 4, 0, None)
    assert device.download(pointer, 64) == b"x" * 64
    assert host.raw == b"y" * 64


@pytest.mark.parametrize("element_bytes", [1, 2, 4])
@pytest.mark.parametrize("pitch", [24, 40])
def test_2d_fills_of_every_width_leave_the_gaps(
    device: Device, element_bytes: int, pitch: int
) -> None:
    pointer = device.upload(b"\xee" * (4 * pitch))
    device.executor.memset_2d(pointer + 4, pitch, 0xA1B2C3D4, element_bytes, 3, 3, None)
    element = (0xA1B2C3D4 & (1 << 8 * element_bytes) - 1).to_bytes(element_bytes, "little")
    row = (b"\xee" * 4 + element * 3).ljust(pitch, b"\xee")
    assert device.download(pointer, 4 * pitch) == row * 3 + b"\xee" * pitch


@pytest.mark.parametrize("element_bytes", [2, 4])
def test_fills_need_their_alignment(device: Device, element_bytes: int) -> None:
    pointer = device.upload(bytes(64))
    assert device.refused("memset", pointer + 1, 1, element_bytes, 4, None) == INVALID_VALUE
    assert device.download(pointer, 64) == bytes(64)


def test_rectangles_beyond_an_allocation_are_refused(device: Device) -> None:
    inside = device.upload(bytes(256))
    host = ctypes.create_string_buffer(1 << 22)
    address = ctypes.addressof(host)
    for copy in (
        Copy2D(inside, False, 1 << 20, address, True, 16, 16, 4),
        Copy2D(address, True, 16, inside, False, 1 << 20, 16, 4),
    ):
        assert device.refused("copy_2d", copy, None) == INVALID_VALUE
    assert device.refused("memset_2d", inside, 1 << 20, 1, 1, 16, 4, None) == INVALID_VALUE


def test_kernel_without_parameters_runs(device: Device) -> None:
    executor = device.executor
    function, info = executor.module_get_function(executor.module_load(PTX), "nothing")
    assert info.parameters == ()
    executor.launch(function, (2, 2, 2), (4, 2, 2), 0, None, b"")
    device.synchronize()


def test_dynamic_shared_memory_is_there_up_to_its_limit(device: Device) -> None:
    executor = device.executor
    function, info = executor.module_get_function(executor.module_load(PTX), "last")
    out = device.upload(bytes(4))
    packed = struct.pack("<Q", out)
    executor.launch(function, (1, 1, 1), (1, 1, 1), 1024, None, packed)
    assert device.download(out, 4) == struct.pack("<I", 77)
    limit = info.max_dynamic_shared_bytes
    executor.function_set_attribute(function, 8, limit)
    assert executor.function_get_attribute(function, 8) == limit
    executor.launch(function, (1, 1, 1), (1, 1, 1), limit, None, packed)
    device.synchronize()
    shape = ((1, 1, 1), (1, 1, 1))
    assert device.refused("launch", function, *shape, limit + 1, None, packed) == INVALID_VALUE
    assert device.refused("function_set_attribute", function, 0, 32) == INVALID_VALUE


def test_occupancy_falls_with_what_a_block_takes(device: Device) -> None:
    executor = device.executor
    function, info = executor.module_get_function(executor.module_load(PTX), "nothing")
    attributes = executor.describe().attributes
    blocks = executor.function_occupancy(function, 32, 0, 0)
    assert 1 <= blocks <= attributes[106]
    largest = info.max_threads_per_block
    assert executor.function_occupancy(function, largest, 0, 0) * largest <= attributes[39]
    assert executor.function_occupancy(function, 32, info.max_dynamic_shared_bytes, 0) >= 1
    assert executor.function_occupancy(function, 32, attributes[81] + 1, 0) == 0
    assert 0 < executor.function_available_shared(function, 1, 32) <= attributes[81]
    assert device.refused("function_occupancy", function, 0, 0, 0) == INVALID_VALUE


@pytest.mark.parametrize(
    ("image", "results"),
    [
        (b"", {INVALID_IMAGE, INVALID_PTX}),
        (b"neither PTX nor a cubin", {INVALID_IMAGE, INVALID_PTX}),
        (PTX[: len(PTX) // 2], {INVALID_PTX}),
        (b"\x7fELF" + bytes(508), {INVALID_IMAGE, NO_BINARY}),
    ],
    ids=["empty", "text", "half", "elf"],
)
def test_images_that_are_none_are_refused(device: Device, image: bytes, results: set[int]) -> None:
    with pytest.raises(CudaError) as error:
        device.executor.module_get_function(device.executor.module_load(image), "last")
    assert error.value.result in results
    assert device.download(device.upload(b"fine"), 4) == b"fine"


def test_unloaded_variables_are_no_memory_any_more(device: Device) -> None:
    executor = device.executor
    text = PTX.replace(
        b".visible .entry nothing", b".visible .global .b8 v[64];\n.visible .entry n"
    )
    module = executor.module_load(text)
    pointer, size = executor.module_get_global(module, "v")
    assert size == 64
    assert device.download(pointer, 64) == bytes(64)
    executor.module_unload(module)
    assert device.refused("copy_bytes_to_device", pointer, b"late", None) == INVALID_VALUE


def test_limits_are_read_and_set(device: Device) -> None:
    executor = device.executor
    executor.context_set_limit(0, 4096)  # stack
    assert executor.context_get_limit(0) == 4096
    for call, arguments in (("context_get_limit", (999,)), ("context_set_limit", (999, 1))):
        assert device.refused(call, *arguments) == UNSUPPORTED_LIMIT


def test_memory_of_a_destroyed_context_comes_back(executor: Executor) -> None:
    kept = Device(executor)
    lost = Device(executor)
    pointer = executor.memory_allocate(64 << 20)
    while_held, _ = executor.memory_info()
    executor.context_destroy(lost.context)
    executor.context_activate(kept.context)
    assert executor.memory_info()[0] >= while_held + (64 << 20)
    assert kept.refused("copy_bytes_to_device", pointer, b"late", None) == INVALID_VALUE
    executor.context_destroy(kept.context)


def test_nothing_works_without_a_context(executor: Executor) -> None:
    gone = Device(executor)
    executor.context_destroy(gone.context)
    for call, arguments in (
        ("memory_allocate", (64,)),
        ("memory_info", ()),
        ("stream_create", (0, 0)),
        ("module_load", (PTX,)),
        ("context_synchronize", ()),
    ):
        with pytest.raises(CudaError) as error:
            getattr(executor, call)(*arguments)
        assert error.value.result == INVALID_CONTEXT
