"""A process of the guest on one channel: a context, registered memory, device memory, a kernel.

Attackers are tenants, and so are those who must not notice: `check` computes something on the
channel and compares every byte.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from time import monotonic
from typing import Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.generated import Opcode
from vgpu_stub.driver import DriverError, GuestChannel, GuestDriver, GuestMemory
from vgpu_stub.villain.guest.kernels import PTX
from vgpu_stub.villain.registry import Violation

#: Registered memory of a tenant: 32 KiB of data, then 32 KiB for images and replies.
MEMORY_BYTES: Final = 1 << 16
DATA_BYTES: Final = 1 << 15
REGISTRATION: Final = 1
_WORDS: Final = 64
_PATIENCE_S: Final = 15.0


class Tenant:
    """One channel in use."""

    def __init__(self, driver: GuestDriver, number: int, memory: GuestMemory) -> None:
        """Open the channel and set everything up.

        Args:
            driver: The device, enabled.
            number: The channel, and its vector.
            memory: `MEMORY_BYTES` of guest memory for it.
        """
        self.driver = driver
        self.number = number
        self.memory = memory
        self.rounds = number
        self.open()

    def open(self) -> None:
        """Open the channel, again after it was destroyed, and set everything up."""
        self.channel: GuestChannel = self.driver.open_channel(self.number, f"tenant{self.number}")
        self.driver.register(self.channel, REGISTRATION, self.memory)
        (self.context, *_) = self.channel.call(Opcode.CONTEXT_CREATE, 0, 0)
        (self.pointer, *_) = self.call(Opcode.MEMORY_ALLOCATE, MEMORY_BYTES)
        self.module = 0
        self.functions: dict[str, int] = {}

    def call(
        self, opcode: int, *fields: int | bytes, tail: bytes = b"", context: int | None = None
    ) -> tuple[int, ...]:
        """Run a command in the tenant's context and return its result words.

        Raises:
            DriverError: It failed.
        """
        status, results = self.attempt(opcode, *fields, tail=tail, context=context)
        if status:
            raise DriverError(f"{abi.COMMANDS[opcode].name} failed with {status}", status)
        return results

    def attempt(
        self,
        opcode: int,
        *fields: int | bytes,
        tail: bytes = b"",
        context: int | None = None,
        timeout_s: float = _PATIENCE_S,
    ) -> tuple[int, tuple[int, ...]]:
        """Run a command and return its status and result words."""
        number = self.context if context is None else context
        sequence = self.channel.submit(opcode, *fields, tail=tail, context=number)
        completion = self.channel.wait(sequence, timeout_s)
        return completion.status, completion.result

    def send(self, command: bytes, timeout_s: float = _PATIENCE_S) -> int:
        """Submit a command as it is, made by `encode` and then bent; returns its status."""
        self.channel.write_slots(command)
        self.channel.publish()
        sequence: int = struct.unpack_from("<Q", command, 8)[0]
        return self.channel.wait(sequence, timeout_s).status

    def load(self, image: bytes = PTX, context: int | None = None) -> int:
        """Load a module and return its handle."""
        status, (module, *_) = self.try_load(image, context)
        if status:
            raise DriverError(f"MODULE_LOAD failed with {status}", status)
        return module

    def try_load(
        self, image: bytes, context: int | None = None, timeout_s: float = _PATIENCE_S
    ) -> tuple[int, tuple[int, ...]]:
        """Load a module of at most 32 KiB; returns status and result words."""
        self.memory.memory[DATA_BYTES : DATA_BYTES + len(image)] = image
        return self.attempt(
            Opcode.MODULE_LOAD,
            DATA_BYTES,
            len(image),
            0,
            REGISTRATION,
            0,
            0,
            abi.IMAGE_PTX,
            context=context,
            timeout_s=timeout_s,
        )

    def put_node(self, opcode: int, *fields: int | bytes, tail: bytes = b"") -> int:
        """Describe a graph of one node in the tenant's memory; returns its size in bytes."""
        body = abi.COMMANDS[opcode].fields.pack(*fields) + tail
        command = abi.COMMAND_HEADER.pack(opcode, 1, 0, 0, 0) + body
        node = abi.GRAPH_NODE.pack(0, len(command)) + command
        self.memory.memory[DATA_BYTES : DATA_BYTES + len(node)] = node
        return len(node)

    def empty_graph(self) -> int:
        """Make a graph of one node that does nothing; returns its handle."""
        size = self.put_node(Opcode.NOP)
        graph, *_ = self.call(Opcode.GRAPH_INSTANTIATE, DATA_BYTES, size, REGISTRATION, 1)
        return graph

    def function(self, name: str, module: int, context: int | None = None) -> int:
        """Find a kernel of a module and return its handle."""
        text = name.encode()
        function, *_ = self.call(
            Opcode.MODULE_GET_FUNCTION,
            DATA_BYTES,
            REGISTRATION,
            4096,
            module,
            len(text),
            tail=text,
            context=context,
        )
        return function

    def launch(
        self,
        function: int,
        parameters: bytes,
        grid: tuple[int, int, int] = (1, 1, 1),
        block: tuple[int, int, int] = (1, 1, 1),
        *,
        shared_bytes: int = 0,
        stream: int = 0,
        context: int | None = None,
        opcode: int = Opcode.LAUNCH_KERNEL,
        timeout_s: float = _PATIENCE_S,
    ) -> int:
        """Launch a kernel, wait for it, and return the CUresult of either."""
        status, _ = self.attempt(
            opcode,
            function,
            *grid,
            *block,
            shared_bytes,
            stream,
            len(parameters),
            tail=parameters,
            context=context,
            timeout_s=timeout_s,
        )
        if status:
            return status
        return self.attempt(Opcode.CONTEXT_SYNCHRONIZE, context=context, timeout_s=timeout_s)[0]

    def check(self, *, kernel: bool = False) -> None:
        """Compute something on the channel and compare it.

        Raises:
            Violation: The channel does not answer, or computes wrongly.
        """
        self.rounds = self.rounds * 1103515245 + 12345 & 0x7FFF_FFFF
        expected = [self.rounds + 7 * place & 0xFFFF_FFFF for place in range(_WORDS)]
        try:
            words = self._compute(expected, kernel=kernel)
        except DriverError as error:
            raise Violation(f"channel {self.number} does not work any more: {error}") from error
        if words != tuple(expected):
            raise Violation(f"channel {self.number} computes wrongly: {words} is not {expected}")

    def _compute(self, expected: list[int], *, kernel: bool) -> tuple[int, ...]:
        size = 4 * _WORDS
        amount = 3 if kernel else 0
        data = struct.pack(f"<{_WORDS}I", *(word - amount & 0xFFFF_FFFF for word in expected))
        self.memory.memory[:size] = data
        self.call(Opcode.COPY_HOST_TO_DEVICE, self.pointer, 0, size, REGISTRATION, 0)
        if kernel:
            self._launch_add(amount)
        self.memory.memory[:size] = bytes(size)
        self.call(Opcode.COPY_DEVICE_TO_HOST, self.pointer, 0, size, REGISTRATION, 0)
        self.call(Opcode.CONTEXT_SYNCHRONIZE)
        return struct.unpack(f"<{_WORDS}I", self.memory.memory[:size])

    def _launch_add(self, amount: int) -> None:
        if not self.module:
            self.module = self.load()
        if "add" not in self.functions:
            self.functions["add"] = self.function("add", self.module)
        status = self.launch(
            self.functions["add"],
            struct.pack("<QI", self.pointer, amount),
            block=(_WORDS, 1, 1),
        )
        if status:
            raise DriverError(f"a kernel failed with {status}", status)

    def wait_failed(self, result: int, timeout_s: float = _PATIENCE_S) -> None:
        """Wait until the channel has failed with this CUresult.

        Raises:
            Violation: It does not, or with another.
        """
        wait_until(lambda: self.channel.state == abi.CHANNEL_FAILED, timeout_s)
        if self.channel.state != abi.CHANNEL_FAILED:
            raise Violation(f"channel {self.number} has not failed in {timeout_s} s")
        if self.channel.error != result:
            raise Violation(f"channel {self.number} failed with {self.channel.error}, not {result}")


def wait_until(condition: Callable[[], bool], timeout_s: float = _PATIENCE_S) -> bool:
    """Wait for a condition that the device makes true; whether it did in time."""
    deadline = monotonic() + timeout_s
    pause = threading.Event()
    while not condition():
        if monotonic() > deadline:
            return False
        pause.wait(0.001)
    return True
