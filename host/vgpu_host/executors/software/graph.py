"""Streams of the software GPU and the graphs that are recorded from them.

A stream that records keeps what is queued on it instead of carrying it out; a graph is the list of
that, carried out in order at each launch. `queued` marks the methods that queue work: it is the one
place where recording happens.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import TypeVar, cast

from vgpu_host.executors.base import GraphOperation

M = TypeVar("M", bound=Callable[..., None])

_Operation = Callable[[], None]


@dataclass(eq=False)
class SoftwareStream:
    """A name; with a list in `recording` it keeps what is queued."""

    alive: bool = True
    recording: list[_Operation] | None = None


@dataclass(eq=False)
class SoftwareGraph:
    """Operations in an order that honours their dependencies."""

    operations: list[_Operation] = field(default_factory=list)


def record(operations: Sequence[GraphOperation]) -> list[_Operation]:
    """Queue the operations of a graph on a stream that records them."""
    recorded: list[_Operation] = []
    stream = SoftwareStream(recording=recorded)
    for operation in operations:
        operation.queue(stream)
    return recorded


def queued(method: M) -> M:
    """Mark a method of the executor that queues work on its argument `stream`, passed by place."""
    place = list(inspect.signature(method).parameters).index("stream")

    @wraps(method)
    def queue(*arguments: object) -> None:
        stream = arguments[place]
        if not isinstance(stream, SoftwareStream) or stream.recording is None:
            method(*arguments)
            return
        # At a launch the order of the graph is that of the stream it is launched in.
        replayed = (*arguments[:place], None, *arguments[place + 1 :])
        stream.recording.append(lambda: method(*replayed))

    return cast(M, queue)
