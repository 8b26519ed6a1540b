"""Graphs: operations that are queued once and carried out at each launch, by every executor.

`append` writes at the place that a counter names and raises the counter, so the bytes that it
leaves tell which operations ran, how often, and in which order.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from vgpu_host.executors.base import Copy2D, Event, Function, GraphOperation, Stream
from vgpu_host.executors.blas import DataType

from .blas_calls import EMPTY, Matrices, random_array, scalar, with_operands
from .conftest import Device

pytestmark = pytest.mark.device

NON_BLOCKING = 1
ILLEGAL_ADDRESS = 700
INVALID_VALUE = 1
EXTERNAL = 1

PTX = b""".version 6.0
.target sm_50
.address_size 64
.visible .entry append(.param .u64 log, .param .u32 letter)
{
    .reg .b64 %rd<4>;
    .reg .b32 %r<3>;
    ld.param.u64 %rd1, [log];
    ld.param.u32 %r1, [letter];
    ld.global.u32 %r2, [%rd1];
    cvt.u64.u32 %rd2, %r2;
    add.u64 %rd3, %rd1, %rd2;
    st.global.u8 [%rd3+4], %r1;
    add.u32 %r2, %r2, 1;
    st.global.u32 [%rd1], %r2;
    ret;
}
"""


class Log:
    """Device memory that kernels append letters to."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.executor = device.executor
        module = self.executor.module_load(PTX)
        self.function: Function
        self.function, _ = self.executor.module_get_function(module, "append")
        self.pointer = device.upload(bytes(4096))
        device.synchronize()

    def append(self, letter: str) -> Callable[[Stream], None]:
        """Queues the kernel that appends `letter`."""
        parameters = struct.pack("<QI", self.pointer, ord(letter))

        def queue(stream: Stream) -> None:
            one = (1, 1, 1)
            self.executor.launch(self.function, one, one, 0, stream, parameters)

        return queue

    def chain(self, letters: str) -> list[GraphOperation]:
        """Operations that append the letters, each after the one before it."""
        return [
            GraphOperation((place - 1,) if place else (), self.append(letter))
            for place, letter in enumerate(letters)
        ]

    def read(self) -> str:
        data = self.device.download(self.pointer, 4096)
        return data[4 : 4 + int.from_bytes(data[:4], "little")].decode()


@pytest.fixture
def log(device: Device) -> Log:
    return Log(device)


@pytest.fixture
def page() -> Iterator[int]:
    """Address of a page that an executor can lock."""
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    view = (ctypes.c_char * mmap.PAGESIZE).from_buffer(memory)
    yield ctypes.addressof(view)
    del view
    memory.close()


def test_operations_run_at_launches_alone(device: Device, log: Log) -> None:
    graph = device.executor.graph_instantiate(log.chain("ab"))
    device.synchronize()
    assert log.read() == ""
    device.executor.graph_launch(graph, None)
    assert log.read() == "ab"


def test_graph_is_launched_many_times_in_stream_order(device: Device, log: Log) -> None:
    executor = device.executor
    stream = executor.stream_create(NON_BLOCKING, 0)
    graph = executor.graph_instantiate(log.chain("ab"))
    executor.graph_upload(graph, stream)
    for _ in range(100):
        executor.graph_launch(graph, stream)
        log.append("-")(stream)
    device.wait(executor.stream_synchronize(stream))
    assert log.read() == "ab-" * 100


def test_graph_is_launched_in_several_streams(device: Device, log: Log) -> None:
    executor = device.executor
    graph = executor.graph_instantiate(log.chain("abc"))
    streams = [executor.stream_create(NON_BLOCKING, 0) for _ in range(4)]
    for stream in streams:
        executor.graph_launch(graph, stream)
    device.synchronize()
    assert log.read() == "abc" * 4


def test_operations_wait_for_those_they_name(device: Device, log: Log) -> None:
    """a, then b and c in either order, then d; e waits for nothing but a."""
    executor = device.executor
    other = Log(device)
    operations = [
        GraphOperation((), log.append("a")),
        GraphOperation((0,), log.append("b")),
        GraphOperation((0,), other.append("c")),
        GraphOperation((1, 2), lambda stream: None),
        GraphOperation((3,), log.append("d")),
        GraphOperation((3,), other.append("e")),
        GraphOperation((4, 5), log.append("f")),
    ]
    graph = executor.graph_instantiate(operations)
    for _ in range(3):
        executor.graph_launch(graph, None)
    assert (log.read(), other.read()) == ("abdf" * 3, "ce" * 3)


def test_independent_operations_all_run(device: Device) -> None:
    logs = [Log(device) for _ in range(3)]
    operations = [GraphOperation((), log.append("x")) for log in logs]
    graph = device.executor.graph_instantiate(operations)
    device.executor.graph_launch(graph, None)
    assert [log.read() for log in logs] == ["x", "x", "x"]


def test_every_kind_of_copy_and_fill_can_be_part(device: Device, page: int) -> None:
    executor = device.executor
    executor.host_register(page, mmap.PAGESIZE)
    first, second, third = (device.upload(bytes(256)) for _ in range(3))
    rectangle = Copy2D(third, False, 64, second, False, 64, 32, 2)
    steps: list[Callable[[Stream], None]] = [
        lambda stream: executor.copy_host_to_device(first, page, 256, stream),
        lambda stream: executor.memset(first, 0x1234, 2, 4, stream),
        lambda stream: executor.copy_device_to_device(second, first, 256, stream),
        lambda stream: executor.memset_2d(second + 64, 64, 0xEE, 1, 16, 1, stream),
        lambda stream: executor.copy_2d(rectangle, stream),
        lambda stream: executor.copy_device_to_host(page + 1024, third, 256, stream),
    ]
    operations = [GraphOperation((n - 1,) if n else (), step) for n, step in enumerate(steps)]
    graph = executor.graph_instantiate(operations)
    for fill in (0x11, 0x22):  # the host memory is read at each launch
        ctypes.memset(page, fill, 256)
        executor.graph_launch(graph, None)
        device.synchronize()
        row = b"\x34\x12" * 4 + bytes([fill]) * 24
        second_row = b"\xee" * 16 + bytes([fill]) * 16
        expected = row.ljust(64, b"\0") + second_row.ljust(192, b"\0")
        assert ctypes.string_at(page + 1024, 256) == expected
    executor.host_unregister(page)


def test_updated_graph_runs_the_new_operations(device: Device, log: Log) -> None:
    executor = device.executor
    graph = executor.graph_instantiate(log.chain("ab"))
    executor.graph_launch(graph, None)
    executor.graph_update(graph, log.chain("xy"))
    executor.graph_launch(graph, None)
    assert log.read() == "abxy"


def test_update_may_change_everything(device: Device, log: Log) -> None:
    executor = device.executor
    target = device.upload(bytes(16))
    graph = executor.graph_instantiate(log.chain("ab"))
    executor.graph_launch(graph, None)
    fill = GraphOperation((1,), lambda stream: executor.memset(target, 7, 1, 16, stream))
    executor.graph_update(graph, [*log.chain("cd"), fill])
    executor.graph_launch(graph, None)
    assert log.read() == "abcd"
    assert device.download(target, 16) == b"\7" * 16


def test_destroyed_graph_ends_its_launches(device: Device, log: Log) -> None:
    executor = device.executor
    stream = executor.stream_create(NON_BLOCKING, 0)
    graph = executor.graph_instantiate(log.chain("abcd"))
    for _ in range(20):
        executor.graph_launch(graph, stream)
    executor.graph_destroy(graph)
    device.wait(executor.stream_synchronize(stream))
    assert log.read() == "abcd" * 20


def test_graphs_do_not_disturb_each_other(device: Device, log: Log) -> None:
    executor = device.executor
    first = executor.graph_instantiate(log.chain("a"))
    second = executor.graph_instantiate(log.chain("b"))
    for graph in (first, second, first):
        executor.graph_launch(graph, None)
    executor.graph_destroy(first)
    executor.graph_launch(second, None)
    assert log.read() == "abab"


def test_empty_graph_does_nothing(device: Device, log: Log) -> None:
    graph = device.executor.graph_instantiate([])
    device.executor.graph_launch(graph, None)
    assert log.read() == ""


def test_events_of_a_graph_are_those_of_each_launch(device: Device, log: Log) -> None:
    executor = device.executor
    start, end = executor.event_create(0), executor.event_create(0)

    def record(event: Event) -> Callable[[Stream], None]:
        return lambda stream: executor.event_record(event, stream)

    operations = [
        GraphOperation((), record(start)),
        GraphOperation((0,), log.append("a")),
        GraphOperation((1,), record(end)),
    ]
    graph = executor.graph_instantiate(operations)
    executor.graph_launch(graph, None)
    device.wait(executor.event_synchronize(end))
    assert log.read() == "a"
    assert executor.event_elapsed_ms(start, end) >= 0


def test_graph_waits_for_an_event_recorded_before_its_launch(device: Device, log: Log) -> None:
    executor = device.executor
    event = executor.event_create(0)
    first = executor.stream_create(NON_BLOCKING, 0)
    second = executor.stream_create(NON_BLOCKING, 0)
    operations = [
        GraphOperation((), lambda stream: executor.stream_wait_event(stream, event, EXTERNAL)),
        GraphOperation((0,), log.append("b")),
    ]
    graph = executor.graph_instantiate(operations)
    log.append("a")(first)
    executor.event_record(event, first)
    executor.graph_launch(graph, second)
    device.wait(executor.stream_synchronize(second))
    assert log.read() == "ab"


def test_routine_of_cublas_is_part_of_a_graph(device: Device) -> None:
    """C = A B, then A = B, so that a second launch differs."""
    executor = device.executor
    executor.blas_prepare()
    kind = DataType.R_32F
    left, right = (random_array(seed, (1, 8, 8), kind) for seed in (1, 2))
    a, b, c = (Matrices(device, values, kind) for values in (left, right, np.zeros_like(left)))
    call = with_operands(replace(EMPTY, m=8, n=8, k=8), a, b, c)
    call = replace(call, alpha=scalar(1, call.alpha_type), beta=scalar(0, call.beta_type))
    size = 4 * 8 * 8
    operations = [
        GraphOperation((), lambda stream: executor.memset(c.pointer, 0xFF, 1, size, stream)),
        GraphOperation((0,), lambda stream: executor.blas(call, stream)),
        GraphOperation(
            (1,), lambda stream: executor.copy_device_to_device(a.pointer, b.pointer, size, stream)
        ),
    ]
    graph = executor.graph_instantiate(operations)
    executor.graph_launch(graph, None)
    np.testing.assert_allclose(c.values(), left @ right, rtol=1e-4, atol=1e-5)
    executor.graph_launch(graph, None)
    np.testing.assert_allclose(c.values(), right @ right, rtol=1e-4, atol=1e-5)


def test_failed_build_leaves_the_executor_as_it_was(device: Device, log: Log) -> None:
    executor = device.executor

    def build() -> None:
        # What the software GPU finds at a launch a physical one finds when the graph is built.
        beyond = GraphOperation((0,), lambda stream: executor.memset(64, 1, 1, 16, stream))
        graph = executor.graph_instantiate([*log.chain("a"), beyond])
        executor.graph_launch(graph, None)
        device.synchronize()

    with pytest.raises(Exception, match="0x40"):
        build()
    graph = executor.graph_instantiate(log.chain("z"))
    executor.graph_launch(graph, None)
    assert log.read()[-1] == "z"
