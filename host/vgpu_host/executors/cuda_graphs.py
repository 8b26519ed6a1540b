"""Graphs of the physical GPU: queues operations on a stream that captures, and keeps what came.

Before each operation the stream's dependencies are set to the nodes that earlier operations became
(cuStreamUpdateCaptureDependencies), so any graph can be built with one stream and any operation
that can be captured, whatever nodes it becomes. The capture is relaxed: it begins and ends within
one call, on the worker's only thread; the rules of captures are the guest's to check.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from vgpu_host.executors.base import CudaError, GraphOperation

_STREAM_NON_BLOCKING: Final = 1
_UPDATE_FAILURE: Final = 910

#: Calls a function of cuda.bindings by name; returns its results, raises CudaError.
Call = Callable[..., Any]


@dataclass(eq=False)
class CudaGraph:
    """An executable graph (CUgraphExec)."""

    handle: Any


class GraphBuilder:
    """Builds graphs in one context."""

    def __init__(self, driver: Any, call: Call) -> None:
        """Make the stream that captures; the context has to be current, here and later.

        Args:
            driver: The module cuda.bindings.driver.
            call: Calls its functions.
        """
        self._driver = driver
        self._call = call
        #: Operations are queued on it while a graph is built.
        self.stream = call("cuStreamCreate", _STREAM_NON_BLOCKING)

    def instantiate(self, operations: Sequence[GraphOperation]) -> CudaGraph:
        """Make an executable graph."""
        graph = self._capture(operations)
        try:
            return CudaGraph(self._call("cuGraphInstantiate", graph, 0))
        finally:
            self._call("cuGraphDestroy", graph)

    def update(self, made: CudaGraph, operations: Sequence[GraphOperation]) -> None:
        """Replace the operations of an executable graph; it is made anew where CUDA has to."""
        graph = self._capture(operations)
        try:
            try:
                self._call("cuGraphExecUpdate", made.handle, graph)
            except CudaError as error:
                if error.result != _UPDATE_FAILURE:
                    raise
                replaced = made.handle
                made.handle = self._call("cuGraphInstantiate", graph, 0)
                # A launch that is under way goes on to its end.
                self._call("cuGraphExecDestroy", replaced)
        finally:
            self._call("cuGraphDestroy", graph)

    def _capture(self, operations: Sequence[GraphOperation]) -> Any:
        """The operations as a CUgraph."""
        mode = self._driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        self._call("cuStreamBeginCapture", self.stream, mode)
        try:
            self._queue(operations)
        except BaseException:
            # Ends the capture, which an error may have invalidated, and drops what it holds.
            _, graph = self._driver.cuStreamEndCapture(self.stream)
            if graph is not None and int(graph):
                self._driver.cuGraphDestroy(graph)
            raise
        return self._call("cuStreamEndCapture", self.stream)

    def _queue(self, operations: Sequence[GraphOperation]) -> None:
        asked_for = _asked_for(operations)
        nodes: dict[int, list[Any]] = {}
        for place, operation in enumerate(operations):
            if operation.dependencies != _chained(place):
                self._depend_on([node for p in operation.dependencies for node in nodes[p]])
            operation.queue(self.stream)
            if place in asked_for:
                nodes[place] = self._latest()

    def _depend_on(self, nodes: list[Any]) -> None:
        flags = self._driver.CUstreamUpdateCaptureDependencies_flags
        replace = int(flags.CU_STREAM_SET_CAPTURE_DEPENDENCIES)
        name = "cuStreamUpdateCaptureDependencies"
        self._call(name, self.stream, nodes, None, len(nodes), replace)

    def _latest(self) -> list[Any]:
        """The nodes that the next operation would wait for: what the last one became."""
        _status, _id, _graph, nodes, _edges, count = self._call(
            "cuStreamGetCaptureInfo", self.stream
        )
        return list(nodes[:count])


def _chained(place: int) -> tuple[int, ...]:
    """Dependencies of an operation that the stream's own order gives it."""
    return (place - 1,) if place else ()


def _asked_for(operations: Sequence[GraphOperation]) -> set[int]:
    """Operations whose nodes are needed by name."""
    return {
        dependency
        for place, operation in enumerate(operations)
        if operation.dependencies != _chained(place)
        for dependency in operation.dependencies
    }
