"""Attacks on the rings: heads and tails, slots, flags, sequences, and what the host wrote."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.generated import Opcode
from vgpu_stub.device.rings import channel_offset
from vgpu_stub.driver import DriverError
from vgpu_stub.villain.guest.scene import Scene, expect
from vgpu_stub.villain.guest.tenant import wait_until
from vgpu_stub.villain.registry import Attack, Harm, Stage, Violation, add, attack

_SUBMISSION: Final = "3 Submission"
_COMPLETION: Final = "3 Completion"
_STATES: Final = "3 Channel states"
_ALL_ONES: Final = (1 << 64) - 1
_INVALID_VALUE, _RING_BROKEN, _NOT_SUPPORTED = 1, 401, 801
_HOST_WORDS: Final = ("sq_head", "cq_tail", "sq_sleeping", "state", "error", "generation")


def _word_offset(scene: Scene, name: str) -> int:
    """Where a word of the victim's control page is in BAR2."""
    base = channel_offset(scene.victim.number) + abi.CONTROL_OFFSET
    return base + abi.CHANNEL_CONTROL_OFFSETS[name]


def word64(scene: Scene, name: str) -> int:
    """A 64-bit word of the victim's control page."""
    value: int = struct.unpack_from("<Q", scene.driver.bar2, _word_offset(scene, name))[0]
    return value


def set_word64(scene: Scene, name: str, value: int) -> None:
    """Write a 64-bit word of the victim's control page."""
    struct.pack_into("<Q", scene.driver.bar2, _word_offset(scene, name), value)


def _wait_for_tail(scene: Scene, tail: int) -> None:
    wait_until(lambda: word64(scene, "cq_tail") == tail)


def _broken(id: str, rule: str, covers: Sequence[str], run: Callable[[Scene], None]) -> None:
    """Enter an attack that must fail the channel with DEVICE_ERROR_RING, and no other."""

    def check(scene: Scene) -> None:
        run(scene)
        scene.victim.wait_failed(_RING_BROKEN)
        expect("ERROR", scene.bar0(abi.REG_ERROR), abi.DEVICE_ERROR_RING)
        expect("ERROR_CHANNEL", scene.bar0(abi.REG_ERROR_CHANNEL), scene.victim.number)

    expects = "the channel fails with ILLEGAL_STATE, ERROR says RING; its sibling goes on"
    add(
        Attack(
            f"rings.{id}",
            _SUBMISSION,
            rule,
            expects,
            tuple(covers),
            Stage.CHANNEL,
            Harm.CHANNEL,
            10.0,
            check,
        )
    )


def _tail(ahead: int) -> Callable[[Scene], None]:
    def run(scene: Scene) -> None:
        scene.victim.check()
        scene.victim.channel.publish(word64(scene, "sq_head") + ahead & _ALL_ONES)

    return run


def _slots(slots: int) -> Callable[[Scene], None]:
    def run(scene: Scene) -> None:
        _, command = scene.victim.channel.encode(Opcode.NOP)
        scene.victim.channel.write_slots(command[:2] + struct.pack("<H", slots) + command[4:])
        scene.victim.channel.publish()

    return run


def _cross_the_end(scene: Scene) -> None:
    channel = scene.victim.channel
    room = abi.SQ_ENTRIES - 1 - word64(scene, "sq_tail") % abi.SQ_ENTRIES
    while room:
        length = min(room, abi.COMMAND_MAX_SLOTS)
        header = abi.COMMAND_HEADER.pack(Opcode.NOP, length, 0, 0, 0)
        channel.write_slots(header.ljust(length * abi.SLOT_BYTES, b"\0"))
        room -= length
    channel.publish()
    _, command = channel.encode(Opcode.NOP)
    command = command[:2] + struct.pack("<H", 2) + command[4:]
    start = channel_offset(channel.number) + abi.SQ_OFFSET
    last = start + (abi.SQ_ENTRIES - 1) * abi.SLOT_BYTES
    scene.driver.bar2[last : last + abi.SLOT_BYTES] = command[: abi.SLOT_BYTES]
    channel.publish(word64(scene, "sq_tail") + 2)


_FAR: Final = "sq_tail - sq_head never exceeds SQ_ENTRIES."
_broken("tail.one-too-far", _FAR, ["3.2"], _tail(abi.SQ_ENTRIES + 1))
_broken("tail.far", _FAR, ["3.2"], _tail(1 << 32))
_broken("tail.half-the-range", _FAR, ["3.2"], _tail(1 << 63))
_broken("tail.backwards", "sq_tail counts up for ever.", ["3.1", "3.2"], _tail(-1))
_broken("tail.far-backwards", "sq_tail counts up for ever.", ["3.1", "3.2"], _tail(-4096))
_SLOTS: Final = "A command takes 1 to COMMAND_MAX_SLOTS slots that were submitted."
_broken("slots.zero", _SLOTS, ["3.3"], _slots(0))
_broken("slots.beyond-tail", _SLOTS, ["3.3"], _slots(2))
_broken("slots.one-too-many", _SLOTS, ["3.3"], _slots(abi.COMMAND_MAX_SLOTS + 1))
_broken("slots.all-ones", _SLOTS, ["3.3"], _slots(0xFFFF))
_broken(
    "slots.across-the-end",
    "A command may not cross the end of the ring.",
    ["3.4"],
    _cross_the_end,
)


@attack(
    "rings.tail.exactly-full",
    _SUBMISSION,
    "sq_tail - sq_head may be SQ_ENTRIES.",
    "a ring filled in one go is carried out",
    covers=["3.2"],
)
def _exactly_full(scene: Scene) -> None:
    channel = scene.victim.channel
    tail = word64(scene, "sq_tail")
    wait_until(lambda: word64(scene, "sq_head") == tail)
    for _ in range(abi.SQ_ENTRIES - 1):
        channel.write_slots(channel.encode(Opcode.NOP, flags=0)[1])
    sequence, command = channel.encode(Opcode.NOP)
    channel.write_slots(command)
    channel.publish()
    expect("the last one's status", channel.wait(sequence, 15.0).status, 0)


@attack(
    "rings.tail.taken-back",
    _SUBMISSION,
    "The guest owns sq_tail; what it has taken back is not submitted.",
    "the channel goes on",
    covers=["3.1"],
)
def _taken_back(scene: Scene) -> None:
    channel = scene.victim.channel
    tail = word64(scene, "sq_tail")
    wait_until(lambda: channel.sleeping)
    # Asleep, the worker looks only when its doorbell rings: nobody has seen this tail.
    set_word64(scene, "sq_tail", tail + 1)
    set_word64(scene, "sq_tail", tail)
    scene.driver.doorbell(channel.number)
    scene.victim.check()


@attack(
    "rings.slots.longest",
    _SUBMISSION,
    "A command may have COMMAND_MAX_SLOTS slots.",
    "the longest NOP is carried out",
    covers=["3.3"],
)
def _longest(scene: Scene) -> None:
    channel = scene.victim.channel
    sequence, _ = channel.encode(Opcode.NOP)
    length = abi.COMMAND_MAX_SLOTS
    header = abi.COMMAND_HEADER.pack(Opcode.NOP, length, abi.COMMAND_COMPLETE, 0, sequence)
    channel.write_slots(header.ljust(length * abi.SLOT_BYTES, b"\xee"))
    channel.publish()
    expect("its status", channel.wait(sequence, 15.0).status, 0)


@attack(
    "rings.flags.unknown",
    _SUBMISSION,
    "Reserved bits are ignored.",
    "a command with every unknown flag is carried out and completes once",
    covers=["3.5"],
)
def _unknown_flags(scene: Scene) -> None:
    channel = scene.victim.channel
    before = word64(scene, "cq_tail")
    sequence = channel.submit(Opcode.NOP, flags=0xFFFF & ~abi.COMMAND_WAIT)
    expect("its status", channel.wait(sequence, 15.0).status, 0)
    expect("cq_tail", word64(scene, "cq_tail"), before + 1)


@attack(
    "rings.flags.none",
    _COMPLETION,
    "A command without COMMAND_COMPLETE gets no completion.",
    "a hundred of them leave cq_tail alone",
    covers=["3.6"],
)
def _no_flags(scene: Scene) -> None:
    channel = scene.victim.channel
    before = word64(scene, "cq_tail")
    for _ in range(100):
        channel.submit(Opcode.NOP, flags=0)
    expect("the last one's status", channel.wait(channel.submit(Opcode.NOP), 15.0).status, 0)
    expect("cq_tail", word64(scene, "cq_tail"), before + 1)


@attack(
    "rings.flags.wait-without-stream",
    _COMPLETION,
    "COMMAND_WAIT delays a completion until the command's stream has reached it.",
    "a command without a stream completes at once",
    covers=["3.7"],
)
def _wait_without_stream(scene: Scene) -> None:
    channel = scene.victim.channel
    flags = abi.COMMAND_COMPLETE | abi.COMMAND_WAIT
    expect("NOP", channel.wait(channel.submit(Opcode.NOP, flags=flags), 15.0).status, 0)
    sequence = channel.submit(Opcode.MEMORY_GET_INFO, context=scene.victim.context, flags=flags)
    expect("MEMORY_GET_INFO", channel.wait(sequence, 15.0).status, 0)


@attack(
    "rings.flags.wait-without-complete",
    _COMPLETION,
    "COMMAND_WAIT without COMMAND_COMPLETE asks for nothing.",
    "no completion",
    covers=["3.6", "3.7"],
)
def _wait_without_complete(scene: Scene) -> None:
    channel = scene.victim.channel
    before = word64(scene, "cq_tail")
    fields = (scene.victim.pointer, 64, 0, 1, 0, 0)
    channel.submit(Opcode.MEMSET, *fields, context=scene.victim.context, flags=abi.COMMAND_WAIT)
    expect("a NOP", channel.wait(channel.submit(Opcode.NOP), 15.0).status, 0)
    expect("cq_tail", word64(scene, "cq_tail"), before + 1)


@attack(
    "rings.sequence.reused",
    _COMPLETION,
    "Sequence numbers are the guest's; the host returns them.",
    "the same number twenty times gives twenty completions with it",
    covers=["3.6"],
)
def _sequence_reused(scene: Scene) -> None:
    channel = scene.victim.channel
    before = word64(scene, "cq_tail")
    for number in (0, _ALL_ONES):
        header = abi.COMMAND_HEADER.pack(Opcode.NOP, 1, abi.COMMAND_COMPLETE, 0, number)
        for _ in range(10):
            channel.write_slots(header.ljust(abi.SLOT_BYTES, b"\0"))
    channel.publish()
    if not wait_until(lambda: word64(scene, "cq_tail") >= before + 20):
        raise Violation("twenty commands with the same sequence number did not complete")
    base = channel_offset(channel.number) + abi.CQ_OFFSET
    for place in range(20):
        entry = base + (before + place) % abi.CQ_ENTRIES * abi.SLOT_BYTES
        sequence, status = struct.unpack_from("<Qi", scene.driver.bar2, entry)
        expect("a completion", (sequence, status), (0 if place < 10 else _ALL_ONES, 0))
    channel.wait(channel.submit(Opcode.NOP), 15.0)


def _enter_unknown_opcodes() -> None:
    unknown = [number for number in range(abi.OPCODE_COUNT) if number not in abi.COMMANDS]

    def run(scene: Scene) -> None:
        for opcode in (*unknown, 0x105, 0x200, 0x7FFF, 0xFFFF):
            _, command = scene.victim.channel.encode(Opcode.NOP)
            changed = struct.pack("<H", opcode) + command[2:]
            expect(f"opcode {opcode:#x}", scene.victim.send(changed), _NOT_SUPPORTED)

    add(
        Attack(
            "rings.opcode.unknown",
            "4 Admin channel",
            "A command of unknown opcode completes with CUDA_ERROR_NOT_SUPPORTED.",
            f"so does each of {len(unknown) + 4}",
            ("4.12",),
            Stage.CHANNEL,
            Harm.NOTHING,
            10.0,
            run,
        )
    )


_enter_unknown_opcodes()


@attack(
    "rings.opcode.admin",
    "4 Admin channel",
    "Admin commands are for channel 0.",
    "CUDA_ERROR_NOT_SUPPORTED for each of them on another channel",
    covers=["4.12"],
)
def _admin_opcodes(scene: Scene) -> None:
    for opcode, layout in abi.COMMANDS.items():
        if opcode >= abi.OPCODE_ADMIN_FIRST:
            fields = layout.fields.unpack(bytes(layout.fields.size))
            status, _ = scene.victim.attempt(opcode, *fields, context=0)
            expect(layout.name, status, _NOT_SUPPORTED)


@attack(
    "rings.completion.never-taken",
    _COMPLETION,
    "The host holds completions back while the guest's ring is full.",
    "it stops taking commands too, so that a guest cannot fill its memory; then all complete",
    covers=["3.8"],
    deadline_s=20.0,
)
def _never_taken(scene: Scene) -> None:
    channel = scene.victim.channel
    taken = word64(scene, "sq_head")
    for _ in range(abi.SQ_ENTRIES - 1):
        channel.write_slots(channel.encode(Opcode.NOP)[1])
    channel.publish()
    most = 3 * abi.CQ_ENTRIES
    wait_until(lambda: word64(scene, "sq_head") - taken > most, 1.0)
    if word64(scene, "sq_head") - taken > most:
        raise Violation("the host takes commands whose completions it cannot deliver")
    expect("the last one's status", channel.wait(channel.submit(Opcode.NOP), 10.0).status, 0)


@attack(
    "rings.completion.never-taken-by-admin",
    _COMPLETION,
    "The host holds completions back while the guest's ring is full.",
    "the admin channel stops taking commands too; the device server does not grow",
    covers=["3.8", "4.1"],
    stage=Stage.DEVICE,
    harm=Harm.DEVICE,
)
def _admin_never_taken(scene: Scene) -> None:
    admin = scene.driver.admin
    offset = channel_offset(0) + abi.CHANNEL_CONTROL_OFFSETS["sq_head"]
    for _ in range(abi.SQ_ENTRIES - 1):
        admin.write_slots(admin.encode(Opcode.NOP)[1])
    admin.publish()
    most = 3 * abi.CQ_ENTRIES

    def taken() -> int:
        value: int = struct.unpack_from("<Q", scene.driver.bar2, offset)[0]
        return value

    wait_until(lambda: taken() > most, 1.0)
    if taken() > most:
        raise Violation("the admin channel takes commands whose completions it cannot deliver")


@attack(
    "rings.completion.head-ahead",
    _COMPLETION,
    "cq_head counts completions that the guest has taken.",
    "a cq_head ahead of cq_tail holds completions back, and nothing else",
    covers=["3.8"],
)
def _head_ahead(scene: Scene) -> None:
    channel = scene.victim.channel
    for lie in (1, abi.CQ_ENTRIES, 1 << 32, 1 << 63):
        head = word64(scene, "cq_head")
        set_word64(scene, "cq_head", head + lie & _ALL_ONES)
        sequence = channel.submit(Opcode.NOP)
        set_word64(scene, "cq_head", head)
        expect(f"a NOP after cq_head + {lie:#x}", channel.wait(sequence, 15.0).status, 0)


@attack(
    "rings.completion.head-behind",
    _COMPLETION,
    "cq_head counts completions that the guest has taken.",
    "a cq_head that goes back holds completions back until it is right again",
    covers=["3.8"],
)
def _head_behind(scene: Scene) -> None:
    channel = scene.victim.channel
    head = word64(scene, "cq_head")
    set_word64(scene, "cq_head", head - abi.CQ_ENTRIES & _ALL_ONES)
    sequence = channel.submit(Opcode.NOP)
    wait_until(lambda: word64(scene, "cq_tail") != head, 0.2)
    expect("cq_tail", word64(scene, "cq_tail"), head)
    set_word64(scene, "cq_head", head)
    expect("the NOP", channel.wait(sequence, 15.0).status, 0)


@attack(
    "rings.host-half.scribbled",
    "3 Shared memory",
    "The host never relies on anything it wrote there.",
    "with every word of its half overwritten it goes on from its own counts",
    covers=["3.9"],
)
def _host_half(scene: Scene) -> None:
    channel = scene.victim.channel
    scene.victim.check()
    tail = word64(scene, "cq_tail")
    start = _word_offset(scene, "sq_head")
    half = scene.driver.bar2[start : start + 128]
    for fill in (b"\xff", b"\x01", b"\x00"):
        scene.driver.bar2[start : start + 128] = fill * 128
        channel.write_slots(channel.encode(Opcode.NOP)[1])
        channel.publish()
        scene.driver.doorbell(channel.number)
        tail += 1
        _wait_for_tail(scene, tail)
        expect("cq_tail", word64(scene, "cq_tail"), tail)
    # The state is published once; put back what the host wrote, as a guest reads it.
    state = _word_offset(scene, "state") - start
    scene.driver.bar2[start + state : start + state + 12] = half[state : state + 12]
    channel.wait(channel.submit(Opcode.NOP), 15.0)


@attack(
    "rings.host-half.counters",
    "3 Shared memory",
    "Counters are for people to look at.",
    "with both counter pages overwritten the channel goes on",
    covers=["3.9"],
)
def _counters(scene: Scene) -> None:
    base = channel_offset(scene.victim.number)
    for offset in (abi.GUEST_COUNTERS_OFFSET, abi.HOST_COUNTERS_OFFSET, abi.REFUSED_OFFSET):
        scene.driver.bar2[base + offset : base + offset + 4096] = b"\xff" * 4096
    names = base + abi.REFUSED_NAMES_OFFSET
    size = abi.REFUSED_NAMES * abi.REFUSED_CALL.size
    scene.driver.bar2[names : names + size] = b"\xff" * size
    scene.victim.check()
    scene.snapshot()


@attack(
    "rings.host-half.info",
    "3 Shared memory",
    "struct vgpu_device_info is written once by the device.",
    "overwritten, it harms nobody, and a reset brings it back",
    covers=["3.10"],
    harm=Harm.DEVICE,
)
def _info(scene: Scene) -> None:
    before = scene.driver.info()
    scene.driver.bar2[: len(before)] = b"\xff" * len(before)
    scene.victim.check()
    scene.driver.reset()
    expect("the device info", scene.driver.info(), before)


@attack(
    "rings.waiting.garbage",
    _COMPLETION,
    "The host signals the vector where cq_waiting is 1; interrupts may come for nothing.",
    "any other value does no harm",
    covers=["3.11"],
)
def _waiting(scene: Scene) -> None:
    offset = _word_offset(scene, "cq_waiting")
    for value in (0xFFFF_FFFF, 2, 0x8000_0000):
        struct.pack_into("<I", scene.driver.bar2, offset, value)
        scene.victim.check()


@attack(
    "rings.async-error.once",
    "3 Asynchronous errors",
    "A command without COMMAND_COMPLETE that fails is reported by the next that completes, once.",
    "the first of many errors, with COMPLETION_ASYNC_ERROR, and then success",
    covers=["3.12"],
)
def _async_error(scene: Scene) -> None:
    channel, context = scene.victim.channel, scene.victim.context
    channel.submit(Opcode.MEMORY_FREE, 12345, context=context, flags=0)
    for _ in range(50):
        channel.submit(Opcode.STREAM_QUERY, 999, 0, context=context, flags=0)
    completion = channel.wait(channel.submit(Opcode.NOP), 15.0)
    expect(
        "the completion",
        (completion.status, completion.flags),
        (_INVALID_VALUE, abi.COMPLETION_ASYNC_ERROR),
    )
    expect("the next", channel.wait(channel.submit(Opcode.NOP), 15.0).status, 0)


@attack(
    "rings.failed.stays-failed",
    _STATES,
    "Only CHANNEL_DESTROY leaves the state FAILED, and cq_tail does not move any more.",
    "commands, doorbells and a state written by the guest change nothing",
    covers=["3.13", "3.14"],
    harm=Harm.CHANNEL,
)
def _stays_failed(scene: Scene) -> None:
    channel = scene.victim.channel
    channel.publish(_ALL_ONES)
    scene.victim.wait_failed(_RING_BROKEN)
    tail = word64(scene, "cq_tail")
    struct.pack_into("<I", scene.driver.bar2, _word_offset(scene, "state"), abi.CHANNEL_READY)
    set_word64(scene, "sq_tail", word64(scene, "sq_head") + 1)
    for _ in range(10):
        scene.driver.doorbell(channel.number)
    wait_until(lambda: word64(scene, "cq_tail") != tail, 0.2)
    expect("cq_tail", word64(scene, "cq_tail"), tail)
    expect("registering memory", scene.register_anything(scene.victim.number, 9), 5, 2)
    struct.pack_into("<I", scene.driver.bar2, _word_offset(scene, "state"), abi.CHANNEL_FAILED)


@attack(
    "rings.unused.written",
    _SUBMISSION,
    "Indexes start at 0 when the channel is created.",
    "whatever was written where no channel was is gone, and the channel works",
    covers=["3.1"],
)
def _unused(scene: Scene) -> None:
    start = channel_offset(5)
    scene.driver.bar2[start : start + abi.CHANNEL_STRIDE] = b"\xff" * abi.CHANNEL_STRIDE
    scene.driver.doorbell(5)
    channel = scene.open_channel(5)
    expect("a NOP", channel.wait(channel.submit(Opcode.NOP), 15.0).status, 0)


def _admin_broken(id: str, rule: str, run: Callable[[Scene], None]) -> None:
    def check(scene: Scene) -> None:
        run(scene)
        scene.driver.doorbell(0)
        if not wait_until(lambda: scene.bar0(abi.REG_ERROR) != 0):
            raise Violation("ERROR stays 0")
        expect("ERROR", scene.bar0(abi.REG_ERROR), abi.DEVICE_ERROR_ADMIN_RING)
        expect("ERROR_CHANNEL", scene.bar0(abi.REG_ERROR_CHANNEL), 0)
        expect("the state", scene.driver.admin.state, abi.CHANNEL_FAILED)
        # Channels do not need the admin channel to go on.
        scene.victim.check()
        scene.sibling.check()

    add(
        Attack(
            f"rings.admin.{id}",
            "4 Admin channel",
            rule,
            "the admin channel fails, ERROR says ADMIN_RING, channels go on; a reset helps",
            ("3.2", "3.3", "4.1"),
            Stage.CHANNEL,
            Harm.DEVICE,
            10.0,
            check,
        )
    )


def _admin_tail(tail: int) -> Callable[[Scene], None]:
    return lambda scene: scene.driver.admin.publish(tail)


def _admin_slots(slots: int) -> Callable[[Scene], None]:
    def run(scene: Scene) -> None:
        admin = scene.driver.admin
        command = admin.encode(Opcode.NOP)[1]
        admin.write_slots(command[:2] + struct.pack("<H", slots) + command[4:])
        admin.publish()

    return run


_admin_broken("tail-too-far", _FAR, _admin_tail(1 << 40))
_admin_broken("tail-backwards", "sq_tail counts up for ever.", _admin_tail(_ALL_ONES))
_admin_broken("slots-zero", _SLOTS, _admin_slots(0))
_admin_broken("slots-all-ones", _SLOTS, _admin_slots(0xFFFF))


@attack(
    "rings.admin.no-completion-asked",
    "4 Admin channel",
    "Channel 0 has the same rings: without COMMAND_COMPLETE there is no completion.",
    "commands are carried out without one",
    covers=["3.6", "4.1"],
    stage=Stage.DEVICE,
)
def _admin_without_completion(scene: Scene) -> None:
    admin = scene.driver.admin
    offset = channel_offset(0) + abi.CHANNEL_CONTROL_OFFSETS["cq_tail"]
    (before,) = struct.unpack_from("<Q", scene.driver.bar2, offset)
    for _ in range(10):
        admin.submit(Opcode.NOP, flags=0)
    admin.submit(Opcode.CHANNEL_DESTROY, 9, 0, flags=0)
    sequence = admin.submit(Opcode.NOP)
    try:
        expect("the NOP", admin.wait(sequence, 15.0).status, 0)
    except DriverError as error:
        raise Violation(str(error)) from error
    (tail,) = struct.unpack_from("<Q", scene.driver.bar2, offset)
    expect("cq_tail", tail, before + 1)
