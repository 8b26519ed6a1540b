"""Barriers that count arrivals and bytes (`mbarrier`), and copies that announce their end."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from vgpu_host.executors.software.errors import DeviceFault

from .conftest import Array, Device


def run(device: Device, body: str, threads: int, inputs: Array | None = None) -> list[int]:
    """Run a block; %i is the thread, %d its result, `bar` a barrier object, %in the input."""
    given = device.upload(np.zeros(1, np.uint32) if inputs is None else inputs)
    out = device.zeros(threads, np.uint32)
    text = f"""
.visible .entry f(.param .u64 pin, .param .u64 pout) {{
  .shared .align 8 .b64 bar; .shared .align 16 .b8 tile[4096];
  .reg .pred %p<9>; .reg .b32 %i, %d, %r<20>; .reg .b64 %in, %out, %x<20>;
  mov.u32 %i, %tid.x; ld.param.u64 %in, [pin]; ld.param.u64 %out, [pout];
  {body}
  mad.wide.u32 %out, %i, 4, %out; st.global.u32 [%out], %d;
  ret;
}}"""
    try:
        function = device.function(text)
        packed = struct.pack("<2Q", given, out)
        function.launch((1, 1, 1), (threads, 1, 1), 0, packed)
        return [int(value) for value in device.download(out, threads, np.uint32)]
    finally:
        device.gpu.free(given)
        device.gpu.free(out)


#: Thread 0 sets the barrier up for so many arrivals.
INIT = """setp.eq.u32 %p0, %i, 0; @!%p0 bra READY; mov.u32 %r0, {};
mbarrier.init.shared.b64 [bar], %r0; fence.mbarrier_init.release.cluster; READY: bar.sync 0;"""
WAIT = """AGAIN{0}: mbarrier.try_wait{1}.shared::cta.b64 %p1, [bar], {2}; @!%p1 bra AGAIN{0};"""


@pytest.mark.parametrize("threads", [32, 96, 100])
@pytest.mark.parametrize("wait", ["try_wait", "test_wait"])
def test_threads_wait_for_all_to_arrive(hopper: Device, threads: int, wait: str) -> None:
    body = (
        INIT.format(threads)
        + "mov.u32 %r1, tile; mad.lo.u32 %r2, %i, 4, %r1; st.shared.u32 [%r2], %i;"
        + "mbarrier.arrive.shared.b64 %x1, [bar];"
        + WAIT.format(0, "", "%x1").replace("try_wait", wait)
        # The last one's value.
        + f"sub.u32 %r3, {threads - 1}, %i; mad.lo.u32 %r2, %r3, 4, %r1; ld.shared.u32 %d, [%r2];"
    )
    assert run(hopper, body, threads) == list(range(threads))[::-1]


def test_phases_follow_each_other_by_parity(hopper: Device) -> None:
    body = INIT.format(64) + "mov.u32 %d, 0; mov.u32 %r5, 0; mov.u32 %r6, 0;"
    body += """LOOP: atom.shared.add.u32 %r1, [tile], 1;
      mbarrier.arrive.shared.b64 _, [bar];
      AGAIN: mbarrier.try_wait.parity.shared.b64 %p1, [bar], %r6; @!%p1 bra AGAIN;
      ld.shared.u32 %r1, [tile]; add.u32 %d, %d, %r1; bar.sync 0;
      xor.b32 %r6, %r6, 1; add.u32 %r5, %r5, 1; setp.lt.u32 %p2, %r5, 5; @%p2 bra LOOP;"""
    body = "st.shared.u32 [tile], 0; bar.sync 0;" + body
    assert run(hopper, body, 64) == [64 * (1 + 2 + 3 + 4 + 5)] * 64


def test_the_state_of_one_thread_counts_down(hopper: Device) -> None:
    """The count of arrivals that are still awaited before each arrival, and the phase."""
    body = (
        INIT.format(5)
        + """setp.ne.u32 %p3, %i, 0; mov.u32 %d, 0; @%p3 bra END;
      mbarrier.arrive.shared.b64 %x1, [bar]; mbarrier.pending_count.b64 %r1, %x1;
      mbarrier.arrive.noComplete.shared.b64 %x2, [bar], 2; mbarrier.pending_count.b64 %r2, %x2;
      mbarrier.test_wait.shared.b64 %p1, [bar], %x2; selp.u32 %r5, 1, 0, %p1;
      mbarrier.arrive_drop.shared.b64 %x3, [bar]; mbarrier.pending_count.b64 %r3, %x3;
      mbarrier.arrive.shared.b64 %x4, [bar]; mbarrier.pending_count.b64 %r4, %x4;
      mbarrier.test_wait.shared.b64 %p1, [bar], %x2; selp.u32 %r6, 1, 0, %p1;
      mbarrier.arrive.shared.b64 %x5, [bar]; mbarrier.pending_count.b64 %r7, %x5;
      mad.lo.u32 %d, %r1, 10, %r2; mad.lo.u32 %d, %d, 10, %r3; mad.lo.u32 %d, %d, 10, %r4;
      mad.lo.u32 %d, %d, 10, %r5; mad.lo.u32 %d, %d, 10, %r6; mad.lo.u32 %d, %d, 10, %r7;
      END: bar.sync 0; mbarrier.inval.shared.b64 [bar];"""
    )
    # One was dropped: the next phase expects 4.
    assert run(hopper, body, 32)[0] == 5421014


def test_bytes_are_awaited_too(hopper: Device) -> None:
    body = (
        INIT.format(1)
        + """setp.ne.u32 %p3, %i, 0; mov.u32 %d, 0; @%p3 bra END;
      mbarrier.arrive.expect_tx.shared::cta.b64 %x1, [bar], 48;
      mbarrier.test_wait.shared.b64 %p1, [bar], %x1; selp.u32 %r1, 1, 0, %p1;
      mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [bar], 40;
      mbarrier.test_wait.shared.b64 %p1, [bar], %x1; selp.u32 %r2, 1, 0, %p1;
      mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [bar], 8;
      mbarrier.test_wait.shared.b64 %p1, [bar], %x1; selp.u32 %r3, 1, 0, %p1;
      mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [bar], 16;
      mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [bar], 16;
      mbarrier.arrive.shared.b64 %x2, [bar];
      mbarrier.test_wait.shared.b64 %p1, [bar], %x2; selp.u32 %r4, 1, 0, %p1;
      mad.lo.u32 %d, %r1, 10, %r2; mad.lo.u32 %d, %d, 10, %r3; mad.lo.u32 %d, %d, 10, %r4;
      END: bar.sync 0;"""
    )
    assert run(hopper, body, 32)[0] == 11


@pytest.mark.parametrize("generic", [False, True])
def test_a_barrier_says_that_copies_have_come(hopper: Device, generic: bool) -> None:
    """Warp 0 copies, the others wait for its words."""
    values = np.arange(32, dtype=np.uint32) * 3 + 5
    body = (
        INIT.format(32)
        + """mov.u32 %r1, tile; and.b32 %r2, %i, 31; mad.lo.u32 %r2, %r2, 4, %r1;
      setp.ge.u32 %p2, %i, 32; @%p2 bra WAIT; mad.wide.u32 %x1, %i, 4, %in;
      cp.async.ca.shared.global [%r2], [%x1], 4; ARRIVE
      WAIT: mbarrier.test_wait.parity.shared.b64 %p1, [bar], 0; @!%p1 bra WAIT;
      ld.shared.u32 %d, [%r2];"""
    )
    arrive = "cp.async.mbarrier.arrive.noinc.shared.b64 [bar];"
    if generic:
        arrive = "mov.u64 %x2, bar; cvta.shared.u64 %x2, %x2;"
        arrive += "cp.async.mbarrier.arrive.noinc.b64 [%x2];"
    got = run(hopper, body.replace("ARRIVE", arrive), 128, values)
    assert got == [*values.tolist()] * 4


def test_an_arrival_of_copies_that_counts_itself_changes_nothing(hopper: Device) -> None:
    body = (
        INIT.format(32)
        + """cp.async.mbarrier.arrive.shared.b64 [bar];
      mbarrier.arrive.shared.b64 %x1, [bar]; mbarrier.pending_count.b64 %d, %x1;"""
    )
    assert sorted(run(hopper, body, 32)) == list(range(1, 33))


BULK = """setp.ne.u32 %p3, %i, 0; @%p3 bra WAIT;
  mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], {bytes};
  mov.u32 %r1, tile; mov.u32 %r2, {bytes}; mov.u32 %r3, bar;
  cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1+16], [%in+32], %r2, [%r3];
  WAIT: mbarrier.try_wait.parity.shared.b64 %p1, [bar], 0; @!%p1 bra WAIT;
  mov.u32 %r1, tile; mad.lo.u32 %r2, %i, 4, %r1; ld.shared.u32 %d, [%r2];"""


def test_one_thread_copies_for_all(hopper: Device) -> None:
    values = np.arange(1000, 1128, dtype=np.uint32)
    body = "mov.u32 %r1, tile; mad.lo.u32 %r2, %i, 4, %r1; st.shared.u32 [%r2], 7;"
    got = run(hopper, body + INIT.format(1) + BULK.format(bytes=336), 96, values)
    assert got == [7] * 4 + list(range(1008, 1092)) + [7] * 8


def test_shared_memory_is_copied_back(hopper: Device) -> None:
    """Thread 40 copies what all have written over the input, from which they read."""
    body = """mov.u32 %r1, tile; mad.lo.u32 %r2, %i, 4, %r1; st.shared.u32 [%r2], %i; bar.sync 0;
      fence.proxy.async.shared::cta; setp.eq.u32 %p3, %i, 40; @!%p3 bra READ;
      cp.async.bulk.global.shared::cta.bulk_group [%in+16], [%r1], 128;
      cp.async.bulk.commit_group; cp.async.bulk.wait_group.read 0;
      READ: bar.sync 0; mad.wide.u32 %x1, %i, 4, %in; ld.global.u32 %d, [%x1];"""
    got = run(hopper, body, 64, np.full(64, 99, np.uint32))
    assert got == [99] * 4 + list(range(32)) + [99] * 28


def test_a_bulk_copy_beyond_shared_memory_is_a_fault(hopper: Device) -> None:
    with pytest.raises(DeviceFault, match="illegal address"):
        run(hopper, INIT.format(1) + BULK.format(bytes=4096), 32, np.zeros(2048, np.uint32))
