"""Laws of what the fuzzers go through, for any input that Hypothesis thinks of."""

from __future__ import annotations

import mmap
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vgpu_host.executors.base import CudaError
from vgpu_host.fat_binary import FatBinaryError, read_fat_binaries
from vgpu_host.graphs import read_nodes
from vgpu_host.link_parts import read_link_parts
from vgpu_stub.abi import generated as abi
from vgpu_stub.device.rings import CompletionQueue, ControlPage, RingError, SubmissionQueue
from vgpu_stub.fuzz.messages import Messages
from vgpu_stub.fuzz.operations import from_json, to_json
from vgpu_stub.fuzz.ring_operations import Command, pack_command, pack_nodes, pack_parts
from vgpu_stub.fuzz.rings import Rings
from vgpu_stub.fuzz.target import Target
from vgpu_stub.vfio_user.errors import ProtocolError
from vgpu_stub.vfio_user.messages import (
    DmaMapRequest,
    IrqSet,
    RegionWrite,
    pack_write_multi,
    unpack_write_multi,
)
from vgpu_stub.vfio_user.version import Version

U64 = st.integers(0, (1 << 64) - 1)
U32 = st.integers(0, (1 << 32) - 1)


def queues() -> tuple[mmap.mmap, ControlPage, SubmissionQueue]:
    memory = mmap.mmap(-1, abi.CHANNEL_STRIDE)
    control = ControlPage(memory, 0)
    return memory, control, SubmissionQueue(memory, 0, control)


@given(head=U64, ahead=st.integers(0, abi.SQ_ENTRIES))
def test_tail_up_to_a_ring_ahead_is_work_wherever_the_indexes_are(head: int, ahead: int) -> None:
    _, control, submissions = queues()
    submissions.head = head
    control.words64[control.sq_tail_index] = (head + ahead) % (1 << 64)
    assert submissions.available() == ahead


@given(head=U64, ahead=st.integers(abi.SQ_ENTRIES + 1, (1 << 64) - 1))
def test_any_other_tail_is_impossible(head: int, ahead: int) -> None:
    _, control, submissions = queues()
    submissions.head = head
    control.words64[control.sq_tail_index] = (head + ahead) % (1 << 64)
    with pytest.raises(RingError):
        submissions.available()


@given(lengths=st.lists(st.integers(1, abi.COMMAND_MAX_SLOTS), min_size=1, max_size=8))
def test_commands_come_out_as_they_were_put_in_across_the_end(lengths: list[int]) -> None:
    memory, control, submissions = queues()
    tail = 0
    for sequence, length in enumerate(lengths, 1):
        room = abi.SQ_ENTRIES - tail % abi.SQ_ENTRIES
        for number, slots in ((0, room if length > room else 0), (sequence, length)):
            while slots:
                part = min(slots, abi.COMMAND_MAX_SLOTS)
                place = abi.SQ_OFFSET + tail % abi.SQ_ENTRIES * abi.SLOT_BYTES
                memory[place : place + 16] = abi.COMMAND_HEADER.pack(0, part, 0, 0, number)
                tail, slots = tail + part, slots - part
        control.words64[control.sq_tail_index] = tail
        taken = [(command[3], len(command[4])) for command in submissions.batch(99) if command[3]]
        assert taken == [(sequence, length * abi.SLOT_BYTES)]


@given(header=st.binary(min_size=16, max_size=16), available=st.integers(1, abi.SQ_ENTRIES))
def test_any_header_is_a_command_or_an_impossible_ring(header: bytes, available: int) -> None:
    memory, control, submissions = queues()
    memory[abi.SQ_OFFSET : abi.SQ_OFFSET + 16] = header
    control.words64[control.sq_tail_index] = available
    slots = int.from_bytes(header[2:4], "little")
    if 0 < slots <= min(available, abi.COMMAND_MAX_SLOTS):
        ((*_, command),) = submissions.batch(1)
        assert len(command) == slots * abi.SLOT_BYTES
        assert submissions.head == slots
    else:
        with pytest.raises(RingError):
            list(submissions.batch(1))


@given(
    rounds=st.lists(
        st.tuples(st.integers(0, 1500), st.integers(0, 1500)), min_size=1, max_size=6
    )
)  # fmt: skip
@settings(deadline=None)
def test_every_completion_comes_once_and_in_order(rounds: list[tuple[int, int]]) -> None:
    memory = mmap.mmap(-1, abi.CHANNEL_STRIDE)
    control = ControlPage(memory, 0)
    completions = CompletionQueue(memory, 0, control, lambda: None)
    posted = taken = 0
    for post, take in [*rounds, (0, 9999), (0, 9999), (0, 9999), (0, 9999), (0, 9999), (0, 9999)]:
        for _ in range(post):
            posted += 1
            completions.post(posted, 0, 0)
        completions.flush()
        tail = control.words64[control.cq_tail_index]
        assert tail - taken <= abi.CQ_ENTRIES
        for index in range(taken, min(tail, taken + take)):
            place = abi.CQ_OFFSET + index % abi.CQ_ENTRIES * 64
            taken += 1
            assert abi.COMPLETION.unpack_from(memory, place)[0] == taken
        control.words64[control.cq_head_index] = taken
    completions.flush()
    assert completions.held == max(0, posted - taken - abi.CQ_ENTRIES)


@given(st.binary(max_size=200))
def test_bytes_are_messages_or_break_the_protocol(body: bytes) -> None:
    for unpack in (DmaMapRequest.unpack, IrqSet.unpack, unpack_write_multi, Version.unpack):
        try:
            unpack(body)
        except ProtocolError:
            continue


@given(st.lists(st.builds(RegionWrite, U32, U64, st.binary(max_size=8)), max_size=20))
def test_writes_survive_their_message(writes: list[RegionWrite]) -> None:
    assert unpack_write_multi(pack_write_multi(writes)) == writes


@given(st.binary(max_size=300))
def test_bytes_are_parts_or_refused(data: bytes) -> None:
    for read in (read_link_parts, lambda found: read_nodes(found, 3)):
        try:
            read(data)
        except CudaError as error:
            assert error.result == 1


@given(st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=50)), max_size=5))
def test_parts_survive_their_description(parts: list[tuple[bytes, bytes]]) -> None:
    found = read_link_parts(pack_parts(parts))
    assert [part.image for part in found] == [image for _, image in parts]
    assert [part.name for part in found] == [n.decode(errors="replace") for n, _ in parts]


@given(opcode=st.sampled_from(sorted(abi.COMMANDS)), numbers=st.lists(U64, min_size=40))
def test_every_command_is_packed_as_its_layout_has_it(opcode: int, numbers: list[int]) -> None:
    layout = abi.COMMANDS[opcode]
    packed = pack_command(opcode, tuple(numbers), (), lambda value: 0)
    assert len(packed) == layout.fields.size


@given(st.lists(st.integers(0, 0xFFFF), max_size=6))
def test_nodes_survive_their_description(opcodes: list[int]) -> None:
    nodes = tuple(((), opcode, (), (b"tail",)) for opcode in opcodes)
    found = read_nodes(pack_nodes(nodes, lambda value: 0), len(nodes))
    assert [node.opcode for node in found] == opcodes


@given(container=st.binary(max_size=80), image=st.binary(max_size=200))
def test_bytes_behind_a_magic_number_are_images_or_damaged(container: bytes, image: bytes) -> None:
    try:
        for images in read_fat_binaries(b"\x50\xed\x55\xba" + container + image):
            for found in images:
                found.unpack()
    except FatBinaryError:
        pass


@pytest.mark.parametrize("target", [Messages(), Rings()])
@given(seed=U32)
@settings(max_examples=20, deadline=None)
def test_generated_sequences_survive_json(target: Target, seed: int) -> None:
    sequence = target.generate(random.Random(seed))
    assert from_json(to_json(sequence), target.kinds) == sequence


def test_reference_means_what_was_made_there() -> None:
    made = Command(0x21, (("memory", 4, 8),))
    values = {("memory", 4, 8): 0x1008}
    packed = pack_command(made.opcode, made.values, (), lambda value: values[value])  # type: ignore[index]
    assert packed == (0x1008).to_bytes(8, "little")
