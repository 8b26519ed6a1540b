"""Streams and events of a physical GPU: nothing blocks, whoever waits gets a poll."""

from __future__ import annotations

from typing import Any, Final

from vgpu_host.executors.base import Event, Poll, Stream
from vgpu_host.executors.cuda_contexts import CudaContexts

_NOT_READY: Final = 600
_STREAM_NON_BLOCKING: Final = 1
_EVENT_DISABLE_TIMING: Final = 2
_EVENT_RECORD_EXTERNAL: Final = 1


class CudaStreams(CudaContexts):
    """The part of the executor that orders work and waits for it."""

    def context_synchronize(self) -> Poll:
        """Events on the legacy stream, which waits for all blocking ones, and on the others."""
        streams = self._active().streams
        polls = [self.stream_synchronize(None)]
        polls += [self.stream_synchronize(self._driver.CUstream(handle)) for handle in streams]
        return lambda: all(poll() for poll in polls)

    def stream_create(self, flags: int, priority: int) -> Stream:
        """cuStreamCreateWithPriority."""
        streams = self._active().streams
        stream = self._call("cuStreamCreateWithPriority", flags, priority)
        if flags & _STREAM_NON_BLOCKING:
            streams.add(int(stream))
        return stream

    def stream_destroy(self, stream: Stream) -> None:
        """cuStreamDestroy."""
        self._active().streams.discard(int(stream))  # type: ignore[call-overload]  # a CUstream
        self._call("cuStreamDestroy", stream)

    def stream_synchronize(self, stream: Stream | None) -> Poll:
        """An event behind the work queued so far, unless the stream is idle already."""
        target = stream or self._null_stream
        if self.stream_query(target):
            return _done
        context = self._active()
        event = (
            context.events.pop()
            if context.events
            else self._call("cuEventCreate", _EVENT_DISABLE_TIMING)
        )
        self._call("cuEventRecord", event, target)

        def poll() -> bool:
            if not self.event_query(event):
                return False
            context.events.append(event)
            return True

        return _once(poll)

    def stream_query(self, stream: Stream | None) -> bool:
        """cuStreamQuery."""
        (error,) = self._driver.cuStreamQuery(stream or self._null_stream)
        return self._is_ready(error, "cuStreamQuery")

    def stream_wait_event(self, stream: Stream | None, event: Event, flags: int) -> None:
        """cuStreamWaitEvent."""
        self._call("cuStreamWaitEvent", stream or self._null_stream, event, flags)

    def event_create(self, flags: int) -> Event:
        """cuEventCreate."""
        event: Event = self._call("cuEventCreate", flags)
        return event

    def event_destroy(self, event: Event) -> None:
        """cuEventDestroy."""
        self._call("cuEventDestroy", event)

    def event_record(self, event: Event, stream: Stream | None) -> None:
        """cuEventRecord; while a graph is built, a node that records at each launch."""
        builder = self._active().graphs
        flags = _EVENT_RECORD_EXTERNAL if builder and stream is builder.stream else 0
        self._call("cuEventRecordWithFlags", event, stream or self._null_stream, flags)

    def event_query(self, event: Event) -> bool:
        """cuEventQuery."""
        (error,) = self._driver.cuEventQuery(event)
        return self._is_ready(error, "cuEventQuery")

    def event_synchronize(self, event: Event) -> Poll:
        """Polls the event."""
        return lambda: self.event_query(event)

    def event_elapsed_ms(self, start: Event, end: Event) -> float:
        """cuEventElapsedTime."""
        return float(self._call("cuEventElapsedTime", start, end))

    def _is_ready(self, error: Any, name: str) -> bool:
        if error == self._success:
            return True
        if int(error) == _NOT_READY:
            return False
        raise self._error(error, name)


def _done() -> bool:
    return True


def _once(poll: Poll) -> Poll:
    """A poll that is not asked again after it was true."""
    state = [False]

    def ask() -> bool:
        state[0] = state[0] or poll()
        return state[0]

    return ask
