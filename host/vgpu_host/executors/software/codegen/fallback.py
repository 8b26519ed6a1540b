"""Starting a warp anew in general code, when a sum wraps that the fast code takes not to.

Fast code widens a row by widening its base, which is right unless the 32-bit sum of base and offset
wraps in some lane. Where that cannot be ruled out beforehand, the code tests it; if it happens, the
warp starts from the beginning in a second version of the kernel, which knows of no rows. That is
done only where the warp has not done anything yet that anyone could notice.
"""

from __future__ import annotations

from string import Template

from vgpu_host.executors.software.affine import extends_exactly
from vgpu_host.executors.software.ir import Instruction, Register

from .emitter import Emitter, Value, integer

#: What `@warp` returns when it has to be started anew.
AGAIN = -3

#: Warps that run the general version resume at numbers beyond this.
_GENERAL = 1 << 20

_STEP = """
define internal i32 @step(ptr %launch, ptr %worker, ptr %context, i32 %resume, i32 %warp) {
  %is.general = icmp uge i32 %resume, $general
  br i1 %is.general, label %continue, label %fast, !prof !0
fast:
  %result = call i32 @warp(ptr %launch, ptr %worker, ptr %context, i32 %resume, i32 %warp)
  %again = icmp eq i32 %result, $again
  br i1 %again, label %slow, label %done, !prof !0
continue:
  %number = sub i32 %resume, $general
  br label %slow
slow:
  %from = phi i32 [ 0, %fast ], [ %number, %continue ]
  %other = call i32 @warp.general(
    ptr %launch, ptr %worker, ptr %context, i32 %from, i32 %warp)
  %suspended = icmp sgt i32 %other, 0
  %raised = add i32 %other, $general
  %state = select i1 %suspended, i32 %raised, i32 %other
  ret i32 %state
done:
  ret i32 %result
}
"""


def step() -> str:
    """LLVM IR of `@step`, which runs a warp in the version that it is in."""
    return Template(_STEP).substitute(general=_GENERAL, again=AGAIN)


def assume_no_wrap(emitter: Emitter, instruction: Instruction) -> None:
    """Leave the fast code if an operand that is widened wraps in any lane."""
    is_signed = instruction.type[0] == "s"
    for operand in instruction.operands[1:3]:
        row = emitter.analysis.rows.get(operand.name) if isinstance(operand, Register) else None
        if row is None or row.bits != 32 or extends_exactly(row, is_signed):
            continue
        assert isinstance(operand, Register)
        base = emitter.load_register(operand.name)
        lowest, highest = min(*row.offsets, 0), max(*row.offsets, 0)
        first, last = (-(1 << 31), (1 << 31) - 1) if is_signed else (0, (1 << 32) - 1)
        # The base lies in a range of wrap-free bases: one unsigned comparison.
        start = integer(first - lowest, "i32")
        length = integer(last - highest - (first - lowest), "i32")
        distance = emitter.op("sub", base, start)
        wraps = emitter.compare("icmp ugt", distance, length)
        _leave_if(emitter, wraps)


def _leave_if(emitter: Emitter, condition: Value) -> None:
    onward = emitter.name("exact")
    emitter.line(f"br {condition}, label %again, label %{onward}, !prof !0")
    emitter.label(onward)
