"""Faults of commands and of the worker that carries them out, as a guest sees them."""

from __future__ import annotations

import errno
import threading
from time import monotonic

import pytest

from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.generated import Opcode
from vgpu_stub.device.channels import WORKER_LOST
from vgpu_stub.driver import DriverError, GuestChannel, GuestDriver
from vgpu_stub.harness.control import FaultControl

pytestmark = pytest.mark.device

OUT_OF_MEMORY = 2
LAUNCH_TIMEOUT = 702


def status_of(channel: GuestChannel, opcode: int, *fields: int, context: int = 0) -> int:
    return channel.wait(channel.submit(opcode, *fields, context=context)).status


@pytest.fixture
def context(channel: GuestChannel) -> int:
    return channel.call(Opcode.CONTEXT_CREATE, 0, 0)[0]


def test_error_is_the_commands_own_and_it_is_not_carried_out(
    channel: GuestChannel, context: int, faults: FaultControl
) -> None:
    faults.inject("command-error", error="CUDA_ERROR_OUT_OF_MEMORY", opcode="cuMemAlloc")
    free = channel.call(Opcode.MEMORY_GET_INFO, context=context)[0]
    assert status_of(channel, Opcode.MEMORY_ALLOCATE, 1 << 20, context=context) == OUT_OF_MEMORY
    assert channel.call(Opcode.MEMORY_GET_INFO, context=context)[0] == free
    assert status_of(channel, Opcode.MEMORY_ALLOCATE, 1 << 20, context=context) == 0


def test_asynchronous_error_comes_with_the_next_completion(
    channel: GuestChannel, faults: FaultControl
) -> None:
    faults.inject("command-error", error=1, mode="async")
    channel.submit(Opcode.NOP, flags=0)
    completion = channel.wait(channel.submit(Opcode.NOP))
    assert (completion.status, completion.flags) == (1, abi.COMPLETION_ASYNC_ERROR)
    assert status_of(channel, Opcode.NOP) == 0


@pytest.mark.parametrize(("kind", "error"), [("launch-timeout", 702), ("illegal-address", 700)])
def test_kernel_error_stays_with_its_context(
    channel: GuestChannel, context: int, faults: FaultControl, kind: str, error: int
) -> None:
    fault = faults.inject(kind)
    launch = abi.COMMANDS[Opcode.LAUNCH_KERNEL]
    channel.submit(Opcode.LAUNCH_KERNEL, *[0] * len(launch.field_names), context=context, flags=0)
    assert status_of(channel, Opcode.CONTEXT_SYNCHRONIZE, context=context) == error
    fault.clear()
    assert status_of(channel, Opcode.MEMORY_ALLOCATE, 4096, context=context) == error
    other = channel.call(Opcode.CONTEXT_CREATE, 0, 0)[0]
    assert status_of(channel, Opcode.MEMORY_ALLOCATE, 4096, context=other) == 0
    assert status_of(channel, Opcode.CONTEXT_DESTROY, context=context) == 0


def test_memory_is_exhausted_after_so_many_bytes_until_some_is_freed(
    channel: GuestChannel, context: int, faults: FaultControl
) -> None:
    fault = faults.inject("out-of-memory", after_bytes=8192)
    (first, *_) = channel.call(Opcode.MEMORY_ALLOCATE, 8192, context=context)
    assert status_of(channel, Opcode.MEMORY_ALLOCATE, 1, context=context) == OUT_OF_MEMORY
    assert status_of(channel, Opcode.MEMORY_ALLOCATE, 1, context=context) == OUT_OF_MEMORY
    channel.call(Opcode.MEMORY_FREE, first, context=context)
    assert status_of(channel, Opcode.MEMORY_ALLOCATE, 1, context=context) == 0
    assert fault.wait_fired(times=2) == 2


def test_slow_ring_takes_its_time_for_every_command(
    channel: GuestChannel, faults: FaultControl
) -> None:
    fault = faults.inject("ring-slow", delay_ms=30)
    start = monotonic()
    for _ in range(3):
        assert status_of(channel, Opcode.NOP) == 0
    assert monotonic() - start >= 0.09
    assert fault.wait_fired(times=3) == 3


def test_stuck_ring_goes_on_when_the_rule_is_cleared(
    channel: GuestChannel, faults: FaultControl
) -> None:
    fault = faults.inject("ring-stuck", nth=2)
    first, second, third = (channel.submit(Opcode.NOP) for _ in range(3))
    assert channel.wait(first).status == 0
    with pytest.raises(DriverError) as late:
        channel.wait(second, 0.2)
    assert late.value.number == errno.ETIMEDOUT
    assert channel.host_counter("busy_since_ns") == 0
    fault.clear()
    assert channel.wait(second).status == channel.wait(third).status == 0


@pytest.mark.parametrize("signal", ["KILL", "SEGV", "ABRT", "BUS"])
def test_crashed_worker_fails_its_channel_only(
    driver: GuestDriver, channel: GuestChannel, faults: FaultControl, signal: str
) -> None:
    other = driver.open_channel(2)
    fault = faults.inject("worker-crash", channel=1, signal=signal)
    with pytest.raises(DriverError) as failed:
        channel.call(Opcode.NOP)
    assert failed.value.number == WORKER_LOST
    other.call(Opcode.NOP)
    assert fault.wait_fired() == 1  # its last words arrived
    driver.close_channel(channel)
    driver.open_channel().call(Opcode.NOP)


def test_hung_worker_fails_its_channel_only(
    driver: GuestDriver, channel: GuestChannel, faults: FaultControl
) -> None:
    other = driver.open_channel(2)
    fault = faults.inject("worker-hang", channel=1)
    with pytest.raises(DriverError) as failed:
        channel.call(Opcode.NOP)
    assert failed.value.number == LAUNCH_TIMEOUT
    other.call(Opcode.NOP)
    assert fault.wait_fired() == 1


def test_worker_that_cannot_start_refuses_the_channel(
    driver: GuestDriver, faults: FaultControl
) -> None:
    fault = faults.inject("worker-start-failure", process="mine")
    driver.open_channel(1, name="other").call(Opcode.NOP)
    with pytest.raises(DriverError) as refused:
        driver.open_channel(2, name="mine")
    assert refused.value.number == errno.EAGAIN
    assert fault.fired == 1
    driver.open_channel(2, name="mine").call(Opcode.NOP)


def test_slow_start_delays_the_channel_and_nothing_else(
    driver: GuestDriver, channel: GuestChannel, faults: FaultControl
) -> None:
    faults.inject("worker-slow-start", delay_ms=300)
    start = monotonic()
    answered: list[float] = []
    calling = threading.Thread(
        target=lambda: (channel.call(Opcode.NOP), answered.append(monotonic()))
    )
    calling.start()
    calling.join()
    driver.open_channel(2).call(Opcode.NOP)
    assert monotonic() - start >= 0.3
    assert answered[0] - start < 0.3
