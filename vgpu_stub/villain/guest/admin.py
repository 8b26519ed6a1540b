"""Attacks on the admin channel: every command with every wrong field, and hostile scatter lists."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.generated import Opcode
from vgpu_stub.driver import GuestMemory
from vgpu_stub.vfio_user import DmaFlag
from vgpu_stub.villain.guest.scene import SIBLING, VICTIM, Scene, expect
from vgpu_stub.villain.registry import Attack, Harm, NotPossible, Stage, add, attack

_SECTION: Final = "4 Admin channel"
_LISTS: Final = "4 Scatter lists"
_PAGE: Final = 4096
_END: Final = 1 << 64
_READ, _WRITE = abi.REGISTER_READ, abi.REGISTER_WRITE
_BOTH: Final = _READ | _WRITE
#: An id and a channel that nothing of the scene uses.
_ID, _UNUSED = 77, 99
_MEMFD_SECRET: Final = 447


def _refused(
    id: str,
    rule: str,
    number: int,
    covers: Sequence[str],
    call: Callable[[Scene], int | list[int]],
    *,
    section: str = _SECTION,
    others: Sequence[int] = (),
) -> None:
    """Enter an attack all of whose commands must complete with this errno, or one of the others."""

    def run(scene: Scene) -> None:
        found = call(scene)
        for code in found if isinstance(found, list) else [found]:
            expect("errno", code, number, *others)

    name = errno.errorcode[number] if number else "success"
    expects = " or ".join([name, *(errno.errorcode[other] for other in others)])
    add(
        Attack(
            f"admin.{id}",
            section,
            rule,
            expects,
            tuple(covers),
            Stage.CHANNEL,
            Harm.NOTHING,
            10.0,
            run,
        )
    )


def _each(opcode: int, *choices: tuple[int | bytes, ...]) -> Callable[[Scene], list[int]]:
    return lambda scene: [scene.admin(opcode, *fields) for fields in choices]


# CHANNEL_CREATE and CHANNEL_DESTROY.

_CREATE: Final = Opcode.CHANNEL_CREATE
_NUMBERS: Final = "Channels are 1 to CHANNEL_COUNT - 1."
_WRONG_NUMBERS: Final = (0, abi.CHANNEL_COUNT, abi.CHANNEL_COUNT + 1, 0x8000_0001, 0xFFFF_FFFF)
_refused(
    "channel-create.number",
    _NUMBERS,
    errno.EINVAL,
    ["4.3"],
    _each(_CREATE, *((number, 1, 1, 0, b"x") for number in _WRONG_NUMBERS)),
)
_refused(
    "channel-create.vector",
    "A channel's vector is 1 to VECTOR_COUNT - 1.",
    errno.EINVAL,
    ["4.3"],
    _each(
        _CREATE,
        *((5, vector, 1, 0, b"x") for vector in (0, abi.VECTOR_COUNT, 255, 0xFFFF_FFFF)),
    ),
)
_refused(
    "channel-create.in-use",
    "A channel in use cannot be created.",
    errno.EBUSY,
    ["4.3"],
    _each(_CREATE, (VICTIM, 1, 1, 0, b"x"), (SIBLING, 1, 1, 0, b"x")),
)
_refused(
    "channel-destroy.number",
    _NUMBERS,
    errno.EINVAL,
    ["4.4"],
    _each(Opcode.CHANNEL_DESTROY, *((number, 0) for number in _WRONG_NUMBERS)),
)
_refused(
    "channel-destroy.not-in-use",
    "Only a channel in use can be destroyed.",
    errno.ENOENT,
    ["4.4"],
    _each(Opcode.CHANNEL_DESTROY, (3, 0), (126, 0)),
)


@attack(
    "admin.channel-create.name",
    _SECTION,
    "A channel's name and pid are for people to read.",
    "any bytes are taken, and monitors show them",
    covers=["4.3"],
)
def _strange_names(scene: Scene) -> None:
    names = (b"\xff" * 16, b"\0" * 16, b"\x1b[2J\n\r\t%s%n{}", b"\xf0\x9f\x98")
    for number, name in enumerate(names, 5):
        fields = (number, 1, 0xFFFF_FFFF, 0xFFFF_FFFF, name)
        expect(f"creating {name!r}", scene.admin(_CREATE, *fields), 0)
    scene.snapshot()
    for number in range(5, 5 + len(names)):
        expect("destroying it", scene.admin(Opcode.CHANNEL_DESTROY, number, 0), 0)


@attack(
    "admin.channel-create.and-destroy",
    _SECTION,
    "CHANNEL_DESTROY completes when nothing of the channel runs any more.",
    "thirty channels made and destroyed in one go, in order",
    covers=["4.2", "4.4"],
    deadline_s=20.0,
)
def _create_and_destroy(scene: Scene) -> None:
    admin = scene.driver.admin
    sequences = []
    for _ in range(15):
        for number in (10, 11):
            sequences.append(admin.submit(_CREATE, number, 1, 1, 0, b"short"))
        for number in (10, 11):
            sequences.append(admin.submit(Opcode.CHANNEL_DESTROY, number, 0))
    # One that is destroyed before its worker has answered is told ECANCELED.
    for sequence in sequences:
        expect("errno", admin.wait(sequence, 15.0).status, 0, errno.ECANCELED)
    expect("destroying it again", scene.admin(Opcode.CHANNEL_DESTROY, 10, 0), errno.ENOENT)


@attack(
    "admin.channel-create.all",
    _SECTION,
    "There are CHANNEL_COUNT channels.",
    "forty more at a time work, or say EAGAIN; their workers go with the reset",
    covers=["4.3", "5.2"],
    harm=Harm.DEVICE,
    deadline_s=25.0,
)
def _many_channels(scene: Scene) -> None:
    admin = scene.driver.admin
    sequences = [admin.submit(_CREATE, n, n % 64 + 1, n, 0, b"many") for n in range(10, 50)]
    for sequence in sequences:
        expect("errno", admin.wait(sequence, 20.0).status, 0, errno.EAGAIN)


# MEMORY_REGISTER.


@dataclass(frozen=True)
class _Request:
    """A MEMORY_REGISTER that is right but for what an attack changes."""

    list_iova: int
    size: int = _PAGE
    channel: int = VICTIM
    registration: int = _ID
    access: int = _BOTH
    extents: int = 1

    def send(self, scene: Scene) -> int:
        return scene.admin(
            Opcode.MEMORY_REGISTER,
            self.list_iova,
            self.size,
            self.channel,
            self.registration,
            self.access,
            self.extents,
        )


def _good_list(scene: Scene) -> int:
    return scene.driver.scatter_list([(scene.victim.memory.iova, _PAGE)])


def _with(*changes: dict[str, int]) -> Callable[[Scene], list[int]]:
    """Send requests with a good list, each with some fields changed."""

    def call(scene: Scene) -> list[int]:
        first = _good_list(scene)
        return [_Request(**{"list_iova": first, **change}).send(scene) for change in changes]

    return call


def _extents(
    *extents: tuple[int, int], size: int | None = None, relative: bool = True
) -> Callable[[Scene], int]:
    """Send a list of extents, whose addresses count from the victim's memory."""

    def call(scene: Scene) -> int:
        base = scene.victim.memory.iova if relative else 0
        places = [((base + iova) % _END, length) for iova, length in extents]
        total = sum(length for _, length in extents) if size is None else size
        first = scene.driver.scatter_list(places)
        return _Request(first, size=total % _END, extents=len(places)).send(scene)

    return call


def _block(scene: Scene, data: bytes, memory: GuestMemory | None = None) -> int:
    """Put a block into guest memory; returns its address."""
    memory = memory or scene.driver.allocate(_PAGE)
    memory.memory[: len(data)] = data
    return memory.iova


_REG: Final = ["4.5"]
_refused(
    "memory-register.channel",
    "Memory is registered with a channel in use.",
    errno.ENOENT,
    _REG,
    _with(*({"channel": number} for number in (0, _UNUSED, abi.CHANNEL_COUNT, 0xFFFF_FFFF))),
)
_refused(
    "memory-register.id",
    "Registration ids are 1 to REGISTRATION_MAX.",
    errno.EINVAL,
    _REG,
    _with(*({"registration": n} for n in (0, abi.REGISTRATION_MAX + 1, 1 << 31, 0xFFFF_FFFF))),
)
_refused(
    "memory-register.id-in-use",
    "A registration id in use cannot be registered.",
    errno.EEXIST,
    _REG,
    _with({"registration": 1}, {"registration": 1, "channel": SIBLING}),
)
_refused(
    "memory-register.access",
    "Access is READ, WRITE or both.",
    errno.EINVAL,
    _REG,
    _with(*({"access": access} for access in (0, 4, 7, 0x8000_0001, 0xFFFF_FFFF))),
)
_refused(
    "memory-register.extents",
    "`extents` is the number of entries of the whole list.",
    errno.EINVAL,
    _REG,
    _with({"extents": 0}, {"extents": 2}, {"extents": abi.REGISTER_MAX_EXTENTS - 1}),
)
_refused(
    "memory-register.too-many-extents",
    "A channel has at most REGISTER_MAX_EXTENTS extents.",
    errno.ENOSPC,
    _REG,
    _with({"extents": abi.REGISTER_MAX_EXTENTS + 1}, {"extents": 0xFFFF_FFFF}),
)
_refused(
    "memory-register.size",
    "`size` is the sum of the extents.",
    errno.EINVAL,
    _REG,
    _with(*({"size": size} for size in (0, 1, _PAGE - 1, _PAGE + 1, 2 * _PAGE, _END - 1))),
)
_refused(
    "memory-register.nothing",
    "A registration has memory.",
    errno.EINVAL,
    _REG,
    lambda scene: _Request(0, size=0, extents=0).send(scene),
)

_LIST: Final = ["4.6"]
_refused(
    "scatter-list.unaligned",
    "Blocks of a scatter list are 4096-byte aligned.",
    errno.EINVAL,
    _LIST,
    lambda scene: [_Request(_good_list(scene) + shift).send(scene) for shift in (1, 8, 2048, 4095)],
    section=_LISTS,
)
_refused(
    "scatter-list.no-memory",
    "A scatter list is in guest memory.",
    errno.EFAULT,
    _LIST,
    _with(*({"list_iova": iova} for iova in (_PAGE, 1 << 40, 1 << 63, _END - _PAGE))),
    section=_LISTS,
)
_refused(
    "scatter-list.null",
    "A scatter list has a first block.",
    errno.EINVAL,
    _LIST,
    _with({"list_iova": 0}),
    section=_LISTS,
    others=[errno.EFAULT],
)
_refused(
    "scatter-list.count",
    "A block has 1 to SCATTER_ENTRIES entries.",
    errno.EINVAL,
    _LIST,
    lambda scene: [
        _Request(_block(scene, abi.SCATTER_BLOCK.pack(0, count, 0)), extents=300).send(scene)
        for count in (0, abi.SCATTER_ENTRIES + 1, 0x8000_0000, 0xFFFF_FFFF)
    ],
    section=_LISTS,
)


def _loop(scene: Scene) -> int:
    memory = scene.driver.allocate(_PAGE)
    entry = abi.SCATTER_ENTRY.pack(scene.victim.memory.iova, _PAGE)
    _block(scene, abi.SCATTER_BLOCK.pack(memory.iova, 1, 0) + entry, memory)
    return _Request(memory.iova, size=1000 * _PAGE, extents=1000).send(scene)


def _loop_of_two(scene: Scene) -> int:
    one, two = scene.driver.allocate(_PAGE), scene.driver.allocate(_PAGE)
    entry = abi.SCATTER_ENTRY.pack(scene.victim.memory.iova, _PAGE)
    _block(scene, abi.SCATTER_BLOCK.pack(two.iova, 1, 0) + entry, one)
    _block(scene, abi.SCATTER_BLOCK.pack(one.iova, 1, 0) + entry, two)
    return _Request(one.iova, size=32768 * _PAGE, extents=32767).send(scene)


def _goes_on(scene: Scene) -> int:
    entry = abi.SCATTER_ENTRY.pack(scene.victim.memory.iova, _PAGE)
    second = _block(scene, abi.SCATTER_BLOCK.pack(0, 1, 0) + entry)
    return _Request(_block(scene, abi.SCATTER_BLOCK.pack(second, 1, 0) + entry)).send(scene)


def _next(iova: int) -> Callable[[Scene], int]:
    def call(scene: Scene) -> int:
        entry = abi.SCATTER_ENTRY.pack(scene.victim.memory.iova, _PAGE)
        block = abi.SCATTER_BLOCK.pack(iova, 1, 0) + entry
        return _Request(_block(scene, block), size=2 * _PAGE, extents=2).send(scene)

    return call


_BOUNDED: Final = "A list has as many entries as the command says."
_refused("scatter-list.loop", _BOUNDED, errno.EINVAL, _LIST, _loop, section=_LISTS)
_refused("scatter-list.loop-of-two", _BOUNDED, errno.EINVAL, _LIST, _loop_of_two, section=_LISTS)
_refused("scatter-list.goes-on", _BOUNDED, errno.EINVAL, _LIST, _goes_on, section=_LISTS)
_refused(
    "scatter-list.next-unaligned",
    "`next` leads to an aligned block.",
    errno.EINVAL,
    _LIST,
    _next(12345),
    section=_LISTS,
)
_refused(
    "scatter-list.next-nowhere",
    "`next` leads to a block in guest memory.",
    errno.EFAULT,
    _LIST,
    _next(_END - _PAGE),
    section=_LISTS,
)


def _list_window(flags: DmaFlag, *, shared: bool) -> Callable[[Scene], int]:
    def call(scene: Scene) -> int:
        iova = 1 << 45
        fd = os.memfd_create("list") if shared else None
        try:
            if fd is not None:
                entry = abi.SCATTER_ENTRY.pack(scene.victim.memory.iova, _PAGE)
                os.pwrite(fd, abi.SCATTER_BLOCK.pack(0, 1, 0) + entry, 0)
                os.ftruncate(fd, _PAGE)
            scene.driver.client.map_dma(iova, _PAGE, fd=fd, flags=flags)
            return _Request(iova).send(scene)
        finally:
            scene.driver.client.unmap_dma(iova, _PAGE)
            if fd is not None:
                os.close(fd)

    return call


_refused(
    "scatter-list.not-readable",
    "A scatter list is in memory that the device may read.",
    errno.EFAULT,
    _LIST,
    _list_window(DmaFlag.WRITE, shared=True),
    section=_LISTS,
)
_refused(
    "scatter-list.not-shared",
    "A scatter list is in shared memory.",
    errno.EFAULT,
    _LIST,
    _list_window(DmaFlag.READ | DmaFlag.WRITE, shared=False),
    section=_LISTS,
)


@attack(
    "admin.scatter-list.file-shrunk",
    _LISTS,
    "A scatter list is in guest memory.",
    "EFAULT, not SIGBUS, when the file behind it has been cut off",
    covers=["4.6"],
)
def _list_cut_off(scene: Scene) -> None:
    iova = 1 << 45
    fd = os.memfd_create("list")
    try:
        os.ftruncate(fd, _PAGE)
        scene.driver.client.map_dma(iova, _PAGE, fd=fd)
        os.ftruncate(fd, 0)
        expect("errno", _Request(iova).send(scene), errno.EFAULT)
        os.ftruncate(fd, 100)
        expect("errno", _Request(iova).send(scene), errno.EFAULT)
    finally:
        scene.driver.client.unmap_dma(iova, _PAGE)
        os.close(fd)


@attack(
    "admin.scatter-list.file-unreadable",
    _LISTS,
    "A scatter list is in guest memory.",
    "EFAULT when the file behind it can be mapped, and not read (memfd_secret)",
    covers=["4.6"],
)
def _list_unreadable(scene: Scene) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(_MEMFD_SECRET, 0)
    if fd < 0:
        raise NotPossible(f"memfd_secret: {os.strerror(ctypes.get_errno())}")
    iova = 1 << 45
    try:
        os.ftruncate(fd, _PAGE)
        scene.driver.client.map_dma(iova, _PAGE, fd=fd)
        expect("errno", _Request(iova).send(scene), errno.EFAULT)
        scene.driver.client.unmap_dma(iova, _PAGE)
    finally:
        os.close(fd)


_EXTENT: Final = ["4.7"]
_refused(
    "extent.length",
    "Entries are whole pages.",
    errno.EINVAL,
    _EXTENT,
    lambda scene: [
        _extents((0, length))(scene) for length in (0, 1, 100, _PAGE - 1, _PAGE + 1, _END - 1)
    ],
    section=_LISTS,
)
_refused(
    "extent.unaligned",
    "Entries are whole pages.",
    errno.EINVAL,
    _EXTENT,
    lambda scene: [_extents((shift, _PAGE))(scene) for shift in (1, 8, 2048, _PAGE - 1)],
    section=_LISTS,
)
_MEMORY: Final = "Entries are guest memory."
_refused(
    "extent.no-memory",
    _MEMORY,
    errno.EFAULT,
    _EXTENT,
    lambda scene: [
        _extents((iova, _PAGE), relative=False)(scene)
        for iova in (0, 1 << 40, 1 << 63, _END - _PAGE)
    ],
    section=_LISTS,
)
_refused(
    "extent.wraps",
    "An extent does not wrap around the address space.",
    errno.EFAULT,
    _EXTENT,
    lambda scene: [
        _extents((_END - _PAGE, 2 * _PAGE), relative=False)(scene),
        _extents((_PAGE, _END - _PAGE), relative=False)(scene),
        _extents((0, _END - _PAGE))(scene),
    ],
    section=_LISTS,
)
_refused(
    "extent.sum-wraps",
    "`size` is the sum of the extents, without wrapping.",
    errno.EINVAL,
    _EXTENT,
    _extents((0, _PAGE), (0, _PAGE), (0, _PAGE), size=(1 << 64) - 1),
    section=_LISTS,
)
_refused(
    "extent.beyond-the-window",
    _MEMORY,
    errno.EFAULT,
    _EXTENT,
    lambda scene: [_extents((0, 1 << shift))(scene) for shift in (17, 30, 40)],
    section=_LISTS,
)
_refused(
    "extent.good-then-bad",
    "Every entry is checked before any is used.",
    errno.EFAULT,
    _EXTENT,
    lambda scene: [
        _extents((0, _PAGE), (_PAGE, _PAGE), (1 << 45, _PAGE))(scene),
        _extents((0, _PAGE), ((1 << 64) - _PAGE, _PAGE), (_PAGE, _PAGE))(scene),
    ],
    section=_LISTS,
)


def _extent_window(flags: DmaFlag, access: int, *, shared: bool = True) -> Callable[[Scene], int]:
    def call(scene: Scene) -> int:
        iova = 1 << 45
        fd = os.memfd_create("extent") if shared else None
        try:
            if fd is not None:
                os.ftruncate(fd, _PAGE)
            scene.driver.client.map_dma(iova, _PAGE, fd=fd, flags=flags)
            first = scene.driver.scatter_list([(iova, _PAGE)])
            return _Request(first, access=access).send(scene)
        finally:
            scene.driver.client.unmap_dma(iova, _PAGE)
            if fd is not None:
                os.close(fd)

    return call


_refused(
    "extent.not-writeable",
    "A registration has no more access than its memory.",
    errno.EFAULT,
    _EXTENT,
    lambda scene: [
        _extent_window(DmaFlag.READ, _WRITE)(scene),
        _extent_window(DmaFlag.READ, _BOTH)(scene),
    ],
    section=_LISTS,
)
_refused(
    "extent.not-readable",
    "A registration has no more access than its memory.",
    errno.EFAULT,
    _EXTENT,
    lambda scene: [
        _extent_window(DmaFlag.WRITE, _READ)(scene),
        _extent_window(DmaFlag(0), _READ)(scene),
    ],
    section=_LISTS,
)
_refused(
    "extent.not-shared",
    "Only shared memory can be registered.",
    errno.EFAULT,
    _EXTENT,
    _extent_window(DmaFlag.READ | DmaFlag.WRITE, _BOTH, shared=False),
    section=_LISTS,
)


@attack(
    "admin.extent.twice-the-same-page",
    _LISTS,
    "Entries make up the registration in their order; pages may repeat.",
    "a page twice is two pages that are one",
    covers=["4.7"],
)
def _same_page(scene: Scene) -> None:
    expect("errno", _extents((0, _PAGE), (0, _PAGE))(scene), 0)
    scene.victim.memory.memory[:_PAGE] = b"\x5a" * _PAGE
    scene.victim.call(Opcode.COPY_HOST_TO_DEVICE, scene.victim.pointer, _PAGE - 8, 16, _ID, 0)
    expect("unregistering", scene.admin(Opcode.MEMORY_UNREGISTER, VICTIM, _ID), 0)


@attack(
    "admin.extent.many-windows",
    _LISTS,
    "A registration may span windows; ENOSPC where they are too many.",
    "a hundred windows in one list are refused, and the channel goes on",
    covers=["4.5", "4.7"],
)
def _many_windows(scene: Scene) -> None:
    base, count = 1 << 45, 100
    fd = os.memfd_create("windows")
    client = scene.driver.client
    try:
        os.ftruncate(fd, _PAGE)
        for place in range(count):
            client.map_dma(base + place * _PAGE, _PAGE, fd=fd)
        first = scene.driver.scatter_list([(base, count * _PAGE)])
        code = _Request(first, size=count * _PAGE).send(scene)
        expect("errno", code, errno.ENOSPC)
        for place in range(count):
            client.unmap_dma(base + place * _PAGE, _PAGE)
    finally:
        os.close(fd)


@attack(
    "admin.extent.more-than-an-address-space",
    _SECTION,
    "ENOMEM where the host cannot map what is registered.",
    "ENOMEM for 256 TiB made of one sparse file, and the channel goes on",
    covers=["4.5"],
)
def _too_big(scene: Scene) -> None:
    iova, size, count = 1 << 50, 1 << 40, 256
    fd = os.memfd_create("sparse")
    client = scene.driver.client
    try:
        os.ftruncate(fd, size)
        client.map_dma(iova, size, fd=fd)
        first = scene.driver.scatter_list([(iova, size)] * count)
        code = _Request(first, size=size * count, extents=count).send(scene)
        expect("errno", code, errno.ENOMEM)
        client.unmap_dma(iova, size)
    finally:
        os.close(fd)


@attack(
    "admin.memory-register.fails-after-reuse",
    _SECTION,
    "A registration that could not be made takes none of a later one with it.",
    "memory registered anew under the same id still ends its channel when its window goes",
    covers=["4.5", "3.15"],
    harm=Harm.CHANNEL,
)
def _fails_after_reuse(scene: Scene) -> None:
    iova, size, count = 1 << 50, 1 << 40, 256
    small = 1 << 45
    driver, admin = scene.driver, scene.driver.admin
    fd = os.memfd_create("sparse")
    try:
        os.ftruncate(fd, size)
        driver.client.map_dma(iova, size, fd=fd)
        driver.client.map_dma(small, _PAGE, fd=fd)
        too_big = driver.scatter_list([(iova, size)] * count)
        good = driver.scatter_list([(small, _PAGE)])
        register = Opcode.MEMORY_REGISTER
        # In one go, so that the first one's failure is known only after the last is made.
        commands = [
            admin.encode(register, too_big, size * count, VICTIM, _ID, _BOTH, count),
            admin.encode(Opcode.MEMORY_UNREGISTER, VICTIM, _ID),
            admin.encode(register, good, _PAGE, VICTIM, _ID, _BOTH, 1),
        ]
        for _, command in commands:
            admin.write_slots(command)
        admin.publish()
        codes = [admin.wait(sequence, 15.0).status for sequence, _ in commands]
        expect("the first and the last errno", (codes[0], codes[2]), (errno.ENOMEM, 0))
        expect("the id is in use", _Request(good).send(scene), errno.EEXIST)
        driver.client.unmap_dma(small, _PAGE)
        scene.victim.wait_failed(46)
        driver.client.unmap_dma(iova, size)
    finally:
        os.close(fd)


# MEMORY_UNREGISTER.

_refused(
    "memory-unregister.unknown",
    "Only a registration that exists can be taken away.",
    errno.ENOENT,
    ["4.8"],
    _each(
        Opcode.MEMORY_UNREGISTER,
        (VICTIM, 0),
        (VICTIM, 2),
        (VICTIM, 0xFFFF_FFFF),
        (0, 1),
        (_UNUSED, 1),
        (0xFFFF_FFFF, 1),
    ),
)


@attack(
    "admin.memory-unregister.twice",
    _SECTION,
    "Only a registration that exists can be taken away.",
    "ENOENT for the second time, and the id can be used again",
    covers=["4.8"],
)
def _unregister_twice(scene: Scene) -> None:
    for _ in range(3):
        expect("registering", scene.register_anything(VICTIM, _ID), 0)
        expect("unregistering", scene.admin(Opcode.MEMORY_UNREGISTER, VICTIM, _ID), 0)
        expect("again", scene.admin(Opcode.MEMORY_UNREGISTER, VICTIM, _ID), errno.ENOENT)


# DEVICE_STATUS.

_STATUS: Final = Opcode.DEVICE_STATUS
_refused(
    "device-status.too-little-room",
    "DEVICE_STATUS needs STATUS_BYTES of room.",
    errno.EINVAL,
    ["4.9"],
    lambda scene: [
        scene.admin(_STATUS, scene.victim.memory.iova, size, 0)
        for size in (0, 1, abi.STATUS_BYTES - 1)
    ],
)
_refused(
    "device-status.no-memory",
    "The reply goes to guest memory.",
    errno.EFAULT,
    ["4.9"],
    lambda scene: [
        scene.admin(_STATUS, iova, abi.STATUS_BYTES, 0)
        for iova in (0, 1 << 45, _END - 1, _END - _PAGE, scene.victim.memory.iova - 64)
    ],
)
_refused(
    "device-status.beyond-the-window",
    "The whole reply is in guest memory, or nothing is written.",
    errno.EFAULT,
    ["4.9"],
    lambda scene: scene.admin(
        _STATUS, scene.victim.memory.iova + scene.victim.memory.size - 64, abi.STATUS_BYTES, 0
    ),
)


def _status_window(flags: DmaFlag, *, shared: bool) -> Callable[[Scene], int]:
    def call(scene: Scene) -> int:
        iova = 1 << 45
        fd = os.memfd_create("reply") if shared else None
        try:
            if fd is not None:
                os.ftruncate(fd, _PAGE)
            scene.driver.client.map_dma(iova, _PAGE, fd=fd, flags=flags)
            return scene.admin(_STATUS, iova, abi.STATUS_BYTES, 0)
        finally:
            scene.driver.client.unmap_dma(iova, _PAGE)
            if fd is not None:
                os.close(fd)

    return call


_refused(
    "device-status.not-writeable",
    "The reply goes to memory that the device may write.",
    errno.EFAULT,
    ["4.9"],
    _status_window(DmaFlag.READ, shared=True),
)
_refused(
    "device-status.not-shared",
    "The reply goes to shared memory.",
    errno.EFAULT,
    ["4.9"],
    _status_window(DmaFlag.READ | DmaFlag.WRITE, shared=False),
)


# Any command.

_refused(
    "opcode.unknown",
    "A command of unknown opcode completes with EOPNOTSUPP.",
    errno.EOPNOTSUPP,
    ["4.12"],
    lambda scene: [
        scene.send_admin_opcode(opcode) for opcode in (0x105, 0x1FF, 0x200, 0x7FFF, 0xFFFF)
    ],
)
_refused(
    "opcode.of-other-channels",
    "Commands of other channels are unknown to channel 0.",
    errno.EOPNOTSUPP,
    ["4.12"],
    lambda scene: [
        scene.send_admin_opcode(opcode)
        for opcode in abi.COMMANDS
        if 0 < opcode < abi.OPCODE_ADMIN_FIRST
    ],
)


@attack(
    "admin.log.not-filled",
    _SECTION,
    "A guest must not fill the host's disk.",
    "five thousand refused commands leave less than 256 KiB in the server's log",
    covers=["4.13"],
    deadline_s=20.0,
)
def _log(scene: Scene) -> None:
    admin = scene.driver.admin
    before = scene.log.stat().st_size
    for _ in range(10):
        sequences = [admin.submit(Opcode.CHANNEL_DESTROY, _UNUSED, 0) for _ in range(500)]
        for sequence in sequences:
            admin.wait(sequence, 10.0)
    grown = scene.log.stat().st_size - before
    expect("less than 256 KiB of log", grown < 1 << 18, True)


@attack(
    "admin.commands.random",
    _SECTION,
    "Any bytes are a command, or are refused.",
    "a thousand commands of random fields are each answered with an errno of the data sheet",
    covers=["4.3", "4.4", "4.5", "4.8", "4.9"],
    harm=Harm.DEVICE,
    deadline_s=20.0,
)
def _random_commands(scene: Scene) -> None:
    admin = scene.driver.admin
    interesting = (0, 1, 2, 3, 126, 127, _PAGE, scene.victim.memory.iova, 1 << 31, (1 << 32) - 1)
    opcodes = [Opcode.CHANNEL_DESTROY, Opcode.MEMORY_REGISTER, Opcode.MEMORY_UNREGISTER, _STATUS]
    known = {0, errno.ECANCELED, errno.EIO}
    known |= {errno.EINVAL, errno.ENOENT, errno.EEXIST, errno.EFAULT, errno.ENOSPC, errno.ENOMEM}
    for _ in range(1000):
        opcode = scene.random.choice(opcodes)
        layout = abi.COMMANDS[opcode].fields
        words = [scene.random.choice(interesting) & 0xFFFF_FFFF for _ in range(layout.size // 4)]
        fields = layout.unpack(b"".join(word.to_bytes(4, "little") for word in words))
        code = admin.wait(admin.submit(opcode, *fields), 15.0).status
        expect(f"{abi.COMMANDS[opcode].name}{fields}", code in known, True)
