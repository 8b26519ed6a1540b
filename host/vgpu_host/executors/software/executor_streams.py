"""Streams, events and graphs of the software GPU.

A launch returns when it has run, so a stream is a name, an event a time, a graph a list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Final

from vgpu_host.executors.base import CudaError, Event, Graph, GraphOperation, Poll, Stream

from .errors import CudaResult
from .executor_contexts import SoftwareContexts, done
from .graph import SoftwareGraph, SoftwareStream, queued, record

_EVENT_DISABLE_TIMING: Final = 2


@dataclass
class _Event:
    timing: bool
    recorded_ns: int | None = None


class SoftwareStreams(SoftwareContexts):
    """The part of the executor that orders work and takes times."""

    def stream_create(self, flags: int, priority: int) -> Stream:
        """Make a name."""
        self._context()
        if flags & ~1:
            raise CudaError(CudaResult.INVALID_VALUE, f"stream flags {flags}")
        return SoftwareStream()

    def stream_destroy(self, stream: Stream) -> None:
        """Forget a name."""
        self._ready(stream)
        assert isinstance(stream, SoftwareStream)
        stream.alive = False

    def stream_synchronize(self, stream: Stream | None) -> Poll:
        """Everything has run already."""
        self._ready(stream)
        return done

    def stream_query(self, stream: Stream | None) -> bool:
        """Everything has run already."""
        self._ready(stream)
        return True

    @queued
    def stream_wait_event(self, stream: Stream | None, event: Event, flags: int) -> None:
        """What was recorded has happened already."""
        self._ready(stream)

    def event_create(self, flags: int) -> Event:
        """Make an event."""
        self._context()
        if flags & ~7:
            raise CudaError(CudaResult.INVALID_VALUE, f"event flags {flags}")
        if flags & 4:
            raise CudaError(CudaResult.NOT_SUPPORTED, "events between processes")
        return _Event(timing=not flags & _EVENT_DISABLE_TIMING)

    def event_destroy(self, event: Event) -> None:
        """Forget an event."""
        self._context()

    @queued
    def event_record(self, event: Event, stream: Stream | None) -> None:
        """Take the time: all earlier work is done."""
        self._ready(stream)
        assert isinstance(event, _Event)
        event.recorded_ns = perf_counter_ns()

    def event_query(self, event: Event) -> bool:
        """What was recorded has happened already."""
        self._context()
        return True

    def event_synchronize(self, event: Event) -> Poll:
        """What was recorded has happened already."""
        self._context()
        return done

    def event_elapsed_ms(self, start: Event, end: Event) -> float:
        """Time between the two records."""
        self._context()
        assert isinstance(start, _Event)
        assert isinstance(end, _Event)
        if not start.timing or not end.timing:
            raise CudaError(CudaResult.INVALID_HANDLE, "an event was made without timing")
        if start.recorded_ns is None or end.recorded_ns is None:
            raise CudaError(CudaResult.INVALID_HANDLE, "an event was not recorded")
        return (end.recorded_ns - start.recorded_ns) / 1e6

    def graph_instantiate(self, operations: Sequence[GraphOperation]) -> Graph:
        """Record the operations."""
        self._context()
        return SoftwareGraph(record(operations))

    def graph_update(self, graph: Graph, operations: Sequence[GraphOperation]) -> None:
        """Record them anew."""
        self._context()
        assert isinstance(graph, SoftwareGraph)
        graph.operations = record(operations)

    def graph_launch(self, graph: Graph, stream: Stream | None) -> None:
        """Carry out the operations."""
        self._ready(stream)
        assert isinstance(graph, SoftwareGraph)
        for carry_out in graph.operations:
            carry_out()

    def graph_upload(self, graph: Graph, stream: Stream | None) -> None:
        """Nothing to prepare."""
        self._ready(stream)

    def graph_destroy(self, graph: Graph) -> None:
        """Forget a graph: no launch outlasts its call."""
