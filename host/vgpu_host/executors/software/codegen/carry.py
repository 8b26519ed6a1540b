"""Extended-precision arithmetic: `add.cc`, `addc`, `sub.cc`, `subc`, `mad.cc`, `madc`.

The condition code CC.CF is the register `CARRY`; it holds the carry of a sum, the borrow of a
difference.
"""

from __future__ import annotations

from vgpu_host.executors.software.ir import BITS as WIDTH
from vgpu_host.executors.software.ir import CARRY, Instruction, Register

from .emitter import Emitter, Value
from .registry import handles

_TYPES = "u32 s32 u64 s64"


@handles("addc subc", f"cc {_TYPES}")
def add_with_carry(emitter: Emitter, instruction: Instruction) -> None:
    """`add.cc`, `addc`, `sub.cc`, `subc`."""
    a, b = (emitter.read(operand, instruction.type) for operand in instruction.operands[1:])
    _finish(emitter, instruction, a, b, "sub" in instruction.opcode)


@handles("madc", f"cc lo hi {_TYPES}")
def multiply_with_carry(emitter: Emitter, instruction: Instruction) -> None:
    """`mad.cc`, `madc`: one half of a product, plus the third operand and the carry."""
    a, b, c = (emitter.read(operand, instruction.type) for operand in instruction.operands[1:])
    if "hi" in instruction.modifiers:
        wide = f"i{2 * WIDTH[a.type]}"
        extend = "sext" if instruction.type[0] == "s" else "zext"
        product = emitter.op("mul", emitter.cast(extend, a, wide), emitter.cast(extend, b, wide))
        product = emitter.op("lshr", product, Value(str(WIDTH[a.type]), wide))
        a = emitter.cast("trunc", product, c.type)
    else:
        a = emitter.op("mul", a, b)
    _finish(emitter, instruction, a, c, False)


def _finish(emitter: Emitter, instruction: Instruction, a: Value, b: Value, minus: bool) -> None:
    operation, outside = ("sub", "ugt") if minus else ("add", "ult")
    total = emitter.op(operation, a, b)
    carry = emitter.compare(f"icmp {outside}", total, a)
    if instruction.opcode.endswith("c"):
        carry_in = emitter.cast("zext", emitter.read(Register(CARRY), "pred"), a.type)
        first, total = total, emitter.op(operation, total, carry_in)
        second = emitter.compare(f"icmp {outside}", total, first)
        carry = emitter.op("or", carry, second)
    emitter.write(instruction.operands[0], total)
    if "cc" in instruction.modifiers:
        emitter.write(Register(CARRY), carry)
