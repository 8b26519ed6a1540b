"""Attacks made from the table of commands: each opcode with each kind of wrong field."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.generated import Opcode
from vgpu_stub.villain.guest.scene import Scene, expect
from vgpu_stub.villain.guest.tenant import REGISTRATION
from vgpu_stub.villain.registry import Attack, Harm, Stage, add

_INVALID_VALUE, _INVALID_CONTEXT, _INVALID_HANDLE = 1, 201, 400
_WRAPPED: Final = (1 << 64) - 32
_UNKNOWN: Final = (1, 15, 0x7FFF_FFFF, 0xFFFF_FFFF)
_ONES: Final = 0xFFFF_FFFF

#: Fields that name something of the context by its handle.
_HANDLES: Final = ("stream", "event", "start", "end", "module", "function", "graph")
#: Fields that name registered memory, and the fields of the range in it.
_RANGES: Final = {
    "registration": ("offset", "size"),
    "reply_registration": ("reply_offset", "reply_size"),
    "log_registration": ("log_offset", "log_size"),
    "destination_registration": ("destination", "width"),
    "source_registration": ("source", "width"),
}
#: Commands that need no context, or make their own.
_CONTEXT_FREE: Final = (Opcode.NOP, Opcode.CONTEXT_CREATE, Opcode.OUTPUT_READ)

_Fields = dict[str, int]


def _names(opcode: int) -> tuple[str, ...]:
    """A name for each value of the command's fields; arrays are several."""
    return abi.COMMANDS[opcode].field_names


def _good(scene: Scene, opcode: int) -> _Fields:
    """Fields that would be right, as far as handles and ranges go."""
    fields = dict.fromkeys(_names(opcode), 0)
    victim = scene.victim
    for name in fields:
        if name in ("device_ptr", "a", "b", "c"):
            fields[name] = victim.pointer
        elif name in _RANGES and name not in ("log_registration",):
            fields[name] = REGISTRATION
    known = {
        "size": 64,
        "reply_size": 4096,
        "width": 16,
        "height": 2,
        "pitch": 64,
        "destination_pitch": 64,
        "source_pitch": 64,
        "element_bytes": 1,
        "count": 16,
        "nodes": 1,
        "block_threads": 32,
        "blocks": 1,
        "grid_0": 1,
        "grid_1": 1,
        "grid_2": 1,
        "block_0": 1,
        "block_1": 1,
        "block_2": 1,
    }
    for name, value in known.items():
        if name in fields:
            fields[name] = value
    if opcode in (Opcode.MODULE_GET_FUNCTION, Opcode.MODULE_GET_GLOBAL, Opcode.MODULE_UNLOAD):
        fields["module"] = victim.load()
    if opcode in (Opcode.GRAPH_UPDATE, Opcode.GRAPH_LAUNCH, Opcode.GRAPH_UPLOAD):
        fields["graph"] = victim.empty_graph()
    if opcode == Opcode.COPY_DEVICE_TO_DEVICE:
        fields.update(destination=victim.pointer, source=victim.pointer + 4096)
    return fields


def _pack(opcode: int, fields: _Fields) -> tuple[int | bytes, ...]:
    """The values for `Struct.pack`; byte arrays of BLAS are empty."""
    return tuple(
        value.to_bytes(16, "little") if name in ("alpha", "beta") else value
        for name, value in fields.items()
    )


def _slug(opcode: int) -> str:
    return abi.COMMANDS[opcode].name.lower().replace("_", "-")


def _enter(
    opcode: int,
    what: str,
    rule: str,
    expects: str,
    covers: tuple[str, ...],
    run: Callable[[Scene], None],
) -> None:
    add(
        Attack(
            f"opcodes.{_slug(opcode)}.{what}",
            "4 Scatter lists" if "registration" in what else "commands.md",
            rule,
            expects,
            covers,
            Stage.CHANNEL,
            Harm.NOTHING,
            5.0,
            run,
        )
    )


def _enter_context(opcode: int) -> None:
    name = abi.COMMANDS[opcode].name

    def run(scene: Scene) -> None:
        fields = _pack(opcode, _good(scene, opcode))
        for context in (0x7FFF, 0xFFFF, scene.victim.context + 1):
            scene.victim.attempt(Opcode.NOP)
            status, _ = scene.victim.attempt(opcode, *fields, context=context)
            expect(f"{name} in context {context}", status, _INVALID_CONTEXT)

    rule = f"{name} works in the context that its header names."
    _enter(opcode, "unknown-context", rule, "INVALID_CONTEXT", ("3.16",), run)


def _enter_handle(opcode: int, handle: str) -> None:
    name = abi.COMMANDS[opcode].name

    def run(scene: Scene) -> None:
        good = _good(scene, opcode)
        for number in _UNKNOWN:
            fields = _pack(opcode, {**good, handle: number})
            status, _ = scene.victim.attempt(opcode, *fields)
            expect(f"{name} with {handle} {number}", status, _INVALID_HANDLE)

    rule = f"{name} takes a {handle} of its context."
    _enter(opcode, f"unknown-{handle}", rule, "INVALID_HANDLE", ("3.17",), run)


def _enter_range(opcode: int, registration: str) -> None:
    name = abi.COMMANDS[opcode].name
    offset, size = _RANGES[registration]

    def run(scene: Scene) -> None:
        good = {**_good(scene, opcode), registration: REGISTRATION}
        limit = scene.victim.memory.size
        most = _ONES if size in ("reply_size", "log_size") else (1 << 64) - 1
        wrong: list[_Fields] = [{registration: number} for number in (2, 4096, 0x8000_0001, _ONES)]
        wrong += [{offset: limit}, {offset: _WRAPPED}, {offset: 1 << 63}, {offset: limit - 1}]
        if size != "width":
            wrong += [{size: limit + 1}, {size: most}, {offset: 64, size: most}]
        elif offset == "destination":
            wrong += [{"height": 1 << 40}, {"destination_pitch": 1 << 63}]
        else:
            wrong += [{"height": 1 << 40}, {"source_pitch": 1 << 63}]
        for change in wrong:
            fields = {**good, **change}
            if size == "log_size" and "log_size" not in change:
                fields["log_size"] = 64
            status, _ = scene.victim.attempt(opcode, *_pack(opcode, fields))
            expect(f"{name} with {change}", status, _INVALID_VALUE)

    rule = f"{name} reaches registered memory of its channel and no other."
    expects = "INVALID_VALUE for other ids, and for ranges that leave it or wrap"
    _enter(opcode, registration.replace("_", "-"), rule, expects, ("4.10",), run)


def _enter_tail(opcode: int) -> None:
    name = abi.COMMANDS[opcode].name

    def run(scene: Scene) -> None:
        for claimed in (65, 4096, 0x7FFF_FFFF, _ONES):
            fields = _pack(opcode, {**_good(scene, opcode), "tail_bytes": claimed})
            status, _ = scene.victim.attempt(opcode, *fields, tail=b"short")
            expect(f"{name} with a tail of {claimed} bytes", status, _INVALID_VALUE)

    rule = f"The tail of {name} lies within the command."
    _enter(opcode, "tail-beyond-the-command", rule, "INVALID_VALUE", ("3.3",), run)


def _enter_short(opcode: int) -> None:
    name = abi.COMMANDS[opcode].name

    def run(scene: Scene) -> None:
        fields = _pack(opcode, _good(scene, opcode))
        sequence, command = scene.victim.channel.encode(
            opcode, *fields, context=scene.victim.context
        )
        cut = struct.pack("<HH", opcode, 1) + command[4 : abi.SLOT_BYTES]
        status = scene.victim.send(cut)
        expect(f"{name} {sequence} of one slot", status, _INVALID_VALUE)

    rule = f"{name} has all its fields."
    _enter(opcode, "cut-off", rule, "INVALID_VALUE when its slots do not hold them", ("3.3",), run)


def _ordinary() -> Iterator[int]:
    for opcode in abi.COMMANDS:
        if opcode < abi.OPCODE_ADMIN_FIRST:
            yield opcode


for _opcode in _ordinary():
    if _opcode not in _CONTEXT_FREE:
        _enter_context(_opcode)
    for _field in _names(_opcode):
        if _field in _HANDLES:
            _enter_handle(_opcode, _field)
        if _field in _RANGES:
            _enter_range(_opcode, _field)
    if abi.COMMANDS[_opcode].has_tail:
        _enter_tail(_opcode)
    if abi.COMMAND_HEADER.size + abi.COMMANDS[_opcode].fields.size > abi.SLOT_BYTES:
        _enter_short(_opcode)
