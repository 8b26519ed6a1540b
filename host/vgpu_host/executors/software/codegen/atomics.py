"""Atomic operations: one per active lane, in lane order.

Shared memory belongs to one block and a block runs on one host thread, so there a plain load and
store is atomic enough; it is several times faster than a locked instruction.
"""

from __future__ import annotations

from vgpu_host.executors.software.ir import BITS as WIDTH
from vgpu_host.executors.software.ir import STORAGE, WARP_SIZE, Instruction, Operand, size_of

from .access import locate
from .emitter import Emitter, Value, integer
from .memory import address_of, space_of
from .registry import handles

_SCOPES = "relaxed acquire release acq_rel cta gpu sys cluster global shared shared::cta noftz"
_OPERATIONS = "add min max and or xor exch cas inc dec"
_TYPES = "b16 b32 b64 u32 s32 u64 s64 f32 f64 f16x2 f16"


@handles("atom red", f"{_SCOPES} {_OPERATIONS} {_TYPES}")
def emit_atomic(emitter: Emitter, instruction: Instruction) -> None:
    """`atom`, `red`: read, modify, write; `atom` yields what was there before."""
    operands = instruction.operands
    target: Operand | None = None
    if instruction.opcode == "atom":
        target, *rest = operands
    else:
        rest = list(operands)
    type_ = STORAGE[instruction.type]
    space = space_of(emitter, instruction)
    place = locate(emitter, address_of(emitter, rest[0]), space, size_of(instruction.type))
    if emitter.instruments:
        emitter.instruments.atomic(place, type_)
    arguments = [emitter.read(operand, instruction.type) for operand in rest[1:]]
    addresses = _spill(emitter, "atomic.address", emitter.widen(place.address))
    spilled = [
        _spill(emitter, f"atomic.{type_}.{index}", emitter.widen(argument))
        for index, argument in enumerate(arguments)
    ]
    results = emitter.stack(f"atomic.{type_}.result", f"<{WARP_SIZE} x {type_}>")
    start = emitter.name("atomic")
    before, body, after = f"{start}.before", f"{start}.body", f"{start}.after"
    bits = emitter.active_bits()
    emitter.line(f"br label %{before}")
    emitter.label(before)
    some = emitter.compare("icmp ne", bits, integer(0, "i32"))
    emitter.line(f"br {some}, label %{body}, label %{after}")
    emitter.label(body)
    left, remaining = f"%{start}.left", f"%{start}.remaining"
    emitter.line(f"{left} = phi i32 [ {bits.ref}, %{before} ], [ {remaining}, %{start}.latch ]")
    lane = emitter.intrinsic("cttz", Value(left, "i32"), extra="i1 true")
    pointer = emitter.cast("inttoptr", _element(emitter, addresses, lane, "i64"), "ptr")
    values = [_element(emitter, slot, lane, type_) for slot in spilled]
    if space == "shared" and instruction.type not in ("f16", "f16x2"):
        old = _modify_alone(emitter, instruction, pointer, values)
    else:
        old = _modify(emitter, instruction, pointer, values)
    if target is not None:
        where = emitter.define(f"getelementptr {type_}, ptr {results}, {lane}", "ptr")
        emitter.line(f"store {old}, ptr {where.ref}")
    emitter.line(f"br label %{start}.latch")
    emitter.label(f"{start}.latch")
    less = emitter.op("sub", Value(left, "i32"), integer(1, "i32"))
    emitter.line(f"{remaining} = and i32 {left}, {less.ref}")
    more = emitter.compare("icmp ne", Value(remaining, "i32"), integer(0, "i32"))
    emitter.line(f"br {more}, label %{body}, label %{after}")
    emitter.label(after)
    if target is not None:
        loaded = emitter.define(f"load <{WARP_SIZE} x {type_}>, ptr {results}", type_, True)
        emitter.write(target, loaded)


def _spill(emitter: Emitter, name: str, value: Value) -> str:
    slot = emitter.stack(name, value.llvm_type)
    emitter.line(f"store {value}, ptr {slot}")
    return slot


def _element(emitter: Emitter, slot: str, lane: Value, type_: str) -> Value:
    pointer = emitter.define(f"getelementptr {type_}, ptr {slot}, {lane}", "ptr")
    return emitter.define(f"load {type_}, ptr {pointer.ref}", type_)


def _modify(
    emitter: Emitter, instruction: Instruction, pointer: Value, values: list[Value]
) -> Value:
    """The scalar atomic of one lane; yields the old value."""
    type_ = values[0].type
    size = WIDTH[type_] // 8
    operation = next(name for name in instruction.modifiers if name in _OPERATIONS.split())
    if operation == "cas":
        pair = emitter.define(
            f"cmpxchg {pointer}, {values[0]}, {values[1]} acq_rel acquire, align {size}", "pair"
        )
        return emitter.define(f"extractvalue {{ {type_}, i1 }} {pair.ref}, 0", type_)
    if instruction.type in ("f16", "f16x2"):
        return _half_add(emitter, instruction, operation, pointer, values[0])
    signed = instruction.type[0] == "s"
    name = {
        "add": "fadd" if type_ in ("float", "double") else "add",
        "min": "min" if signed else "umin",
        "max": "max" if signed else "umax",
        "exch": "xchg",
        "inc": "uinc_wrap",
        "dec": "udec_wrap",
    }.get(operation, operation)
    if type_ in ("float", "double") and operation not in ("add", "exch"):
        raise emitter.refuse(f"atomic {operation} of .{instruction.type} is not supported")
    return emitter.define(f"atomicrmw {name} {pointer}, {values[0]} acq_rel, align {size}", type_)


def _modify_alone(
    emitter: Emitter, instruction: Instruction, pointer: Value, values: list[Value]
) -> Value:
    """The same for memory that no other host thread uses; yields the old value."""
    value = values[0]
    old = emitter.define(f"load {value.type}, {pointer}", value.type)
    operation = next(name for name in instruction.modifiers if name in _OPERATIONS.split())
    if value.type in ("float", "double") and operation not in ("add", "exch"):
        raise emitter.refuse(f"atomic {operation} of .{instruction.type} is not supported")
    sign = "s" if instruction.type[0] == "s" else "u"
    zero, one = Value("0", value.type), Value("1", value.type)
    match operation:
        case "add":
            new = emitter.op("fadd" if value.type in ("float", "double") else "add", old, value)
        case "and" | "or" | "xor":
            new = emitter.op(operation, old, value)
        case "min" | "max":
            new = emitter.intrinsic(sign + operation, old, value)
        case "cas":
            new = emitter.select(emitter.compare("icmp eq", old, value), values[1], old)
        case "inc":
            wraps = emitter.compare("icmp uge", old, value)
            new = emitter.select(wraps, zero, emitter.op("add", old, one))
        case "dec":
            is_zero = emitter.compare("icmp eq", old, zero)
            wraps = emitter.op("or", is_zero, emitter.compare("icmp ugt", old, value))
            new = emitter.select(wraps, value, emitter.op("sub", old, one))
        case _:
            new = value
    emitter.line(f"store {new}, {pointer}")
    return old


def _half_add(
    emitter: Emitter, instruction: Instruction, operation: str, pointer: Value, value: Value
) -> Value:
    if operation != "add" or "noftz" not in instruction.modifiers:
        raise emitter.refuse("the only atomic on half precision is add.noftz")
    if instruction.type == "f16":
        addend = emitter.bits(value, "half")
        old = emitter.define(f"atomicrmw fadd {pointer}, {addend} acq_rel, align 2", "half")
        return emitter.bits(old, "i16")
    pair = emitter.define(f"bitcast {value} to <2 x half>", "pair")
    old = emitter.define(
        f"atomicrmw fadd {pointer}, <2 x half> {pair.ref} acq_rel, align 4", "pair"
    )
    return emitter.define(f"bitcast <2 x half> {old.ref} to i32", "i32")
