"""Every executor, one after the other, behind the same interface."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from time import monotonic

import pytest

from vgpu_host.executors.base import CudaError, Executor, Poll
from vgpu_host.executors.options import ExecutorOptions, make_executor, why_no_gpu

MEMORY = 256 << 20


class Device:
    """An executor with a context, and shorthands for what every test does."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.context = executor.context_create(0)
        executor.context_activate(self.context)

    def wait(self, poll: Poll) -> None:
        deadline = monotonic() + 20
        while not poll():
            assert monotonic() < deadline, "the device does not finish"

    def synchronize(self) -> None:
        self.wait(self.executor.context_synchronize())

    def upload(self, data: bytes) -> int:
        pointer = self.executor.memory_allocate(len(data))
        self.executor.copy_bytes_to_device(pointer, data, None)
        return pointer

    def download(self, pointer: int, size: int) -> bytes:
        buffer = ctypes.create_string_buffer(size)
        self.executor.copy_device_to_host(ctypes.addressof(buffer), pointer, size, None)
        self.synchronize()
        return buffer.raw

    def refused(self, call: str, *arguments: object) -> int:
        with pytest.raises(CudaError) as error:
            getattr(self.executor, call)(*arguments)
            self.synchronize()
        return error.value.result


@pytest.fixture(scope="module", params=["software", pytest.param("cuda", marks=pytest.mark.gpu)])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    name = str(request.param)
    reason = why_no_gpu() if name == "cuda" else None
    if reason:
        pytest.skip(f"no physical GPU: {reason}")
    made = make_executor(ExecutorOptions(name, memory_bytes=MEMORY, threads=1))
    yield made
    made.close()


@pytest.fixture
def device(executor: Executor) -> Iterator[Device]:
    made = Device(executor)
    yield made
    executor.context_destroy(made.context)
