"""Faults of completions as a guest sees them in its ring."""

from __future__ import annotations

from time import monotonic

import pytest

from vgpu_stub.abi.generated import Opcode
from vgpu_stub.driver import DriverError, GuestChannel
from vgpu_stub.harness.control import FaultControl

pytestmark = pytest.mark.device


def test_lost_completion_never_comes_and_later_ones_do(
    channel: GuestChannel, faults: FaultControl
) -> None:
    fault = faults.inject("completion-lost", opcode="NOP", nth=2)
    first, lost, third = (channel.submit(Opcode.NOP) for _ in range(3))
    assert channel.wait(third).status == 0
    assert channel.wait(first).status == 0
    with pytest.raises(DriverError):
        channel.wait(lost, 0.2)
    assert fault.wait_fired() == 1
    assert fault.seen == 3


def test_late_completion_is_overtaken(channel: GuestChannel, faults: FaultControl) -> None:
    faults.inject("completion-late", delay_ms=150)
    start = monotonic()
    late = channel.submit(Opcode.NOP)
    assert channel.wait(channel.submit(Opcode.NOP)).status == 0
    overtaken = monotonic() - start
    assert channel.wait(late).status == 0
    assert overtaken < 0.15 <= monotonic() - start


def test_duplicate_completion_is_an_entry_more(channel: GuestChannel, faults: FaultControl) -> None:
    faults.inject("completion-duplicate")
    sequences = [channel.submit(Opcode.NOP) for _ in range(2)]
    assert [channel.wait(sequence).status for sequence in sequences] == [0, 0]
    assert channel.completions_taken == 3


def test_wrong_sequence_is_of_no_command(channel: GuestChannel, faults: FaultControl) -> None:
    faults.inject("completion-wrong-sequence", add=1000)
    sequence = channel.submit(Opcode.NOP)
    assert channel.wait(sequence + 1000).status == 0
    with pytest.raises(DriverError):
        channel.wait(sequence, 0.1)


def test_reordered_completion_comes_behind_the_next(
    channel: GuestChannel, faults: FaultControl
) -> None:
    faults.inject("completion-reordered", opcode="NOP", delay_ms=5000)
    first, second = (channel.submit(Opcode.NOP) for _ in range(2))
    assert channel.wait(first).status == channel.wait(second).status == 0
    assert channel.sequences_taken == [second, first]


def test_reordered_completion_comes_even_when_no_other_follows(
    channel: GuestChannel, faults: FaultControl
) -> None:
    faults.inject("completion-reordered", delay_ms=20)
    assert channel.wait(channel.submit(Opcode.NOP)).status == 0


def test_torn_completion_is_published_before_it_is_written(
    channel: GuestChannel, faults: FaultControl
) -> None:
    faults.inject("completion-torn", delay_ms=100)
    torn = channel.submit(Opcode.NOP)
    empty = channel.wait(0)  # what the guest finds there: an entry that was never written
    assert (empty.status, empty.result) == (0, (0,) * 6)
    with pytest.raises(DriverError):
        channel.wait(torn, 0.3)
    assert channel.completions_taken == 1
    assert channel.entry(0).sequence == torn


def test_torn_completion_with_its_number_has_old_results(
    channel: GuestChannel, faults: FaultControl
) -> None:
    faults.inject("completion-torn", delay_ms=100, written="sequence")
    completion = channel.wait(channel.submit(Opcode.CONTEXT_CREATE, 0, 0))
    assert (completion.status, completion.result) == (0, (0,) * 6)
