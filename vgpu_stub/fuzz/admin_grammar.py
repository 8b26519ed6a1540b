"""Makes what a guest does on the admin channel: commands, scatter lists, and lies about both."""

from __future__ import annotations

import random
from typing import Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.device.rings import channel_offset
from vgpu_stub.fuzz.device_world import MEMORY_BYTES, Fill, Poke, Submit, Truncate, WorkerEvent
from vgpu_stub.fuzz.operations import Operation
from vgpu_stub.fuzz.values import mutated_bytes, number

_PAGE: Final = 4096
#: Where scatter lists lie in guest memory.
_LISTS: Final = 16
_ADMIN_OPCODES: Final = (
    abi.Opcode.CHANNEL_CREATE,
    abi.Opcode.CHANNEL_CREATE,
    abi.Opcode.MEMORY_REGISTER,
    abi.Opcode.MEMORY_REGISTER,
    abi.Opcode.MEMORY_REGISTER,
    abi.Opcode.MEMORY_UNREGISTER,
    abi.Opcode.CHANNEL_DESTROY,
    abi.Opcode.DEVICE_STATUS,
    abi.Opcode.NOP,
)
_EVENTS: Final = ("end", "silent", "ring-error", "done", "unknown")
_CONTROL_WORDS: Final = tuple(abi.CHANNEL_CONTROL_OFFSETS.values())


class AdminGrammar:
    """A guest that knows what it has made, mostly."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._channels: list[int] = []
        self._registrations: list[tuple[int, int]] = []
        #: Start addresses of DMA windows that back the guest's memory.
        self.windows: list[tuple[int, int]] = []

    def step(self) -> list[Operation]:
        """One or two operations, without the doorbell."""
        rng = self._rng
        choice = rng.random()
        if choice < 0.72:
            return self._command()
        if choice < 0.82:
            return [self._poke()]
        if choice < 0.9:
            event = rng.choice(_EVENTS)
            return [WorkerEvent(rng.randrange(4), event, rng.randrange(4))]
        if choice < 0.94:
            return [Truncate(rng.choice((0, 1, 4096, 8192, 1 << 20)))]
        return [Fill(rng.randrange(MEMORY_BYTES // 8) * 8, number(rng, 64).to_bytes(8, "little"))]

    def channel(self) -> Submit:
        """A CHANNEL_CREATE that is well."""
        self._channels.append(1)
        pack = abi.COMMANDS[abi.Opcode.CHANNEL_CREATE].fields.pack
        return Submit(abi.Opcode.CHANNEL_CREATE, pack(1, 1, 1, 0, b"first"))

    def _command(self) -> list[Operation]:
        rng = self._rng
        opcode = int(rng.choice(_ADMIN_OPCODES))
        before: list[Operation] = []
        if rng.random() < 0.04:
            opcode = rng.choice((0x20, 0x99, 0x105, 0xFFFF, number(rng, 16)))
            body = rng.randbytes(rng.choice((0, 8, 48)))
        else:
            body, before = self._body(opcode)
        slots = ahead = 0
        if rng.random() < 0.15:
            body = mutated_bytes(rng, body)
        if rng.random() < 0.02:
            slots = number(rng, 16)
        if rng.random() < 0.02:
            ahead = number(rng, 64)
        return [*before, Submit(opcode, body, slots, ahead)]

    def _body(self, opcode: int) -> tuple[bytes, list[Operation]]:
        rng = self._rng
        if opcode not in abi.COMMANDS:
            return b"", []
        pack = abi.COMMANDS[opcode].fields.pack
        if opcode == abi.Opcode.CHANNEL_CREATE:
            channel = rng.choice((1, 2, 3, 126, rng.randrange(130)))
            vector = rng.choice((1, 2, 64, rng.randrange(70)))
            self._channels.append(channel)
            name = rng.choice((b"python3", b"\xff\xfe", b"", b"a" * 16))
            return pack(channel, vector, rng.getrandbits(31), 0, name), []
        channel = rng.choice(self._channels or [1])
        if opcode == abi.Opcode.CHANNEL_DESTROY:
            return pack(channel, 0), []
        if opcode == abi.Opcode.MEMORY_REGISTER:
            return self._register(channel)
        if opcode == abi.Opcode.MEMORY_UNREGISTER:
            channel, registration = rng.choice(self._registrations or [(channel, 1)])
            return pack(channel, registration), []
        if opcode == abi.Opcode.DEVICE_STATUS:
            start = rng.choice(self.windows or [(0, 1)])[0]
            return pack(
                (start + rng.randrange(_PAGE)) % (1 << 64), rng.choice((abi.STATUS_BYTES, 0)), 0
            ), []
        return b"", []

    def _register(self, channel: int) -> tuple[bytes, list[Operation]]:
        rng = self._rng
        start, size = rng.choice(self.windows or [(0, MEMORY_BYTES)])
        pages = max(1, size // _PAGE)
        extents = []
        for _ in range(rng.choice((1, 1, 2, 3, 40))):
            length = rng.choice((1, 1, 2, 5)) * _PAGE
            extents.append((start + rng.randrange(pages) * _PAGE, length))
        place = rng.randrange(_LISTS) * _PAGE
        following = 0 if rng.random() < 0.93 else start + rng.randrange(_LISTS) * _PAGE
        block = abi.SCATTER_BLOCK.pack(following & (1 << 64) - 1, len(extents), 0) + b"".join(
            abi.SCATTER_ENTRY.pack(iova & (1 << 64) - 1, length) for iova, length in extents
        )
        if rng.random() < 0.15:
            block = mutated_bytes(rng, block)
        registration = rng.choice((1, 2, 3, abi.REGISTRATION_MAX, rng.randrange(5000)))
        self._registrations.append((channel, registration))
        body = abi.COMMANDS[abi.Opcode.MEMORY_REGISTER].fields.pack(
            (start + place) & (1 << 64) - 1,
            sum(length for _, length in extents),
            channel,
            registration,
            rng.choice((1, 2, 3, 3, 3, 0, 4)),
            len(extents),
        )
        return body, [Fill(place, block)]

    def _poke(self) -> Poke:
        rng = self._rng
        if rng.random() < 0.7:
            channel = rng.choice((0, 0, 0, *self._channels))
            offset = channel_offset(channel % abi.CHANNEL_COUNT) + rng.choice(_CONTROL_WORDS)
        else:
            offset = rng.randrange(abi.BAR2_BYTES)
        size = rng.choice((1, 4, 8))
        return Poke(offset, number(rng, 8 * size).to_bytes(size, "little"))
