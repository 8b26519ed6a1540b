"""Faults of the data that commands carry between guest memory and the device.

What a command reads is replaced by a copy of it, what it writes is changed before its completion;
data that lies in the command itself (COPY_INLINE) is changed there.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Final

from vgpu_host.decode import HEADER_BYTES
from vgpu_host.hooks import Command, MemoryAccess
from vgpu_host.injection.commands import Proceed, injected
from vgpu_stub.abi import generated as abi
from vgpu_stub.faults import Rule

if TYPE_CHECKING:
    from vgpu_host.injection.hook import FaultHook


def _fail(hook: FaultHook, rule: Rule, access: MemoryAccess) -> int:
    """dma-read-error, dma-write-error."""
    raise injected(rule, int(rule.parameters["error"]))


def _corrupt(hook: FaultHook, rule: Rule, access: MemoryAccess) -> int:
    """data-corrupted."""
    if access.access & abi.REGISTER_READ:
        copy = bytearray(ctypes.string_at(access.address, access.size))
        for offset, bit in _places(hook, rule, access):
            copy[offset] ^= bit
        return hook.keep(copy)

    def flip() -> None:
        if hook.still_registered(access):
            for offset, bit in _places(hook, rule, access):
                byte = ctypes.c_ubyte.from_address(access.address + offset)
                byte.value ^= bit

    hook.before_completion(flip)
    return access.address


def _places(hook: FaultHook, rule: Rule, access: MemoryAccess) -> list[tuple[int, int]]:
    """Offset and bit of what to flip: bytes that are copied, not what lies between rows."""
    width, pitch, rows = access.size, access.size, 1
    command = hook.command
    if command and command.opcode == abi.Opcode.COPY_2D:
        layout = abi.COMMANDS[command.opcode]
        values = layout.fields.unpack_from(command.data, HEADER_BYTES)
        fields = dict(zip(layout.field_names, values, strict=True))
        side = "source" if access.access & abi.REGISTER_READ else "destination"
        width, pitch, rows = fields["width"], fields[f"{side}_pitch"], fields["height"]
    return [
        (place // 8 // width * pitch + place // 8 % width, 1 << place % 8)
        for place in _chosen(rule, 8 * width * rows)
    ]


def _chosen(rule: Rule, bits: int) -> list[int]:
    """Which of so many bits are flipped, each once."""
    random = Random(int(rule.parameters["place_seed"]))
    return random.sample(range(bits), min(int(rule.parameters["bits"]), bits))


def _fail_inline(hook: FaultHook, rule: Rule, command: Command, proceed: Proceed) -> None:
    """dma-read-error of data in the ring."""
    error = injected(rule, int(rule.parameters["error"]))
    hook.drain.fail(command.opcode, command.flags, command.sequence, error)


def _corrupt_inline(hook: FaultHook, rule: Rule, command: Command, proceed: Proceed) -> None:
    """data-corrupted of data in the ring."""
    layout = abi.COMMANDS[command.opcode]
    start = HEADER_BYTES + layout.fields.size
    *_, size = layout.fields.unpack_from(command.data, HEADER_BYTES)
    data = bytearray(command.data)
    for place in _chosen(rule, 8 * min(size, len(data) - start)):
        data[start + place // 8] ^= 1 << place % 8
    proceed(replace(command, data=bytes(data)))


#: What each kind does where a command is about to use guest memory; returns the address to use.
MEMORY_FAULTS: Final[dict[str, Callable[[FaultHook, Rule, MemoryAccess], int]]] = {
    "data-corrupted": _corrupt,
    "dma-read-error": _fail,
    "dma-write-error": _fail,
}
#: What each kind does to a command that carries its data in the ring.
INLINE_FAULTS: Final[dict[str, Callable[[FaultHook, Rule, Command, Proceed], None]]] = {
    "data-corrupted": _corrupt_inline,
    "dma-read-error": _fail_inline,
}
