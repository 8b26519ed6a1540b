"""Checked memory accesses: every lane's address is tested before anything is touched.

One unsigned comparison tests range and alignment together: the distance from the start of the space
is rotated right by log2(size), so that a misaligned distance becomes huge. Lanes that are off are
ignored. A bad lane ends the kernel through a cold block that records the address and the thread.
"""

from __future__ import annotations

from dataclasses import dataclass

from vgpu_host.executors.software.ir import BITS, WARP_SIZE, Address, Operand, Register, Symbol

from .emitter import Emitter, Value, integer, mangle
from .state import FAULT_ADDRESS, FAULT_TRAP


@dataclass(frozen=True, slots=True)
class Place:
    """A checked place: its address as an i64 (scalar or vector), ready to be used."""

    address: Value
    enabled: Value | None
    space: str


def end_kernel(emitter: Emitter, bad: Value, addresses: Value, code: int) -> None:
    """End the kernel if any bit of `bad` (one per lane) is set."""
    any_bad = emitter.compare("icmp ne", bad, integer(0, "i32"))
    fault, resume = emitter.name("fault"), emitter.name("ok")
    emitter.line(f"br i1 {any_bad.ref}, label %{fault}, label %{resume}, !prof !0")
    hot, emitter.lines = emitter.lines, emitter.cold
    emitter.label(fault)
    slot = emitter.stack("fault.addresses", f"<{WARP_SIZE} x i64>")
    emitter.line(f"store {emitter.widen(addresses)}, ptr {slot}")
    emitter.line(
        f"call void @fault(ptr %launch, ptr %worker, i32 {code}, {bad}, ptr {slot}, i32 %warp, "
        f"i32 {emitter.instruction.position})"
    )
    emitter.line("br label %abort")
    emitter.lines = hot
    emitter.label(resume)


def trap(emitter: Emitter, code: int = FAULT_TRAP) -> None:
    """End the kernel as the `trap` instruction does."""
    end_kernel(emitter, emitter.active_bits(), integer(0, "i64"), code)


def _check(emitter: Emitter, distance: Value, limit: Value, size: int, addresses: Value) -> None:
    shift = size.bit_length() - 1
    if shift:
        amount = integer(shift, distance.type)
        distance = emitter.intrinsic("fshr", distance, distance, amount)
        limit = emitter.op("lshr", limit, amount)
    outside = emitter.compare("icmp uge", distance, limit)
    if outside.vector:
        bad = emitter.lane_bits(emitter.op("and", outside, emitter.active()))
    else:
        bad = emitter.select(outside, emitter.active_bits(), integer(0, "i32"))
    end_kernel(emitter, bad, addresses, FAULT_ADDRESS)


def displaced(emitter: Emitter, base: Value, offset: int, type_: str) -> Value:
    """A base address as an integer of `type_`, its offset added."""
    value = emitter.resize(base, type_)
    if offset:
        value = emitter.op("add", value, integer(offset, type_))
    return value


def operand_value(emitter: Emitter, operand: Operand) -> Value:
    """An address operand in the width in which it is stored."""
    if isinstance(operand, Register):
        return emitter.load_register(operand.name)
    if isinstance(operand, Symbol):
        return emitter.symbol(operand.name, operand.offset)
    return emitter.read(operand, "b64")


def limits_of(emitter: Emitter, space: str, type_: str) -> tuple[Value | None, Value]:
    """Where a space starts, unless its addresses start at zero, and how many bytes it has."""
    if space == "shared":
        return None, Value("%shared.size" if type_ == "i32" else "%shared.size64", type_)
    return Value("%arena.base", "i64"), Value("%arena.size", "i64")


def locate(emitter: Emitter, address: Address, space: str, size: int, elements: int = 1) -> Place:
    """Check an access of `elements` times `size` bytes (powers of two) and return where it is.

    `space` is `global` (also generic and const), `shared`, `local` or `param`.
    """
    base = operand_value(emitter, address.base)
    return locate_at(emitter, base, address.offset, space, size, elements)


def locate_at(
    emitter: Emitter, base: Value, displacement: int, space: str, size: int, elements: int = 1
) -> Place:
    """The same for a base address that is at hand."""
    size *= elements
    match space:
        case "shared":
            type_ = base.type if base.type == "i32" and base.ref[0] == "%" else "i64"
            offset = displaced(emitter, base, displacement, type_)
            limit = limits_of(emitter, space, type_)[1]
            _check(emitter, offset, limit, size, emitter.resize(offset, "i64"))
            offset = emitter.resize(offset, "i64")
            where = emitter.op("add", Value("%shared.base", "i64"), offset)
        case "local":
            offset = displaced(emitter, base, displacement, "i64")
            limit = integer(emitter.layout.local_size, "i64")
            _check(emitter, offset, limit, size, offset)
            where = emitter.op("add", Value("%local.base", "i64", True), offset)
        case "param":
            offset = displaced(emitter, base, displacement, "i64")
            limit = integer(emitter.layout.parameter_size, "i64")
            _check(emitter, offset, limit, size, offset)
            where = emitter.op("add", Value("%params.base", "i64"), offset)
        case _:
            where = displaced(emitter, base, displacement, "i64")
            start, limit = limits_of(emitter, space, "i64")
            assert start is not None
            _check(emitter, emitter.op("sub", where, start), limit, size, where)
    enabled: Value | None = None
    if emitter.guard is not None:
        enabled = emitter.guard
        if enabled.vector:
            enabled = emitter.compare("icmp ne", emitter.active_bits(), integer(0, "i32"))
    return Place(where, enabled, space)


def pointer_to(emitter: Emitter, place: Place, offset: int) -> Value:
    """The scalar pointer of a uniform place; a scratch line stands in when no lane is on."""
    address = place.address
    if offset:
        address = emitter.op("add", address, integer(offset, "i64"))
    if place.enabled is not None:
        address = emitter.select(place.enabled, address, Value("%sink", "i64"))
    return emitter.cast("inttoptr", address, "ptr")


def load(emitter: Emitter, place: Place, type_: str, offset: int = 0) -> Value:
    """Load one element from a checked place."""
    if emitter.instruments:
        emitter.instruments.load(place, type_, offset)
    size = BITS[type_] // 8
    if not place.address.vector:
        pointer = pointer_to(emitter, place, offset)
        return emitter.define(f"load {type_}, {pointer}, align {size}", type_)
    address = place.address
    if offset:
        address = emitter.op("add", address, integer(offset, "i64"))
    pointers = emitter.cast("inttoptr", address, "ptr")
    return gather(emitter, pointers, type_, emitter.active())


def gather(emitter: Emitter, pointers: Value, type_: str, active: Value | None) -> Value:
    """Load from each lane's own place, in the active lanes or in all."""
    size = BITS[type_] // 8
    # 8- and 16-bit gathers are taken apart lane by lane on x86, a 32-bit gather is one
    # instruction. It reads up to three bytes more; every mapped space has room behind it.
    wide = Value("", type_ if size >= 4 else "i32", True)
    name = f"llvm.masked.gather.{mangle(wide)}.v{WARP_SIZE}p0"
    kind, mask_type = wide.llvm_type, f"<{WARP_SIZE} x i1>"
    mask = active.ref if active else "splat (i1 true)"
    emitter.declarations.add(f"declare {kind} @{name}({pointers.llvm_type}, {mask_type}, {kind})")
    result = emitter.define(
        f"call {kind} @{name}({pointers.llvm_type} align {size} {pointers.ref}, {mask_type} {mask},"
        f" {kind} zeroinitializer)",
        wide.type,
        True,
    )
    return emitter.resize(result, type_)


def store(emitter: Emitter, place: Place, value: Value, offset: int = 0) -> None:
    """Store one element to a checked place; of lanes that share an address the last one wins."""
    if emitter.instruments:
        emitter.instruments.store(place, value, offset)
    size = BITS[value.type] // 8
    if not place.address.vector:
        if value.vector:
            lane = emitter.intrinsic("ctlz", emitter.active_bits(), extra="i1 false")
            lane = emitter.op("xor", lane, integer(31, "i32"))
            lane = emitter.op("and", lane, integer(31, "i32"))
            value = emitter.define(f"extractelement {value}, {lane}", value.type)
        pointer = pointer_to(emitter, place, offset)
        emitter.line(f"store {value}, {pointer}, align {size}")
        return
    address = place.address
    if offset:
        address = emitter.op("add", address, integer(offset, "i64"))
    pointers = emitter.cast("inttoptr", address, "ptr")
    scatter(emitter, pointers, emitter.widen(value), emitter.active())


def scatter(emitter: Emitter, pointers: Value, value: Value, active: Value) -> None:
    """Store to each lane's own place, in the active lanes."""
    name = f"llvm.masked.scatter.{mangle(value)}.v{WARP_SIZE}p0"
    emitter.declarations.add(
        f"declare void @{name}({value.llvm_type}, {pointers.llvm_type}, {active.llvm_type})"
    )
    size = BITS[value.type] // 8
    emitter.line(
        f"call void @{name}({value}, {pointers.llvm_type} align {size} {pointers.ref}, {active})"
    )
