"""Instructions in which the lanes of a warp exchange values."""

from __future__ import annotations

from vgpu_host.executors.software.ir import (
    MEMBERS,
    WARP_SIZE,
    Immediate,
    Instruction,
    Operand,
    Pair,
    Register,
)

from .emitter import LANES, Emitter, Value, integer, lanes
from .registry import handles

_LANE = lanes(list(LANES), "i32")


def _constant(emitter: Emitter, operand: Operand) -> int | None:
    if isinstance(operand, Immediate):
        return operand.bits
    if isinstance(operand, Register):
        return emitter.analysis.constants.get(operand.name)
    return None


@handles("shfl", "sync up down bfly idx b32")
def emit_shuffle(emitter: Emitter, instruction: Instruction) -> None:
    """`shfl`: read another lane's register; the predicate tells whether that lane is in range."""
    target, source, lane, clamp = instruction.operands[:4]
    mode = next(m for m in ("up", "down", "bfly", "idx") if m in instruction.modifiers)
    value = emitter.widen(emitter.read(source, "b32"))
    constants = _constant(emitter, lane), _constant(emitter, clamp)
    if constants[0] is not None and constants[1] is not None:
        picks, valid = shuffle_lanes(mode, constants[0], constants[1])
        order = ", ".join(f"i32 {pick}" for pick in picks)
        result = emitter.define(
            f"shufflevector {value}, {value.llvm_type} poison, <{WARP_SIZE} x i32> <{order}>",
            "i32",
            True,
        )
        in_range = lanes([int(flag) for flag in valid], "i1")
    else:
        index, in_range = _dynamic_lanes(emitter, mode, lane, clamp)
        result = permute(emitter, value, index)
    if isinstance(target, Pair):
        emitter.write(target.first, result)
        emitter.write(target.second, in_range)
    else:
        emitter.write(target, result)


def shuffle_lanes(mode: str, lane: int, clamp: int) -> tuple[list[int], list[bool]]:
    """Source lane of each lane, and whether it is in range, by the rules of the PTX manual."""
    picks: list[int] = []
    valid: list[bool] = []
    lane, bound, segment = lane & 31, clamp & 31, clamp >> 8 & 31
    for own in LANES:
        highest = own & segment | bound & ~segment & 31
        lowest = own & segment
        pick = {
            "up": own - lane,
            "down": own + lane,
            "bfly": own ^ lane,
            "idx": lowest | lane & ~segment & 31,
        }[mode]
        inside = pick >= highest if mode == "up" else pick <= highest
        picks.append(pick if inside else own)
        valid.append(inside)
    return picks, valid


def _dynamic_lanes(
    emitter: Emitter, mode: str, lane_operand: Operand, clamp_operand: Operand
) -> tuple[Value, Value]:
    limit = integer(31, "i32")
    lane = emitter.op("and", emitter.read(lane_operand, "b32"), limit)
    clamp = emitter.read(clamp_operand, "b32")
    segment = emitter.op("and", emitter.op("lshr", clamp, integer(8, "i32")), limit)
    free = emitter.op("xor", segment, limit)
    lowest = emitter.op("and", _LANE, segment)
    highest = emitter.op("or", lowest, emitter.op("and", clamp, free))
    match mode:
        case "up":
            pick = emitter.op("sub", _LANE, lane)
        case "down":
            pick = emitter.op("add", _LANE, lane)
        case "bfly":
            pick = emitter.op("xor", _LANE, lane)
        case _:
            pick = emitter.op("or", lowest, emitter.op("and", lane, free))
    inside = emitter.compare("icmp sge" if mode == "up" else "icmp sle", pick, highest)
    return emitter.select(inside, pick, _LANE), inside


def permute(emitter: Emitter, value: Value, index: Value) -> Value:
    """Lane `i` of the result is lane `index[i]` of the value; all indexes are within the warp."""
    slot = emitter.stack("permute", f"<{WARP_SIZE} x i32>")
    emitter.line(f"store {value}, ptr {slot}")
    pointers = emitter.define(f"getelementptr i32, ptr {slot}, {emitter.widen(index)}", "ptr", True)
    name = f"llvm.masked.gather.v{WARP_SIZE}i32.v{WARP_SIZE}p0"
    kind = value.llvm_type
    mask_type = f"<{WARP_SIZE} x i1>"
    emitter.declarations.add(f"declare {kind} @{name}({pointers.llvm_type}, {mask_type}, {kind})")
    return emitter.define(
        f"call {kind} @{name}({pointers.llvm_type} align 4 {pointers.ref}, "
        f"{mask_type} splat (i1 true), {kind} zeroinitializer)",
        "i32",
        True,
    )


def _members(emitter: Emitter, instruction: Instruction) -> Value:
    """The lanes that an instruction is about, one bit each: the same for all lanes, or for each its
    own where lanes execute it with different masks.

    A gate has seen to it that those are there whom the mask names (see `holds`); without one the
    lanes of the mask that execute the instruction take part.
    """
    active = emitter.active_bits()
    if "sync" not in instruction.modifiers:
        return active
    mask = instruction.operands[-1]
    if isinstance(mask, Register) and mask.name.startswith(MEMBERS):
        return emitter.read(mask, "b32")
    if (_constant(emitter, mask) or 0) & 0xFFFFFFFF == 0xFFFFFFFF:
        return active
    return emitter.op("and", emitter.read(mask, "b32"), active)


@handles("vote", "sync all any uni ballot pred b32")
def emit_vote(emitter: Emitter, instruction: Instruction) -> None:
    """`vote`: a predicate over the active lanes."""
    target, source = instruction.operands[:2]
    active = _members(emitter, instruction)
    bits = emitter.op("and", emitter.lane_bits(emitter.read(source, "pred")), active)
    if "ballot" in instruction.modifiers:
        emitter.write(target, bits)
        return
    every = emitter.compare("icmp eq", bits, active)
    some = emitter.compare("icmp ne", bits, integer(0, "i32"))
    if "all" in instruction.modifiers:
        emitter.write(target, every)
    elif "any" in instruction.modifiers:
        emitter.write(target, some)
    else:
        emitter.write(target, emitter.op("or", every, emitter.invert(some)))


@handles("activemask", "b32")
def emit_active_mask(emitter: Emitter, instruction: Instruction) -> None:
    """`activemask`: the lanes that execute this instruction."""
    emitter.write(instruction.operands[0], emitter.active_bits())


@handles("elect", "sync")
def emit_elect(emitter: Emitter, instruction: Instruction) -> None:
    """`elect`: the lowest active lane of a member mask."""
    target, members = instruction.operands
    if not isinstance(target, Pair):
        raise emitter.refuse("elect.sync needs a register and a predicate")
    # The mask may differ from lane to lane only where lanes belong to different groups.
    mask = emitter.op("and", emitter.widen(emitter.read(members, "b32")), emitter.active_bits())
    leader = emitter.intrinsic("cttz", mask, extra="i1 false")
    emitter.write(target.first, leader)
    emitter.write(target.second, emitter.compare("icmp eq", leader, _LANE))


@handles("match", "any all sync b32 b64")
def emit_match(emitter: Emitter, instruction: Instruction) -> None:
    """`match`: the lanes that hold the same value."""
    target, source = instruction.operands[:2]
    value = emitter.widen(emitter.read(source, instruction.type))
    members = _members(emitter, instruction)
    result = Value("zeroinitializer", "i32", True)
    for lane in LANES:
        own = emitter.define(f"extractelement {value}, i32 {lane}", value.type)
        bits = emitter.lane_bits(emitter.compare("icmp eq", value, own))
        result = emitter.define(f"insertelement {result}, {bits}, i32 {lane}", "i32", True)
    result = emitter.op("and", result, members)
    if "any" in instruction.modifiers:
        emitter.write(target, result)
        return
    all_same = emitter.compare("icmp eq", result, members)
    result = emitter.select(all_same, result, integer(0, "i32"))
    if isinstance(target, Pair):
        emitter.write(target.first, result)
        emitter.write(target.second, all_same)
    else:
        emitter.write(target, result)


_REDUCTIONS = {
    "add": ("add", 0),
    "and": ("and", -1),
    "or": ("or", 0),
    "xor": ("xor", 0),
    "min.u32": ("umin", -1),
    "max.u32": ("umax", 0),
    "min.s32": ("smin", (1 << 31) - 1),
    "max.s32": ("smax", -(1 << 31)),
}


@handles("redux", "sync add and or xor min max u32 s32 b32")
def emit_reduction(emitter: Emitter, instruction: Instruction) -> None:
    """`redux`: one integer from those of the members."""
    operation = next(name for name in instruction.modifiers if name != "sync")
    if operation in ("min", "max"):
        operation = f"{operation}.{instruction.type}"
    name, neutral = _REDUCTIONS[operation]
    value = emitter.widen(emitter.read(instruction.operands[1], "b32"))
    members = _members(emitter, instruction)
    if members.vector:
        result = _reduce_groups(emitter, name, neutral, value, members)
        emitter.write(instruction.operands[0], result)
        return
    taking = emitter.define(f"bitcast {members} to <{WARP_SIZE} x i1>", "i1", True)
    value = emitter.select(taking, value, integer(neutral, "i32"))
    intrinsic = f"llvm.vector.reduce.{name}.v{WARP_SIZE}i32"
    emitter.declarations.add(f"declare i32 @{intrinsic}({value.llvm_type})")
    emitter.write(instruction.operands[0], emitter.define(f"call i32 @{intrinsic}({value})", "i32"))


def _reduce_groups(
    emitter: Emitter, name: str, neutral: int, value: Value, members: Value
) -> Value:
    """Reduce over the members of each lane's own group, one lane after the other."""
    result = emitter.widen(integer(neutral, "i32"))
    for lane in LANES:
        bit = emitter.op("and", members, integer(1 << lane, "i32"))
        takes = emitter.compare("icmp ne", bit, integer(0, "i32"))
        one = emitter.define(f"extractelement {value}, i32 {lane}", "i32")
        operand = emitter.select(takes, one, integer(neutral, "i32"))
        if name in ("add", "and", "or", "xor"):
            result = emitter.op(name, result, operand)
        else:
            result = emitter.intrinsic(name, result, operand)
    return result


@handles("bar barrier", "warp sync")
def emit_warp_barrier(emitter: Emitter, instruction: Instruction) -> None:
    """`bar.warp.sync`: the lanes of a warp run in step, so only the compiler is held back."""
    emitter.line('fence syncscope("singlethread") seq_cst')
