"""Where an attack happens: a connection, a device, an attacked channel and its sibling.

The scene is set up for a row of attacks and put right after each of them; putting it right is the
proof that the attack harmed no more than it may, and that a reset helps where it did harm.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final

from vgpu_host import runtime
from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.generated import Opcode
from vgpu_stub.driver import DriverError, GuestChannel, GuestDriver, GuestMemory
from vgpu_stub.harness.device_server import DeviceServerError, read_snapshot
from vgpu_stub.vfio_user import RegionIndex, VfioUserError
from vgpu_stub.villain.guest.tenant import MEMORY_BYTES, Tenant, wait_until
from vgpu_stub.villain.guest.wire import Wire
from vgpu_stub.villain.registry import Attack, Harm, Stage, Violation

#: Channels of the attacked tenant and of its sibling; attacks use others as they like.
VICTIM: Final = 1
SIBLING: Final = 2
_ADMIN_TIMEOUT_S: Final = 15.0


def expect(what: str, actual: object, *allowed: object) -> None:
    """Compare what the device did with what it may do.

    Raises:
        Violation: It is none of that.
    """
    if actual not in allowed:
        wanted = " or ".join(repr(value) for value in allowed)
        raise Violation(f"{what}: expected {wanted}, got {actual!r}")


class Scene:
    """The attacker's side of one connection, and the files of the server it attacks."""

    def __init__(self, folder: Path, server_pid: int, seed: int) -> None:
        """Prepare; nothing is connected before `prepare`.

        Args:
            folder: The server's folder.
            server_pid: Its process.
            seed: Of everything random.
        """
        self._folder = folder
        self.socket = folder / runtime.DEVICE_SOCKET
        self.log = folder / runtime.LOG_FILE
        self.server_pid = server_pid
        self._seed = seed
        self.random = random.Random(seed)
        self._driver: GuestDriver | None = None
        self._tenants: dict[int, Tenant] = {}
        self._memories: dict[int, GuestMemory] = {}
        self._extra: list[Wire] = []

    # -- what attacks use ------------------------------------------------------------------------

    @property
    def driver(self) -> GuestDriver:
        """The device, connected."""
        if self._driver is None:
            self._driver = GuestDriver.connect(self.socket)
        return self._driver

    @property
    def victim(self) -> Tenant:
        """The attacked channel."""
        return self._tenants[VICTIM]

    @property
    def sibling(self) -> Tenant:
        """Another channel of the same device."""
        return self._tenants[SIBLING]

    def admin(self, opcode: int, *fields: int | bytes) -> int:
        """Run an admin command and return its errno, 0 for success."""
        admin = self.driver.admin
        return admin.wait(admin.submit(opcode, *fields), _ADMIN_TIMEOUT_S).status

    def send_admin_opcode(self, opcode: int) -> int:
        """Send an admin command of any opcode, all of whose fields are 0; returns its errno."""
        admin = self.driver.admin
        sequence, command = admin.encode(Opcode.NOP)
        admin.write_slots(opcode.to_bytes(2, "little") + command[2:])
        admin.publish()
        return admin.wait(sequence, _ADMIN_TIMEOUT_S).status

    def register_anything(self, channel: int, registration: int) -> int:
        """Register a page of the victim's memory; returns the errno."""
        first = self.driver.scatter_list([(self.victim.memory.iova, 4096)])
        access = abi.REGISTER_READ | abi.REGISTER_WRITE
        return self.admin(Opcode.MEMORY_REGISTER, first, 4096, channel, registration, access, 1)

    def snapshot(self) -> dict[str, object]:
        """What monitors are told of the server.

        Raises:
            Violation: They are told nothing.
        """
        try:
            return read_snapshot(self._folder)
        except (DeviceServerError, ValueError) as error:
            raise Violation(f"monitors get no answer: {error}") from error

    def status(self) -> int:
        """The STATUS register."""
        return self.driver.read(abi.REG_STATUS)

    def bar0(self, offset: int, count: int = 4) -> int:
        """Read a register with any width."""
        data = self.driver.client.region_read(RegionIndex.BAR0, offset, count)
        return int.from_bytes(data, "little")

    def write_bar0(self, offset: int, value: int, count: int = 4) -> None:
        """Write a register with any width."""
        data = value.to_bytes(count, "little")
        self.driver.client.region_write(RegionIndex.BAR0, offset, data)

    def config(self, offset: int, count: int = 4) -> int:
        """Read config space."""
        data = self.driver.client.region_read(RegionIndex.CONFIG, offset, count)
        return int.from_bytes(data, "little")

    def write_config(self, offset: int, value: int, count: int = 4) -> None:
        """Write config space."""
        data = value.to_bytes(count, "little")
        self.driver.client.region_write(RegionIndex.CONFIG, offset, data)

    def wire(self, *, negotiate: bool = True) -> Wire:
        """A connection of its own on which any bytes can be sent; with a device of its own."""
        wire = Wire(self.socket, negotiate=negotiate)
        self._extra.append(wire)
        return wire

    def open_channel(self, number: int) -> GuestChannel:
        """Another channel, without anything in it."""
        return self.driver.open_channel(number, "extra")

    def forget_memory(self) -> None:
        """The tenants' memory was unmapped: have them get new memory the next time."""
        self._memories.clear()

    def reconnect(self) -> None:
        """Leave and come back as a new client."""
        self.leave()
        self.driver  # noqa: B018  # connects

    # -- what the attacker's process uses --------------------------------------------------------

    def prepare(self, attack: Attack) -> None:
        """Set up what an attack needs, if it is not there."""
        self.random = random.Random(f"{self._seed}:{attack.id}")
        if attack.stage is Stage.SOCKET:
            return
        self.driver  # noqa: B018  # connects
        if attack.stage is Stage.CHANNEL and not self._tenants:
            self._open_tenants()

    def settle(self, attack: Attack) -> None:
        """Check that an attack harmed no more than it may, and put the scene right.

        Raises:
            Violation: It harmed more, or a reset does not help.
        """
        for wire in self._extra:
            wire.close()
        self._extra.clear()
        try:
            if attack.stage is Stage.SOCKET:
                expect("an admin NOP of a new client", self.admin(Opcode.NOP), 0)
                self.leave()
                return
            if attack.harm is Harm.CONNECTION:
                self.leave()
            elif attack.stage is Stage.DEVICE:
                self._check_device(attack.harm)
            else:
                self._check_channels(attack.harm)
            self._recover()
            if attack.stage is Stage.DEVICE:
                self._reset()
        except (DriverError, VfioUserError) as error:
            raise Violation(f"the device does not recover: {error}") from error

    def leave(self) -> None:
        """Disconnect, if connected, whatever state the device is in."""
        self._tenants.clear()
        self._memories.clear()
        if self._driver is not None:
            self._driver.close()
            self._driver = None

    def _check_device(self, harm: Harm) -> None:
        if harm is Harm.NOTHING:
            expect("STATUS", self.status(), abi.STATUS_READY | abi.STATUS_ENABLED)
            expect("an admin NOP", self.admin(Opcode.NOP), 0)

    def _check_channels(self, harm: Harm) -> None:
        if harm is Harm.DEVICE:
            return
        self.sibling.check()
        if harm is Harm.NOTHING:
            expect("STATUS", self.status(), abi.STATUS_READY | abi.STATUS_ENABLED)
            self.victim.check()
            return
        failed = self.victim.channel
        if not wait_until(lambda: failed.state == abi.CHANNEL_FAILED, 5.0):
            raise Violation(f"the attacked channel has state {failed.state}, not FAILED")
        self.driver.close_channel(failed)
        self.driver.write(abi.REG_ERROR, 0xFFFF_FFFF)
        expect("STATUS", self.status(), abi.STATUS_READY | abi.STATUS_ENABLED)
        self.victim.open()
        self.victim.check()

    def _reset(self) -> None:
        self.driver.reset()
        expect("STATUS after a reset", self.status(), abi.STATUS_READY)
        self.driver.enable()
        expect("an admin NOP after a reset", self.admin(Opcode.NOP), 0)
        self._tenants.clear()

    def _recover(self) -> None:
        self._reset()
        self._open_tenants()
        for tenant in self._tenants.values():
            tenant.check()

    def _open_tenants(self) -> None:
        for number in (VICTIM, SIBLING):
            if number not in self._memories:
                self._memories[number] = self.driver.allocate(MEMORY_BYTES)
            self._tenants[number] = Tenant(self.driver, number, self._memories[number])
