"""Attacks by a second processor: what the device reads changes while it reads it.

A thread of the attacker plays a second vCPU that rewrites shared memory as fast as it can. The
device copies and checks everything once, so each command ends as one of the versions would have,
and nobody else is harmed. A broken ring is a right answer where the thread rewrites the ring.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.generated import Opcode
from vgpu_stub.device.rings import channel_offset
from vgpu_stub.driver import DriverError
from vgpu_stub.villain.guest.kernels import PTX
from vgpu_stub.villain.guest.rings import set_word64, word64
from vgpu_stub.villain.guest.scene import VICTIM, Scene, expect
from vgpu_stub.villain.guest.tenant import DATA_BYTES, REGISTRATION
from vgpu_stub.villain.registry import Harm, Stage, attack

_ONCE: Final = "3 Submission"
_PAGE: Final = 4096
_BOTH: Final = abi.REGISTER_READ | abi.REGISTER_WRITE
#: How long each race runs, in seconds.
_RACE_S: Final = 0.4
_COPIED: Final = "The host copies each command once and validates the copy."


@contextlib.contextmanager
def _second_processor(*steps: Callable[[], None]) -> Iterator[None]:
    """Do these over and over in another thread."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            for step in steps:
                step()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _until_over() -> Iterator[None]:
    deadline = monotonic() + _RACE_S
    while monotonic() < deadline:
        yield


def _break(scene: Scene) -> None:
    """End a race that may or may not have broken the ring: break it."""
    set_word64(scene, "sq_tail", word64(scene, "sq_head") + (1 << 40))
    scene.driver.doorbell(scene.victim.number)


def _writes(scene: Scene, offset: int, values: Sequence[bytes]) -> list[Callable[[], None]]:
    """Steps that write each value to a place in BAR2."""
    memory = scene.driver.bar2

    def step(value: bytes) -> Callable[[], None]:
        def write() -> None:
            memory[offset : offset + len(value)] = value

        return write

    return [step(value) for value in values]


def _race_commands(scene: Scene, places: Sequence[tuple[int, Sequence[bytes]]]) -> set[int]:
    """Submit copies while their slots are rewritten at these offsets; returns their CUresults."""
    victim = scene.victim
    base = channel_offset(victim.number) + abi.SQ_OFFSET
    found: set[int] = set()
    fields = (victim.pointer, 0, 64, REGISTRATION, 0)
    for _ in _until_over():
        sequence, command = victim.channel.encode(
            Opcode.COPY_HOST_TO_DEVICE, *fields, context=victim.context
        )
        slot = word64(scene, "sq_tail") % abi.SQ_ENTRIES
        steps = [
            step
            for offset, values in places
            for step in _writes(scene, base + slot * abi.SLOT_BYTES + offset, values)
        ]
        victim.channel.write_slots(command)
        with _second_processor(*steps):
            victim.channel.publish()
            found.add(victim.channel.wait(sequence, 15.0).status)
    return found


@attack(
    "races.command.fields",
    _ONCE,
    _COPIED,
    "a copy whose size and registration change is done or refused, as a whole",
    covers=["3.24"],
)
def _fields(scene: Scene) -> None:
    # Behind the header: device_ptr, offset, size, registration, stream.
    places = [
        (16 + 16, [struct.pack("<Q", size) for size in (1 << 40, 64, (1 << 64) - 1)]),
        (16 + 24, [struct.pack("<I", number) for number in (9, REGISTRATION)]),
    ]
    for status in _race_commands(scene, places):
        expect("a CUresult", status, 0, 1, 700)


@attack(
    "races.command.opcode",
    _ONCE,
    _COPIED,
    "a command whose opcode and context change is one of the versions",
    covers=["3.24"],
)
def _opcodes(scene: Scene) -> None:
    opcodes = (Opcode.NOP, 0xEE, Opcode.MEMORY_FREE, Opcode.COPY_HOST_TO_DEVICE)
    places = [
        (0, [struct.pack("<H", opcode) for opcode in opcodes]),
        (6, [struct.pack("<H", context) for context in (77, scene.victim.context)]),
    ]
    for status in _race_commands(scene, places):
        # MEMORY_FREE of the tenant's memory is one of the versions; then copies are refused.
        expect("a CUresult", status, 0, 1, 201, 400, 700, 801)
    scene.victim.pointer = scene.victim.call(Opcode.MEMORY_ALLOCATE, 1 << 16)[0]


@attack(
    "races.command.slots",
    _ONCE,
    _COPIED,
    "a command whose length changes is carried out, or the ring is broken",
    covers=["3.3", "3.24"],
    harm=Harm.CHANNEL,
)
def _slots(scene: Scene) -> None:
    places = [(2, [struct.pack("<H", slots) for slots in (1, 0xFFFF, 0, 2)])]
    with contextlib.suppress(DriverError):
        for status in _race_commands(scene, places):
            expect("a CUresult", status, 0)
    _break(scene)


@attack(
    "races.command.tail-bytes",
    _ONCE,
    _COPIED,
    "an inline copy whose length changes copies what its own command holds",
    covers=["3.3", "3.24"],
)
def _tail_bytes(scene: Scene) -> None:
    victim = scene.victim
    base = channel_offset(victim.number) + abi.SQ_OFFSET
    for _ in _until_over():
        sequence, command = victim.channel.encode(
            Opcode.COPY_INLINE, victim.pointer, 0, 32, tail=b"t" * 32, context=victim.context
        )
        slot = word64(scene, "sq_tail") % abi.SQ_ENTRIES
        place = base + slot * abi.SLOT_BYTES + 16 + 12
        values = [struct.pack("<I", size) for size in (32, 0xFFFF_FFFF, 64, 4096)]
        victim.channel.write_slots(command)
        with _second_processor(*_writes(scene, place, values)):
            victim.channel.publish()
            expect("a CUresult", victim.channel.wait(sequence, 15.0).status, 0, 1)


def _race_tail(scene: Scene, channel: int) -> None:
    """Move a channel's sq_tail forth and back while its doorbell rings."""
    offset = channel_offset(channel) + abi.CHANNEL_CONTROL_OFFSETS["sq_tail"]
    (tail,) = struct.unpack_from("<Q", scene.driver.bar2, offset)
    nop = abi.COMMAND_HEADER.pack(Opcode.NOP, 1, 0, 0, 0).ljust(abi.SLOT_BYTES, b"\0")
    ring = channel_offset(channel) + abi.SQ_OFFSET
    scene.driver.bar2[ring : ring + abi.SQ_ENTRIES * abi.SLOT_BYTES] = nop * abi.SQ_ENTRIES
    values = [struct.pack("<Q", value) for value in (tail + 1, tail, tail + 1, tail)]
    with _second_processor(*_writes(scene, offset, values)):
        for _ in _until_over():
            scene.driver.doorbell(channel)


@attack(
    "races.tail.taken-back",
    _ONCE,
    "The guest owns sq_tail, and what it does with it harms only its channel.",
    "the channel goes on or its ring is broken, and its worker answers",
    covers=["3.1", "3.2"],
    harm=Harm.CHANNEL,
)
def _tail(scene: Scene) -> None:
    _race_tail(scene, scene.victim.number)
    _break(scene)


@attack(
    "races.tail.taken-back-of-admin",
    "4 Admin channel",
    "The guest owns sq_tail, and what it does with it harms only its channel.",
    "the admin channel goes on or is broken; registers answer, a reset helps",
    covers=["3.1", "3.2", "4.1"],
    stage=Stage.DEVICE,
    harm=Harm.DEVICE,
)
def _admin_tail(scene: Scene) -> None:
    for _ in range(3):
        _race_tail(scene, 0)
        scene.driver.reset()
        scene.driver.enable()
        expect("an admin NOP", scene.admin(Opcode.NOP), 0)


@attack(
    "races.control-page.host-half",
    "3 Shared memory",
    "The host never relies on anything it wrote there.",
    "commands complete while every word of its half is rewritten",
    covers=["3.9"],
)
def _host_half(scene: Scene) -> None:
    victim = scene.victim
    base = channel_offset(victim.number)
    # sq_sleeping stays as the host wrote it: without it a guest rings no doorbell.
    head = base + abi.CHANNEL_CONTROL_OFFSETS["sq_head"]
    error = base + abi.CHANNEL_CONTROL_OFFSETS["error"]
    steps = _writes(scene, head, [b"\xff" * 8, bytes(8)])
    steps += _writes(scene, error, [b"\xff" * 8, bytes(8)])
    with _second_processor(*steps):
        for _ in _until_over():
            victim.check()


@attack(
    "races.completions.head",
    "3 Completion",
    "cq_head is the guest's, and read once.",
    "completions come while cq_head jumps, once it stands",
    covers=["3.8"],
)
def _completion_head(scene: Scene) -> None:
    victim = scene.victim
    for _ in range(20):
        head = word64(scene, "cq_head")
        offset = channel_offset(victim.number) + abi.CHANNEL_CONTROL_OFFSETS["cq_head"]
        jumps = [struct.pack("<Q", head + lie) for lie in (1, 5000, 0)]
        with _second_processor(*_writes(scene, offset, jumps)):
            sequences = [victim.channel.submit(Opcode.NOP) for _ in range(50)]
        set_word64(scene, "cq_head", head)
        for sequence in sequences:
            expect("a NOP", victim.channel.wait(sequence, 15.0).status, 0)


def _race_list(scene: Scene, values: Sequence[bytes], offset: int, entries: int) -> set[int]:
    """Register by a list of one block that changes at an offset; returns the errnos."""
    memory = scene.driver.allocate(_PAGE)
    entry = abi.SCATTER_ENTRY.pack(scene.victim.memory.iova, _PAGE)
    block = abi.SCATTER_BLOCK.pack(0, entries, 0) + entry * entries
    memory.memory[: len(block)] = block

    def step(value: bytes) -> Callable[[], None]:
        def write() -> None:
            memory.memory[offset : offset + len(value)] = value

        return write

    found: set[int] = set()
    with _second_processor(*(step(value) for value in values)):
        for _ in _until_over():
            code = scene.admin(
                Opcode.MEMORY_REGISTER, memory.iova, entries * _PAGE, VICTIM, 77, _BOTH, entries
            )
            found.add(code)
            if not code:
                expect("unregistering", scene.admin(Opcode.MEMORY_UNREGISTER, VICTIM, 77), 0)
    return found


_LIST_ONCE: Final = "A scatter list is read once, and what was read is checked."


@attack(
    "races.scatter-list.entries",
    "4 Scatter lists",
    _LIST_ONCE,
    "a list whose entries change registers guest memory, or is refused",
    covers=["4.7", "3.24"],
)
def _list_entries(scene: Scene) -> None:
    base = scene.victim.memory.iova
    places = ((base, _PAGE), (0, _PAGE), (base, 1 << 40), ((1 << 64) - _PAGE, _PAGE), (base, 0))
    values = [abi.SCATTER_ENTRY.pack(*place) for place in places]
    for code in _race_list(scene, values, abi.SCATTER_BLOCK.size, 4):
        expect("errno", code, 0, errno.EFAULT, errno.EINVAL)


@attack(
    "races.scatter-list.links",
    "4 Scatter lists",
    _LIST_ONCE,
    "a list whose links and counts change ends",
    covers=["4.6", "3.24"],
)
def _list_links(scene: Scene) -> None:
    base = scene.victim.memory.iova
    values = [
        abi.SCATTER_BLOCK.pack(following, count, 0)
        for following in (0, base, base + 8, 1 << 50)
        for count in (4, 0, 255, 0xFFFF_FFFF)
    ]
    for code in _race_list(scene, values, 0, 4):
        expect("errno", code, 0, errno.EFAULT, errno.EINVAL)


@attack(
    "races.image",
    "commands.md",
    "An image is copied before it is looked at.",
    "a module whose text changes is loaded or refused",
    covers=["3.19", "3.24"],
    deadline_s=20.0,
)
def _image(scene: Scene) -> None:
    victim = scene.victim
    memory = victim.memory.memory
    place = DATA_BYTES + PTX.index(b".visible .entry stop")

    def scribble() -> None:
        memory[place : place + 20] = b"\xff{{{{{{{{{{{{{{{{{{{"

    def restore() -> None:
        memory[place : place + 20] = PTX[place - DATA_BYTES :][:20]

    with _second_processor(scribble, restore):
        for _ in _until_over():
            status, (module, *_) = victim.try_load(PTX)
            expect("a CUresult", status, 0, 1, 200, 209, 218, 222)
            if not status:
                victim.call(Opcode.MODULE_UNLOAD, module, 0)


@attack(
    "races.graph",
    "struct vgpu_graph_node",
    "A graph is copied before it is looked at.",
    "a graph whose nodes change is made of one version, or refused",
    covers=["3.23", "3.24"],
)
def _graph(scene: Scene) -> None:
    victim = scene.victim
    size = victim.put_node(Opcode.MEMSET, victim.pointer, 64, 1, 1, 0, 0)
    memory = victim.memory.memory
    good = memory[DATA_BYTES : DATA_BYTES + size]
    versions = [good, abi.GRAPH_NODE.pack(0xFFFF_FFFF, 16), abi.GRAPH_NODE.pack(0, 0xFFFF_FFFF)]
    versions.append(good[:8] + struct.pack("<H", Opcode.GRAPH_LAUNCH) + good[10:])

    def step(value: bytes) -> Callable[[], None]:
        def write() -> None:
            memory[DATA_BYTES : DATA_BYTES + len(value)] = value

        return write

    with _second_processor(*(step(value) for value in versions)):
        for _ in _until_over():
            fields = (DATA_BYTES, size, REGISTRATION, 1)
            status, (graph, *_) = victim.attempt(Opcode.GRAPH_INSTANTIATE, *fields)
            expect("a CUresult", status, 0, 1, 801)
            if not status:
                victim.call(Opcode.GRAPH_DESTROY, graph, 0)


@attack(
    "races.file.shrinks",
    "3 Channel states",
    "A channel fails when its worker dies.",
    "a file that shrinks and grows under copies costs the worker, and nobody else",
    covers=["3.13"],
    harm=Harm.CHANNEL,
)
def _file(scene: Scene) -> None:
    iova, size = 1 << 45, 1 << 16
    fd = os.memfd_create("shrinking")
    try:
        os.ftruncate(fd, size)
        scene.driver.client.map_dma(iova, size, fd=fd)
        first = scene.driver.scatter_list([(iova, size)])
        fields = (first, size, VICTIM, 77, _BOTH, 1)
        expect("registering", scene.admin(Opcode.MEMORY_REGISTER, *fields), 0)
        copy = (scene.victim.pointer, 0, size, 77, 0)
        with (
            contextlib.suppress(DriverError),
            _second_processor(lambda: os.ftruncate(fd, 0), lambda: os.ftruncate(fd, size)),
        ):
            for _ in _until_over():
                status, _ = scene.victim.attempt(Opcode.COPY_HOST_TO_DEVICE, *copy)
                expect("a CUresult", status, 0)
    finally:
        scene.driver.client.unmap_dma(iova, size)
        os.close(fd)
    if scene.victim.channel.state != abi.CHANNEL_FAILED:
        _break(scene)


@attack(
    "races.reset",
    "2 Reset",
    "When the write that caused a reset is complete, all channel memory is zero.",
    "resets while another processor writes the rings and doorbells of all channels",
    covers=["2.12", "2.13"],
    harm=Harm.DEVICE,
)
def _reset(scene: Scene) -> None:
    steps = []
    for channel in (0, 1, 2, 3):
        base = channel_offset(channel)
        steps += _writes(scene, base, [struct.pack("<QQII", n, n, 1, 0) for n in (1, 1 << 40)])
        steps += _writes(scene, base + abi.SQ_OFFSET, [b"\xff" * 64, bytes(64)])
    with _second_processor(*steps):
        for _ in _until_over():
            scene.driver.reset()
            expect("STATUS", scene.status(), abi.STATUS_READY)
            scene.write_bar0(abi.REG_GUEST_ABI_VERSION, abi.ABI_VERSION)
            scene.write_bar0(abi.REG_CONTROL, abi.CONTROL_ENABLE)
            for channel in range(4):
                scene.driver.doorbell(channel)


@attack(
    "races.windows",
    "3 Channel states",
    "A channel fails when a DMA window with its memory goes away.",
    "windows that come and go while memory is registered end the channel or are refused",
    covers=["3.15", "4.7"],
    harm=Harm.CHANNEL,
)
def _windows(scene: Scene) -> None:
    iova = 1 << 45
    fd = os.memfd_create("coming-and-going")
    admin, client = scene.driver.admin, scene.driver.client
    try:
        os.ftruncate(fd, _PAGE)
        first = scene.driver.scatter_list([(iova, _PAGE)])
        for _ in range(60):
            client.map_dma(iova, _PAGE, fd=fd)
            sequences = [
                admin.submit(Opcode.MEMORY_REGISTER, first, _PAGE, VICTIM, 77, _BOTH, 1),
                admin.submit(Opcode.MEMORY_UNREGISTER, VICTIM, 77),
            ]
            client.unmap_dma(iova, _PAGE)
            for sequence in sequences:
                code = admin.wait(sequence, 15.0).status
                expect("errno", code, 0, errno.EFAULT, errno.ENOENT, errno.EIO)
            if scene.victim.channel.state == abi.CHANNEL_FAILED:
                break
    finally:
        os.close(fd)
    if scene.victim.channel.state != abi.CHANNEL_FAILED:
        _break(scene)
