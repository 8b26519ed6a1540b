"""Graphs of a channel: reads the nodes that the guest describes and has the executor build them.

A node is an ordinary command. Its handler is called once, when the graph is built, with a stream
that records; what the handler asks of the executor then happens at each launch of the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from vgpu_host.decode import HEADER_BYTES, Decoder
from vgpu_host.executors.base import CudaError, Graph, GraphOperation, Stream
from vgpu_host.registrations import Registration
from vgpu_stub.abi import generated as abi

_INVALID_VALUE: Final = 1
_NOT_SUPPORTED: Final = 801
_NODE: Final = abi.GRAPH_NODE

#: Commands with a stream that cannot be nodes: the bytes of an inline copy are gone at the launch,
#: the others wait, take away, or are graphs themselves.
_NEVER_NODES: Final = frozenset(
    (
        abi.Opcode.COPY_INLINE,
        abi.Opcode.STREAM_DESTROY,
        abi.Opcode.STREAM_SYNCHRONIZE,
        abi.Opcode.STREAM_QUERY,
        abi.Opcode.GRAPH_LAUNCH,
        abi.Opcode.GRAPH_UPLOAD,
    )
)


class GraphNode(NamedTuple):
    """A node as the guest described it: earlier nodes that it waits for, and a command."""

    dependencies: tuple[int, ...]
    opcode: int
    command: bytes


@dataclass
class ChannelGraph:
    """An executable graph of the guest.

    Attributes:
        graph: The executor's.
        nodes: Number of nodes.
        kernels: Kernel launches among them.
        bytes_to_device: Bytes that a launch copies to the device.
        bytes_to_host: Bytes that a launch copies to the host.
        registrations: Guest memory that it copies from and to, by id.
    """

    graph: Graph
    nodes: int
    kernels: int
    bytes_to_device: int
    bytes_to_host: int
    registrations: dict[int, Registration]


def read_nodes(description: bytes, count: int) -> list[GraphNode]:
    """Take apart the nodes of GRAPH_INSTANTIATE (`struct vgpu_graph_node`).

    Raises:
        CudaError: They are not `count` well-formed nodes in an order that can run.
    """
    nodes: list[GraphNode] = []
    offset = 0
    while len(nodes) < count:
        if offset + _NODE.size > len(description):
            raise CudaError(_INVALID_VALUE, f"node {len(nodes)} of {count} is missing")
        dependency_count, command_bytes = _NODE.unpack_from(description, offset)
        offset += _NODE.size
        start = _aligned(offset + 4 * dependency_count)
        end = start + command_bytes
        if end > len(description) or command_bytes < HEADER_BYTES:
            raise CudaError(_INVALID_VALUE, f"node {len(nodes)}: {command_bytes} bytes of command")
        dependencies = memoryview(description)[offset : offset + 4 * dependency_count].cast("I")
        if any(dependency >= len(nodes) for dependency in dependencies):
            raise CudaError(_INVALID_VALUE, f"node {len(nodes)} waits for a later one")
        command = description[start:end]
        opcode = abi.COMMAND_HEADER.unpack_from(command)[0]
        nodes.append(GraphNode(tuple(dependencies), opcode, command))
        offset = _aligned(end)
    return nodes


def _aligned(offset: int) -> int:
    return (offset + 7) & ~7


def operation(
    node: GraphNode, decoders: dict[int, Decoder], name_stream: Callable[[Stream], int]
) -> GraphOperation:
    """What an executor builds of a node; `name_stream` gives a handler its stream's handle.

    Raises:
        CudaError: The command cannot be a node.
    """
    decoder = decoders.get(node.opcode)
    if node.opcode == abi.Opcode.NOP:
        return GraphOperation(node.dependencies, _nothing)
    if decoder is None or decoder.stream_place is None or node.opcode in _NEVER_NODES:
        raise CudaError(_NOT_SUPPORTED, f"command 0x{node.opcode:x} cannot be part of a graph")
    fields = list(decoder.unpack(node.command, HEADER_BYTES))
    arguments: list[int | bytes] = [*fields]
    if decoder.tail_start:
        tail_end = decoder.tail_start + fields[-1]
        if tail_end > len(node.command):
            raise CudaError(_INVALID_VALUE, f"{fields[-1]} bytes do not fit the command")
        arguments.append(node.command[decoder.tail_start : tail_end])
    place, handler = decoder.stream_place, decoder.handler

    def queue(stream: Stream) -> None:
        handler(*arguments[:place], name_stream(stream), *arguments[place + 1 :])

    return GraphOperation(node.dependencies, queue)


def _nothing(stream: Stream) -> None:
    """An empty node only joins what it waits for."""
