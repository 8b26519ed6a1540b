"""Faults of a device's signals: interrupts and doorbells that are lost, late, or too many.

Interrupts of channels are signalled by their workers, whose faults are in
`vgpu_host.injection.interrupts`; those here are the device's own, vector 0 above all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from vgpu_stub.device.delays import Delays
from vgpu_stub.device.faults import DeviceFaults
from vgpu_stub.faults import Point

#: A storm that has lost its rule ends within this time, in seconds.
_LOOK_S = 0.2


class FaultySignals:
    """The way of a device's signals while there are faults for them."""

    def __init__(self, faults: DeviceFaults, delays: Delays) -> None:
        """`delays` carries out what is late."""
        self._faults = faults
        self._delays = delays

    def interrupt(self, vector: int, signal: Callable[[int], None]) -> None:
        """A vector is due: `signal` signals it."""
        channel = 0 if vector == 0 else None
        rule = self._faults.fires(Point.INTERRUPT, channel=channel, vector=vector)
        if rule is None:
            signal(vector)
        elif rule.kind == "msix-late":
            self._delays.later(float(rule.parameters["delay_ms"]), lambda: signal(vector))
        elif rule.kind == "msix-duplicate":
            for _ in range(1 + int(rule.parameters["count"])):
                signal(vector)

    def doorbell(self, channel: int, ring: Callable[[int], None]) -> None:
        """A doorbell was rung: `ring` wakes who waits for it."""
        rule = self._faults.fires(Point.DOORBELL, channel=channel)
        if rule is None:
            ring(channel)
        elif rule.kind == "doorbell-late":
            self._delays.later(float(rule.parameters["delay_ms"]), lambda: ring(channel))


class InterruptStorm:
    """Interrupts that nobody is due, from a thread that runs while there is a rule for them."""

    def __init__(self, faults: DeviceFaults, signal: Callable[[int], None]) -> None:
        """`signal` signals a vector."""
        self._faults = faults
        self._signal = signal
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def rules_changed(self) -> None:
        """Start or end it, as rules are there."""
        running = self._thread is not None and self._thread.is_alive()
        if self._faults.has_rules(Point.STORM) and not running:
            self._thread = threading.Thread(target=self._run, name="vgpu-storm", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End it."""
        self._stop.set()
        if self._thread:
            self._thread.join()

    def _run(self) -> None:
        period_s = _LOOK_S
        while not self._stop.wait(period_s) and self._faults.has_rules(Point.STORM):
            rule = self._faults.fires(Point.STORM)
            period_s = min(_LOOK_S, 1 / float(rule.parameters["rate_hz"])) if rule else _LOOK_S
            if rule:
                self._signal(int(rule.parameters["vector"]))
