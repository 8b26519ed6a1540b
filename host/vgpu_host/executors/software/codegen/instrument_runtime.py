"""LLVM IR of the functions that checks call: what they find, and the start of a block."""

from __future__ import annotations

from collections.abc import Collection
from string import Template

from vgpu_host.executors.software.checks.structures import ADDRESSABLE, CHECKS, SITE, Kind
from vgpu_host.executors.software.ir import WARP_SIZE
from vgpu_host.executors.software.layout import Layout
from vgpu_host.executors.software.translation import Translation

from .instrument_race_runtime import race_runtime
from .instrument_sync import awaits_ended_threads
from .instrument_sync_runtime import sync_runtime
from .state import LAUNCH, WORKER

_FOUND = """
define internal void @found(ptr %checks, ptr %site, ptr %worker, i32 %kind, i64 %count,
                            i64 %address, i32 %thread, i32 %position, i32 %size,
                            i64 %other.cta, i32 %other.thread, i32 %other.position,
                            i64 %lanes) cold noinline {
  %p.total = getelementptr i8, ptr %checks, i64 $total
  %old.total = atomicrmw add ptr %p.total, i64 1 monotonic
  %p.count = getelementptr i8, ptr %site, i64 $count
  %old = atomicrmw add ptr %p.count, i64 %count monotonic
  %first = icmp eq i64 %old, 0
  br i1 %first, label %record, label %done
record:
  %p.cta = getelementptr i8, ptr %worker, i64 $worker_cta
  %cta = load i64, ptr %p.cta
  %p.site.cta = getelementptr i8, ptr %site, i64 $cta
  store i64 %cta, ptr %p.site.cta
  %p.address = getelementptr i8, ptr %site, i64 $address
  store i64 %address, ptr %p.address
  %p.other.cta = getelementptr i8, ptr %site, i64 $other_cta
  store i64 %other.cta, ptr %p.other.cta
  %p.lanes = getelementptr i8, ptr %site, i64 $lanes
  store i64 %lanes, ptr %p.lanes
  %p.thread = getelementptr i8, ptr %site, i64 $thread
  store i32 %thread, ptr %p.thread
  %p.other.thread = getelementptr i8, ptr %site, i64 $other_thread
  store i32 %other.thread, ptr %p.other.thread
  %p.position = getelementptr i8, ptr %site, i64 $position
  store i32 %position, ptr %p.position
  %p.other.position = getelementptr i8, ptr %site, i64 $other_position
  store i32 %other.position, ptr %p.other.position
  %p.kind = getelementptr i8, ptr %site, i64 $kind
  store i32 %kind, ptr %p.kind
  %p.size = getelementptr i8, ptr %site, i64 $size
  store i32 %size, ptr %p.size
  br label %done
done:
  ret void
}
"""

_UNINITIALISED = """
define internal void @uninitialised(ptr %checks, ptr %site, ptr %worker, i32 %bad, ptr %addresses,
                                    i32 %warp, i32 %position, i32 %size) cold noinline {
  %lane = call i32 @llvm.cttz.i32(i32 %bad, i1 false)
  %lane5 = and i32 %lane, 31
  %entry = getelementptr i64, ptr %addresses, i32 %lane5
  %address = load i64, ptr %entry
  %first = shl i32 %warp, 5
  %thread = or i32 %first, %lane5
  %lanes = call i32 @llvm.ctpop.i32(i32 %bad)
  %count = zext i32 %lanes to i64
  %bits = zext i32 %bad to i64
  call void @found(ptr %checks, ptr %site, ptr %worker, i32 $uninitialised, i64 %count,
                   i64 %address, i32 %thread, i32 %position, i32 %size,
                   i64 -1, i32 -1, i32 -1, i64 %bits)
  ret void
}
"""

DECLARATIONS = ("declare i32 @llvm.ctpop.i32(i32)",)


def runtime(translation: Translation, layout: Layout) -> str:
    """The functions that the checks of a kernel call."""
    checks = translation.checks
    parts = [_FOUND]
    if "mem" in checks:
        parts.append(_UNINITIALISED)
    if "race" in checks:
        parts.append(race_runtime())
    if "sync" in checks:
        parts.append(sync_runtime(awaits_ended_threads(translation)))
    parts.append(_round_end(checks))
    parts.append(_block_start(checks, layout))
    fields = {**CHECKS, **SITE, "worker_cta": WORKER["cta"], "uninitialised": Kind.UNINITIALISED}
    return Template("".join(parts)).substitute(fields)


def _block_start(checks: Collection[str], layout: Layout) -> str:
    """What happens before the first warp of a block runs."""
    lines = ["define internal void @check_block(ptr %launch, ptr %worker) {"]
    lines.append(_load("checks", "ptr", "%launch", LAUNCH["checks"]))
    if "mem" in checks:
        lines += _clear_shadow(layout)
    if "race" in checks:
        lines.append("call void @race_block(ptr %checks, ptr %worker)")
    return "\n".join([*lines, "ret void", "}", ""])


def _round_end(checks: Collection[str]) -> str:
    """What happens when each warp of a block has come to a barrier or to its end."""
    lines = ["define internal void @check_round(ptr %launch, ptr %worker, ptr %resume) {"]
    lines.append(_load("checks", "ptr", "%launch", LAUNCH["checks"]))
    if "race" in checks:
        lines.append("call void @race_round(ptr %checks, ptr %worker)")
    if "sync" in checks:
        lines += [
            _load("warps", "i32", "%launch", LAUNCH["warps"]),
            "call void @sync_round(ptr %launch, ptr %checks, ptr %worker, ptr %resume, i32 %warps)",
        ]
    return "\n".join([*lines, "ret void", "}", ""])


def _clear_shadow(layout: Layout) -> list[str]:
    """Shared and local memory contain nothing when a block begins."""
    lines = [
        _load("shadow", "i64", "%checks", CHECKS["shadow"]),
        _load("shared", "i64", "%worker", WORKER["shared"]),
        "%shared.shadow = add i64 %shared, %shadow",
        "%start = inttoptr i64 %shared.shadow to ptr",
        _load("size", "i32", "%launch", LAUNCH["shared_size"]),
        f"%dynamic = sub i32 %size, {layout.shared_size}",
        "%dynamic64 = zext i32 %dynamic to i64",
    ]
    pieces = [(offset, str(size)) for _, offset, size in layout.shared_variables]
    pieces.append((layout.shared_size, "%dynamic64"))
    for number, (offset, size) in enumerate(pieces):
        lines += [
            f"%piece{number} = getelementptr i8, ptr %start, i64 {offset}",
            f"call void @llvm.memset.p0.i64(ptr %piece{number}, i8 {ADDRESSABLE}, i64 {size}, "
            "i1 false)",
        ]
    if layout.local_size:
        lines += [
            _load("local", "i64", "%worker", WORKER["local"]),
            "%local.shadow = add i64 %local, %shadow",
            "%local.start = inttoptr i64 %local.shadow to ptr",
            _load("warps", "i32", "%launch", LAUNCH["warps"]),
            "%warps64 = zext i32 %warps to i64",
            f"%local.bytes = mul i64 %warps64, {WARP_SIZE * layout.local_size}",
            f"call void @llvm.memset.p0.i64(ptr %local.start, i8 {ADDRESSABLE}, i64 %local.bytes, "
            "i1 false)",
        ]
    return lines


def _load(name: str, type_: str, base: str, offset: int) -> str:
    return (
        f"%p.{name} = getelementptr i8, ptr {base}, i64 {offset}\n%{name} = load {type_}, "
        f"ptr %p.{name}"
    )
