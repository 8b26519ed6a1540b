"""Atomic operations: one per active lane, in lane order.

Shared memory belongs to one block and a block runs on one host thread, so there a plain load and
store is atomic enough; it is several times faster than a locked instruction.
"""

from __future__ import annotations

from collections.abc import Callable

from vgpu_host.executors.software.ir import BITS as WIDTH
from vgpu_host.executors.software.ir import STORAGE, WARP_SIZE, Instruction, Operand, size_of

from .access import locate
from .emitter import Emitter, Value, integer
from .halves import HALVES, PACKED, for_each_half, from_single, to_single
from .memory import CACHE_HINT, address_of, items_of, space_of, without_policy
from .registry import handles

_SCOPES = "relaxed acquire release acq_rel cta gpu sys cluster noftz"
_PLACES = f"global shared shared::cta shared::cluster {CACHE_HINT}"
_OPERATIONS = "add min max and or xor exch cas inc dec"
_TYPES = "b16 b32 b64 u32 s32 u64 s64 f32 f64 f16 f16x2 bf16 bf16x2 v2 v4 v8"


#: Atomic addition in global memory flushes subnormal operands and results; in shared memory none.
_ADD_SINGLE = """
define internal float @"flush.f32"(float %value) alwaysinline nounwind {
  %bits = bitcast float %value to i32
  %exponent = and i32 %bits, 2139095040
  %tiny = icmp eq i32 %exponent, 0
  %sign = and i32 %bits, -2147483648
  %flushed = select i1 %tiny, i32 %sign, i32 %bits
  %result = bitcast i32 %flushed to float
  ret float %result
}
define internal float @"atomic.add.f32"(ptr %cell, float %value) nounwind {
entry:
  %addend = call float @"flush.f32"(float %value)
  %first = load atomic i32, ptr %cell monotonic, align 4
  br label %again
again:
  %old = phi i32 [ %first, %entry ], [ %seen, %again ]
  %old.value = bitcast i32 %old to float
  %augend = call float @"flush.f32"(float %old.value)
  %sum = fadd float %augend, %addend
  %flushed = call float @"flush.f32"(float %sum)
  %new = bitcast float %flushed to i32
  %pair = cmpxchg ptr %cell, i32 %old, i32 %new acq_rel acquire, align 4
  %seen = extractvalue { i32, i1 } %pair, 0
  %done = extractvalue { i32, i1 } %pair, 1
  br i1 %done, label %end, label %again
end:
  ret float %old.value
}"""


@handles("atom red", f"{_SCOPES} {_PLACES} {_OPERATIONS} {_TYPES}")
def emit_atomic(emitter: Emitter, instruction: Instruction) -> None:
    """`atom`, `red`: read, modify, write; `atom` yields what was there before.

    Of a vector each element is an atomic operation of its own.
    """
    operands = without_policy(instruction)
    targets: tuple[Operand, ...] = ()
    if instruction.opcode == "atom":
        targets, operands = items_of(operands[0]), operands[1:]
    address, *sources = operands
    columns = [items_of(operand) for operand in sources]
    count = len(columns[0])
    type_, size = STORAGE[instruction.type], size_of(instruction.type)
    space = space_of(emitter, instruction)
    place = locate(emitter, address_of(emitter, address), space, size, count)
    if emitter.instruments:
        for index in range(count):
            emitter.instruments.atomic(place, type_, index * size)
    alone = space == "shared" and instruction.type not in (*HALVES, *PACKED)
    modify = _modify_alone if alone else _modify

    def update(pointer: Value, values: list[Value]) -> Value:
        return modify(emitter, instruction, pointer, values)

    for index, row in enumerate(zip(*columns, strict=True)):
        arguments = [emitter.read(operand, instruction.type) for operand in row]
        where = place.address
        if index:
            where = emitter.op("add", where, integer(index * size, "i64"))
        old = for_each_lane(emitter, where, arguments, type_ if targets else None, update)
        if old is not None:
            emitter.write(targets[index], old)


def for_each_lane(
    emitter: Emitter,
    addresses: Value,
    arguments: list[Value],
    result: str | None,
    update: Callable[[Value, list[Value]], Value],
) -> Value | None:
    """Do something to memory for one active lane after the other.

    Args:
        emitter: of the kernel.
        addresses: of the lanes, checked.
        arguments: values of which `update` gets those of its lane.
        result: type of what `update` returns, to be collected; None to forget it.
        update: emits the operation on a pointer.
    """
    slots = [
        _spill(emitter, f"atomic.{argument.type}.{index}", emitter.widen(argument))
        for index, argument in enumerate(arguments)
    ]
    places = _spill(emitter, "atomic.address", emitter.widen(addresses))
    results = (
        emitter.stack(f"atomic.{result}.result", f"<{WARP_SIZE} x {result}>") if result else ""
    )
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
    pointer = emitter.cast("inttoptr", _element(emitter, places, lane, "i64"), "ptr")
    values = [
        _element(emitter, slot, lane, argument.type)
        for slot, argument in zip(slots, arguments, strict=True)
    ]
    old = update(pointer, values)
    if result:
        where = emitter.define(f"getelementptr {result}, ptr {results}, {lane}", "ptr")
        emitter.line(f"store {old}, ptr {where.ref}")
    emitter.line(f"br label %{start}.latch")
    emitter.label(f"{start}.latch")
    less = emitter.op("sub", Value(left, "i32"), integer(1, "i32"))
    emitter.line(f"{remaining} = and i32 {left}, {less.ref}")
    more = emitter.compare("icmp ne", Value(remaining, "i32"), integer(0, "i32"))
    emitter.line(f"br {more}, label %{body}, label %{after}")
    emitter.label(after)
    if not result:
        return None
    return emitter.define(f"load <{WARP_SIZE} x {result}>, ptr {results}", result, True)


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
    if instruction.type in HALVES or instruction.type in PACKED:
        return _modify_halves(emitter, instruction, operation, pointer, values[0])
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
    if type_ == "float" and operation == "add":
        emitter.functions["atomic.add.f32"] = _ADD_SINGLE
        return emitter.define(f'call float @"atomic.add.f32"({pointer}, {values[0]})', "float")
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


def _modify_halves(
    emitter: Emitter, instruction: Instruction, operation: str, pointer: Value, value: Value
) -> Value:
    """`add`, `min`, `max` of halves: tried until nobody else wrote in between."""
    if operation not in ("add", "min", "max") or "noftz" not in instruction.modifiers:
        raise emitter.refuse("atomics on half precision are add, min and max with .noftz")
    half = PACKED.get(instruction.type, instruction.type)
    stem = {"min": "minimumnum", "max": "maximumnum"}.get(operation)

    def combine(pair: list[Value]) -> Value:
        a, b = (to_single(emitter, number, half) for number in pair)
        single = emitter.intrinsic(stem, a, b) if stem else emitter.op("fadd", a, b)
        return from_single(emitter, single, half)

    name = emitter.name("again")
    emitter.line(f"br label %{name}.first")
    emitter.label(f"{name}.first")
    first = emitter.define(f"load {value.type}, {pointer}", value.type)
    emitter.line(f"br label %{name}")
    emitter.label(name)
    old = Value(f"%{name}.old", value.type)
    emitter.line(
        f"{old.ref} = phi {value.type} [ {first.ref}, %{name}.first ], [ %{name}.seen, %{name} ]"
    )
    both = [old, value]
    packed = instruction.type in PACKED
    new = for_each_half(emitter, both, combine) if packed else combine(both)
    size = WIDTH[value.type] // 8
    emitter.line(f"%{name}.pair = cmpxchg {pointer}, {old}, {new} acq_rel acquire, align {size}")
    emitter.line(f"%{name}.seen = extractvalue {{ {value.type}, i1 }} %{name}.pair, 0")
    done = emitter.define(f"extractvalue {{ {value.type}, i1 }} %{name}.pair, 1", "i1")
    emitter.line(f"br {done}, label %{name}.done, label %{name}")
    emitter.label(f"{name}.done")
    return old
