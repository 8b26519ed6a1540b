"""Calls find their channel, their commands, and the offset of their clock."""

from __future__ import annotations

import json

from vgpu_stub.abi import generated as abi
from vgpu_stub.calltrace.call import TracedCall
from vgpu_stub.harness.timeline_calls import CallTrace, Offset, assign, lanes
from vgpu_stub.recording.reader import ChannelRecording
from vgpu_stub.recording.records import Kind, Record


def command(time_ns: int, sequence: int = 0, opcode: int = 0x50) -> Record:
    return Record(Kind.COMMAND, time_ns, abi.COMMAND_HEADER.pack(opcode, 1, 0, 1, sequence))


def answer(time_ns: int, sequence: int) -> Record:
    payload = bytearray(abi.COMPLETION.size)
    offset = abi.COMPLETION_OFFSETS["sequence"]
    payload[offset : offset + 8] = sequence.to_bytes(8, "little")
    return Record(Kind.COMPLETION, time_ns, bytes(payload))


def channel(*records: Record, pid: int = 7) -> ChannelRecording:
    return ChannelRecording(1, {"pid": pid}, list(records))


def a_call(
    begin_ns: int, end_ns: int, first: int, last: int, answered: int = 0, pid: int = 7
) -> TracedCall:
    span = begin_ns, end_ns - begin_ns
    return TracedCall(pid, pid, *span, "cuX", {}, 0, "CUDA_SUCCESS", "", first, last, answered)


def test_commands_are_numbered_without_the_rings_fillers() -> None:
    filler = command(150, opcode=abi.Opcode.NOP)
    trace = CallTrace(calls=[a_call(90, 300, 1, 2)])
    found, strangers, offset = assign(trace, {1: channel(command(100), filler, command(200))})
    assert [found[1].taken_ns(number) for number in (0, 1, 2, 3)] == [None, 100, 200, None]
    assert found[1].calls == trace.calls
    assert strangers == []
    assert offset == Offset(0, 0)


def test_of_a_channel_that_was_recorded_late_no_numbers_are_known() -> None:
    late = Record(Kind.NOTE, 1, json.dumps({"late": True}).encode())
    found, _, _ = assign(CallTrace(), {1: channel(late, command(100))})
    assert found[1].taken_ns(1) is None


def test_calls_without_one_channel_of_their_own_are_strangers() -> None:
    twice, nobody = a_call(1, 2, 1, 1, pid=7), a_call(1, 2, 0, 0, pid=8)
    channels = {1: channel(command(100)), 2: channel(command(200))}
    _, strangers, _ = assign(CallTrace(calls=[twice, nobody]), channels)
    assert strangers == [twice, nobody]


def test_the_clocks_offset_lies_between_what_calls_and_answers_allow() -> None:
    # The guest's clock shows 1000 less. A call that waits was taken 10 ns after it began, and
    # returned 30 ns after its answer; another tells less.
    records = [
        *(command(1100, 1), answer(1150, 1)),
        *(command(1300, 2), answer(1310, 2)),
    ]
    calls = [a_call(90, 180, 1, 1, 1), a_call(200, 500, 2, 2, 2)]
    _, _, offset = assign(CallTrace(same_clock=False, calls=calls), {1: channel(*records)})
    # From 1150 - 180 to 1100 - 90.
    assert offset == Offset(990, 20)


def test_an_answer_that_nobody_waited_for_tells_nothing() -> None:
    records = [command(1100, 1), answer(5000, 1)]
    trace = CallTrace(same_clock=False, calls=[a_call(90, 180, 1, 1)])
    assert assign(trace, {1: channel(*records)})[2] is None


def test_threads_have_lanes_in_the_order_of_their_first_calls() -> None:
    late = TracedCall(7, 9, 20, 1, "cuX", {}, 0, "CUDA_SUCCESS")
    early = TracedCall(7, 8, 10, 1, "cuX", {}, 0, "CUDA_SUCCESS")
    assert lanes([late, early]) == {8: 0, 9: 1}
