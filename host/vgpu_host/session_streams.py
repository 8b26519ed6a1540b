"""Commands of streams and events."""

from __future__ import annotations

import struct
from collections.abc import Callable

from vgpu_host.executors.base import CudaError
from vgpu_host.session_contexts import INVALID_HANDLE, NOT_READY, SessionContexts, find
from vgpu_stub.abi import generated as abi


class SessionStreams(SessionContexts):
    """The part of a session that has streams and events."""

    def stream_create(self, stream_flags: int, priority: int) -> abi.Results:
        """STREAM_CREATE."""
        state = self._current
        stream = self._executor.stream_create(stream_flags, priority)
        handle = self._new_handle()
        state.streams[handle] = stream
        return (handle,)

    def stream_destroy(self, stream: int, reserved: int) -> None:
        """STREAM_DESTROY."""
        state = self._current
        found = find(state.streams, stream, "stream")
        if found is None:
            raise CudaError(INVALID_HANDLE, "the default stream cannot be destroyed")
        del state.streams[stream]
        self._executor.stream_destroy(found)

    def stream_synchronize(self, stream: int, reserved: int) -> Callable[[], bool]:
        """STREAM_SYNCHRONIZE."""
        return self.wait_for_stream(stream)

    def stream_query(self, stream: int, reserved: int) -> None:
        """STREAM_QUERY."""
        if not self._executor.stream_query(find(self._current.streams, stream, "stream")):
            raise CudaError(NOT_READY, "the stream is busy")

    def stream_wait_event(self, stream: int, event: int, wait_flags: int, reserved: int) -> None:
        """STREAM_WAIT_EVENT."""
        target = find(self._current.streams, stream, "stream")
        found = find(self._current.events, event, "event")
        self._executor.stream_wait_event(target, found, wait_flags)

    def event_create(self, event_flags: int, reserved: int) -> abi.Results:
        """EVENT_CREATE."""
        state = self._current
        event = self._executor.event_create(event_flags)
        handle = self._new_handle()
        state.events[handle] = event
        return (handle,)

    def event_destroy(self, event: int, reserved: int) -> None:
        """EVENT_DESTROY."""
        state = self._current
        found = find(state.events, event, "event")
        del state.events[event]
        self._executor.event_destroy(found)

    def event_record(self, event: int, stream: int) -> None:
        """EVENT_RECORD."""
        found = find(self._current.events, event, "event")
        self._executor.event_record(found, find(self._current.streams, stream, "stream"))

    def event_query(self, event: int, reserved: int) -> None:
        """EVENT_QUERY."""
        if not self._executor.event_query(find(self._current.events, event, "event")):
            raise CudaError(NOT_READY, "the event has not happened")

    def event_synchronize(self, event: int, reserved: int) -> Callable[[], bool]:
        """EVENT_SYNCHRONIZE."""
        return self._executor.event_synchronize(find(self._current.events, event, "event"))

    def event_elapsed_time(self, start: int, end: int) -> abi.Results:
        """EVENT_ELAPSED_TIME."""
        events = self._current.events
        elapsed = self._executor.event_elapsed_ms(
            find(events, start, "event"), find(events, end, "event")
        )
        return (int.from_bytes(struct.pack("<f", elapsed), "little"),)
