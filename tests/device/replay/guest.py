"""A guest that does a little of everything with memory: what a recording must be able to keep."""

from __future__ import annotations

import struct
from collections.abc import Callable

from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.generated import Opcode
from vgpu_stub.driver import GuestChannel, GuestDriver, GuestMemory

KERNEL = b""".version 6.0
.target sm_50
.address_size 64
.visible .entry add_one(.param .u64 where)
{
    .reg .b64 %rd<2>;
    .reg .b32 %r<3>;
    ld.param.u64 %rd1, [where];
    ld.global.u32 %r1, [%rd1];
    add.u32 %r2, %r1, 1;
    st.global.u32 [%rd1], %r2;
    ret;
}
"""
SIZE = 4096
IMAGE, REPLY, INPUT, OUTPUT, GRAPH = (place << 12 for place in (0, 1, 2, 3, 4))
REGISTRATION = 1


class Guest:
    """One channel with a context, a kernel, device memory and registered memory."""

    def __init__(self, driver: GuestDriver) -> None:
        self.channel: GuestChannel = driver.open_channel(name="guest")
        self.memory: GuestMemory = driver.allocate(1 << 20)
        driver.register(self.channel, REGISTRATION, self.memory)
        self.context = self.channel.call(Opcode.CONTEXT_CREATE, 0, 0)[0]
        self.memory.memory[IMAGE : IMAGE + len(KERNEL) + 1] = KERNEL + b"\0"
        size = len(KERNEL) + 1
        module = self.call(Opcode.MODULE_LOAD, IMAGE, size, 0, REGISTRATION, 0, 0, 1)[0]
        self.function = self.call(
            Opcode.MODULE_GET_FUNCTION, REPLY, REGISTRATION, 4096, module, 7, tail=b"add_one"
        )[0]
        self.pointer = self.call(Opcode.MEMORY_ALLOCATE, SIZE)[0]

    def call(self, opcode: int, *fields: int | bytes, tail: bytes = b"") -> tuple[int, ...]:
        return self.channel.call(opcode, *fields, tail=tail, context=self.context)

    def post(self, opcode: int, *fields: int | bytes, tail: bytes = b"") -> None:
        """Submit a command whose completion nobody asks for."""
        self.channel.submit(opcode, *fields, tail=tail, context=self.context, flags=0)

    def upload(self, data: bytes) -> None:
        self.memory.memory[INPUT : INPUT + len(data)] = data
        self.call(Opcode.COPY_HOST_TO_DEVICE, self.pointer, INPUT, len(data), REGISTRATION, 0)

    def download(self, size: int) -> bytes:
        self.call(Opcode.COPY_DEVICE_TO_HOST, self.pointer, OUTPUT, size, REGISTRATION, 0)
        return self.memory.memory[OUTPUT : OUTPUT + size]

    def launch(self) -> None:
        parameters = struct.pack("<Q", self.pointer)
        self.post(Opcode.LAUNCH_KERNEL, self.function, 1, 1, 1, 1, 1, 1, 0, 0, 8, tail=parameters)

    def graph(self) -> int:
        """A graph: copy four bytes up, run the kernel, copy them down."""
        launch = abi.COMMANDS[Opcode.LAUNCH_KERNEL].fields.pack(
            self.function, 1, 1, 1, 1, 1, 1, 0, 0, 8
        ) + struct.pack("<Q", self.pointer)
        up = (self.pointer, INPUT, 4, REGISTRATION, 0)
        down = (self.pointer, OUTPUT, 4, REGISTRATION, 0)
        bodies = [
            (Opcode.COPY_HOST_TO_DEVICE, _body(Opcode.COPY_HOST_TO_DEVICE, *up)),
            (Opcode.LAUNCH_KERNEL, launch),
            (Opcode.COPY_DEVICE_TO_HOST, _body(Opcode.COPY_DEVICE_TO_HOST, *down)),
        ]
        data = b""
        for place, (opcode, body) in enumerate(bodies):
            command = abi.COMMAND_HEADER.pack(opcode, 1, 0, self.context, 0) + body
            waits = struct.pack("<I", place - 1) if place else b""
            node = abi.GRAPH_NODE.pack(len(waits) // 4, len(command)) + waits
            data = _aligned(_aligned(data + node) + command)
        self.memory.memory[GRAPH : GRAPH + len(data)] = data
        return self.call(Opcode.GRAPH_INSTANTIATE, GRAPH, len(data), REGISTRATION, 3)[0]


def _body(opcode: int, *fields: int) -> bytes:
    return abi.COMMANDS[opcode].fields.pack(*fields)


def _aligned(data: bytes) -> bytes:
    return data.ljust(-(-len(data) // 8) * 8, b"\0")


def copies_and_kernels(guest: Guest) -> None:
    for number in range(3):
        guest.upload(struct.pack("<I", 40 + number) + bytes(SIZE - 4))
        guest.launch()
        assert guest.download(4) == struct.pack("<I", 41 + number)


def graphs(guest: Guest) -> None:
    graph = guest.graph()
    for number in range(3):
        guest.memory.memory[INPUT : INPUT + 4] = struct.pack("<I", 7 * number)
        guest.post(Opcode.GRAPH_LAUNCH, graph, 0)
        guest.call(Opcode.STREAM_SYNCHRONIZE, 0, 0)
        assert guest.memory.memory[OUTPUT : OUTPUT + 4] == struct.pack("<I", 7 * number + 1)


def rectangles(guest: Guest) -> None:
    guest.memory.memory[INPUT:OUTPUT] = bytes(range(256)) * 16
    # Eight rows of ten bytes, 64 apart in guest memory, 16 apart on the device; then back.
    guest.call(Opcode.COPY_2D, guest.pointer, 16, INPUT, 64, 10, 8, 0, REGISTRATION, 0, 0)
    guest.memory.memory[OUTPUT : OUTPUT + SIZE] = b"\xaa" * SIZE
    guest.call(Opcode.COPY_2D, OUTPUT, 32, guest.pointer, 16, 10, 8, REGISTRATION, 0, 0, 0)
    assert guest.memory.memory[OUTPUT + 32 : OUTPUT + 43] == bytes(range(64, 74)) + b"\xaa"


def errors(guest: Guest) -> None:
    """An error that is told by the next command, and one that is told at once."""
    guest.post(Opcode.MEMORY_FREE, 0x1234)
    completion = guest.channel.wait(guest.channel.submit(Opcode.NOP))
    assert (completion.status, completion.flags) == (1, abi.COMPLETION_ASYNC_ERROR)
    sequence = guest.channel.submit(Opcode.STREAM_SYNCHRONIZE, 99, 0, context=guest.context)
    assert guest.channel.wait(sequence).status == 400


def copies_that_nobody_waits_for(guest: Guest) -> None:
    """Input and output memory is used again before anything has completed."""
    guest.channel.call(Opcode.NOP)
    for number in range(20):
        guest.post(Opcode.COPY_DEVICE_TO_HOST, guest.pointer, OUTPUT, 64, REGISTRATION, 0)
        guest.post(Opcode.MEMSET, guest.pointer, 64, number, 1, 0, 0)
    guest.call(Opcode.CONTEXT_SYNCHRONIZE)


def copies_that_are_waited_for_together(guest: Guest) -> None:
    """Answers come when later copies are on their way already."""
    guest.upload(bytes(range(256)) * 16)
    flags = abi.COMMAND_COMPLETE | abi.COMMAND_WAIT
    encoded = [
        guest.channel.encode(
            Opcode.COPY_DEVICE_TO_HOST,
            guest.pointer + 64 * number,
            OUTPUT + 64 * number,
            64,
            REGISTRATION,
            0,
            context=guest.context,
            flags=flags,
        )
        for number in range(8)
    ]
    for _, command in encoded:
        guest.channel.write_slots(command)
    guest.channel.publish()
    for sequence, _ in encoded:
        assert guest.channel.wait(sequence).status == 0


def a_kernel_that_faults(guest: Guest) -> None:
    """Every later command of the context repeats the error."""
    nowhere = struct.pack("<Q", 0)
    guest.post(Opcode.LAUNCH_KERNEL, guest.function, 1, 1, 1, 1, 1, 1, 0, 0, 8, tail=nowhere)
    guest.post(Opcode.COPY_DEVICE_TO_HOST, guest.pointer, OUTPUT, 64, REGISTRATION, 0)
    for _ in range(3):
        sequence = guest.channel.submit(Opcode.CONTEXT_SYNCHRONIZE, context=guest.context)
        assert guest.channel.wait(sequence).status == 700


def memory_that_nothing_has_written(guest: Guest) -> None:
    fresh = guest.call(Opcode.MEMORY_ALLOCATE, SIZE)[0]
    guest.call(Opcode.COPY_DEVICE_TO_HOST, fresh, OUTPUT, SIZE, REGISTRATION, 0)


SCENARIOS: tuple[Callable[[Guest], None], ...] = (
    copies_and_kernels,
    graphs,
    rectangles,
    errors,
    copies_that_nobody_waits_for,
    copies_that_are_waited_for_together,
    a_kernel_that_faults,
)
