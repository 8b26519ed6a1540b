"""LLVM IR of the parts that do not depend on the kernel: fault record and CTA driver loop."""

from __future__ import annotations

from string import Template

from .concurrent import CONCURRENT_FIELDS, CONCURRENT_RUN
from .state import FAULT_STOPPED, LAUNCH, WORKER

_FAULT = """
define internal void @fault(ptr %launch, ptr %worker, i32 %code, i32 %bad, ptr %addresses,
                            i32 %warp, i32 %position) cold noinline {
  %claim = getelementptr i8, ptr %launch, i64 $fault_claimed
  %pair = cmpxchg ptr %claim, i32 0, i32 1 acq_rel monotonic
  %first = extractvalue { i32, i1 } %pair, 1
  br i1 %first, label %record, label %stop
record:
  %lane = call i32 @llvm.cttz.i32(i32 %bad, i1 false)
  %lane5 = and i32 %lane, 31
  %entry = getelementptr i64, ptr %addresses, i32 %lane5
  %address = load i64, ptr %entry
  %p.address = getelementptr i8, ptr %launch, i64 $fault_address
  store i64 %address, ptr %p.address
  %p.cta = getelementptr i8, ptr %worker, i64 $cta
  %cta = load i64, ptr %p.cta
  %p.fault.cta = getelementptr i8, ptr %launch, i64 $fault_cta
  store i64 %cta, ptr %p.fault.cta
  %w32 = shl i32 %warp, 5
  %thread = or i32 %w32, %lane5
  %p.thread = getelementptr i8, ptr %launch, i64 $fault_thread
  store i32 %thread, ptr %p.thread
  %p.position = getelementptr i8, ptr %launch, i64 $fault_position
  store i32 %position, ptr %p.position
  %p.code = getelementptr i8, ptr %launch, i64 $fault_code
  store i32 %code, ptr %p.code
  br label %stop
stop:
  %p.stop = getelementptr i8, ptr %launch, i64 $stop
  store volatile i32 1, ptr %p.stop
  ret void
}
"""

#: The block that a host thread runs: its number, and its place in the grid.
_PLACE = """
define internal void @place_block(ptr %launch, ptr %worker, i64 %c) {
  %p.gx = getelementptr i8, ptr %launch, i64 $grid_x
  %gx32 = load i32, ptr %p.gx
  %gx = zext i32 %gx32 to i64
  %p.gy = getelementptr i8, ptr %launch, i64 $grid_y
  %gy32 = load i32, ptr %p.gy
  %gy = zext i32 %gy32 to i64
  %p.cta = getelementptr i8, ptr %worker, i64 $cta
  store i64 %c, ptr %p.cta
  %q = udiv i64 %c, %gx
  %x = urem i64 %c, %gx
  %z = udiv i64 %q, %gy
  %y = urem i64 %q, %gy
  %x32 = trunc i64 %x to i32
  %y32 = trunc i64 %y to i32
  %z32 = trunc i64 %z to i32
  %p.x = getelementptr i8, ptr %worker, i64 $cta_x
  store i32 %x32, ptr %p.x
  %p.y = getelementptr i8, ptr %worker, i64 $cta_y
  store i32 %y32, ptr %p.y
  %p.z = getelementptr i8, ptr %worker, i64 $cta_z
  store i32 %z32, ptr %p.z
  ret void
}
"""

_RUN = """
define void @vgpu_run(ptr %launch, ptr %worker) {
entry:
  %resume = alloca [32 x i32]
  $enter_mode
  %p.next = getelementptr i8, ptr %launch, i64 $next_cta
  %p.count = getelementptr i8, ptr %launch, i64 $cta_count
  %count = load i64, ptr %p.count
  %p.chunk = getelementptr i8, ptr %launch, i64 $chunk
  %chunk = load i64, ptr %p.chunk
  %p.warps = getelementptr i8, ptr %launch, i64 $warps
  %warps = load i32, ptr %p.warps
  %p.stop = getelementptr i8, ptr %launch, i64 $stop
  %p.context = getelementptr i8, ptr %worker, i64 $context
  %context = load ptr, ptr %p.context
  %p.cta = getelementptr i8, ptr %worker, i64 $cta
  %p.round = getelementptr i8, ptr %worker, i64 $round
  br label %claim
claim:
  %first = atomicrmw add ptr %p.next, i64 %chunk acq_rel
  %any = icmp ult i64 %first, %count
  br i1 %any, label %claimed, label %exit
claimed:
  %past = add i64 %first, %chunk
  %last = call i64 @llvm.umin.i64(i64 %past, i64 %count)
  br label %cta
cta:
  %c = phi i64 [ %first, %claimed ], [ %c.next, %cta.end ]
  %stop = load volatile i32, ptr %p.stop
  %stopped = icmp ne i32 %stop, 0
  br i1 %stopped, label %stopping, label %cta.start
stopping:
  call void @fault(ptr %launch, ptr %worker, i32 $stopped, i32 1, ptr %p.cta, i32 0, i32 -1)
  br label %exit
cta.start:
  call void @place_block(ptr %launch, ptr %worker, i64 %c)
  store i32 0, ptr %p.round$block_start
  call void @llvm.memset.p0.i64(ptr %resume, i8 0, i64 128, i1 false)
  br label %round
round:
  %number = load i32, ptr %p.round
  call void @barrier_round(ptr %worker, i32 %number)
  br label %warp
warp:
  %w = phi i32 [ 0, %round ], [ %w.next, %warp.end ]
  %waiting = phi i32 [ 0, %round ], [ %waiting.next, %warp.end ]
  %p.resume = getelementptr i32, ptr %resume, i32 %w
  %at = load i32, ptr %p.resume
  %ended = icmp eq i32 %at, -1
  br i1 %ended, label %warp.end, label %warp.run
warp.run:
  %offset = mul i32 %w, $context_size
  %saved = getelementptr i8, ptr %context, i32 %offset
  %result = call i32 @$step(ptr %launch, ptr %worker, ptr %saved, i32 %at, i32 %w)
  %fault = icmp eq i32 %result, -2
  br i1 %fault, label %exit, label %warp.ran
warp.ran:
  %finished = icmp eq i32 %result, 0
  %state = select i1 %finished, i32 -1, i32 %result
  store i32 %state, ptr %p.resume
  %one = select i1 %finished, i32 0, i32 1
  %waiting.ran = add i32 %waiting, %one
  br label %warp.end
warp.end:
  %waiting.next = phi i32 [ %waiting, %warp ], [ %waiting.ran, %warp.ran ]
  %w.next = add i32 %w, 1
  %more = icmp ult i32 %w.next, %warps
  br i1 %more, label %warp, label %round.end
round.end:$round_end
  %number.next = add i32 %number, 1
  store i32 %number.next, ptr %p.round
  %again = icmp ne i32 %waiting.next, 0
  br i1 %again, label %round, label %cta.end
cta.end:
  %c.next = add i64 %c, 1
  %unclaimed = icmp ult i64 %c.next, %last
  br i1 %unclaimed, label %cta, label %claim
exit:
  $leave_mode
  ret void
}

define internal void @barrier_round(ptr %worker, i32 %number) {
  %odd = and i32 %number, 1
  %byte = shl i32 %odd, 2
  %p.or = getelementptr i8, ptr %worker, i64 $vote_or
  %or = getelementptr i8, ptr %p.or, i32 %byte
  store i32 0, ptr %or
  %p.and = getelementptr i8, ptr %worker, i64 $vote_and
  %and = getelementptr i8, ptr %p.and, i32 %byte
  store i32 1, ptr %and
  %p.count = getelementptr i8, ptr %worker, i64 $vote_count
  %sum = getelementptr i8, ptr %p.count, i32 %byte
  store i32 0, ptr %sum
  ret void
}
"""

#: Bits 6 (denormals are zero) and 15 (flush to zero) of the x86 control and status register.
_ENTER = """%mode = alloca [2 x i32]
  call void @llvm.x86.sse.stmxcsr(ptr %mode)
  %mode.old = load i32, ptr %mode
  %mode.new = or i32 %mode.old, 32832
  %mode.flush = getelementptr i32, ptr %mode, i64 1
  store i32 %mode.new, ptr %mode.flush
  call void @llvm.x86.sse.ldmxcsr(ptr %mode.flush)"""
#: Checkers want to know when a block begins, and when all its warps wait or have ended.
_BLOCK_START = "\n  call void @check_block(ptr %launch, ptr %worker)"
_ROUND_END = "\n  call void @check_round(ptr %launch, ptr %worker, ptr %resume)"
_LEAVE = "call void @llvm.x86.sse.ldmxcsr(ptr %mode)"

#: Declarations that `driver` needs; a kernel may need some of them too.
DECLARATIONS = frozenset(
    (
        "declare i32 @llvm.cttz.i32(i32, i1)",
        "declare i64 @llvm.umin.i64(i64, i64)",
        "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)",
        "declare void @llvm.x86.sse.stmxcsr(ptr)",
        "declare void @llvm.x86.sse.ldmxcsr(ptr)",
    )
)


def driver(
    context_size: int, flush_subnormals: bool, checked: bool, has_holds: bool, step: str
) -> str:
    """The driver loop `vgpu_run(launch, worker)` around the function `step`, which runs a warp.

    It claims chunks of CTAs in ascending order until none is left. The warps of a CTA run in turns,
    each up to its next barrier. Kernels with holds have a driver of their own.
    """
    fields = {
        **WORKER,
        **LAUNCH,
        "stopped": FAULT_STOPPED,
        "context_size": context_size,
        "step": step,
        "enter_mode": _ENTER if flush_subnormals else "",
        "leave_mode": _LEAVE if flush_subnormals else "",
        "block_start": _BLOCK_START if checked else "",
        "round_end": _ROUND_END if checked else "",
    }
    if has_holds:
        return Template(_FAULT + _PLACE + CONCURRENT_RUN).substitute(fields, **CONCURRENT_FIELDS)
    return Template(_FAULT + _PLACE + _RUN).substitute(fields)
