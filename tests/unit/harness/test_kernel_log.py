"""Kernel problems are found in logs: the right kind, one for each report, nothing else."""

from __future__ import annotations

import pytest

from vgpu_stub.harness.kernel_log import ProblemKind, find_problems

QUIET = """\
[    0.000000] Linux version 6.12.48+deb13-cloud-amd64
[    0.010000] Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on
[    0.020000] ACPI BIOS Warning (bug): Optional FADT field Pm2ControlBlock has valid Length
[    0.120000] kmemleak: Kernel memory leak detector initialized (mem pool available: 15790)
[    0.130000] kfence: initialized - using 2097152 bytes for 255 objects
[    1.100000] vgpu_stub: loading out-of-tree module taints kernel.
[    2.000000] traps: python3[211] general protection fault ip:7f11 sp:7ffe error:0 in libc.so.6
[    2.100000] python3[212]: segfault at 0 ip 00007f sp 00007f error 4 in libcuda.so.1
[    2.200000] vgpu_stub 0000:00:05.0: channel 3: worker ended, BUG: it said
"""

OOPS = """\
[    3.000000] BUG: kernel NULL pointer dereference, address: 0000000000000008
[    3.000001] #PF: supervisor read access in kernel mode
[    3.000002] Oops: Oops: 0000 [#1] PREEMPT SMP NOPTI
[    3.000003] CPU: 0 UID: 0 PID: 66 Comm: insmod Tainted: G           OE
[    3.000004] Call Trace:
[    3.000005]  <TASK>
[    3.000006]  vgpu_probe+0x12/0x90 [vgpu_stub]
[    3.000007] ---[ end trace 0000000000000000 ]---
"""

PANIC = """\
[    3.100000] Kernel panic - not syncing: Fatal exception
[    3.100001] ---[ end Kernel panic - not syncing: Fatal exception ]---
"""

KASAN = """\
[    4.000000][  T66] ==================================================================
[    4.000001][  T66] BUG: KASAN: slab-out-of-bounds in vgpu_register+0x44/0x60 [vgpu_stub]
[    4.000002][  T66] Write of size 8 at addr ffff88800 by task python3/66
[    4.000003][  T66] The buggy address belongs to the object at ffff88800
[    4.000004][  T66] ==================================================================
[    4.000005][  T66] Disabling lock debugging due to kernel taint
"""

LOCKDEP = """\
[    5.000000] ======================================================
[    5.000001] WARNING: possible circular locking dependency detected
[    5.000002] 6.12.0 #1 Tainted: G           OE
[    5.000003] ------------------------------------------------------
[    5.000004] python3/88 is trying to acquire lock:
"""

KMEMLEAK_FILE = """\
unreferenced object 0xffff888003f0b000 (size 64):
  comm "insmod", pid 66, jiffies 4294667296
  hex dump (first 32 bytes):
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
  backtrace (crc 0):
    [<ffffffff8123>] kmalloc_trace+0x21/0x90
unreferenced object 0xffff888003f0c000 (size 32):
  comm "insmod", pid 66, jiffies 4294667300
"""


def test_messages_that_only_look_like_problems_are_none() -> None:
    assert find_problems(QUIET) == []


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("kernel BUG at mm/slub.c:553!", ProblemKind.BUG),
        ("BUG: sleeping function called from invalid context at mm/slab.h:321", ProblemKind.BUG),
        ("BUG: scheduling while atomic: python3/88/0x00000002", ProblemKind.BUG),
        ("BUG: unable to handle page fault for address: ffffc90000", ProblemKind.OOPS),
        (
            "general protection fault, probably for non-canonical address 0x6b: 0000 [#1] SMP",
            "oops",
        ),
        ("divide error: 0000 [#1] PREEMPT SMP", ProblemKind.OOPS),
        ("WARNING: CPU: 1 PID: 88 at kernel/dma/debug.c:1234 check_unmap+0x1", ProblemKind.WARNING),
        ("WARNING: lib/refcount.c:28 at refcount_warn+0x2e, CPU#1: python3/88", "WARNING"),
        ('irq 24: nobody cared (try booting with the "irqpoll" option)', ProblemKind.WARNING),
        ("WARNING: possible recursive locking detected", ProblemKind.LOCKDEP),
        ("WARNING: suspicious RCU usage", ProblemKind.LOCKDEP),
        ("WARNING: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected", ProblemKind.LOCKDEP),
        ("[ BUG: Invalid wait context ]", ProblemKind.LOCKDEP),
        ("BUG: KFENCE: use-after-free read in vgpu_close+0x10", ProblemKind.KFENCE),
        ("BUG: KCSAN: data-race in vgpu_irq / vgpu_wait", ProblemKind.KCSAN),
        ("UBSAN: array-index-out-of-bounds in vgpu_irq.c:20:3", ProblemKind.UBSAN),
        ("BUG kmalloc-64 (Tainted: G           OE): Right Redzone overwritten", ProblemKind.SLUB),
        ("pagealloc: memory corruption", ProblemKind.SLUB),
        ("kmemleak: 2 new suspected memory leaks (see /sys/kernel/debug/kmemleak)", "kmemleak"),
        ("INFO: task kworker/0:1:12 blocked for more than 120 seconds.", ProblemKind.HUNG_TASK),
        ("rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", ProblemKind.RCU_STALL),
        ("rcu: INFO: rcu_sched self-detected stall on CPU", ProblemKind.RCU_STALL),
        ("watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [python3:88]", ProblemKind.LOCKUP),
        ("Kernel panic - not syncing: Attempted to kill init!", ProblemKind.PANIC),
    ],
)
@pytest.mark.parametrize("prefix", ["", "[   12.345678] ", "<1>[   12.345678] "])
def test_each_report_is_known_by_its_first_line(line: str, kind: str, prefix: str) -> None:
    (problem,) = find_problems(f"[    1.0] before\n{prefix}{line}\n")
    assert (problem.kind, problem.title, problem.line) == (kind, line, 2)
    assert problem.time_s == (12.345678 if prefix else None)


def test_an_oops_is_one_problem_and_the_panic_after_it_another() -> None:
    log = QUIET + OOPS + "[    3.05] unrelated\n" + PANIC
    oops, panic = find_problems(log)
    assert (oops.kind, panic.kind) == (ProblemKind.OOPS, ProblemKind.PANIC)
    assert oops.title.startswith("BUG: kernel NULL pointer dereference")
    assert log[oops.start : oops.end] == OOPS
    assert oops.line == len(QUIET.splitlines()) + 1
    assert "vgpu_probe+0x12" in oops.report
    assert log[panic.start : panic.end] == PANIC


def test_a_kasan_report_ends_with_its_rule() -> None:
    (problem,) = find_problems(KASAN)
    assert problem.kind is ProblemKind.KASAN
    assert problem.time_s == 4.000001
    assert problem.report.splitlines()[-1].endswith("=" * 66)
    assert "Disabling lock debugging" not in problem.report


def test_a_lockdep_report_keeps_its_first_lines() -> None:
    (problem,) = find_problems(LOCKDEP + "[    6.000000] vgpu_stub 0000:00:05.0: live\n")
    assert problem.kind is ProblemKind.LOCKDEP
    assert "is trying to acquire lock" in problem.report
    assert "live" not in problem.report


def test_each_leaked_object_is_a_problem() -> None:
    problems = find_problems(KMEMLEAK_FILE)
    assert [problem.line for problem in problems] == [1, 7]
    assert "kmalloc_trace" in problems[0].report


def test_a_report_that_is_cut_short_does_not_hide_the_next() -> None:
    cut = "".join(OOPS.splitlines(keepends=True)[:4])
    assert [problem.kind for problem in find_problems(cut + KASAN)] == ["oops", "KASAN"]


def test_expected_problems_are_left_out() -> None:
    log = OOPS + KASAN
    assert [p.kind for p in find_problems(log, expected=["vgpu_probe"])] == ["KASAN"]
    assert find_problems(log, expected=["NULL pointer", r"KASAN: slab-out"]) == []


def test_what_was_looked_at_before_is_left_out_and_lines_go_on() -> None:
    log = OOPS + KASAN
    (problem,) = find_problems(log, start=len(OOPS))
    assert (problem.kind, problem.line) == (ProblemKind.KASAN, len(OOPS.splitlines()) + 2)


def test_a_problem_as_plain_data() -> None:
    (problem,) = find_problems("[    1.5] BUG: Bad page state in process python3\n")
    assert problem.to_json() == {
        "kind": "BUG",
        "title": "BUG: Bad page state in process python3",
        "line": 1,
        "time_s": 1.5,
        "report": "[    1.5] BUG: Bad page state in process python3",
    }
