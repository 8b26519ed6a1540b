"""What waits for what: streams, events, contexts and memory that is taken away.

The kernel here takes long enough on a physical GPU that whoever does not wait reads too small a
count; every test reads it by a way that orders nothing itself.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Iterator

import pytest

from vgpu_host.executors.base import Function, Stream

from .conftest import Device

pytestmark = pytest.mark.device

NON_BLOCKING = 1
#: 15 ms on an H200, where queueing a command takes some microseconds.
STEPS = 100_000
INVALID_HANDLE = 400

PTX = b""".version 6.0
.target sm_50
.address_size 64
.visible .entry count(.param .u64 out, .param .u32 steps)
{
    .reg .pred %p<2>;
    .reg .b64 %rd<2>;
    .reg .b32 %r<4>;
    ld.param.u64 %rd1, [out];
    ld.param.u32 %r1, [steps];
    mov.u32 %r2, 0;
next:
    ld.volatile.global.u32 %r3, [%rd1];
    add.u32 %r3, %r3, 1;
    st.volatile.global.u32 [%rd1], %r3;
    add.u32 %r2, %r2, 1;
    setp.lt.u32 %p1, %r2, %r1;
    @%p1 bra next;
    ret;
}
"""


class Counter:
    """A count in device memory and the kernel that raises it by STEPS."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._executor = device.executor
        self.function: Function
        module = self._executor.module_load(PTX)
        self.function, _ = self._executor.module_get_function(module, "count")
        self.pointer = device.upload(bytes(4))
        device.synchronize()
        self._reader = self._executor.stream_create(NON_BLOCKING, 0)

    def launch(self, stream: Stream | None) -> None:
        parameters = struct.pack("<QI", self.pointer, STEPS)
        self._executor.launch(self.function, (1, 1, 1), (1, 1, 1), 0, stream, parameters)

    def read(self, pointer: int | None = None) -> int:
        """The count now, by a stream that waits for no other."""
        value = ctypes.c_uint32()
        source = self.pointer if pointer is None else pointer
        self._executor.copy_device_to_host(ctypes.addressof(value), source, 4, self._reader)
        self.device.wait(self._executor.stream_synchronize(self._reader))
        return value.value


@pytest.fixture
def counter(device: Device) -> Counter:
    return Counter(device)


@pytest.fixture
def page() -> Iterator[int]:
    """Address of a page that an executor can lock."""
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    view = (ctypes.c_char * mmap.PAGESIZE).from_buffer(memory)
    yield ctypes.addressof(view)
    del view
    memory.close()


@pytest.mark.parametrize("flags", [0, NON_BLOCKING])
def test_context_waits_for_every_stream(device: Device, counter: Counter, flags: int) -> None:
    stream = device.executor.stream_create(flags, 0)
    counter.launch(stream)
    device.wait(device.executor.context_synchronize())
    assert counter.read() == STEPS
    assert device.executor.stream_query(stream)


def test_context_waits_for_its_legacy_stream(device: Device, counter: Counter) -> None:
    counter.launch(None)
    device.wait(device.executor.context_synchronize())
    assert counter.read() == STEPS


@pytest.mark.parametrize("flags", [0, NON_BLOCKING])
def test_stream_waits_for_its_own_work(device: Device, counter: Counter, flags: int) -> None:
    stream = device.executor.stream_create(flags, 0)
    counter.launch(stream)
    counter.launch(stream)
    poll = device.executor.stream_synchronize(stream)
    device.wait(poll)
    assert counter.read() == 2 * STEPS
    assert poll()


def test_legacy_stream_waits_for_blocking_streams(device: Device, counter: Counter) -> None:
    executor = device.executor
    copied = device.upload(bytes(4))
    counter.launch(executor.stream_create(0, 0))
    executor.copy_device_to_device(copied, counter.pointer, 4, None)
    device.wait(executor.stream_synchronize(None))
    assert counter.read(copied) == STEPS


def test_stream_waits_for_an_event_of_another(device: Device, counter: Counter) -> None:
    executor = device.executor
    first = executor.stream_create(NON_BLOCKING, 0)
    second = executor.stream_create(NON_BLOCKING, 0)
    copied = device.upload(bytes(4))
    device.synchronize()
    event = executor.event_create(0)
    counter.launch(first)
    executor.event_record(event, first)
    executor.stream_wait_event(second, event, 0)
    executor.copy_device_to_device(copied, counter.pointer, 4, second)
    device.wait(executor.stream_synchronize(second))
    assert counter.read(copied) == STEPS


def test_event_is_reached_after_the_work_before_it(device: Device, counter: Counter) -> None:
    executor = device.executor
    stream = executor.stream_create(NON_BLOCKING, 0)
    start, end = executor.event_create(0), executor.event_create(0)
    executor.event_record(start, stream)
    counter.launch(stream)
    executor.event_record(end, stream)
    device.wait(executor.event_synchronize(end))
    assert counter.read() == STEPS
    assert executor.event_query(start)
    assert executor.event_elapsed_ms(start, end) > 0


def test_times_need_recorded_events_that_keep_them(device: Device) -> None:
    executor = device.executor
    recorded, never, untimed = (executor.event_create(flags) for flags in (0, 0, 2))
    executor.event_record(recorded, None)
    executor.event_record(untimed, None)
    device.synchronize()
    assert device.refused("event_elapsed_ms", recorded, never) == INVALID_HANDLE
    assert device.refused("event_elapsed_ms", recorded, untimed) == INVALID_HANDLE


def test_memory_is_taken_away_when_copies_of_all_contexts_are_over(
    device: Device, counter: Counter, page: int
) -> None:
    executor = device.executor
    executor.host_register(page, mmap.PAGESIZE)
    stream = executor.stream_create(NON_BLOCKING, 0)
    other = executor.context_create(0)  # now, because it takes longer than the kernel
    counter.launch(stream)
    executor.copy_device_to_host(page, counter.pointer, 4, stream)
    executor.context_activate(other)
    executor.host_unregister(page)
    assert ctypes.c_uint32.from_address(page).value == STEPS
    executor.context_destroy(other)
    executor.context_activate(device.context)
    assert executor.stream_query(stream)


def test_registered_memory_serves_every_context(device: Device, page: int) -> None:
    executor = device.executor
    executor.host_register(page, mmap.PAGESIZE)
    ctypes.memset(page, 0x5A, mmap.PAGESIZE)
    other = Device(executor)
    pointer = executor.memory_allocate(mmap.PAGESIZE)
    executor.copy_host_to_device(pointer, page, mmap.PAGESIZE, None)
    assert other.download(pointer, mmap.PAGESIZE) == b"\x5a" * mmap.PAGESIZE
    executor.context_destroy(other.context)
    executor.context_activate(device.context)
    executor.host_unregister(page)


def test_memory_that_cannot_be_locked_is_copied_all_the_same(device: Device, page: int) -> None:
    executor = device.executor
    executor.host_register(page, mmap.PAGESIZE)
    executor.host_register(page, mmap.PAGESIZE)  # locked already
    ctypes.memset(page, 0xA5, 64)
    pointer = executor.memory_allocate(64)
    executor.copy_host_to_device(pointer, page, 64, None)
    assert device.download(pointer, 64) == b"\xa5" * 64
    executor.host_unregister(page)
    executor.host_unregister(page)
