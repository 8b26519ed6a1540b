"""Attacks on registered memory: ids, access, and taking it away while it is used."""

from __future__ import annotations

import os
import struct
from typing import Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.generated import Opcode
from vgpu_stub.driver import DriverError
from vgpu_stub.villain.guest.scene import SIBLING, VICTIM, Scene, expect
from vgpu_stub.villain.guest.tenant import wait_until
from vgpu_stub.villain.registry import Harm, Violation, attack

_LISTS: Final = "4 Scatter lists"
_ADMIN: Final = "4 Admin channel"
_PAGE: Final = 4096
_INVALID_VALUE, _WORKER_LOST = 1, 46
_ID: Final = 77
_IOVA: Final = 1 << 45
_BOTH: Final = abi.REGISTER_READ | abi.REGISTER_WRITE


def _copy(scene: Scene, opcode: int, registration: int, offset: int = 0, size: int = 64) -> int:
    fields = (scene.victim.pointer, offset, size, registration, 0)
    return scene.victim.attempt(opcode, *fields)[0]


def _register(scene: Scene, iova: int, size: int, access: int = _BOTH) -> None:
    first = scene.driver.scatter_list([(iova, size)])
    code = scene.admin(Opcode.MEMORY_REGISTER, first, size, VICTIM, _ID, access, 1)
    expect("registering", code, 0)


@attack(
    "registrations.id.unknown",
    _LISTS,
    "Every id, offset and size is checked against the registrations of the channel.",
    "CUDA_ERROR_INVALID_VALUE for ids that the channel does not have",
    covers=["4.10"],
)
def _unknown_id(scene: Scene) -> None:
    for opcode in (Opcode.COPY_HOST_TO_DEVICE, Opcode.COPY_DEVICE_TO_HOST):
        for number in (0, 2, abi.REGISTRATION_MAX, 0x8000_0001, 0xFFFF_FFFF):
            expect(f"registration {number}", _copy(scene, opcode, number), _INVALID_VALUE)


@attack(
    "registrations.id.of-another-channel",
    _LISTS,
    "A channel uses the registrations of the channel that a command came on.",
    "CUDA_ERROR_INVALID_VALUE for a registration of the sibling",
    covers=["4.10"],
)
def _foreign_id(scene: Scene) -> None:
    first = scene.driver.scatter_list([(scene.sibling.memory.iova, _PAGE)])
    code = scene.admin(Opcode.MEMORY_REGISTER, first, _PAGE, SIBLING, _ID, _BOTH, 1)
    expect("registering", code, 0)
    for opcode in (Opcode.COPY_HOST_TO_DEVICE, Opcode.COPY_DEVICE_TO_HOST):
        expect("a copy", _copy(scene, opcode, _ID), _INVALID_VALUE)


@attack(
    "registrations.range",
    _LISTS,
    "Commands name registration id, offset, size; the device checks every one.",
    "CUDA_ERROR_INVALID_VALUE for every range that leaves the registration or wraps",
    covers=["4.10"],
)
def _range(scene: Scene) -> None:
    size = scene.victim.memory.size
    ranges = [(0, size + 1), (size, 1), (size - 1, 2), ((1 << 64) - 1, 2), (1, (1 << 64) - 1)]
    ranges += [(0, 1 << 63), (1 << 63, 1 << 63), (1 << 32, 64), ((1 << 64) - 64, 128)]
    for opcode in (Opcode.COPY_HOST_TO_DEVICE, Opcode.COPY_DEVICE_TO_HOST):
        for offset, length in ranges:
            expect(f"{offset:#x}+{length:#x}", _copy(scene, opcode, 1, offset, length), 1)


@attack(
    "registrations.access.read-only",
    _LISTS,
    "A registration grants the access it was made with.",
    "the device does not write memory registered for reading, and the memory stays",
    covers=["4.11"],
)
def _read_only(scene: Scene) -> None:
    _register(scene, scene.victim.memory.iova, _PAGE, abi.REGISTER_READ)
    scene.victim.memory.memory[:64] = b"r" * 64
    expect("a copy to it", _copy(scene, Opcode.COPY_DEVICE_TO_HOST, _ID), _INVALID_VALUE)
    expect("output to it", scene.victim.attempt(Opcode.OUTPUT_READ, 0, _ID, 64)[0], 1)
    expect("the memory", scene.victim.memory.memory[:64], b"r" * 64)
    expect("a copy from it", _copy(scene, Opcode.COPY_HOST_TO_DEVICE, _ID), 0)


@attack(
    "registrations.access.write-only",
    _LISTS,
    "A registration grants the access it was made with.",
    "the device does not read memory registered for writing",
    covers=["4.11"],
)
def _write_only(scene: Scene) -> None:
    _register(scene, scene.victim.memory.iova, _PAGE, abi.REGISTER_WRITE)
    expect("a copy from it", _copy(scene, Opcode.COPY_HOST_TO_DEVICE, _ID), _INVALID_VALUE)
    fields = (0, 64, 0, _ID, 0, 0, abi.IMAGE_PTX)
    expect("a module in it", scene.victim.attempt(Opcode.MODULE_LOAD, *fields)[0], 1)
    expect("a graph in it", scene.victim.attempt(Opcode.GRAPH_INSTANTIATE, 0, 64, _ID, 1)[0], 1)


@attack(
    "registrations.access.gone",
    _ADMIN,
    "MEMORY_UNREGISTER completes only when the device will not touch the memory again.",
    "copies queued before it are done, those after it are refused",
    covers=["4.8"],
)
def _gone(scene: Scene) -> None:
    _register(scene, scene.victim.memory.iova, _PAGE)
    channel, context = scene.victim.channel, scene.victim.context
    fields = (scene.victim.pointer, 0, _PAGE, _ID, 0)
    for _ in range(200):
        channel.submit(Opcode.COPY_DEVICE_TO_HOST, *fields, context=context, flags=0)
    expect("unregistering", scene.admin(Opcode.MEMORY_UNREGISTER, VICTIM, _ID), 0)
    scene.victim.memory.memory[:_PAGE] = b"m" * _PAGE
    status, _ = scene.victim.attempt(Opcode.COPY_DEVICE_TO_HOST, *fields)
    expect("a copy afterwards", status, _INVALID_VALUE)
    expect("the memory", scene.victim.memory.memory[:_PAGE], b"m" * _PAGE)
    # Those that came too late left an asynchronous error, which the next command reports.
    scene.victim.attempt(Opcode.NOP)


@attack(
    "registrations.id.reused",
    _LISTS,
    "A registration id means the memory that it was last registered with.",
    "copies reach the new memory and not the old",
    covers=["4.10"],
)
def _reused(scene: Scene) -> None:
    base = scene.victim.memory.iova
    memory = scene.victim.memory.memory
    memory[:_PAGE], memory[_PAGE : 2 * _PAGE] = b"1" * _PAGE, b"2" * _PAGE
    for place in (0, 1):
        _register(scene, base + place * _PAGE, _PAGE)
        expect("a copy", _copy(scene, Opcode.COPY_HOST_TO_DEVICE, _ID, 0, _PAGE), 0)
        expect("unregistering", scene.admin(Opcode.MEMORY_UNREGISTER, VICTIM, _ID), 0)
    scene.victim.call(Opcode.COPY_DEVICE_TO_HOST, scene.victim.pointer, 2 * _PAGE, _PAGE, 1, 0)
    scene.victim.call(Opcode.CONTEXT_SYNCHRONIZE)
    expect("what was copied", memory[2 * _PAGE : 3 * _PAGE], b"2" * _PAGE)


@attack(
    "registrations.window.unmapped",
    "3 Channel states",
    "A channel fails when a DMA window with its memory goes away.",
    "DEVICE_UNAVAILABLE, ERROR says DMA_REMOVED; nothing is copied any more",
    covers=["3.13", "3.15"],
    harm=Harm.CHANNEL,
)
def _unmapped(scene: Scene) -> None:
    memory = scene.driver.allocate(_PAGE)
    _register(scene, memory.iova, _PAGE)
    scene.driver.client.unmap_dma(memory.iova, _PAGE)
    scene.victim.wait_failed(_WORKER_LOST)
    expect("ERROR", scene.bar0(abi.REG_ERROR), abi.DEVICE_ERROR_DMA_REMOVED)
    expect("ERROR_CHANNEL", scene.bar0(abi.REG_ERROR_CHANNEL), scene.victim.number)


@attack(
    "registrations.window.unmapped-under-load",
    "3 Channel states",
    "A channel fails when a DMA window with its memory goes away.",
    "with copies under way, nothing writes the memory once DMA_UNMAP is answered",
    covers=["3.15"],
    harm=Harm.CHANNEL,
)
def _unmapped_under_load(scene: Scene) -> None:
    size = 1 << 16
    memory = scene.driver.allocate(size)
    _register(scene, memory.iova, size)
    channel, context = scene.victim.channel, scene.victim.context
    fields = (scene.victim.pointer, 0, size, _ID, 0)
    for _ in range(2000):
        channel.submit(Opcode.COPY_DEVICE_TO_HOST, *fields, context=context, flags=0)
    scene.driver.client.unmap_dma(memory.iova, size)
    memory.memory[:] = b"m" * size
    wait_until(lambda: memory.memory[:] != b"m" * size, 0.2)
    expect("the memory is untouched", memory.memory[:] == b"m" * size, True)
    scene.victim.wait_failed(_WORKER_LOST)


@attack(
    "registrations.window.unmapped-while-leaving",
    "3 Channel states",
    "Memory that the worker has not given up yet is still in use.",
    "a window unmapped while MEMORY_UNREGISTER waits for a busy worker ends the channel",
    covers=["3.15", "4.8"],
    harm=Harm.CHANNEL,
)
def _unmapped_while_leaving(scene: Scene) -> None:
    memory = scene.driver.allocate(_PAGE)
    _register(scene, memory.iova, _PAGE)
    victim, admin = scene.victim, scene.driver.admin
    function = victim.function("spin", victim.load())
    victim.call(Opcode.MEMSET, victim.pointer, 64, 0, 1, 0, 0)
    parameters = struct.pack("<Q", victim.pointer)
    fields = (function, 1, 1, 1, 1, 1, 1, 0, 0, len(parameters))
    victim.channel.submit(
        Opcode.LAUNCH_KERNEL, *fields, tail=parameters, context=victim.context, flags=0
    )
    copy = (victim.pointer, 0, _PAGE, _ID, 0)
    victim.channel.submit(Opcode.COPY_DEVICE_TO_HOST, *copy, context=victim.context, flags=0)
    sequence = admin.submit(Opcode.MEMORY_UNREGISTER, VICTIM, _ID)
    admin.wait(admin.submit(Opcode.NOP), 15.0)
    memory.memory[:] = b"m" * _PAGE
    scene.driver.client.unmap_dma(memory.iova, _PAGE)
    untouched = not wait_until(lambda: memory.memory[:] != b"m" * _PAGE, 1.0)
    expect("the memory is untouched", untouched, True)
    admin.wait(sequence, 15.0)
    # A worker that had given the memory up before its window went may go on.
    if victim.channel.state != abi.CHANNEL_FAILED:
        victim.channel.publish((1 << 64) - 1)


@attack(
    "registrations.file.shrunk",
    "3 Channel states",
    "A channel fails when its worker dies.",
    "a copy from a file that was cut off kills the worker (SIGBUS) and nobody else",
    covers=["3.13"],
    harm=Harm.CHANNEL,
)
def _shrunk(scene: Scene) -> None:
    fd = os.memfd_create("shrunk")
    try:
        os.ftruncate(fd, 1 << 20)
        scene.driver.client.map_dma(_IOVA, 1 << 20, fd=fd)
        _register(scene, _IOVA, 1 << 20)
        os.ftruncate(fd, 0)
        try:
            status = _copy(scene, Opcode.COPY_HOST_TO_DEVICE, _ID, 1 << 19, 4096)
        except DriverError:
            scene.victim.wait_failed(_WORKER_LOST)
            expect("ERROR", scene.bar0(abi.REG_ERROR), abi.DEVICE_ERROR_WORKER_LOST)
        else:
            raise Violation(f"the copy ended with {status}")
    finally:
        scene.driver.client.unmap_dma(_IOVA, 1 << 20)
        os.close(fd)


@attack(
    "registrations.graph.gone",
    _LISTS,
    "A graph uses the registrations that it was built with.",
    "INVALID_VALUE for a launch after one of them is gone, or is another",
    covers=["4.10"],
)
def _graph(scene: Scene) -> None:
    victim = scene.victim
    _register(scene, victim.memory.iova, _PAGE)
    command = abi.COMMAND_HEADER.pack(Opcode.COPY_HOST_TO_DEVICE, 1, 0, 0, 0)
    command += abi.COMMANDS[Opcode.COPY_HOST_TO_DEVICE].fields.pack(victim.pointer, 0, 64, _ID, 0)
    node = abi.GRAPH_NODE.pack(0, len(command)) + command
    victim.memory.memory[_PAGE : _PAGE + len(node)] = node
    graph, *_ = victim.call(Opcode.GRAPH_INSTANTIATE, _PAGE, len(node), 1, 1)
    expect("a launch", victim.attempt(Opcode.GRAPH_LAUNCH, graph, 0)[0], 0)
    expect("unregistering", scene.admin(Opcode.MEMORY_UNREGISTER, VICTIM, _ID), 0)
    expect("a launch without", victim.attempt(Opcode.GRAPH_LAUNCH, graph, 0)[0], _INVALID_VALUE)
    _register(scene, victim.memory.iova + _PAGE, _PAGE)
    expect("a launch with another", victim.attempt(Opcode.GRAPH_LAUNCH, graph, 0)[0], 1)
    victim.call(Opcode.GRAPH_DESTROY, graph, 0)


@attack(
    "registrations.channel.destroyed",
    _ADMIN,
    "CHANNEL_DESTROY drops the channel's registrations.",
    "the window may be unmapped afterwards without a device error, and the ids are free",
    covers=["4.4", "4.8"],
)
def _destroyed(scene: Scene) -> None:
    memory = scene.driver.allocate(_PAGE)
    channel = scene.open_channel(7)
    scene.driver.register(channel, 1, memory)
    expect("destroying", scene.admin(Opcode.CHANNEL_DESTROY, 7, 0), 0)
    scene.driver.client.unmap_dma(memory.iova, _PAGE)
    expect("ERROR", scene.bar0(abi.REG_ERROR), 0)
    scene.open_channel(7)
    expect("registering", scene.register_anything(7, 1), 0)


@attack(
    "registrations.aliases",
    _LISTS,
    "The same memory may be registered several times, with several channels.",
    "each way reaches it; taking one away leaves the others",
    covers=["4.7", "4.8"],
)
def _aliases(scene: Scene) -> None:
    base = scene.victim.memory.iova
    for _ in range(3):
        _register(scene, base, _PAGE)
        expect("a copy", _copy(scene, Opcode.COPY_HOST_TO_DEVICE, _ID), 0)
        expect("unregistering", scene.admin(Opcode.MEMORY_UNREGISTER, VICTIM, _ID), 0)
        expect("a copy by the other", _copy(scene, Opcode.COPY_HOST_TO_DEVICE, 1), 0)
