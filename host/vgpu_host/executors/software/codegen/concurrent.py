"""LLVM IR of the driver for kernels with holds: barriers that count, and blocks that run in turns.

The warps of a block run in turns, each until it stalls (see `holds`). Of a cooperative launch every
block is resident: each host thread runs its blocks in turns, so that all make progress while some
wait for others. State of a block lies in its worker structure, so the functions here need no locks:
one host thread runs a block.
"""

from __future__ import annotations

from .state import FAULT_DEADLOCK, WORKER, WORKER_SIZE

#: What a warp or a block returns besides 0 (it has ended) and -2 (a fault): it waits and nothing
#: has changed since it was called last; or it has run for a while and may go on.
BLOCKED, MOVED = 1, 2

#: One barrier: threads that have arrived, generation, and for the generations that end in 0 and 1:
#: whether any lane has voted yes, whether any has voted no, how many have voted yes.
_BARRIERS = """
define internal ptr @barrier_at(ptr %worker, i64 %token) alwaysinline {
  %id = and i64 %token, 15
  %offset = shl i64 %id, 6
  %start = getelementptr i8, ptr %worker, i64 $barriers
  %barrier = getelementptr i8, ptr %start, i64 %offset
  ret ptr %barrier
}

define internal void @barrier_complete(ptr %barrier) {
  store i32 0, ptr %barrier
  %p.generation = getelementptr i32, ptr %barrier, i64 1
  %generation = load i32, ptr %p.generation
  %next = add i32 %generation, 1
  store i32 %next, ptr %p.generation
  %odd = and i32 %next, 1
  %votes = getelementptr i8, ptr %barrier, i64 8
  %any = getelementptr i32, ptr %votes, i32 %odd
  store i32 0, ptr %any
  %some = getelementptr i32, ptr %any, i64 2
  store i32 0, ptr %some
  %count = getelementptr i32, ptr %any, i64 4
  store i32 0, ptr %count
  ret void
}

define internal i1 @barrier_is_full(ptr %worker, ptr %barrier, i32 %wanted) {
  %arrived = load i32, ptr %barrier
  %whole = icmp eq i32 %wanted, 0
  br i1 %whole, label %block, label %part
part:
  %enough = icmp uge i32 %arrived, %wanted
  ret i1 %enough
block:
  %p.live = getelementptr i8, ptr %worker, i64 $live
  %live = load i32, ptr %p.live
  %p.stuck = getelementptr i8, ptr %worker, i64 $stuck
  %stuck = load i32, ptr %p.stuck
  %present = add i32 %arrived, %stuck
  %all = icmp sge i32 %present, %live
  ret i1 %all
}

define internal i64 @barrier_arrive(ptr %worker, i32 %id, i32 %wanted, i32 %bits, i32 %alive,
                                    i1 %aligned, i32 %votes) {
  %id64 = zext i32 %id to i64
  %barrier = call ptr @barrier_at(ptr %worker, i64 %id64)
  %p.generation = getelementptr i32, ptr %barrier, i64 1
  %generation = load i32, ptr %p.generation
  %odd = and i32 %generation, 1
  %slots = getelementptr i8, ptr %barrier, i64 8
  %p.any = getelementptr i32, ptr %slots, i32 %odd
  %p.some = getelementptr i32, ptr %p.any, i64 2
  %p.count = getelementptr i32, ptr %p.any, i64 4
  %yes = and i32 %votes, %bits
  %no = xor i32 %yes, %bits
  %any = load i32, ptr %p.any
  %any.new = or i32 %any, %yes
  store i32 %any.new, ptr %p.any
  %some = load i32, ptr %p.some
  %some.new = or i32 %some, %no
  store i32 %some.new, ptr %p.some
  %count = load i32, ptr %p.count
  %ayes = call i32 @llvm.ctpop.i32(i32 %yes)
  %count.new = add i32 %count, %ayes
  store i32 %count.new, ptr %p.count
  %lanes = call i32 @llvm.ctpop.i32(i32 %bits)
  %everybody = icmp eq i32 %bits, %alive
  %as.warp = or i1 %everybody, %aligned
  %whole = icmp eq i32 %wanted, 0
  %part = xor i1 %whole, true
  %warp = and i1 %as.warp, %part
  %units = select i1 %warp, i32 32, i32 %lanes
  %arrived = load i32, ptr %barrier
  %arrived.new = add i32 %arrived, %units
  store i32 %arrived.new, ptr %barrier
  %full = call i1 @barrier_is_full(ptr %worker, ptr %barrier, i32 %wanted)
  br i1 %full, label %complete, label %end
complete:
  call void @barrier_complete(ptr %barrier)
  br label %end
end:
  %generation64 = zext i32 %generation to i64
  %high = shl i64 %generation64, 32
  %wanted64 = zext i32 %wanted to i64
  %middle = shl i64 %wanted64, 8
  %low = or i64 %middle, %id64
  %token = or i64 %high, %low
  ret i64 %token
}

define internal void @barrier_arrive_lanes(ptr %worker, ptr %ids, ptr %wanteds, ptr %tokens,
                                           i32 %bits, i32 %alive, i1 %aligned, i32 %votes) {
entry:
  br label %loop
loop:
  %left = phi i32 [ %bits, %entry ], [ %rest, %filled ]
  %none = icmp eq i32 %left, 0
  br i1 %none, label %end, label %group
group:
  %lane = call i32 @llvm.cttz.i32(i32 %left, i1 false)
  %p.id = getelementptr i32, ptr %ids, i32 %lane
  %id = load i32, ptr %p.id
  %p.wanted = getelementptr i32, ptr %wanteds, i32 %lane
  %wanted = load i32, ptr %p.wanted
  %all.ids = load <32 x i32>, ptr %ids, align 4
  %one.id = insertelement <32 x i32> poison, i32 %id, i32 0
  %each.id = shufflevector <32 x i32> %one.id, <32 x i32> poison, <32 x i32> zeroinitializer
  %same.id = icmp eq <32 x i32> %all.ids, %each.id
  %all.wanted = load <32 x i32>, ptr %wanteds, align 4
  %one.wanted = insertelement <32 x i32> poison, i32 %wanted, i32 0
  %each.wanted = shufflevector <32 x i32> %one.wanted, <32 x i32> poison,
                               <32 x i32> zeroinitializer
  %same.wanted = icmp eq <32 x i32> %all.wanted, %each.wanted
  %same = and <32 x i1> %same.id, %same.wanted
  %same.bits = bitcast <32 x i1> %same to i32
  %members = and i32 %same.bits, %left
  %token = call i64 @barrier_arrive(ptr %worker, i32 %id, i32 %wanted, i32 %members, i32 %alive,
                                    i1 %aligned, i32 %votes)
  br label %fill
fill:
  %open = phi i32 [ %members, %group ], [ %open.next, %fill ]
  %member = call i32 @llvm.cttz.i32(i32 %open, i1 false)
  %p.token = getelementptr i64, ptr %tokens, i32 %member
  store i64 %token, ptr %p.token
  %less = sub i32 %open, 1
  %open.next = and i32 %open, %less
  %more = icmp ne i32 %open.next, 0
  br i1 %more, label %fill, label %filled
filled:
  %others = xor i32 %members, -1
  %rest = and i32 %left, %others
  br label %loop
end:
  ret void
}

define internal i1 @barrier_passed(ptr %worker, i64 %token) {
  %barrier = call ptr @barrier_at(ptr %worker, i64 %token)
  %p.generation = getelementptr i32, ptr %barrier, i64 1
  %now = load i32, ptr %p.generation
  %then64 = lshr i64 %token, 32
  %then = trunc i64 %then64 to i32
  %passed = icmp ne i32 %now, %then
  br i1 %passed, label %yes, label %ask
ask:
  %wanted64 = lshr i64 %token, 8
  %wanted32 = trunc i64 %wanted64 to i32
  %wanted = and i32 %wanted32, 16777215
  %full = call i1 @barrier_is_full(ptr %worker, ptr %barrier, i32 %wanted)
  br i1 %full, label %complete, label %no
complete:
  call void @barrier_complete(ptr %barrier)
  br label %yes
yes:
  ret i1 true
no:
  ret i1 false
}

define internal i32 @barrier_passed_lanes(ptr %worker, ptr %tokens, i32 %bits) {
entry:
  br label %loop
loop:
  %left = phi i32 [ %bits, %entry ], [ %rest, %loop ]
  %passed = phi i32 [ 0, %entry ], [ %passed.next, %loop ]
  %lane = call i32 @llvm.cttz.i32(i32 %left, i1 false)
  %p.token = getelementptr i64, ptr %tokens, i32 %lane
  %token = load i64, ptr %p.token
  %yes = call i1 @barrier_passed(ptr %worker, i64 %token)
  %less = sub i32 %left, 1
  %rest = and i32 %left, %less
  %bit = xor i32 %left, %rest
  %mine = select i1 %yes, i32 %bit, i32 0
  %passed.next = or i32 %passed, %mine
  %more = icmp ne i32 %rest, 0
  br i1 %more, label %loop, label %end
end:
  ret i32 %passed.next
}

define internal i32 @barrier_vote(ptr %worker, i64 %token, i64 %kind) {
  %barrier = call ptr @barrier_at(ptr %worker, i64 %token)
  %generation = lshr i64 %token, 32
  %odd = and i64 %generation, 1
  %slots = getelementptr i8, ptr %barrier, i64 8
  %p.any = getelementptr i32, ptr %slots, i64 %odd
  %p.vote = getelementptr i32, ptr %p.any, i64 %kind
  %vote = load i32, ptr %p.vote
  ret i32 %vote
}

define internal i32 @barrier_or(ptr %worker, i64 %token) {
  %any = call i32 @barrier_vote(ptr %worker, i64 %token, i64 0)
  %is = icmp ne i32 %any, 0
  %result = zext i1 %is to i32
  ret i32 %result
}

define internal i32 @barrier_and(ptr %worker, i64 %token) {
  %some = call i32 @barrier_vote(ptr %worker, i64 %token, i64 2)
  %is = icmp eq i32 %some, 0
  %result = zext i1 %is to i32
  ret i32 %result
}

define internal i32 @barrier_popc(ptr %worker, i64 %token) {
  %count = call i32 @barrier_vote(ptr %worker, i64 %token, i64 4)
  ret i32 %count
}
"""

_BLOCK = """
define internal void @block_start(ptr %launch, ptr %worker, i64 %c) {
  %state = getelementptr i8, ptr %worker, i64 $resume
  call void @llvm.memset.p0.i64(ptr %state, i8 0, i64 $state_size, i1 false)
  %p.threads = getelementptr i8, ptr %launch, i64 $threads
  %threads = load i32, ptr %p.threads
  %p.live = getelementptr i8, ptr %worker, i64 $live
  store i32 %threads, ptr %p.live
  call void @place_block(ptr %launch, ptr %worker, i64 %c)$block_start
  ret void
}

define internal i32 @block_turn(ptr %launch, ptr %worker) {
entry:
  %p.warps = getelementptr i8, ptr %launch, i64 $warps
  %warps = load i32, ptr %p.warps
  %p.context = getelementptr i8, ptr %worker, i64 $context
  %context = load ptr, ptr %p.context
  %resume = getelementptr i8, ptr %worker, i64 $resume
  br label %warp
warp:
  %w = phi i32 [ 0, %entry ], [ %w.next, %warp.end ]
  %running = phi i32 [ 0, %entry ], [ %running.next, %warp.end ]
  %moved = phi i32 [ 0, %entry ], [ %moved.next, %warp.end ]
  %p.at = getelementptr i32, ptr %resume, i32 %w
  %at = load i32, ptr %p.at
  %ended = icmp eq i32 %at, -1
  br i1 %ended, label %warp.end, label %warp.run
warp.run:
  %w64 = zext i32 %w to i64
  %offset = mul i64 %w64, $context_size
  %saved = getelementptr i8, ptr %context, i64 %offset
  %result = call i32 @$step(ptr %launch, ptr %worker, ptr %saved, i32 %at, i32 %w)
  %fault = icmp eq i32 %result, -2
  br i1 %fault, label %stop, label %warp.ran
stop:
  ret i32 -2
warp.ran:
  %finished = icmp eq i32 %result, 0
  %state = select i1 %finished, i32 -1, i32 %result
  store i32 %state, ptr %p.at
  %one = select i1 %finished, i32 0, i32 1
  %running.ran = add i32 %running, %one
  %waits = icmp eq i32 %result, $blocked
  %step = select i1 %waits, i32 0, i32 1
  %moved.ran = or i32 %moved, %step
  br label %warp.end
warp.end:
  %running.next = phi i32 [ %running, %warp ], [ %running.ran, %warp.ran ]
  %moved.next = phi i32 [ %moved, %warp ], [ %moved.ran, %warp.ran ]
  %w.next = add i32 %w, 1
  %more = icmp ult i32 %w.next, %warps
  br i1 %more, label %warp, label %end
end:
  %none = icmp eq i32 %running.next, 0
  %still = icmp eq i32 %moved.next, 0
  %open = select i1 %still, i32 $blocked, i32 $moved
  %outcome = select i1 %none, i32 0, i32 %open
  ret i32 %outcome
}
"""

_RUN = """
define void @vgpu_run(ptr %launch, ptr %worker) {
entry:
  $enter_mode
  %p.next = getelementptr i8, ptr %launch, i64 $next_cta
  %p.count = getelementptr i8, ptr %launch, i64 $cta_count
  %count = load i64, ptr %p.count
  %p.chunk = getelementptr i8, ptr %launch, i64 $chunk
  %chunk = load i64, ptr %p.chunk
  %p.stop = getelementptr i8, ptr %launch, i64 $stop
  %p.cta = getelementptr i8, ptr %worker, i64 $cta
  %p.resident = getelementptr i8, ptr %worker, i64 $resident
  %resident = load ptr, ptr %p.resident
  %p.residents = getelementptr i8, ptr %worker, i64 $resident_count
  %residents = load i64, ptr %p.residents
  %cooperative = icmp ne i64 %residents, 0
  br i1 %cooperative, label %settle, label %claim
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
  call void @block_start(ptr %launch, ptr %worker, i64 %c)
  br label %turn
turn:
  %stop = load volatile i32, ptr %p.stop
  %stopped = icmp ne i32 %stop, 0
  br i1 %stopped, label %stopping, label %turn.run
stopping:
  call void @fault(ptr %launch, ptr %worker, i32 $stopped, i32 1, ptr %p.cta, i32 0, i32 -1)
  br label %exit
turn.run:
  %outcome = call i32 @block_turn(ptr %launch, ptr %worker)
  switch i32 %outcome, label %exit [ i32 0, label %cta.end
                                     i32 $moved, label %turn
                                     i32 $blocked, label %deadlock ]
deadlock:
  call void @fault(ptr %launch, ptr %worker, i32 $deadlock, i32 1, ptr %p.cta, i32 0, i32 -1)
  br label %exit
cta.end:
  %c.next = add i64 %c, 1
  %unclaimed = icmp ult i64 %c.next, %last
  br i1 %unclaimed, label %cta, label %claim
settle:
  %s = phi i64 [ 0, %entry ], [ %s.next, %settle ]
  %s.offset = mul i64 %s, $worker_size
  %s.block = getelementptr i8, ptr %resident, i64 %s.offset
  %s.p.cta = getelementptr i8, ptr %s.block, i64 $cta
  %s.c = load i64, ptr %s.p.cta
  call void @block_start(ptr %launch, ptr %s.block, i64 %s.c)
  %s.next = add i64 %s, 1
  %s.more = icmp ult i64 %s.next, %residents
  br i1 %s.more, label %settle, label %pass
pass:
  %left = phi i64 [ %residents, %settle ], [ %left.next, %yielded ]
  br label %block
block:
  %b = phi i64 [ 0, %pass ], [ %b.next, %block.end ]
  %b.left = phi i64 [ %left, %pass ], [ %left.next, %block.end ]
  %b.offset = mul i64 %b, $worker_size
  %b.block = getelementptr i8, ptr %resident, i64 %b.offset
  %b.p.residents = getelementptr i8, ptr %b.block, i64 $resident_count
  %b.done = load i64, ptr %b.p.residents
  %b.ended = icmp ne i64 %b.done, 0
  br i1 %b.ended, label %block.end, label %block.check
block.check:
  %b.stop = load volatile i32, ptr %p.stop
  %b.stopped = icmp ne i32 %b.stop, 0
  br i1 %b.stopped, label %block.stop, label %block.run
block.stop:
  %b.p.cta = getelementptr i8, ptr %b.block, i64 $cta
  call void @fault(ptr %launch, ptr %b.block, i32 $stopped, i32 1, ptr %b.p.cta, i32 0, i32 -1)
  br label %exit
block.run:
  %b.outcome = call i32 @block_turn(ptr %launch, ptr %b.block)
  switch i32 %b.outcome, label %exit [ i32 0, label %block.done
                                       i32 $moved, label %block.end
                                       i32 $blocked, label %block.deadlock ]
block.deadlock:
  %d.p.cta = getelementptr i8, ptr %b.block, i64 $cta
  call void @fault(ptr %launch, ptr %b.block, i32 $deadlock, i32 1, ptr %d.p.cta, i32 0, i32 -1)
  br label %exit
block.done:
  store i64 1, ptr %b.p.residents
  br label %block.end
block.end:
  %b.less = phi i64 [ 0, %block ], [ 0, %block.run ], [ 1, %block.done ]
  %left.next = sub i64 %b.left, %b.less
  %b.next = add i64 %b, 1
  %b.more = icmp ult i64 %b.next, %residents
  br i1 %b.more, label %block, label %pass.end
pass.end:
  %all.done = icmp eq i64 %left.next, 0
  br i1 %all.done, label %exit, label %yielded
yielded:
  %unused = call i32 @sched_yield()
  br label %pass
exit:
  $leave_mode
  ret void
}
"""

#: What the texts above call.
DECLARATIONS = frozenset(
    (
        "declare i32 @llvm.ctpop.i32(i32)",
        "declare i32 @llvm.cttz.i32(i32, i1)",
        "declare i32 @sched_yield()",
    )
)

#: The barriers of a block, and the driver loop `vgpu_run(launch, worker)` around the function that
#: runs a warp; `driver` fills in the fields.
CONCURRENT_RUN = _BARRIERS + _BLOCK + _RUN
CONCURRENT_FIELDS = {
    "blocked": BLOCKED,
    "moved": MOVED,
    "deadlock": FAULT_DEADLOCK,
    "state_size": WORKER_SIZE - WORKER["resume"],
    "worker_size": WORKER_SIZE,
}
