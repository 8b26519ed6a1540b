"""`cp.async.bulk`: copies of many bytes by one thread, carried out at once."""

from __future__ import annotations

from vgpu_host.executors.software.ir import Address, Instruction

from .access import load, locate_at, operand_value, store
from .emitter import Emitter, Value, integer
from .mbarrier import complete_bytes
from .memory import address_of, without_policy

#: Bytes of which sizes and addresses are multiples.
_UNIT = 16
_MEMORIES = {
    "shared::cluster": "shared",
    "shared::cta": "shared",
    "global": "global",
}


def copy_bulk(emitter: Emitter, instruction: Instruction) -> None:
    """Copy, and tell the barrier that bytes were announced to that they have come."""
    target, source, size, *barrier = without_policy(instruction)
    memories = [_MEMORIES[name] for name in instruction.modifiers if name in _MEMORIES]
    if len(memories) != 2 or memories == ["global", "global"]:
        raise emitter.refuse("cp.async.bulk copies between global and shared memory")
    count = emitter.read(size, "u32")
    _copy(emitter, address_of(emitter, target), address_of(emitter, source), memories, count)
    if barrier:
        complete_bytes(emitter, instruction, barrier[0], count)


def _copy(
    emitter: Emitter, target: Address, source: Address, memories: list[str], count: Value
) -> None:
    """A loop over the units of the lane that has most of them."""
    guard = emitter.guard
    bases = [_base(emitter, address) for address in (target, source)]
    slot = emitter.stack("bulk.offset", "i64")
    emitter.line(f"store i64 0, ptr {slot}")
    name = emitter.name("bulk")
    emitter.line(f"br label %{name}")
    emitter.label(name)
    offset = emitter.define(f"load i64, ptr {slot}", "i64")
    left = emitter.compare("icmp ult", offset, emitter.cast("zext", count, "i64"))
    emitter.guard = left if guard is None else emitter.op("and", guard, left)
    some = emitter.compare("icmp ne", emitter.active_bits(), integer(0, "i32"))
    emitter.line(f"br {some}, label %{name}.copy, label %{name}.done")
    emitter.label(f"{name}.copy")
    places = [
        locate_at(emitter, emitter.op("add", base, offset), 0, space, 4, _UNIT // 4)
        for base, space in zip(bases, memories, strict=True)
    ]
    words = [load(emitter, places[1], "i32", at) for at in range(0, _UNIT, 4)]
    for index, word in enumerate(words):
        store(emitter, places[0], word, 4 * index)
    emitter.line(f"store {emitter.op('add', offset, integer(_UNIT, 'i64'))}, ptr {slot}")
    emitter.line(f"br label %{name}")
    emitter.label(f"{name}.done")
    emitter.guard = guard


def _base(emitter: Emitter, address: Address) -> Value:
    value = emitter.resize(operand_value(emitter, address.base), "i64")
    return emitter.op("add", value, integer(address.offset, "i64"))
