"""A round trip through the rings in plain Python: no CUDA library takes part."""

import pytest
import vgpu_abi as abi
from vgpu_channel import Channel, eventually

UNUSED_OPCODE = abi.OPCODE_COUNT - 1
NOT_SUPPORTED = 801  # CUDA_ERROR_NOT_SUPPORTED
INVALID_CONTEXT = 201  # CUDA_ERROR_INVALID_CONTEXT


def test_a_nop_comes_back(channel):
    completion = channel.call(abi.Opcode.NOP)
    assert completion == (1, 0, 0, (0, 0, 0, 0, 0, 0))
    assert [channel.word(name) for name in ("sq_tail", "cq_tail", "cq_head")] == [1, 1, 1]


def test_the_device_gives_slots_back(channel):
    # It announces sq_head now and then, at the latest when it goes to sleep.
    for _ in range(3):
        channel.call(abi.Opcode.NOP)
    eventually(lambda: channel.word("sq_head") == 3, "the device gives 3 slots back")


def test_a_hundred_commands_complete_in_order(channel):
    assert [channel.call(abi.Opcode.NOP).sequence for _ in range(100)] == [*range(1, 101)]


def test_the_submission_ring_goes_round(channel):
    # Every 512th command asks for a completion, so that neither ring overflows.
    for number in range(1, abi.SQ_ENTRIES + 1025):
        if number % 512:
            channel.submit(abi.Opcode.NOP, flags=0)
        else:
            assert channel.call(abi.Opcode.NOP).sequence == number
    assert channel.word("sq_tail") == abi.SQ_ENTRIES + 1024
    assert channel.word("cq_tail") == (abi.SQ_ENTRIES + 1024) // 512


def test_a_command_without_the_flag_gets_no_completion(channel):
    channel.submit(abi.Opcode.NOP, flags=0)
    assert channel.call(abi.Opcode.NOP).sequence == 2
    assert channel.word("cq_tail") == 1


def test_an_unknown_opcode_is_refused_and_the_channel_goes_on(channel):
    sequence = channel._sequence + 1
    header = abi.COMMAND_HEADER.pack(UNUSED_OPCODE, 1, abi.COMMAND_COMPLETE, 0, sequence)
    channel.submit_raw(header)
    assert channel.next_completion()[:2] == (sequence, NOT_SUPPORTED)
    assert channel.call(abi.Opcode.NOP).status == 0


@pytest.mark.parametrize("slots", [0, abi.COMMAND_MAX_SLOTS + 1])
def test_an_impossible_length_fails_this_channel_alone(channel, attribute, slots):
    with Channel() as other:
        header = abi.COMMAND_HEADER.pack(abi.Opcode.NOP, slots, abi.COMMAND_COMPLETE, 0, 1)
        channel.submit_raw(header)
        eventually(
            lambda: channel.word("state") == abi.CHANNEL_FAILED, "the device fails the channel"
        )
        assert channel.word("error") != 0
        assert other.call(abi.Opcode.NOP).status == 0
    assert attribute("state") == "live"


def test_a_command_without_its_context_is_refused(channel):
    assert channel.call(abi.Opcode.MEMORY_ALLOCATE, 4096).status == INVALID_CONTEXT
