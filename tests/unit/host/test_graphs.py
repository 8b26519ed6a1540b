"""Graphs as the guest describes them: what is taken apart, and what is refused."""

from __future__ import annotations

import struct

import pytest

from vgpu_host.decode import Decoder
from vgpu_host.executors.base import CudaError
from vgpu_host.graphs import GraphNode, operation, read_nodes
from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.generated import Opcode

INVALID_VALUE = 1
NOT_SUPPORTED = 801


def command(opcode: int, fields: bytes = b"") -> bytes:
    return abi.COMMAND_HEADER.pack(opcode, 1, 0, 1, 0) + fields


def node(data: bytes, *dependencies: int) -> bytes:
    """A node in the form of `struct vgpu_graph_node`."""
    head = abi.GRAPH_NODE.pack(len(dependencies), len(data))
    head += struct.pack(f"<{len(dependencies)}I", *dependencies)
    head += bytes(-len(head) % 8)
    return head + data + bytes(-len(data) % 8)


MEMSET = command(Opcode.MEMSET, struct.pack("<QQIIII", 4096, 16, 7, 1, 99, 0))


def test_nodes_are_taken_apart() -> None:
    nop = command(Opcode.NOP)
    nodes = read_nodes(node(MEMSET) + node(nop, 0) + node(MEMSET, 0, 1), 3)
    assert nodes == [
        GraphNode((), Opcode.MEMSET, MEMSET),
        GraphNode((0,), Opcode.NOP, nop),
        GraphNode((0, 1), Opcode.MEMSET, MEMSET),
    ]
    assert read_nodes(b"", 0) == []


@pytest.mark.parametrize(
    ("description", "count"),
    [
        (b"", 1),
        (node(MEMSET), 2),
        (node(MEMSET)[:-1], 1),
        (node(MEMSET, 0), 1),
        (node(MEMSET) + node(MEMSET, 2), 2),
        (node(MEMSET[:8]), 1),
        (abi.GRAPH_NODE.pack(0xFFFF_FFFF, 56) + MEMSET, 1),
        (abi.GRAPH_NODE.pack(0, 0xFFFF_FFFF) + MEMSET, 1),
    ],
    ids=["none", "too few", "cut", "itself", "later", "no header", "dependencies", "command"],
)
def test_impossible_nodes_are_refused(description: bytes, count: int) -> None:
    with pytest.raises(CudaError) as error:
        read_nodes(description, count)
    assert error.value.result == INVALID_VALUE


class Calls:
    """Handlers that note their arguments."""

    def __init__(self) -> None:
        self.made: list[tuple[object, ...]] = []
        fill = abi.COMMANDS[Opcode.MEMSET].fields.unpack_from
        inline = abi.COMMANDS[Opcode.COPY_INLINE].fields
        launch = abi.COMMANDS[Opcode.LAUNCH_KERNEL].fields
        self.decoders = {
            int(Opcode.MEMSET): Decoder(self.note, fill, 0, 4),
            int(Opcode.COPY_INLINE): Decoder(self.note, inline.unpack_from, 16 + inline.size, 1),
            int(Opcode.LAUNCH_KERNEL): Decoder(self.note, launch.unpack_from, 16 + launch.size, 8),
            int(Opcode.MEMORY_FREE): Decoder(self.note, struct.Struct("<Q").unpack_from, 0, None),
        }

    def note(self, *arguments: object) -> None:
        self.made.append(arguments)


def test_handler_is_called_with_the_stream_that_records() -> None:
    calls = Calls()
    recorder = object()
    made = operation(GraphNode((3,), Opcode.MEMSET, MEMSET), calls.decoders, lambda stream: 5)
    assert calls.made == []
    made.queue(recorder)
    assert made.dependencies == (3,)
    assert calls.made == [(4096, 16, 7, 1, 5, 0)]


def test_tail_of_a_command_is_passed_on() -> None:
    calls = Calls()
    fields = struct.pack("<IIIIIIIIII", 8, 1, 1, 1, 32, 1, 1, 0, 99, 6)
    launch = GraphNode(
        (), Opcode.LAUNCH_KERNEL, command(Opcode.LAUNCH_KERNEL, fields + b"packed..")
    )
    operation(launch, calls.decoders, lambda stream: 5).queue(object())
    assert calls.made == [(8, 1, 1, 1, 32, 1, 1, 0, 5, 6, b"packed")]
    cut = GraphNode((), Opcode.LAUNCH_KERNEL, command(Opcode.LAUNCH_KERNEL, fields + b"pack"))
    with pytest.raises(CudaError, match="do not fit"):
        operation(cut, calls.decoders, lambda stream: 5)


@pytest.mark.parametrize(
    "opcode", [Opcode.COPY_INLINE, Opcode.MEMORY_FREE, Opcode.GRAPH_LAUNCH, 0xEE, 0x102]
)
def test_commands_that_cannot_be_nodes_are_refused(opcode: int) -> None:
    refused = GraphNode((), opcode, command(opcode, bytes(64)))
    with pytest.raises(CudaError) as error:
        operation(refused, Calls().decoders, lambda stream: 5)
    assert error.value.result == NOT_SUPPORTED


def test_empty_node_asks_for_nothing() -> None:
    calls = Calls()
    empty = operation(GraphNode((0,), Opcode.NOP, command(Opcode.NOP)), calls.decoders, id)
    empty.queue(object())
    assert calls.made == []
