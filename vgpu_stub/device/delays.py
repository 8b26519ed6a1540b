"""What a device does later: timers that end with the device."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Delays:
    """Timers of one device; handlers must not wait, because QEMU gives up on who answers late."""

    def __init__(self, lock: threading.RLock) -> None:
        """`lock` is the device's; what is done later is done with it held."""
        self._lock = lock
        self._timers: set[threading.Timer] = set()
        self._closed = False

    def later(self, delay_ms: float, action: Callable[[], None]) -> None:
        """Call `action` with the device's lock held after so many milliseconds."""

        def due() -> None:
            with self._lock:
                self._timers.discard(timer)
                if not self._closed:
                    action()

        timer = threading.Timer(delay_ms / 1000, due)
        timer.daemon = True
        with self._lock:
            if not self._closed:
                self._timers.add(timer)
                timer.start()

    def close(self) -> None:
        """Forget what was to be done; nothing of it happens after this."""
        with self._lock:
            self._closed = True
            for timer in self._timers:
                timer.cancel()
            self._timers.clear()
