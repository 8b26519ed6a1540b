"""`cp.async` (carried out at once), and instructions that only advise."""

from __future__ import annotations

from vgpu_host.executors.software.ir import Address, Immediate, Instruction, Operand, Register

from .access import load, locate
from .bulk_copies import copy_bulk
from .emitter import Emitter, Value, integer
from .mbarrier import arrive
from .memory import address_of
from .registry import handles
from .rows import load_elements, store_elements

_HINTS = "L2::64B L2::128B L2::256B L2::cache_hint"


@handles(
    "cp",
    f"async ca cg shared shared::cta shared::cluster global commit_group wait_group wait_all "
    f"mbarrier arrive noinc b64 bulk mbarrier::complete_tx::bytes bulk_group read prefetch L2 "
    f"{_HINTS}",
)
def emit_asynchronous_copy(emitter: Emitter, instruction: Instruction) -> None:
    """`cp.async`: 4, 8 or 16 bytes from global to shared memory; waiting finds them there."""
    if {"commit_group", "wait_group", "wait_all", "prefetch"} & set(instruction.modifiers):
        return
    if "bulk" in instruction.modifiers:
        copy_bulk(emitter, instruction)
        return
    if "mbarrier" in instruction.modifiers:
        _arrive_when_copied(emitter, instruction)
        return
    operands = list(instruction.operands)
    if "L2::cache_hint" in instruction.modifiers:
        operands.pop()
    target, source, size, *limit = operands
    if not isinstance(size, Immediate) or size.bits not in (4, 8, 16):
        raise emitter.refuse("cp.async copies 4, 8 or 16 bytes")
    count = size.bits // 4
    if limit:
        (operand,) = limit
        words = _load_some(emitter, address_of(emitter, source), count, operand)
    else:
        words = load_elements(emitter, address_of(emitter, source), "global", "i32", count)
    store_elements(emitter, address_of(emitter, target), "shared", words)


def _arrive_when_copied(emitter: Emitter, instruction: Instruction) -> None:
    """`cp.async.mbarrier.arrive`: all copies are done by now.

    Without `.noinc` the barrier awaits one arrival more for this very one: nothing changes.
    """
    (address,) = instruction.operands
    if "noinc" in instruction.modifiers:
        arrive(emitter, instruction, address)


def _load_some(emitter: Emitter, source: Address, count: int, limit: Operand) -> list[Value]:
    """The words at an address, of which only some bytes are read; the others are zeros.

    `limit` is how many bytes, or a predicate that says to read none. An address of which nothing
    is read may be any.
    """
    if isinstance(limit, Register) and emitter.body.registers[limit.name] == "i1":
        nothing = emitter.read(limit, "pred")
        available = emitter.select(nothing, integer(0, "i32"), integer(4 * count, "i32"))
    else:
        available = emitter.read(limit, "u32")
    guard = emitter.guard
    _narrow(emitter, guard, available, 0)
    origin = locate(emitter, source, "global", 4, count)
    words = []
    for index in range(count):
        _narrow(emitter, guard, available, 4 * index)
        word = load(emitter, origin, "i32", 4 * index)
        rest = emitter.intrinsic("usub.sat", available, integer(4 * index, "i32"))
        missing = emitter.intrinsic("usub.sat", integer(4, "i32"), rest)
        unread = emitter.op("mul", missing, integer(8, "i32"))
        # Shifted as 64 bits, because a word may be missing altogether.
        kept = emitter.op("lshr", integer(0xFFFFFFFF, "i64"), emitter.resize(unread, "i64"))
        words.append(emitter.op("and", word, emitter.resize(kept, "i32")))
    emitter.guard = guard
    return words


def _narrow(emitter: Emitter, guard: Value | None, available: Value, offset: int) -> None:
    """Let only lanes go on that read the byte at an offset."""
    reads = emitter.compare("icmp ugt", available, integer(offset, "i32"))
    emitter.guard = reads if guard is None else emitter.op("and", guard, reads)


@handles("griddepcontrol", "launch_dependents wait")
def emit_grid_dependency(emitter: Emitter, instruction: Instruction) -> None:
    """`griddepcontrol`: a kernel starts when the one before it has ended: nothing to wait for."""


@handles("applypriority discard", "global L2 L2::evict_normal")
def emit_advice(emitter: Emitter, instruction: Instruction) -> None:
    """`applypriority`, `discard`: hints, to which doing nothing is a full answer."""
