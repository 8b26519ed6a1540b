"""LLVM IR of the barrier checker: who is missing where lanes of a warp or warps of a block wait."""

from __future__ import annotations

from string import Template

from vgpu_host.executors.software.checks.structures import SITE_SIZE, Kind

_LANES = """
define internal void @sync_lanes(ptr %checks, ptr %site, ptr %worker, i32 %bad, i32 %elsewhere,
                                 i32 %warp, i32 %position, i32 %kind) noinline {
  %some = icmp ne i32 %bad, 0
  br i1 %some, label %report, label %done
report:
  %lane = call i32 @llvm.cttz.i32(i32 %bad, i1 true)
  %first = shl i32 %warp, 5
  %thread = or i32 %first, %lane
  %number = call i32 @llvm.ctpop.i32(i32 %bad)
  %count = zext i32 %number to i64
  %missing = call i32 @llvm.cttz.i32(i32 %elsewhere, i1 false)
  %missing5 = and i32 %missing, 31
  %other = or i32 %first, %missing5
  %lanes = zext i32 %elsewhere to i64
  call void @found(ptr %checks, ptr %site, ptr %worker, i32 %kind, i64 %count, i64 0, i32 %thread,
                   i32 %position, i32 0, i64 -1, i32 %other, i32 -1, i64 %lanes)
  br label %done
done:
  ret void
}

define internal void @sync_barrier(ptr %checks, ptr %site, ptr %worker, i32 %present, i32 %start,
                                   i32 %ended, i1 %awaits.ended, i32 %warp,
                                   i32 %position) noinline {
  %gone = or i32 %present, %ended
  %here = xor i32 %gone, -1
  %elsewhere = and i32 %start, %here
  %split = icmp ne i32 %elsewhere, 0
  %bad.split = select i1 %split, i32 %present, i32 0
  call void @sync_lanes(ptr %checks, ptr %site, ptr %worker, i32 %bad.split, i32 %elsewhere,
                        i32 %warp, i32 %position, i32 $diverged_warp)
  %any.ended = icmp ne i32 %ended, 0
  %some.ended = and i1 %any.ended, %awaits.ended
  %bad.ended = select i1 %some.ended, i32 %present, i32 0
  %site.ended = getelementptr i8, ptr %site, i64 $site_size
  call void @sync_lanes(ptr %checks, ptr %site.ended, ptr %worker, i32 %bad.ended, i32 %ended,
                        i32 %warp, i32 %position, i32 $exited_threads)
  ret void
}
"""

_ROUND = """
define internal void @sync_round(ptr %launch, ptr %checks, ptr %worker, ptr %resume,
                                 i32 %warps) noinline {
entry:
  br label %warp
warp:
  %w = phi i32 [ 0, %entry ], [ %w.next, %next ]
  %first = phi i32 [ -1, %entry ], [ %first.next, %next ]
  %ended = phi i32 [ -1, %entry ], [ %ended.next, %next ]
  %p.number = getelementptr i32, ptr %resume, i32 %w
  %number = load i32, ptr %p.number
  %has.ended = icmp eq i32 %number, -1
  %ended.next = select i1 %has.ended, i32 %w, i32 %ended
  br i1 %has.ended, label %next, label %waits
waits:
  %is.first = icmp eq i32 %first, -1
  br i1 %is.first, label %next, label %compare
compare:
  %p.first = getelementptr i32, ptr %resume, i32 %first
  %first.number = load i32, ptr %p.first
  %same = icmp eq i32 %number, %first.number
  br i1 %same, label %next, label %different
different:
  %p.other.position = getelementptr i32, ptr @barrier_positions, i32 %first.number
  %other.position = load i32, ptr %p.other.position
  %other.thread = shl i32 %first, 5
  call void @sync_missing(ptr %checks, ptr %worker, i32 %number, i32 %w, i32 %other.thread,
                          i32 %other.position, i32 $different_barriers, i64 $two_sites)
  br label %next
next:
  %first.next = phi i32 [ %first, %warp ], [ %w, %waits ], [ %first, %compare ],
                        [ %first, %different ]
  %w.next = add i32 %w, 1
  %more = icmp ult i32 %w.next, %warps
  br i1 %more, label %warp, label %after
after:
  %some.wait = icmp ne i32 %first.next, -1
  %some.ended = icmp ne i32 %ended.next, -1
  %some.miss = and i1 %some.ended, $awaits_ended
  %left.alone = and i1 %some.wait, %some.miss
  br i1 %left.alone, label %alone, label %done
alone:
  %p.waiting = getelementptr i32, ptr %resume, i32 %first.next
  %waiting.number = load i32, ptr %p.waiting
  %ended.thread = shl i32 %ended.next, 5
  call void @sync_missing(ptr %checks, ptr %worker, i32 %waiting.number, i32 %first.next,
                          i32 %ended.thread, i32 -1, i32 $exited_threads, i64 $site_size)
  br label %done
done:
  ret void
}

define internal void @sync_missing(ptr %checks, ptr %worker, i32 %number, i32 %warp,
                                   i32 %other.thread, i32 %other.position, i32 %kind,
                                   i64 %within) cold noinline {
  %p.offset = getelementptr i64, ptr @barrier_sites, i32 %number
  %offset = load i64, ptr %p.offset
  %start = getelementptr i8, ptr %checks, i64 %offset
  %site = getelementptr i8, ptr %start, i64 %within
  %p.position = getelementptr i32, ptr @barrier_positions, i32 %number
  %position = load i32, ptr %p.position
  %thread = shl i32 %warp, 5
  call void @found(ptr %checks, ptr %site, ptr %worker, i32 %kind, i64 1, i64 0, i32 %thread,
                   i32 %position, i32 0, i64 -1, i32 %other.thread, i32 %other.position, i64 0)
  ret void
}
"""


def sync_runtime(awaits_ended: bool) -> str:
    """The functions that a kernel calls whose barriers are checked.

    Args:
        awaits_ended: whether a barrier of the block needs threads that have ended.
    """
    return Template(_LANES + _ROUND).substitute(
        site_size=SITE_SIZE,
        awaits_ended="true" if awaits_ended else "false",
        two_sites=2 * SITE_SIZE,
        diverged_warp=Kind.DIVERGED_WARP,
        exited_threads=Kind.EXITED_THREADS,
        different_barriers=Kind.DIFFERENT_BARRIERS,
    )
