"""Loads, stores, address conversion and memory fences."""

from __future__ import annotations

from vgpu_host.executors.software.ir import (
    STORAGE,
    Address,
    Instruction,
    Operand,
    Symbol,
    Vector,
    size_of,
)
from vgpu_host.executors.software.uniformity import reads_local

from .emitter import Emitter, Value, integer
from .registry import handles
from .rows import load_elements, store_elements

SPACES = ("global", "shared", "local", "param", "const")
#: Says that a cache policy follows the operands, which changes nothing here.
CACHE_HINT = "L2::cache_hint"
_CACHE = (
    "ca cg cs lu cv wb wt nc weak volatile relaxed acquire release mmio cta gpu sys cluster "
    "L1::evict_normal L1::evict_unchanged L1::evict_first L1::evict_last L1::no_allocate "
    "L2::64B L2::128B L2::256B L2::evict_first L2::evict_last L2::evict_normal "
    f"{CACHE_HINT}"
)
_TYPES = "b8 u8 s8 b16 u16 s16 b32 u32 s32 b64 u64 s64 f32 f64"
_ORDERED = frozenset(("volatile", "relaxed", "acquire", "release"))


def space_of(emitter: Emitter, instruction: Instruction) -> str:
    """The state space an access names: generic and const accesses count as global."""
    if "param" in instruction.modifiers and reads_local(emitter.body, instruction):
        return "local"
    named = {modifier.partition("::")[0] for modifier in instruction.modifiers}
    for space in SPACES:
        if space in named:
            return "global" if space == "const" else space
    return "global"


def without_policy(instruction: Instruction) -> tuple[Operand, ...]:
    """The operands without a cache policy."""
    return instruction.operands[: -1 if CACHE_HINT in instruction.modifiers else None]


def items_of(operand: Operand) -> tuple[Operand, ...]:
    """The elements of a vector, or the operand itself."""
    return operand.items if isinstance(operand, Vector) else (operand,)


def address_of(emitter: Emitter, operand: Operand) -> Address:
    """The memory operand; refuses anything else."""
    if not isinstance(operand, Address):
        raise emitter.refuse("expected a memory operand")
    return operand


_SHARED = "shared shared::cta shared::cluster"


@handles("ld ldu", f"global {_SHARED} local param param::entry const v2 v4 {_CACHE} {_TYPES}")
def emit_load(emitter: Emitter, instruction: Instruction) -> None:
    """`ld`: one element or a vector of two or four."""
    target, source = without_policy(instruction)
    address = address_of(emitter, source)
    items = items_of(target)
    space = space_of(emitter, instruction)
    storage = STORAGE[instruction.type]
    signed = instruction.type[0] == "s"
    if _ORDERED & set(instruction.modifiers):
        emitter.line('fence syncscope("singlethread") seq_cst')
    if space == "param" and isinstance(address.base, Symbol):
        _load_parameters(emitter, instruction, address, items)
        return
    values = load_elements(emitter, address, space, storage, len(items))
    for item, value in zip(items, values, strict=True):
        emitter.write(item, value, signed)


def _load_parameters(
    emitter: Emitter, instruction: Instruction, address: Address, items: tuple[Operand, ...]
) -> None:
    assert isinstance(address.base, Symbol)
    layout = emitter.layout
    if address.base.name not in layout.parameters:
        raise emitter.refuse(f"unknown parameter {address.base.name}")
    size = size_of(instruction.type)
    start = layout.parameters[address.base.name] + address.base.offset + address.offset
    if start < 0 or start + size * len(items) > layout.parameter_size:
        raise emitter.refuse("reads outside the parameter buffer")
    for index, item in enumerate(items):
        pointer = emitter.define(
            f"getelementptr i8, ptr %params, i64 {start + index * size}", "ptr"
        )
        storage = STORAGE[instruction.type]
        value = emitter.define(f"load {storage}, {pointer}, align 1", storage)
        emitter.write(item, value, instruction.type[0] == "s")


@handles("st", f"global {_SHARED} local param v2 v4 {_CACHE} {_TYPES}")
def emit_store(emitter: Emitter, instruction: Instruction) -> None:
    """`st`: one element or a vector of two or four."""
    target, source = without_policy(instruction)
    items = items_of(source)
    space = space_of(emitter, instruction)
    if space == "param":
        raise emitter.refuse("kernel parameters cannot be written")
    values = [emitter.read(item, instruction.type) for item in items]
    store_elements(emitter, address_of(emitter, target), space, values)
    if _ORDERED & set(instruction.modifiers):
        emitter.line('fence syncscope("singlethread") seq_cst')


@handles("cvta", f"to global {_SHARED} local const param param::entry u32 u64")
def emit_address_conversion(emitter: Emitter, instruction: Instruction) -> None:
    """`cvta`: between a state space and generic addresses; only shared, local and param differ."""
    target, source = instruction.operands
    value = emitter.read(source, "u64")
    base = generic_base(emitter, instruction.modifiers)
    if base is not None:
        value = emitter.op("sub" if "to" in instruction.modifiers else "add", value, base)
    emitter.write(target, value)


def generic_base(emitter: Emitter, modifiers: tuple[str, ...]) -> Value | None:
    """What to add to an address of a space to make it generic; None for the global space."""
    named = {modifier.partition("::")[0] for modifier in modifiers}
    if "shared" in named:
        return Value("%shared.base", "i64")
    if "local" in named:
        return Value("%local.base", "i64", True)
    if "param" in named:
        return Value("%params.base", "i64")
    return None


@handles("isspacep", f"global {_SHARED} local param param::entry const")
def emit_is_in_space(emitter: Emitter, instruction: Instruction) -> None:
    """`isspacep`: whether a generic address lies in a space; constants lie in global memory."""
    target, source = instruction.operands
    address = emitter.read(source, "u64")
    match instruction.modifiers[0].partition("::")[0]:
        case "shared":
            start, size = Value("%shared.base", "i64"), Value("%shared.size64", "i64")
        case "local":
            start = Value("%local.base", "i64", True)
            size = integer(emitter.layout.local_size, "i64")
        case "param":
            start = Value("%params.base", "i64")
            size = integer(emitter.layout.parameter_size, "i64")
        case "const":
            emitter.write(target, integer(0, "i1"))
            return
        case _:
            # Parameters, shared and local memory lie together; every other address is global, also
            # one where nothing is (as on an H200).
            start = Value("%params.base", "i64")
            end = emitter.op("add", Value("%arena.base", "i64"), Value("%arena.size", "i64"))
            size = emitter.op("sub", end, start)
    inside = emitter.compare("icmp ult", emitter.op("sub", address, start), size)
    is_global = instruction.modifiers[0] == "global"
    emitter.write(target, emitter.invert(inside) if is_global else inside)


@handles(
    "membar fence",
    "cta gl sys gpu sc acq_rel acquire release cluster proxy alias async async::generic "
    "global shared::cta shared::cluster sync_restrict mbarrier_init",
)
def emit_fence(emitter: Emitter, instruction: Instruction) -> None:
    """`membar`/`fence`: a CTA runs on one host thread, so its own fences only bind the compiler."""
    local = "cta" in instruction.modifiers
    scope = 'syncscope("singlethread") ' if local else ""
    emitter.line(f"fence {scope}seq_cst")


@handles("mapa", f"{_SHARED} u32 u64")
def emit_map_address(emitter: Emitter, instruction: Instruction) -> None:
    """`mapa`: the same place in another block of the cluster, which has one block."""
    target, address = instruction.operands[:2]
    emitter.write(target, emitter.read(address, instruction.type))


@handles("getctarank", f"{_SHARED} u32 u64")
def emit_block_rank(emitter: Emitter, instruction: Instruction) -> None:
    """`getctarank`: the block of the cluster in whose shared memory an address lies."""
    emitter.write(instruction.operands[0], integer(0, "i32"))


@handles(
    "prefetch prefetchu",
    "global local L1 L2 L2::evict_last L2::evict_normal tensormap",
)
def emit_prefetch(emitter: Emitter, instruction: Instruction) -> None:
    """`prefetch`: a hint, to which doing nothing is a full answer."""


@handles(
    "createpolicy",
    "fractional range cvt global L2 L2::evict_first L2::evict_last L2::evict_normal "
    "L2::evict_unchanged b64",
)
def emit_policy(emitter: Emitter, instruction: Instruction) -> None:
    """`createpolicy`: there is no cache to tell; the value is for nothing but cache hints."""
    emitter.write(instruction.operands[0], integer(0, "i64"))


@handles("setmaxnreg", "inc dec sync aligned u32")
def emit_register_count(emitter: Emitter, instruction: Instruction) -> None:
    """`setmaxnreg`: registers here are as many as a kernel wants."""
