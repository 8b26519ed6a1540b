"""`mbarrier`: barriers in shared memory that count arrivals, and bytes that are on their way.

Programs see 64 opaque bits. Here they are, from bit 0 on: arrivals that a phase expects (20 bits),
arrivals that the current phase waits for (20), bytes that it waits for (22, signed), and, in bit
63, the parity of the phase. A block runs on one host thread, so plain loads and stores will do. A
loop that waits gives way to other warps (see `holds`).
"""

from __future__ import annotations

from vgpu_host.executors.software.ir import Immediate, Instruction, Operand, Register

from .access import Place, load, locate, store
from .atomics import for_each_lane
from .emitter import Emitter, Value, integer
from .memory import address_of, space_of
from .registry import handles

_COUNT_BITS = 20
_PENDING, _BYTES, _PARITY = 20, 40, 63
_COUNT = (1 << _COUNT_BITS) - 1
_BYTES_MASK = ((1 << 22) - 1) << _BYTES
_SPACES = "shared shared::cta shared::cluster"
_SEMANTICS = "acquire release relaxed cta cluster b64"
#: Operations on the object: the operand (if any) is how many arrive, or bytes.
_OPERATIONS = (
    "init inval arrive arrive_drop noComplete expect_tx complete_tx test_wait try_wait parity "
    "pending_count"
)


@handles("mbarrier", f"{_OPERATIONS} {_SPACES} {_SEMANTICS}")
def emit_mbarrier(emitter: Emitter, instruction: Instruction) -> None:
    """Any operation on a barrier object."""
    names = set(instruction.modifiers)
    if "pending_count" in names:
        target, state = instruction.operands
        emitter.write(target, _pending(emitter, emitter.read(state, "b64")))
    elif {"test_wait", "try_wait"} & names:
        _wait(emitter, instruction)
    elif {"arrive", "arrive_drop"} & names:
        target, address, *count = instruction.operands
        _change(emitter, instruction, address, count, target)
    else:
        address, *count = instruction.operands
        _change(emitter, instruction, address, count, None)


def arrive(emitter: Emitter, instruction: Instruction, address: Operand) -> None:
    """Let every active lane arrive once, whatever the instruction is."""
    _change(emitter, instruction, address, [], None)


def complete_bytes(
    emitter: Emitter, instruction: Instruction, address: Operand, amount: Value
) -> None:
    """Tell a barrier in shared memory that bytes (an i32) have come."""
    place = locate(emitter, address_of(emitter, address), "shared", 8)
    _update(emitter, place, amount, {"complete_tx"}, None)


def _wait(emitter: Emitter, instruction: Instruction) -> None:
    """Whether a phase is over: that of a state, or that with a parity."""
    target, address, phase = instruction.operands[:3]
    emitter.line('fence syncscope("singlethread") seq_cst')
    place = locate(emitter, address_of(emitter, address), space_of(emitter, instruction), 8)
    now = load(emitter, place, "i64")
    shift = integer(_PARITY, "i64")
    if "parity" in instruction.modifiers:
        low = emitter.op("and", emitter.read(phase, "b32"), integer(1, "i32"))
        then = emitter.cast("zext", low, "i64")
    else:
        then = emitter.op("lshr", emitter.read(phase, "b64"), shift)
    emitter.write(target, emitter.compare("icmp ne", emitter.op("lshr", now, shift), then))


def _pending(emitter: Emitter, state: Value) -> Value:
    shifted = emitter.op("lshr", state, integer(_PENDING, "i64"))
    return emitter.cast("trunc", emitter.op("and", shifted, integer(_COUNT, "i64")), "i32")


def _change(
    emitter: Emitter,
    instruction: Instruction,
    address: Operand,
    count: list[Operand],
    target: Operand | None,
) -> None:
    """Change the object, one lane after the other; `target` gets what was there before."""
    emitter.line('fence syncscope("singlethread") seq_cst')
    place = locate(emitter, address_of(emitter, address), space_of(emitter, instruction), 8)
    amount = emitter.read(count[0] if count else Immediate(1), "b32")
    if "init" in instruction.modifiers or "inval" in instruction.modifiers:
        number = emitter.op("and", emitter.cast("zext", amount, "i64"), integer(_COUNT, "i64"))
        fresh = emitter.op("mul", number, integer(1 | 1 << _PENDING, "i64"))
        store(emitter, place, fresh if "init" in instruction.modifiers else integer(0, "i64"))
        return
    _update(emitter, place, amount, set(instruction.modifiers), target)


def _update(
    emitter: Emitter, place: Place, amount: Value, names: set[str], target: Operand | None
) -> None:
    if emitter.instruments:
        emitter.instruments.atomic(place, "i64")

    def update(pointer: Value, values: list[Value]) -> Value:
        old = emitter.define(f"load i64, {pointer}", "i64")
        emitter.line(f"store {_updated(emitter, names, old, values[0])}, {pointer}")
        return old

    keeps = isinstance(target, Register) and target.name != "_"
    wide = emitter.cast("zext", amount, "i64")
    old = for_each_lane(emitter, place.address, [wide], "i64" if keeps else None, update)
    if target is not None and old is not None:
        emitter.write(target, old)


def _updated(emitter: Emitter, names: set[str], old: Value, amount: Value) -> Value:
    """The object after bytes were announced or came, and threads arrived."""
    one = integer(1, "i64")
    new = old
    arrives = bool({"arrive", "arrive_drop"} & names) or "mbarrier" in names
    if "expect_tx" in names:
        new = _with_bytes(emitter, new, "add", amount)
        amount = one
    elif "complete_tx" in names:
        new = _with_bytes(emitter, new, "sub", amount)
    if arrives:
        if "arrive_drop" in names:
            new = emitter.op("sub", new, amount)
        new = emitter.op("sub", new, emitter.op("shl", amount, integer(_PENDING, "i64")))
    elif "complete_tx" not in names:
        return new
    awaited = _BYTES_MASK | _COUNT << _PENDING
    left = emitter.op("and", new, integer(awaited, "i64"))
    over = emitter.compare("icmp eq", left, integer(0, "i64"))
    expected = emitter.op("and", new, integer(_COUNT, "i64"))
    following = emitter.op("or", new, emitter.op("shl", expected, integer(_PENDING, "i64")))
    following = emitter.op("xor", following, integer(1 << _PARITY, "i64"))
    return emitter.select(over, following, new)


def _with_bytes(emitter: Emitter, value: Value, operation: str, amount: Value) -> Value:
    """The object with bytes added to those awaited or taken from them, modulo their 22 bits."""
    shifted = emitter.op("shl", amount, integer(_BYTES, "i64"))
    mask = integer(_BYTES_MASK, "i64")
    changed = emitter.op("and", emitter.op(operation, value, shifted), mask)
    return emitter.op("or", emitter.op("and", value, integer(~_BYTES_MASK, "i64")), changed)
