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
