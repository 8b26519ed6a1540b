"""Commands of graphs: each node is a command too, recorded instead of carried out."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Final

from vgpu_host.executors.base import CudaError, Graph, GraphOperation, Stream
from vgpu_host.graphs import ChannelGraph, operation, read_nodes
from vgpu_host.session_contexts import INVALID_VALUE, SessionContexts, find
from vgpu_stub.abi import generated as abi

_MAX_GRAPH_BYTES: Final = 1 << 28
_LAUNCHES: Final = frozenset((abi.Opcode.LAUNCH_KERNEL, abi.Opcode.LAUNCH_COOPERATIVE))


class SessionGraphs(SessionContexts):
    """The part of a session that builds and launches graphs."""

    def graph_instantiate(
        self, offset: int, size: int, registration: int, nodes: int
    ) -> abi.Results:
        """GRAPH_INSTANTIATE."""
        state = self._current
        made = self._build_graph(
            offset, size, registration, nodes, self._executor.graph_instantiate
        )
        handle = self._new_handle()
        state.graphs[handle] = made
        return (handle,)

    def graph_update(
        self, offset: int, size: int, registration: int, nodes: int, graph: int, reserved: int
    ) -> None:
        """GRAPH_UPDATE."""
        graphs = self._current.graphs
        updated = find(graphs, graph, "graph").graph

        def build(operations: Sequence[GraphOperation]) -> Graph:
            self._executor.graph_update(updated, operations)
            return updated

        graphs[graph] = self._build_graph(offset, size, registration, nodes, build)

    def _build_graph(
        self,
        offset: int,
        size: int,
        registration: int,
        nodes: int,
        build: Callable[[Sequence[GraphOperation]], Graph],
    ) -> ChannelGraph:
        if size > _MAX_GRAPH_BYTES:
            raise CudaError(INVALID_VALUE, f"a graph of {size} bytes")
        address = self._host(registration, offset, size, abi.REGISTER_READ)
        described = read_nodes(ctypes.string_at(address, size), nodes)
        streams = self._current.streams
        handle = self._new_handle()

        def name_stream(stream: Stream) -> int:
            streams[handle] = stream
            return handle

        counted = self.bytes_to_device, self.bytes_to_host
        used = self._graph_registrations = {}
        try:
            graph = build([operation(node, self.decoders, name_stream) for node in described])
            to_device = self.bytes_to_device - counted[0]
            to_host = self.bytes_to_host - counted[1]
        finally:
            # Nothing was copied yet: that is counted at each launch.
            self.bytes_to_device, self.bytes_to_host = counted
            self._graph_registrations = None
            streams.pop(handle, None)
        kernels = sum(node.opcode in _LAUNCHES for node in described)
        return ChannelGraph(graph, nodes, kernels, to_device, to_host, used)

    def graph_launch(self, graph: int, stream: int) -> None:
        """GRAPH_LAUNCH."""
        state = self._current
        found = find(state.graphs, graph, "graph")
        target = find(state.streams, stream, "stream")
        for number, registration in found.registrations.items():
            if not self._registrations.holds(number, registration):
                raise CudaError(INVALID_VALUE, f"the graph uses registration {number}, now gone")
        self._executor.graph_launch(found.graph, target)
        self.graph_nodes += found.nodes
        self.graph_kernels += found.kernels
        self.bytes_to_device += found.bytes_to_device
        self.bytes_to_host += found.bytes_to_host

    def graph_upload(self, graph: int, stream: int) -> None:
        """GRAPH_UPLOAD."""
        state = self._current
        found = find(state.graphs, graph, "graph")
        self._executor.graph_upload(found.graph, find(state.streams, stream, "stream"))

    def graph_destroy(self, graph: int, reserved: int) -> None:
        """GRAPH_DESTROY."""
        graphs = self._current.graphs
        self._executor.graph_destroy(find(graphs, graph, "graph").graph)
        del graphs[graph]
