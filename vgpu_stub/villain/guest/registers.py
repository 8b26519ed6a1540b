"""Attacks on the registers in BAR0: widths, places, values and moments that do not exist."""

from __future__ import annotations

from typing import Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.generated import Opcode
from vgpu_stub.driver import DriverError
from vgpu_stub.vfio_user import RegionIndex, RemoteError
from vgpu_stub.villain.guest.scene import Scene, expect
from vgpu_stub.villain.guest.tenant import wait_until
from vgpu_stub.villain.registry import Attack, Harm, Stage, Violation, add, attack

_SECTION: Final = "2 Registers"
_ONES: Final = 0xFFFF_FFFF
_READ_ONLY: Final = {
    "magic": abi.REG_MAGIC,
    "abi-version": abi.REG_ABI_VERSION,
    "features-low": abi.REG_FEATURES_LOW,
    "features-high": abi.REG_FEATURES_HIGH,
    "status": abi.REG_STATUS,
    "error-channel": abi.REG_ERROR_CHANNEL,
    "channel-count": abi.REG_CHANNEL_COUNT,
    "channel-base": abi.REG_CHANNEL_BASE,
    "channel-stride": abi.REG_CHANNEL_STRIDE,
    "sq-entries": abi.REG_SQ_ENTRIES,
    "cq-entries": abi.REG_CQ_ENTRIES,
    "vector-count": abi.REG_VECTOR_COUNT,
    "reset-count": abi.REG_RESET_COUNT,
    "interrupt-test-count": abi.REG_INTERRUPT_TEST_COUNT,
}
_STATES: Final = abi.STATUS_READY | abi.STATUS_ENABLED


def _enter_read_only(name: str, register: int) -> None:
    def run(scene: Scene) -> None:
        before = scene.bar0(register)
        for value in (_ONES, 0, ~before & _ONES):
            scene.write_bar0(register, value)
            expect(f"{name} after a write", scene.bar0(register), before)

    add(
        Attack(
            f"registers.read-only.{name}",
            _SECTION,
            f"{name.upper().replace('-', '_')} is read-only.",
            "the write is ignored",
            ("2.1",),
            Stage.DEVICE,
            Harm.NOTHING,
            5.0,
            run,
        )
    )


for _name, _register in _READ_ONLY.items():
    _enter_read_only(_name, _register)


@attack(
    "registers.width.read",
    _SECTION,
    "Registers are 32 bits wide; other widths than 4 and 8 bytes read 0.",
    "0 for 1, 2, 3, 5, 6, 7, 16 and 64 bytes",
    covers=["2.2"],
    stage=Stage.DEVICE,
)
def _read_width(scene: Scene) -> None:
    for count in (1, 2, 3, 5, 6, 7, 16, 64):
        expect(f"MAGIC read with {count} bytes", scene.bar0(abi.REG_MAGIC, count), 0)


@attack(
    "registers.width.write",
    _SECTION,
    "Writes of other widths than 4 and 8 bytes are ignored.",
    "SCRATCH keeps its value",
    covers=["2.2"],
    stage=Stage.DEVICE,
)
def _write_width(scene: Scene) -> None:
    scene.write_bar0(abi.REG_SCRATCH, 0x1234_5678)
    for count in (1, 2, 3, 5, 6, 7, 16):
        scene.write_bar0(abi.REG_SCRATCH, 0, count)
        expect(f"SCRATCH after {count} bytes", scene.bar0(abi.REG_SCRATCH), 0x1234_5678)


@attack(
    "registers.width.reset-by-byte",
    _SECTION,
    "A write of one byte to CONTROL does nothing, not even a reset.",
    "RESET_COUNT and STATUS stay",
    covers=["2.2"],
    stage=Stage.DEVICE,
)
def _reset_by_byte(scene: Scene) -> None:
    before = scene.bar0(abi.REG_RESET_COUNT)
    for count in (1, 2, 3):
        scene.write_bar0(abi.REG_CONTROL, abi.CONTROL_RESET, count)
    expect("RESET_COUNT", scene.bar0(abi.REG_RESET_COUNT), before)
    expect("STATUS", scene.status(), _STATES)


@attack(
    "registers.width.two-at-once",
    _SECTION,
    "A 64-bit access is two 32-bit ones, low word first.",
    "both registers are written and read",
    covers=["2.3"],
    stage=Stage.DEVICE,
)
def _two_at_once(scene: Scene) -> None:
    scene.write_bar0(abi.REG_GUEST_ABI_VERSION, 0xAABB_CCDD_0001_0000, 8)
    expect("SCRATCH", scene.bar0(abi.REG_SCRATCH), 0xAABB_CCDD)
    value = scene.bar0(abi.REG_MAGIC, 8)
    expect("MAGIC and ABI_VERSION", value, abi.ABI_VERSION << 32 | abi.MAGIC)


@attack(
    "registers.width.reset-in-low-word",
    _SECTION,
    "A 64-bit access is two 32-bit ones: a reset in the low word comes before the high word.",
    "one reset, and the ERROR write that follows it finds no error",
    covers=["2.3"],
    stage=Stage.DEVICE,
    harm=Harm.DEVICE,
)
def _reset_in_low_word(scene: Scene) -> None:
    before = scene.bar0(abi.REG_RESET_COUNT)
    scene.write_bar0(abi.REG_CONTROL, _ONES << 32 | abi.CONTROL_RESET, 8)
    expect("RESET_COUNT", scene.bar0(abi.REG_RESET_COUNT), before + 1)
    expect("STATUS", scene.status(), abi.STATUS_READY)


@attack(
    "registers.unaligned.read",
    _SECTION,
    "Unaligned accesses read 0.",
    "0 at every unaligned offset of the first 80 bytes",
    covers=["2.4"],
    stage=Stage.DEVICE,
)
def _read_unaligned(scene: Scene) -> None:
    for offset in range(80):
        if offset % 4:
            expect(f"4 bytes at {offset:#x}", scene.bar0(offset), 0)
            expect(f"8 bytes at {offset:#x}", scene.bar0(offset, 8), 0)


@attack(
    "registers.unaligned.write",
    _SECTION,
    "Unaligned accesses ignore writes.",
    "SCRATCH and CONTROL keep their values",
    covers=["2.4"],
    stage=Stage.DEVICE,
)
def _write_unaligned(scene: Scene) -> None:
    scene.write_bar0(abi.REG_SCRATCH, 0x1234_5678)
    for shift in (1, 2, 3):
        for register in (abi.REG_SCRATCH, abi.REG_CONTROL, abi.REG_GUEST_ABI_VERSION):
            scene.write_bar0(register + shift, _ONES)
            scene.write_bar0(register - shift, _ONES)
    expect("SCRATCH", scene.bar0(abi.REG_SCRATCH), 0x1234_5678)
    expect("STATUS", scene.status(), _STATES)


@attack(
    "registers.unlisted.read",
    _SECTION,
    "Offsets that are not listed read 0.",
    "0 everywhere else in BAR0",
    covers=["2.5"],
    stage=Stage.DEVICE,
)
def _read_unlisted(scene: Scene) -> None:
    for offset in (*range(0x050, 0x100, 4), *range(0x100, abi.BAR0_BYTES, 124), 0xFFFC):
        expect(f"4 bytes at {offset:#x}", scene.bar0(offset), 0)


@attack(
    "registers.unlisted.write",
    _SECTION,
    "Offsets that are not listed ignore writes.",
    "nothing changes",
    covers=["2.5"],
    stage=Stage.DEVICE,
)
def _write_unlisted(scene: Scene) -> None:
    scene.write_bar0(abi.REG_SCRATCH, 0x1234_5678)
    before = scene.bar0(abi.REG_RESET_COUNT)
    for offset in (*range(0x050, 0x100, 4), *range(0x2000, abi.BAR0_BYTES, 508), 0xFFFC):
        scene.write_bar0(offset, _ONES)
    expect("SCRATCH", scene.bar0(abi.REG_SCRATCH), 0x1234_5678)
    expect("RESET_COUNT", scene.bar0(abi.REG_RESET_COUNT), before)
    expect("STATUS", scene.status(), _STATES)


@attack(
    "registers.unlisted.msix-table",
    "1 PCI",
    "The bus keeps the MSI-X table; the device's own copy in BAR0 has no effect.",
    "writes are ignored and no vector changes",
    covers=["1.2"],
    stage=Stage.DEVICE,
)
def _msix_table(scene: Scene) -> None:
    for offset in range(0, 16 * abi.VECTOR_COUNT, 4):
        scene.write_bar0(abi.MSIX_TABLE_OFFSET + offset, _ONES)
    scene.write_bar0(abi.MSIX_PBA_OFFSET, _ONES)
    scene.write_bar0(abi.REG_INTERRUPT_TEST, 3)
    expect("interrupts of vector 3", scene.driver.wait_interrupt(3, 2.0), 1)


@attack(
    "registers.bounds",
    _SECTION,
    "BAR0 has 64 KiB.",
    "EINVAL for every access that leaves it",
    covers=["1.3"],
    stage=Stage.DEVICE,
)
def _beyond(scene: Scene) -> None:
    client = scene.driver.client
    places = ((abi.BAR0_BYTES, 4), (abi.BAR0_BYTES - 4, 8), (abi.BAR0_BYTES - 2, 4), (1 << 63, 4))
    for offset, count in places:
        for access in (
            lambda o=offset, c=count: client.region_read(RegionIndex.BAR0, o, c),
            lambda o=offset, c=count: client.region_write(RegionIndex.BAR0, o, bytes(c)),
        ):
            try:
                access()
            except RemoteError as error:
                expect(f"an access at {offset:#x}", error.errno, 22)
            else:
                raise Violation(f"{count} bytes at {offset:#x} of BAR0 were accessed")


@attack(
    "registers.control.enable-twice",
    "2 Bringing the device up",
    "ENABLE on a device that is enabled changes nothing.",
    "STATUS stays, the admin channel goes on where it was",
    covers=["2.8"],
)
def _enable_twice(scene: Scene) -> None:
    for _ in range(10):
        scene.write_bar0(abi.REG_CONTROL, abi.CONTROL_ENABLE)
        expect("STATUS", scene.status(), _STATES)
    expect("an admin NOP", scene.admin(Opcode.NOP), 0)
    scene.victim.check()


@attack(
    "registers.control.enable-and-reset",
    "2 Reset",
    "RESET together with ENABLE resets and does not enable.",
    "STATUS is READY alone, CONTROL reads 0",
    covers=["2.12"],
    stage=Stage.DEVICE,
    harm=Harm.DEVICE,
)
def _enable_and_reset(scene: Scene) -> None:
    scene.write_bar0(abi.REG_CONTROL, abi.CONTROL_ENABLE | abi.CONTROL_RESET)
    expect("STATUS", scene.status(), abi.STATUS_READY)
    expect("CONTROL", scene.bar0(abi.REG_CONTROL), 0)


@attack(
    "registers.control.unknown-bits",
    _SECTION,
    "CONTROL has two bits; the others are ignored.",
    "unknown bits beside ENABLE change nothing",
    covers=["2.1"],
    stage=Stage.DEVICE,
)
def _unknown_control(scene: Scene) -> None:
    scene.write_bar0(abi.REG_CONTROL, _ONES & ~abi.CONTROL_RESET)
    expect("STATUS", scene.status(), _STATES)
    expect("CONTROL", scene.bar0(abi.REG_CONTROL), abi.CONTROL_ENABLE)


@attack(
    "registers.control.reset-storm",
    "2 Reset",
    "A reset is complete when the write that caused it is.",
    "two hundred resets in a row, each counted, STATUS READY after each",
    covers=["2.12", "2.13"],
    stage=Stage.DEVICE,
    harm=Harm.DEVICE,
)
def _reset_storm(scene: Scene) -> None:
    before = scene.bar0(abi.REG_RESET_COUNT)
    for _ in range(100):
        scene.write_bar0(abi.REG_CONTROL, abi.CONTROL_RESET)
        expect("STATUS", scene.status(), abi.STATUS_READY)
        scene.driver.enable()
        scene.write_bar0(abi.REG_CONTROL, 0)
    expect("RESET_COUNT", scene.bar0(abi.REG_RESET_COUNT), before + 200)


@attack(
    "registers.control.reset-under-load",
    "2 Reset",
    "A reset ends every worker and zeroes all channel memory, whatever was going on.",
    "no channel is left, its memory is zero, when the write returns",
    covers=["2.12", "2.13"],
    harm=Harm.DEVICE,
)
def _reset_under_load(scene: Scene) -> None:
    for _ in range(200):
        scene.victim.channel.submit(Opcode.NOP)
    scene.victim.channel.submit(Opcode.MEMSET, scene.victim.pointer, 4096, 1, 1, 0, 0)
    scene.driver.admin.submit(Opcode.NOP)
    scene.write_bar0(abi.REG_CONTROL, abi.CONTROL_RESET)
    start = abi.CHANNEL_BASE + abi.CHANNEL_STRIDE
    if any(scene.driver.bar2[start : start + abi.CHANNEL_STRIDE]):
        raise Violation("the channel's memory is not zero after a reset")
    expect("STATUS", scene.status(), abi.STATUS_READY)


@attack(
    "registers.control.reset-while-starting",
    "2 Reset",
    "A reset while a channel is created leaves no channel and no worker.",
    "the channel does not exist afterwards, and can be made",
    covers=["2.12"],
    stage=Stage.DEVICE,
    harm=Harm.DEVICE,
    deadline_s=20.0,
)
def _reset_while_starting(scene: Scene) -> None:
    admin = scene.driver.admin
    for number in range(1, 4):
        admin.submit(Opcode.CHANNEL_CREATE, number, number, 1, 0, b"early")
    scene.write_bar0(abi.REG_CONTROL, abi.CONTROL_RESET)
    scene.driver.enable()
    expect("an admin NOP", scene.admin(Opcode.NOP), 0)
    expect("destroying the channel", scene.admin(Opcode.CHANNEL_DESTROY, 1, 0), 2)


@attack(
    "registers.abi-version.refused",
    "2 Bringing the device up",
    "The device refuses a guest of another major, or of a newer minor version.",
    "ABI_REFUSED instead of ENABLED, for each of them",
    covers=["2.9"],
    stage=Stage.DEVICE,
    harm=Harm.DEVICE,
)
def _abi_refused(scene: Scene) -> None:
    wrong = (0, 0x0002_0000, abi.ABI_VERSION + 1, 0x0000_FFFF, _ONES, abi.ABI_VERSION ^ 1 << 31)
    for version in wrong:
        scene.driver.reset()
        try:
            scene.driver.enable(version)
        except DriverError:
            expect("STATUS", scene.status(), abi.STATUS_READY | abi.STATUS_ABI_REFUSED)
        else:
            raise Violation(f"a guest of ABI {version:#x} was accepted")


@attack(
    "registers.abi-version.changed-later",
    "2 Bringing the device up",
    "The version counts when the device is enabled, not later.",
    "the device stays enabled when GUEST_ABI_VERSION changes",
    covers=["2.9"],
)
def _abi_changed(scene: Scene) -> None:
    scene.write_bar0(abi.REG_GUEST_ABI_VERSION, 0xDEAD_BEEF)
    scene.write_bar0(abi.REG_CONTROL, abi.CONTROL_ENABLE)
    expect("STATUS", scene.status(), _STATES)
    scene.victim.check()


@attack(
    "registers.interrupt-test.no-such-vector",
    _SECTION,
    "INTERRUPT_TEST takes vectors that exist.",
    "no interrupt, and INTERRUPT_TEST_COUNT stays",
    covers=["2.6"],
    stage=Stage.DEVICE,
)
def _wrong_vector(scene: Scene) -> None:
    before = scene.bar0(abi.REG_INTERRUPT_TEST_COUNT)
    for vector in (abi.VECTOR_COUNT, abi.VECTOR_COUNT + 1, 0x100, 0x8000_0000, _ONES):
        scene.write_bar0(abi.REG_INTERRUPT_TEST, vector)
    expect("INTERRUPT_TEST_COUNT", scene.bar0(abi.REG_INTERRUPT_TEST_COUNT), before)


@attack(
    "registers.interrupt-test.storm",
    "5 Interrupts",
    "Interrupts coalesce.",
    "a thousand are at least one, and the device answers meanwhile",
    covers=["5.1"],
    stage=Stage.DEVICE,
)
def _interrupt_storm(scene: Scene) -> None:
    for _ in range(1000):
        scene.driver.client.region_write(
            RegionIndex.BAR0, abi.REG_INTERRUPT_TEST, (5).to_bytes(4, "little"), posted=True
        )
    expect("INTERRUPT_TEST_COUNT", scene.bar0(abi.REG_INTERRUPT_TEST_COUNT), 1000)
    if not scene.driver.wait_interrupt(5, 2.0):
        raise Violation("vector 5 was not signalled")


@attack(
    "registers.doorbell.no-such-channel",
    _SECTION,
    "Doorbells of channels that do not exist, or are not in use, do nothing.",
    "nothing happens",
    covers=["2.7"],
)
def _wrong_doorbell(scene: Scene) -> None:
    for channel in (3, 64, 126, 127, 128, 1023):
        scene.write_bar0(abi.REG_DOORBELL + 4 * channel, 1)
        scene.write_bar0(abi.REG_DOORBELL + 4 * channel, _ONES)


@attack(
    "registers.doorbell.storm",
    _SECTION,
    "A doorbell says that there may be work; there need be none.",
    "two thousand for nothing, for both channels and for admin, harm nobody",
    covers=["2.7"],
)
def _doorbell_storm(scene: Scene) -> None:
    client = scene.driver.client
    for place in range(2000):
        register = abi.REG_DOORBELL + 4 * (place % 3)
        client.region_write(RegionIndex.BAR0, register, bytes(4), posted=True)
    expect("STATUS", scene.status(), _STATES)


@attack(
    "registers.doorbell.disabled",
    _SECTION,
    "A device that is not enabled takes no work.",
    "doorbells do nothing before ENABLE, and a command waits unseen",
    covers=["2.7"],
    stage=Stage.DEVICE,
    harm=Harm.DEVICE,
)
def _doorbell_disabled(scene: Scene) -> None:
    scene.driver.reset()
    admin = scene.driver.admin
    admin.write_slots(admin.encode(Opcode.NOP)[1])
    admin.publish()
    for channel in range(4):
        scene.write_bar0(abi.REG_DOORBELL + 4 * channel, 1)
    expect("STATUS", scene.status(), abi.STATUS_READY)
    if any(scene.driver.bar2[abi.CHANNEL_BASE + abi.CQ_OFFSET :][:64]):
        raise Violation("a disabled device completed a command")


@attack(
    "registers.error.clear-without-error",
    _SECTION,
    "ERROR is cleared by writing a bit of it.",
    "0 clears nothing, a bit that is not set clears nothing, one that is clears all",
    covers=["2.10"],
    harm=Harm.CHANNEL,
)
def _clear_error(scene: Scene) -> None:
    scene.write_bar0(abi.REG_ERROR, _ONES)
    expect("ERROR", scene.bar0(abi.REG_ERROR), 0)
    scene.victim.channel.publish((1 << 64) - 1)
    if not wait_until(lambda: scene.bar0(abi.REG_ERROR) != 0):
        raise Violation("ERROR stays 0 after a channel's ring broke")
    for value in (0, ~abi.DEVICE_ERROR_RING & _ONES):
        scene.write_bar0(abi.REG_ERROR, value)
        expect(f"ERROR after {value:#x}", scene.bar0(abi.REG_ERROR), abi.DEVICE_ERROR_RING)
        expect("ERROR_CHANNEL", scene.bar0(abi.REG_ERROR_CHANNEL), scene.victim.number)
    scene.write_bar0(abi.REG_ERROR, abi.DEVICE_ERROR_RING)
    expect("ERROR", scene.bar0(abi.REG_ERROR), 0)
    expect("STATUS", scene.status(), _STATES)


@attack(
    "registers.error.first-one-stays",
    _SECTION,
    "ERROR holds the first device error.",
    "a later one of another channel does not replace it",
    covers=["2.10"],
    harm=Harm.DEVICE,
)
def _first_error(scene: Scene) -> None:
    scene.victim.channel.publish((1 << 64) - 1)
    scene.victim.wait_failed(401)
    scene.driver.client.unmap_dma(scene.sibling.memory.iova, scene.sibling.memory.size)
    scene.sibling.wait_failed(46)
    expect("ERROR", scene.bar0(abi.REG_ERROR), abi.DEVICE_ERROR_RING)
    expect("ERROR_CHANNEL", scene.bar0(abi.REG_ERROR_CHANNEL), scene.victim.number)
    scene.forget_memory()


@attack(
    "registers.scratch.survives-nothing",
    "2 Reset",
    "Registers return to their reset values.",
    "SCRATCH, GUEST_ABI_VERSION, INTERRUPT_TEST_COUNT are 0 after a reset",
    covers=["2.12"],
    stage=Stage.DEVICE,
    harm=Harm.DEVICE,
)
def _reset_values(scene: Scene) -> None:
    scene.write_bar0(abi.REG_SCRATCH, _ONES)
    scene.write_bar0(abi.REG_INTERRUPT_TEST, 4)
    scene.driver.reset()
    for name, register in (
        ("SCRATCH", abi.REG_SCRATCH),
        ("GUEST_ABI_VERSION", abi.REG_GUEST_ABI_VERSION),
        ("INTERRUPT_TEST_COUNT", abi.REG_INTERRUPT_TEST_COUNT),
        ("ERROR", abi.REG_ERROR),
    ):
        expect(name, scene.bar0(register), 0)
    expect("ACCESS_COUNT", scene.bar0(abi.REG_ACCESS_COUNT), 5)
