"""The health of a device as monitors see it: what was measured, changed by injected faults.

ECC errors, high temperature and throttled clocks are states: they stay until their rule is cleared.
Events are history: the device counts them and keeps the last ones (docs/nvml.md).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.device.faults import DeviceFaults
from vgpu_stub.device.status import DeviceEvent, DeviceStatus
from vgpu_stub.faults import Point, Rule

#: nvmlEventType* bits of the events that faults report.
EVENT_SINGLE_BIT_ECC: Final = 0x1
EVENT_DOUBLE_BIT_ECC: Final = 0x2
EVENT_XID: Final = 0x8
EVENT_CLOCK: Final = 0x10
EVENT_TYPES: Final = EVENT_SINGLE_BIT_ECC | EVENT_DOUBLE_BIT_ECC | EVENT_XID | EVENT_CLOCK
#: The Xid error that NVIDIA's driver reports for an ECC error that could not be corrected.
XID_DOUBLE_BIT_ECC: Final = 48
#: nvmlClocksEventReason* bits by the words of rules.
_REASONS: Final = {
    "sw-power-cap": 0x4,
    "hw-slowdown": 0x8,
    "sw-thermal": 0x20,
    "hw-thermal": 0x40,
    "hw-power-brake": 0x80,
}
_ECC_COUNTERS: Final = tuple(
    f"ecc_{place}{since}_{result}"
    for place in ("", "memory_")
    for since in ("volatile", "aggregate")
    for result in ("corrected", "uncorrected")
)

#: Values by member of `struct vgpu_device_status`.
Values = dict[str, int]


class DeviceHealth:
    """What faults make of one device's measurements."""

    def __init__(self, faults: DeviceFaults, *, software: bool) -> None:
        """Start healthy.

        Args:
            faults: Rules of the device.
            software: Whether it is the software GPU, to which nothing but faults happens, so that
                its events are complete. Those of a physical GPU are not passed on.
        """
        self._faults = faults
        self._software = software
        self._events: deque[DeviceEvent] = deque(maxlen=abi.STATUS_EVENTS)
        self._event_count = 0
        #: Events that the measurements had when they were last looked at.
        self._measured_events = 0
        self._announced: set[int] = set()
        #: ECC errors by rule: single bit, double bit, and whether in device memory.
        self._errors: dict[int, tuple[str, int, bool]] = {}
        self._examiners: dict[str, Callable[[Rule, Values], None]] = {
            "ecc-single-bit": self._ecc,
            "ecc-double-bit": self._ecc,
            "xid": self._xid,
            "clocks-throttled": self._throttle,
            "temperature-high": self._heat,
        }

    def examine(self, status: DeviceStatus) -> DeviceStatus:
        """The status that the guest gets for a measurement."""
        values = dict(status.measured)
        self._take_over(status)
        rules = {rule.id for rule, _ in self._faults.injector.active_at(Point.STATUS)}
        if rules:
            for kind, examiner in self._examiners.items():
                rule = self._faults.fires(Point.STATUS, kind)
                if rule:
                    examiner(rule, values)
        self._announced &= rules
        self._errors = {number: e for number, e in self._errors.items() if number in rules}
        self._count_errors(values)
        return replace(
            status,
            measured=values,
            event_types=status.event_types | (EVENT_TYPES if self._software or rules else 0),
            event_count=self._event_count,
            events=tuple(self._events),
        )

    def _take_over(self, status: DeviceStatus) -> None:
        """Report what the measurements have reported since they were last looked at."""
        new = status.event_count - self._measured_events
        self._measured_events = status.event_count
        if new > 0:
            known = status.events[-new:]
            self._event_count += new - len(known)
            self._report(*known)

    def _report(self, *events: DeviceEvent) -> None:
        self._events.extend(events)
        self._event_count += len(events)

    def _ecc(self, rule: Rule, _values: Values) -> None:
        result = "corrected" if rule.kind == "ecc-single-bit" else "uncorrected"
        _, before, _ = self._errors.get(rule.id, ("", 0, False))
        count = before + int(rule.parameters["count"])
        self._errors[rule.id] = (result, count, rule.parameters["location"] == "device-memory")
        if result == "corrected":
            self._report(DeviceEvent(EVENT_SINGLE_BIT_ECC))
        else:
            self._report(
                DeviceEvent(EVENT_DOUBLE_BIT_ECC), DeviceEvent(EVENT_XID, XID_DOUBLE_BIT_ECC)
            )

    def _xid(self, rule: Rule, _values: Values) -> None:
        self._report(DeviceEvent(EVENT_XID, int(rule.parameters["code"])))

    def _throttle(self, rule: Rule, values: Values) -> None:
        mhz = int(rule.parameters["mhz"])
        for clock in ("clock_graphics_mhz", "clock_sm_mhz"):
            values[clock] = min(mhz, values.get(clock, mhz))
        for clock in ("clock_graphics_max_mhz", "clock_sm_max_mhz"):
            values.setdefault(clock, int(rule.parameters["max_mhz"]))
        reason = _REASONS[str(rule.parameters["reason"])]
        values["throttle_reasons"] = values.get("throttle_reasons", 0) | reason
        if rule.id not in self._announced:
            self._announced.add(rule.id)
            self._report(DeviceEvent(EVENT_CLOCK))

    def _heat(self, rule: Rule, values: Values) -> None:
        values["temperature_c"] = int(rule.parameters["celsius"])
        values.setdefault("temperature_slowdown_c", int(rule.parameters["slowdown_celsius"]))
        values.setdefault("temperature_shutdown_c", int(rule.parameters["shutdown_celsius"]))

    def _count_errors(self, values: Values) -> None:
        if not self._errors:
            return
        values["ecc_mode"] = values["ecc_mode_pending"] = 1
        for counter in _ECC_COUNTERS:
            values.setdefault(counter, 0)
        for result, count, in_memory in self._errors.values():
            for since in ("volatile", "aggregate"):
                values[f"ecc_{since}_{result}"] += count
                if in_memory:
                    values[f"ecc_memory_{since}_{result}"] += count
