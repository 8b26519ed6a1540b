"""LLVM IR of the race checker: what an access, a fence, and lanes that meet do to its records.

Two accesses of which one writes race, unless something orders them: the same thread, a barrier
between threads of a block, `bar.warp.sync` between lanes of a warp, or a release (a strong write
behind a fence) after the first that the second's side has seen. `@race_relation` is that rule.
"""

from __future__ import annotations

from string import Template

from vgpu_host.executors.software.checks.structures import (
    ATOMIC,
    BLOCK_FENCES,
    CHECKS,
    CLOCK,
    KEY_BYTES,
    KEY_CLOCK,
    KEY_FLAGS,
    KEY_TAG,
    READERS,
    RECORD_SIZE,
    RELEASE,
    SITE_SIZE,
    STATE,
    STRONG,
    WRITE,
    Kind,
)
from vgpu_host.executors.software.ir import WARP_SIZE

from .state import WORKER

#: What an earlier access is to one that is made now.
_FORGOTTEN, _ORDERED, _APART, _RACING = range(4)

_RELATION = """
define internal i32 @race_relation(ptr %checks, ptr %state, i64 %key, i64 %info, ptr %record,
                                   i32 %launch, i1 %is.shared) {
  %other = load i64, ptr %record
  %clock64 = lshr i64 %other, $key_clock
  %clock = trunc i64 %clock64 to i32
  %recent = icmp uge i32 %clock, %launch
  br i1 %recent, label %known, label %forgotten
known:
  %difference = xor i64 %key, %other
  %tag = and i64 %difference, $tag_bits
  %is.same = icmp eq i64 %tag, 0
  br i1 %is.same, label %which.block, label %forgotten
forgotten:
  ret i32 $forgotten
which.block:
  %p.info = getelementptr i8, ptr %record, i64 8
  %other.info = load i64, ptr %p.info
  %other.block = lshr i64 %other.info, 32
  %block = lshr i64 %info, 32
  %same.block = icmp eq i64 %block, %other.block
  br i1 %same.block, label %within, label %another
another:
  br i1 %is.shared, label %forgotten, label %across
within:
  %thread.differs = and i64 %difference, 1023
  %same.thread = icmp eq i64 %thread.differs, 0
  br i1 %same.thread, label %ordered, label %threads
threads:
  %warp64 = lshr i64 %key, 5
  %warp = and i64 %warp64, 31
  %other.warp64 = lshr i64 %other, 5
  %other.warp = and i64 %other.warp64, 31
  %same.warp = icmp eq i64 %warp, %other.warp
  %p.round = getelementptr i8, ptr %state, i64 $round
  %round = load i32, ptr %p.round
  %p.meetings = getelementptr i8, ptr %state, i64 $meetings
  %p.meeting = getelementptr i32, ptr %p.meetings, i64 %warp
  %meeting = load i32, ptr %p.meeting
  %later = call i32 @llvm.umax.i32(i32 %round, i32 %meeting)
  %limit = select i1 %same.warp, i32 %later, i32 %round
  %is.before = icmp ult i32 %clock, %limit
  br i1 %is.before, label %ordered, label %released
released:
  %p.fences = getelementptr i8, ptr %state, i64 $warp_fences
  %p.fence = getelementptr i32, ptr %p.fences, i64 %other.warp
  %fence = load i32, ptr %p.fence
  %p.acquired = getelementptr i8, ptr %state, i64 $warp_acquired
  %p.acquired.warp = getelementptr i32, ptr %p.acquired, i64 %warp
  %acquired = load i32, ptr %p.acquired.warp
  br label %message
across:
  %place = and i64 %other.block, $fence_mask
  %p.table = getelementptr i8, ptr %checks, i64 $block_fences
  %table = load ptr, ptr %p.table
  %p.block.fence = getelementptr i32, ptr %table, i64 %place
  %block.fence = load i32, ptr %p.block.fence
  %p.block.acquired = getelementptr i8, ptr %state, i64 $acquired
  %block.acquired = load i32, ptr %p.block.acquired
  br label %message
message:
  %out = phi i32 [ %fence, %released ], [ %block.fence, %across ]
  %in = phi i32 [ %acquired, %released ], [ %block.acquired, %across ]
  %went.out = icmp ult i32 %clock, %out
  %came.in = icmp ult i32 %clock, %in
  %passed = and i1 %went.out, %came.in
  br i1 %passed, label %ordered, label %overlap
ordered:
  ret i32 $ordered
overlap:
  %both = and i64 %key, %other
  %bytes = and i64 %both, $bytes_bits
  %no.bytes = icmp eq i64 %bytes, 0
  %strong = and i64 %both, $strong_bit
  %are.strong = icmp ne i64 %strong, 0
  %are.apart = or i1 %no.bytes, %are.strong
  %result = select i1 %are.apart, i32 $apart, i32 $racing
  ret i32 %result
}
"""

_PLACE = """
define internal void @race_place(ptr %records, i64 %key, i64 %info, i32 %first, i32 %second) {
  %old = load i64, ptr %records
  %free = icmp eq i32 %first, $forgotten
  %is.ordered = icmp eq i32 %first, $ordered
  %missing = xor i64 %key, -1
  %lost = and i64 %old, %missing
  %lost.bytes = and i64 %lost, $bytes_bits
  %covers = icmp eq i64 %lost.bytes, 0
  %hidden = xor i64 %old, -1
  %only.strong = and i64 %hidden, %key
  %strong = and i64 %only.strong, $strong_bit
  %as.weak = icmp eq i64 %strong, 0
  %replaces = and i1 %is.ordered, %covers
  %replaces.it = and i1 %replaces, %as.weak
  %use.first = or i1 %free, %replaces.it
  %behind = getelementptr i8, ptr %records, i64 $record
  %place = select i1 %use.first, ptr %records, ptr %behind
  store i64 %key, ptr %place
  %p.info = getelementptr i8, ptr %place, i64 8
  store i64 %info, ptr %p.info
  ret void
}

define internal void @race_acquire(ptr %state, i64 %key, i64 %info, ptr %record, i32 %relation) {
  %other = load i64, ptr %record
  %release = and i64 %other, $release_bit
  %released = icmp ne i64 %release, 0
  %is.known = icmp ne i32 %relation, $forgotten
  %acquires = and i1 %released, %is.known
  br i1 %acquires, label %acquire, label %done
acquire:
  %clock64 = lshr i64 %other, $key_clock
  %clock = trunc i64 %clock64 to i32
  %warp64 = lshr i64 %key, 5
  %warp = and i64 %warp64, 31
  %p.warps = getelementptr i8, ptr %state, i64 $warp_acquired
  %p.warp = getelementptr i32, ptr %p.warps, i64 %warp
  %old = load i32, ptr %p.warp
  %new = call i32 @llvm.umax.i32(i32 %old, i32 %clock)
  store i32 %new, ptr %p.warp
  %p.info = getelementptr i8, ptr %record, i64 8
  %other.info = load i64, ptr %p.info
  %blocks = xor i64 %info, %other.info
  %difference = lshr i64 %blocks, 32
  %is.other = icmp ne i64 %difference, 0
  br i1 %is.other, label %other.block, label %done
other.block:
  %p.acquired = getelementptr i8, ptr %state, i64 $acquired
  %old.block = load i32, ptr %p.acquired
  %new.block = call i32 @llvm.umax.i32(i32 %old.block, i32 %clock)
  store i32 %new.block, ptr %p.acquired
  br label %done
done:
  ret void
}
"""

_REPORT = """
define internal void @race_report(ptr %checks, ptr %site, ptr %worker, ptr %records, i64 %key,
                                  i64 %info, i32 %first, i32 %second, i32 %kind, i64 %address,
                                  i32 %size, ptr %values, i32 %lane) cold noinline {
  %behind = getelementptr i8, ptr %records, i64 $record
  %first.key = load i64, ptr %records
  %second.key = load i64, ptr %behind
  %first.races = icmp eq i32 %first, $racing
  %second.races = icmp eq i32 %second, $racing
  %second.later = icmp ugt i64 %second.key, %first.key
  %second.matters = and i1 %second.races, %second.later
  %first.not = xor i1 %first.races, true
  %use.second = or i1 %second.matters, %first.not
  %record = select i1 %use.second, ptr %behind, ptr %records
  %other = load i64, ptr %record
  %either = or i64 %other, %key
  %atomic = and i64 %either, $atomic_bit
  %is.atomic = icmp ne i64 %atomic, 0
  %has.values = icmp ne ptr %values, null
  %write.after = icmp eq i32 %kind, $write_after_write
  %not.atomic = xor i1 %is.atomic, true
  %plain = and i1 %has.values, %not.atomic
  %compares = and i1 %plain, %write.after
  br i1 %compares, label %compare, label %report
compare:
  %bytes = zext i32 %size to i64
  %lane64 = zext i32 %lane to i64
  %own.offset = mul i64 %lane64, %bytes
  %p.own = getelementptr i8, ptr %values, i64 %own.offset
  %together64 = xor i64 %other, %key
  %together32 = lshr i64 %together64, $key_clock
  %together = icmp eq i64 %together32, 0
  %other.lane = and i64 %other, 31
  %other.offset = mul i64 %other.lane, %bytes
  %p.beside = getelementptr i8, ptr %values, i64 %other.offset
  %p.memory = inttoptr i64 %address to ptr
  %p.other = select i1 %together, ptr %p.beside, ptr %p.memory
  br label %next
next:
  %index = phi i64 [ 0, %compare ], [ %index.next, %equal ]
  %p.a = getelementptr i8, ptr %p.own, i64 %index
  %p.b = getelementptr i8, ptr %p.other, i64 %index
  %a = load i8, ptr %p.a
  %b = load i8, ptr %p.b
  %same = icmp eq i8 %a, %b
  br i1 %same, label %equal, label %report
equal:
  %index.next = add i64 %index, 1
  %more = icmp ult i64 %index.next, %bytes
  br i1 %more, label %next, label %done
report:
  %p.info = getelementptr i8, ptr %record, i64 8
  %other.info = load i64, ptr %p.info
  %other.block = lshr i64 %other.info, 32
  %other.position = trunc i64 %other.info to i32
  %position = trunc i64 %info to i32
  %key32 = trunc i64 %key to i32
  %thread = and i32 %key32, 1023
  %other32 = trunc i64 %other to i32
  %other.thread = and i32 %other32, 1023
  %flags64 = lshr i64 %other, $key_flags
  %flags = and i64 %flags64, 15
  call void @found(ptr %checks, ptr %site, ptr %worker, i32 %kind, i64 1, i64 %address,
                   i32 %thread, i32 %position, i32 %size, i64 %other.block, i32 %other.thread,
                   i32 %other.position, i64 %flags)
  br label %done
done:
  ret void
}
"""

_CELL = """
define internal void @race_cell(ptr %checks, ptr %site, ptr %worker, ptr %state, ptr %cell,
                                i64 %key, i64 %info, i32 %launch, i1 %is.shared, i64 %address,
                                i32 %size, ptr %values, i32 %lane) alwaysinline {
  %second.writer = getelementptr i8, ptr %cell, i64 $record
  %readers = getelementptr i8, ptr %cell, i64 $readers
  %second.reader = getelementptr i8, ptr %readers, i64 $record
  %write.bit = and i64 %key, $write_bit
  %writes = icmp ne i64 %write.bit, 0
  %reader.key = load i64, ptr %readers
  %reader.key2 = load i64, ptr %second.reader
  %again1 = icmp eq i64 %reader.key, %key
  %again2 = icmp eq i64 %reader.key2, %key
  %again = or i1 %again1, %again2
  br i1 %again, label %done, label %look
look:
  %w0 = call i32 @race_relation(ptr %checks, ptr %state, i64 %key, i64 %info,
                                ptr %cell, i32 %launch, i1 %is.shared)
  %w1 = call i32 @race_relation(ptr %checks, ptr %state, i64 %key, i64 %info,
                                ptr %second.writer, i32 %launch, i1 %is.shared)
  %r0 = call i32 @race_relation(ptr %checks, ptr %state, i64 %key, i64 %info,
                                ptr %readers, i32 %launch, i1 %is.shared)
  %r1 = call i32 @race_relation(ptr %checks, ptr %state, i64 %key, i64 %info,
                                ptr %second.reader, i32 %launch, i1 %is.shared)
  %w.most = call i32 @llvm.umax.i32(i32 %w0, i32 %w1)
  %w.races = icmp eq i32 %w.most, $racing
  br i1 %w.races, label %after.write, label %looked
after.write:
  %kind = select i1 %writes, i32 $write_after_write, i32 $read_after_write
  call void @race_report(ptr %checks, ptr %site, ptr %worker, ptr %cell, i64 %key, i64 %info,
                         i32 %w0, i32 %w1, i32 %kind, i64 %address, i32 %size, ptr %values,
                         i32 %lane)
  br label %looked
looked:
  %r.most = call i32 @llvm.umax.i32(i32 %r0, i32 %r1)
  %r.racing = icmp eq i32 %r.most, $racing
  %r.races = and i1 %r.racing, %writes
  br i1 %r.races, label %after.read, label %ordered
after.read:
  %read.site = getelementptr i8, ptr %site, i64 $site_size
  call void @race_report(ptr %checks, ptr %read.site, ptr %worker, ptr %readers, i64 %key,
                         i64 %info, i32 %r0, i32 %r1, i32 $write_after_read, i64 %address,
                         i32 %size, ptr %values, i32 %lane)
  br label %ordered
ordered:
  %strong.bit = and i64 %key, $strong_bit
  %is.strong = icmp ne i64 %strong.bit, 0
  br i1 %is.strong, label %acquire, label %place
acquire:
  %atomic.bit = and i64 %key, $atomic_bit
  %is.atomic = icmp ne i64 %atomic.bit, 0
  %is.read = xor i1 %writes, true
  %takes = or i1 %is.atomic, %is.read
  br i1 %takes, label %take, label %place
take:
  call void @race_acquire(ptr %state, i64 %key, i64 %info, ptr %cell, i32 %w0)
  call void @race_acquire(ptr %state, i64 %key, i64 %info, ptr %second.writer,
                          i32 %w1)
  %first.key = load i64, ptr %cell
  %second.key = load i64, ptr %second.writer
  %knows0 = icmp ne i32 %w0, $forgotten
  %knows1 = icmp ne i32 %w1, $forgotten
  %chain0 = select i1 %knows0, i64 %first.key, i64 0
  %chain1 = select i1 %knows1, i64 %second.key, i64 0
  %chain = or i64 %chain0, %chain1
  %continued = and i64 %chain, $release_bit
  %handed.on = select i1 %is.atomic, i64 %continued, i64 0
  br label %place
place:
  %more = phi i64 [ 0, %ordered ], [ 0, %acquire ], [ %handed.on, %take ]
  %key.new = or i64 %key, %more
  %records = select i1 %writes, ptr %cell, ptr %readers
  %first = select i1 %writes, i32 %w0, i32 %r0
  %second = select i1 %writes, i32 %w1, i32 %r1
  call void @race_place(ptr %records, i64 %key.new, i64 %info, i32 %first, i32 %second)
  br label %done
done:
  ret void
}
"""

_ACCESS = """
define internal void @race(ptr %checks, ptr %site, ptr %worker, i32 %active, ptr %addresses,
                           ptr %values, i64 %base, i64 %limit, i32 %warp, i32 %position,
                           i32 %size, i32 %flags) noinline {
entry:
  %state = getelementptr i8, ptr %worker, i64 $worker_checks
  %p.clocks = getelementptr i8, ptr %checks, i64 $clocks
  %p.clock = load ptr, ptr %p.clocks
  %clock.old = load i32, ptr %p.clock
  %writes = and i32 %flags, $write
  %clock = add i32 %clock.old, %writes
  store i32 %clock, ptr %p.clock
  %p.start = getelementptr i8, ptr %state, i64 $start
  %block.start = load i32, ptr %p.start
  %p.launch = getelementptr i8, ptr %p.clock, i64 $launch
  %launch.start = load i32, ptr %p.launch
  %p.fenced = getelementptr i8, ptr %state, i64 $fenced
  %fenced = load i32, ptr %p.fenced
  %is.fenced = icmp uge i32 %fenced, %block.start
  %is.strong.bit = and i32 %flags, $strong
  %is.strong = icmp ne i32 %is.strong.bit, 0
  %is.write = icmp ne i32 %writes, 0
  %may.release = and i1 %is.strong, %is.write
  %releases = and i1 %may.release, %is.fenced
  %release = select i1 %releases, i32 $release, i32 0
  %all.flags = or i32 %flags, %release
  %flags64 = zext i32 %all.flags to i64
  %flags.part = shl i64 %flags64, $key_flags
  %clock64 = zext i32 %clock to i64
  %clock.part = shl i64 %clock64, $key_clock
  %first64 = zext i32 %warp to i64
  %first.thread = shl i64 %first64, 5
  %common1 = or i64 %flags.part, %clock.part
  %common = or i64 %common1, %first.thread
  %p.cta = getelementptr i8, ptr %worker, i64 $cta
  %cta = load i64, ptr %p.cta
  %cta.part = shl i64 %cta, 32
  %position64 = zext i32 %position to i64
  %info = or i64 %cta.part, %position64
  %p.shared = getelementptr i8, ptr %worker, i64 $shared
  %shared = load i64, ptr %p.shared
  %p.window = getelementptr i8, ptr %checks, i64 $window
  %window = load i64, ptr %p.window
  %p.cells = getelementptr i8, ptr %checks, i64 $cells
  %cells = load ptr, ptr %p.cells
  %p.mask = getelementptr i8, ptr %checks, i64 $cell_mask
  %cell.mask = load i64, ptr %p.mask
  %p.bits = getelementptr i8, ptr %checks, i64 $cell_bits
  %cell.bits = load i64, ptr %p.bits
  %p.shared.cells = getelementptr i8, ptr %checks, i64 $shared_cells
  %shared.cells = load ptr, ptr %p.shared.cells
  %wide = icmp eq i32 %size, 8
  %small = call i32 @llvm.umin.i32(i32 %size, i32 4)
  %ones1 = shl i32 1, %small
  %ones = sub i32 %ones1, 1
  %ones64 = zext i32 %ones to i64
  br label %before
before:
  %some = icmp ne i32 %active, 0
  br i1 %some, label %lane.loop, label %done
lane.loop:
  %left = phi i32 [ %active, %before ], [ %remaining, %latch ]
  %lane = call i32 @llvm.cttz.i32(i32 %left, i1 true)
  %p.address = getelementptr i64, ptr %addresses, i32 %lane
  %address = load i64, ptr %p.address
  %offset = sub i64 %address, %base
  %is.global = icmp ult i64 %offset, %limit
  br i1 %is.global, label %global, label %maybe.shared
global:
  %word = lshr i64 %offset, 2
  %index = and i64 %word, %cell.mask
  %tag = lshr i64 %word, %cell.bits
  %global.tag = shl i64 %tag, $key_tag
  br label %known
maybe.shared:
  %shared.offset = sub i64 %address, %shared
  %is.shared = icmp ult i64 %shared.offset, %window
  br i1 %is.shared, label %in.shared, label %latch
in.shared:
  %shared.index = lshr i64 %shared.offset, 2
  br label %known
known:
  %table = phi ptr [ %cells, %global ], [ %shared.cells, %in.shared ]
  %number = phi i64 [ %index, %global ], [ %shared.index, %in.shared ]
  %tag.part = phi i64 [ %global.tag, %global ], [ 0, %in.shared ]
  %is.shared.cell = phi i1 [ false, %global ], [ true, %in.shared ]
  %cell.at = shl i64 %number, 6
  %cell = getelementptr i8, ptr %table, i64 %cell.at
  %byte = and i64 %address, 3
  %bytes = shl i64 %ones64, %byte
  %bytes.part = shl i64 %bytes, $key_bytes
  %lane64 = zext i32 %lane to i64
  %key1 = or i64 %common, %tag.part
  %key2 = or i64 %key1, %bytes.part
  %key = or i64 %key2, %lane64
  br label %word.loop
word.loop:
  %at = phi ptr [ %cell, %known ], [ %at.next, %word.next ]
  call void @race_cell(ptr %checks, ptr %site, ptr %worker, ptr %state, ptr %at, i64 %key,
                       i64 %info, i32 %launch.start, i1 %is.shared.cell, i64 %address, i32 %size,
                       ptr %values, i32 %lane)
  %is.first = icmp eq ptr %at, %cell
  %another = and i1 %is.first, %wide
  br i1 %another, label %word.next, label %latch
word.next:
  %at.next = getelementptr i8, ptr %at, i64 $cell_size
  br label %word.loop
latch:
  %less = sub i32 %left, 1
  %remaining = and i32 %left, %less
  %more = icmp ne i32 %remaining, 0
  br i1 %more, label %lane.loop, label %done
done:
  ret void
}
"""

_EVENTS = """
define internal i32 @race_tick(ptr %checks) {
  %p.clocks = getelementptr i8, ptr %checks, i64 $clocks
  %p.clock = load ptr, ptr %p.clocks
  %old = load i32, ptr %p.clock
  %clock = add i32 %old, 1
  store i32 %clock, ptr %p.clock
  ret i32 %clock
}

define internal void @race_meet(ptr %checks, ptr %worker, i32 %active, i32 %warp) noinline {
  %some = icmp ne i32 %active, 0
  br i1 %some, label %meet, label %done
meet:
  %state = getelementptr i8, ptr %worker, i64 $worker_checks
  %clock = call i32 @race_tick(ptr %checks)
  %p.meetings = getelementptr i8, ptr %state, i64 $meetings
  %p.meeting = getelementptr i32, ptr %p.meetings, i32 %warp
  store i32 %clock, ptr %p.meeting
  br label %done
done:
  ret void
}

define internal void @race_fence(ptr %checks, ptr %worker, i32 %active, i32 %warp,
                                 i1 %is.global) noinline {
  %some = icmp ne i32 %active, 0
  br i1 %some, label %fence, label %done
fence:
  %state = getelementptr i8, ptr %worker, i64 $worker_checks
  %clock = call i32 @race_tick(ptr %checks)
  %p.fences = getelementptr i8, ptr %state, i64 $warp_fences
  %p.fence = getelementptr i32, ptr %p.fences, i32 %warp
  store i32 %clock, ptr %p.fence
  %p.fenced = getelementptr i8, ptr %state, i64 $fenced
  store i32 %clock, ptr %p.fenced
  br i1 %is.global, label %global, label %done
global:
  %p.cta = getelementptr i8, ptr %worker, i64 $cta
  %cta = load i64, ptr %p.cta
  %place = and i64 %cta, $fence_mask
  %p.table = getelementptr i8, ptr %checks, i64 $block_fences
  %table = load ptr, ptr %p.table
  %p.block = getelementptr i32, ptr %table, i64 %place
  store i32 %clock, ptr %p.block
  br label %done
done:
  ret void
}

define internal void @race_block(ptr %checks, ptr %worker) {
  %state = getelementptr i8, ptr %worker, i64 $worker_checks
  %clock = call i32 @race_tick(ptr %checks)
  %p.start = getelementptr i8, ptr %state, i64 $start
  store i32 %clock, ptr %p.start
  %p.round = getelementptr i8, ptr %state, i64 $round
  store i32 %clock, ptr %p.round
  %p.acquired = getelementptr i8, ptr %state, i64 $acquired
  store i32 0, ptr %p.acquired
  %p.warps = getelementptr i8, ptr %state, i64 $warp_acquired
  call void @llvm.memset.p0.i64(ptr %p.warps, i8 0, i64 $warp_words, i1 false)
  ret void
}

define internal void @race_round(ptr %checks, ptr %worker) {
  %state = getelementptr i8, ptr %worker, i64 $worker_checks
  %clock = call i32 @race_tick(ptr %checks)
  %p.round = getelementptr i8, ptr %state, i64 $round
  store i32 %clock, ptr %p.round
  ret void
}

define internal void @race_arrive(ptr %checks, ptr %worker, i32 %warp) noinline {
  %state = getelementptr i8, ptr %worker, i64 $worker_checks
  %clock = call i32 @race_tick(ptr %checks)
  %p.fences = getelementptr i8, ptr %state, i64 $warp_fences
  %p.fence = getelementptr i32, ptr %p.fences, i32 %warp
  store i32 %clock, ptr %p.fence
  ret void
}

define internal void @race_pass(ptr %checks, ptr %worker, i32 %warp) noinline {
  %state = getelementptr i8, ptr %worker, i64 $worker_checks
  %clock = call i32 @race_tick(ptr %checks)
  %p.acquired = getelementptr i8, ptr %state, i64 $warp_acquired
  %p.warp = getelementptr i32, ptr %p.acquired, i32 %warp
  store i32 %clock, ptr %p.warp
  ret void
}
"""

DECLARATIONS = (
    "declare i32 @llvm.umax.i32(i32, i32)",
    "declare i32 @llvm.umin.i32(i32, i32)",
)


def race_runtime() -> str:
    """The functions that a kernel calls whose races are checked."""
    return Template(_RELATION + _PLACE + _REPORT + _CELL + _ACCESS + _EVENTS).substitute(
        {**CHECKS, **STATE, **CLOCK},
        worker_checks=WORKER["checks"],
        shared=WORKER["shared"],
        cta=WORKER["cta"],
        record=RECORD_SIZE,
        readers=READERS,
        site_size=SITE_SIZE,
        cell_size=RECORD_SIZE * 4,
        key_flags=KEY_FLAGS,
        key_bytes=KEY_BYTES,
        key_tag=KEY_TAG,
        key_clock=KEY_CLOCK,
        tag_bits=(1 << KEY_CLOCK) - (1 << KEY_TAG),
        bytes_bits=(1 << KEY_TAG) - (1 << KEY_BYTES),
        write_bit=WRITE << KEY_FLAGS,
        strong_bit=STRONG << KEY_FLAGS,
        atomic_bit=ATOMIC << KEY_FLAGS,
        release_bit=RELEASE << KEY_FLAGS,
        write=WRITE,
        strong=STRONG,
        release=RELEASE,
        fence_mask=BLOCK_FENCES - 1,
        warp_words=4 * WARP_SIZE,
        forgotten=_FORGOTTEN,
        ordered=_ORDERED,
        apart=_APART,
        racing=_RACING,
        read_after_write=Kind.READ_AFTER_WRITE,
        write_after_read=Kind.WRITE_AFTER_READ,
        write_after_write=Kind.WRITE_AFTER_WRITE,
    )
