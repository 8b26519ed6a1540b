"""Attacks on config space: read-only fields, BARs, capabilities, function-level reset, power."""

from __future__ import annotations

from typing import Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.generated import Opcode
from vgpu_stub.vfio_user import RegionIndex, RemoteError
from vgpu_stub.villain.guest.scene import Scene, expect
from vgpu_stub.villain.registry import Attack, Harm, Stage, Violation, add, attack

_SECTION: Final = "1 PCI"
_CONFIG_BYTES: Final = 4096
_COMMAND, _STATUS, _POINTER = 0x04, 0x06, 0x34
_POWER, _EXPRESS, _MSIX = 0x01, 0x10, 0x11
_FLR: Final = 1 << 15
_STATES: Final = abi.STATUS_READY | abi.STATUS_ENABLED

#: Read-only fields of the header: offset and bytes.
_FIELDS: Final = {
    "vendor-id": (0x00, 2),
    "device-id": (0x02, 2),
    "revision": (0x08, 1),
    "class": (0x09, 3),
    "header-type": (0x0E, 1),
    "subsystem-vendor": (0x2C, 2),
    "subsystem": (0x2E, 2),
    "capabilities-pointer": (0x34, 1),
    "interrupt-pin": (0x3D, 1),
}


def _enter_read_only(name: str, offset: int, count: int) -> None:
    def run(scene: Scene) -> None:
        before = scene.config(offset, count)
        for value in ((1 << 8 * count) - 1, 0):
            scene.write_config(offset, value, count)
            expect(name, scene.config(offset, count), before)

    rule = f"The {name.replace('-', ' ')} in config space is read-only."
    add(
        Attack(
            f"config.read-only.{name}",
            _SECTION,
            rule,
            "the write is ignored",
            ("1.1",),
            Stage.DEVICE,
            Harm.NOTHING,
            5.0,
            run,
        )
    )


for _name, (_offset, _count) in _FIELDS.items():
    _enter_read_only(_name, _offset, _count)


def _capability(scene: Scene, identity: int) -> int:
    """Offset of a capability.

    Raises:
        Violation: It is not in the list, or the list does not end.
    """
    pointer = scene.config(_POINTER, 1)
    for _ in range(48):
        if not pointer:
            break
        if scene.config(pointer, 1) == identity:
            return pointer
        pointer = scene.config(pointer + 1, 1)
    raise Violation(f"there is no capability {identity:#x}")


@attack(
    "config.bars.sizing",
    _SECTION,
    "BARs have the sizes and kinds of the data sheet.",
    "all ones read back as the size; BARs that do not exist read 0",
    covers=["1.3"],
    stage=Stage.DEVICE,
)
def _sizing(scene: Scene) -> None:
    sizes = {0: 0xFFFF_0000, 1: 0, 2: 0xFC00_000C, 3: 0xFFFF_FFFF, 4: 0, 5: 0}
    for bar, value in sizes.items():
        scene.write_config(0x10 + 4 * bar, 0xFFFF_FFFF)
        expect(f"BAR{bar} register", scene.config(0x10 + 4 * bar), value)
    scene.write_config(0x30, 0xFFFF_FFFF)
    expect("expansion ROM", scene.config(0x30), 0)
    # Where the device is mapped is the bus's business: its registers answer as before.
    expect("MAGIC", scene.bar0(abi.REG_MAGIC), abi.MAGIC)


@attack(
    "config.command.unknown-bits",
    _SECTION,
    "Reserved bits of the command register read 0.",
    "only the bits of a PCI Express endpoint stick",
    covers=["1.1"],
    stage=Stage.DEVICE,
)
def _command_bits(scene: Scene) -> None:
    scene.write_config(_COMMAND, 0xFFFF, 2)
    expect("COMMAND", scene.config(_COMMAND, 2) & ~0x0547, 0)
    scene.write_config(_COMMAND, 0, 2)
    expect("MAGIC", scene.bar0(abi.REG_MAGIC), abi.MAGIC)


@attack(
    "config.status.cleared",
    _SECTION,
    "The status register is read-only but for its error bits.",
    "the capability list stays announced",
    covers=["1.1"],
    stage=Stage.DEVICE,
)
def _status_bits(scene: Scene) -> None:
    scene.write_config(_STATUS, 0xFFFF, 2)
    expect("STATUS", scene.config(_STATUS, 2), 0x10)


@attack(
    "config.capabilities.rewritten",
    _SECTION,
    "The capability list is read-only.",
    "the three capabilities stay where they are and the list ends",
    covers=["1.2"],
    stage=Stage.DEVICE,
)
def _rewrite_capabilities(scene: Scene) -> None:
    before = {identity: _capability(scene, identity) for identity in (_POWER, _EXPRESS, _MSIX)}
    for offset in before.values():
        for value in (0xFFFF, 0, 0x4040):
            scene.write_config(offset, value, 2)
    after = {identity: _capability(scene, identity) for identity in before}
    expect("capabilities", after, before)


@attack(
    "config.msix.table-size",
    _SECTION,
    "MSI-X has 65 vectors, its table is in BAR0 at 0x8000, its pending bits at 0xC000.",
    "size and places are read-only; the enable and mask bits do not reach the device",
    covers=["1.2"],
)
def _msix(scene: Scene) -> None:
    offset = _capability(scene, _MSIX)
    for value in (0xFFFF, 0x3FFF, 0):
        scene.write_config(offset + 2, value, 2)
        expect("table size", scene.config(offset + 2, 2) & 0x7FF, abi.VECTOR_COUNT - 1)
    scene.write_config(offset + 4, 0xFFFF_FFFF_FFFF_FFFF, 8)
    expect("table", scene.config(offset + 4), abi.MSIX_TABLE_OFFSET)
    expect("pending bits", scene.config(offset + 8), abi.MSIX_PBA_OFFSET)
    scene.victim.check()


@attack(
    "config.extended.absent",
    _SECTION,
    "There are no extended capabilities.",
    "config space beyond byte 256 reads 0 and ignores writes",
    covers=["1.4"],
    stage=Stage.DEVICE,
)
def _extended(scene: Scene) -> None:
    for offset in (*range(256, 320, 4), 1024, 4092):
        scene.write_config(offset, 0xFFFF_FFFF)
        expect(f"config space at {offset}", scene.config(offset), 0)


@attack(
    "config.bounds",
    _SECTION,
    "Config space has 4096 bytes.",
    "EINVAL for every access that leaves it",
    covers=["1.4"],
    stage=Stage.DEVICE,
)
def _bounds(scene: Scene) -> None:
    client = scene.driver.client
    for offset, count in ((4096, 1), (4095, 2), (4092, 8), (1 << 40, 4), ((1 << 64) - 1, 1)):
        for write in (False, True):
            try:
                if write:
                    client.region_write(RegionIndex.CONFIG, offset, bytes(count))
                else:
                    client.region_read(RegionIndex.CONFIG, offset, count)
            except RemoteError as error:
                expect(f"an access at {offset}", error.errno, 22)
            else:
                raise Violation(f"{count} bytes at {offset} of config space were accessed")


@attack(
    "config.whole-at-once",
    _SECTION,
    "Any width and alignment reaches config space.",
    "4096 bytes are read and written back, and nothing breaks",
    covers=["1.4"],
    stage=Stage.DEVICE,
)
def _whole(scene: Scene) -> None:
    client = scene.driver.client
    before = client.region_read(RegionIndex.CONFIG, 0, _CONFIG_BYTES)
    client.region_write(RegionIndex.CONFIG, 0, before)
    expect("config space", client.region_read(RegionIndex.CONFIG, 0, _CONFIG_BYTES), before)


@attack(
    "config.random-writes",
    _SECTION,
    "Config space takes any write.",
    "a thousand random ones leave identity and capabilities as they are",
    covers=["1.1", "1.2"],
    stage=Stage.DEVICE,
    harm=Harm.DEVICE,
)
def _random_writes(scene: Scene) -> None:
    identity = scene.config(0)
    for _ in range(1000):
        count = scene.random.choice((1, 2, 4, 8, 3))
        offset = scene.random.randrange(256 - count)
        scene.write_config(offset, scene.random.getrandbits(8 * count), count)
    expect("vendor and device", scene.config(0), identity)
    for wanted in (_POWER, _EXPRESS, _MSIX):
        _capability(scene, wanted)


@attack(
    "config.flr.under-load",
    "2 Reset",
    "A function-level reset works from any state.",
    "channels end, config space and registers return to their reset values",
    covers=["2.12", "2.13"],
    harm=Harm.DEVICE,
)
def _flr(scene: Scene) -> None:
    for _ in range(300):
        scene.victim.channel.submit(Opcode.NOP)
    scene.write_config(_COMMAND, 0x0006, 2)
    before = scene.bar0(abi.REG_RESET_COUNT)
    offset = _capability(scene, _EXPRESS) + 8
    scene.write_config(offset, _FLR, 2)
    expect("RESET_COUNT", scene.bar0(abi.REG_RESET_COUNT), before + 1)
    expect("STATUS", scene.status(), abi.STATUS_READY)
    expect("COMMAND", scene.config(_COMMAND, 2), 0)
    expect("the FLR bit", scene.config(offset, 2) & _FLR, 0)
    start = abi.CHANNEL_BASE + abi.CHANNEL_STRIDE
    expect("the channel's state", any(scene.driver.bar2[start : start + 0x2000]), False)


@attack(
    "config.flr.by-byte",
    "2 Reset",
    "A function-level reset is started by its bit, with any width.",
    "one byte and a wide write reset once each",
    covers=["2.12"],
    stage=Stage.DEVICE,
    harm=Harm.DEVICE,
)
def _flr_by_byte(scene: Scene) -> None:
    before = scene.bar0(abi.REG_RESET_COUNT)
    offset = _capability(scene, _EXPRESS) + 8
    scene.write_config(offset + 1, _FLR >> 8, 1)
    expect("RESET_COUNT", scene.bar0(abi.REG_RESET_COUNT), before + 1)
    scene.write_config(offset - 8 + 4, _FLR << 32, 8)
    expect("RESET_COUNT", scene.bar0(abi.REG_RESET_COUNT), before + 2)


@attack(
    "config.flr.storm",
    "2 Reset",
    "Resets of all kinds may follow each other at once.",
    "each of three kinds a hundred times, each counted",
    covers=["2.12"],
    stage=Stage.DEVICE,
    harm=Harm.DEVICE,
)
def _flr_storm(scene: Scene) -> None:
    before = scene.bar0(abi.REG_RESET_COUNT)
    offset = _capability(scene, _EXPRESS) + 8
    for _ in range(100):
        scene.write_config(offset, _FLR, 2)
        scene.driver.client.reset()
        scene.driver.reset()
    expect("RESET_COUNT", scene.bar0(abi.REG_RESET_COUNT), before + 300)


@attack(
    "config.power.unsupported-states",
    _SECTION,
    "Power states are D0 and D3hot.",
    "D1 and D2 are ignored",
    covers=["1.5"],
)
def _power_states(scene: Scene) -> None:
    offset = _capability(scene, _POWER) + 4
    for state in (1, 2):
        scene.write_config(offset, state, 2)
        expect(f"the state after D{state}", scene.config(offset, 2) & 3, 0)
    scene.write_config(offset, 0xFFFC, 2)
    expect("PMCSR", scene.config(offset, 2), 0x8)
    scene.victim.check()


@attack(
    "config.power.d3-under-load",
    _SECTION,
    "NoSoftReset is 1: D3hot to D0 keeps the state.",
    "channels go on working afterwards",
    covers=["1.5"],
)
def _power_down(scene: Scene) -> None:
    offset = _capability(scene, _POWER) + 4
    for _ in range(20):
        scene.victim.channel.submit(Opcode.NOP, flags=0)
        scene.write_config(offset, 3, 2)
        expect("the state", scene.config(offset, 2) & 3, 3)
        scene.write_config(offset, 0, 2)
    expect("STATUS", scene.status(), _STATES)
    scene.victim.check()
