"""Metrics of running device servers for Prometheus, by the names that docs/metrics.md lists.

A scrape takes snapshots, as a look of the monitor does; between scrapes nothing runs. Counters of
channels that have ended are given as long as their server remembers them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vgpu_stub.monitor.source import Source

_CHANNEL: Final = ("server", "device", "channel", "process", "guest_pid", "worker_pid")

Snapshot = Mapping[str, Any]
#: Values of one thing, each with the values of the labels beyond those of the thing.
Values = Iterable[tuple[tuple[str, ...], float]]


@dataclass(frozen=True)
class Described:
    """A metric: what it is of, and how it is read from a snapshot.

    Attributes:
        name: Without the ending `_total` of counters.
        text: One line for people.
        counter: Whether it only grows.
        labels: Beyond those of a channel, a device or a server.
        read: Values in a snapshot of that thing.
    """

    name: str
    text: str
    counter: bool
    labels: tuple[str, ...]
    read: Callable[[Snapshot], Values]


def _one(part: str, name: str, scale: float = 1.0) -> Callable[[Snapshot], Values]:
    return lambda row: [((), row[part][name] * scale)]


CHANNEL_METRICS: Final = (
    Described(
        "vgpu_commands",
        "Commands carried out, by kind",
        True,
        ("command",),
        lambda row: [((kind,), count) for kind, count in row["commands"].items()],
    ),
    Described(
        "vgpu_transferred_bytes",
        "Bytes copied between guest and device",
        True,
        ("direction",),
        lambda row: [
            (("to_device",), row["host"]["bytes_to_device"]),
            (("to_host",), row["host"]["bytes_to_host"]),
        ],
    ),
    Described("vgpu_errors", "Commands that failed", True, (), _one("host", "errors")),
    Described(
        "vgpu_last_error",
        "CUresult of the last command that failed, 0 for none",
        False,
        (),
        _one("host", "last_error"),
    ),
    Described(
        "vgpu_busy_seconds",
        "Time in which the worker carried out commands",
        True,
        (),
        _one("host", "busy_ns", 1e-9),
    ),
    Described(
        "vgpu_interrupts", "Interrupts signalled to the guest", True, (), _one("host", "interrupts")
    ),
    Described(
        "vgpu_worker_sleeps", "Times the worker went to sleep", True, (), _one("host", "sleeps")
    ),
    Described(
        "vgpu_doorbells",
        "Doorbells of the guest, each a trapped write",
        True,
        (),
        _one("guest", "doorbells"),
    ),
    Described(
        "vgpu_guest_waits",
        "Sleeps of the guest, each a system call",
        True,
        (),
        _one("guest", "waits"),
    ),
    Described(
        "vgpu_graph_kernels",
        "Kernels that graph launches ran",
        True,
        (),
        _one("host", "graph_kernels"),
    ),
    Described(
        "vgpu_refused_calls",
        "Calls answered with CUDA_ERROR_NOT_SUPPORTED, by function",
        True,
        ("function",),
        lambda row: [((name,), count) for name, count in row["refused_functions"].items()],
    ),
    Described(
        "vgpu_ring_depth",
        "Submission slots that wait",
        False,
        (),
        _one("submission_ring", "depth"),
    ),
    Described(
        "vgpu_ring_high_water",
        "Most submission slots that the worker found waiting",
        False,
        (),
        _one("host", "ring_high_water"),
    ),
    Described("vgpu_memory_bytes", "Device memory held", False, (), _one("host", "memory_bytes")),
    Described(
        "vgpu_registered_bytes",
        "Guest memory that the channel may use",
        False,
        (),
        _one("host", "registered_bytes"),
    ),
    Described("vgpu_modules", "Modules loaded", False, (), _one("host", "modules")),
    Described(
        "vgpu_channel_state",
        "1 for the state in which the channel is",
        False,
        ("state",),
        lambda row: [((row["state"],), 1)],
    ),
)
"""Of each channel."""

DEVICE_METRICS: Final = (
    Described(
        "vgpu_register_accesses",
        "Accesses of registers, each a trap",
        True,
        (),
        lambda device: [((), device["register_accesses"])],
    ),
    Described(
        "vgpu_resets",
        "Resets of the device",
        True,
        (),
        lambda device: [((), device["reset_count"])],
    ),
    Described(
        "vgpu_connected",
        "1 while a client is connected",
        False,
        (),
        lambda device: [((), float(device["connected"]))],
    ),
)
"""Of each device."""

SERVER_METRICS: Final = (
    Described(
        "vgpu_server",
        "1 for each device server that runs",
        False,
        ("executor",),
        lambda server: [((server["executor"],), 1)],
    ),
    Described(
        "vgpu_fault_fired",
        "How often faults of a rule happened",
        True,
        ("rule",),
        lambda server: [((fault["text"],), fault["fired"]) for fault in server.get("faults", ())],
    ),
    Described(
        "vgpu_gpu_utilization_ratio",
        "Use of the device over the last second as its driver or server measures it",
        False,
        (),
        lambda server: [
            ((), server["measured"]["gpu_percent"] / 100)
            for _ in range("gpu_percent" in (server.get("measured") or {}))
        ],
    ),
)
"""Of each device server."""


class DeviceServers(Collector):
    """Collects from the device servers of this machine."""

    def __init__(self, source: Source) -> None:
        """Prepare; `source` takes the snapshots of a scrape."""
        self._source = source

    def collect(self) -> Iterator[Metric]:
        """Every metric, with a sample for each thing that has it."""
        servers = {folder.name: snapshot for folder, snapshot in self._source().items()}
        channels = [
            (_channel_labels(name, row), row)
            for name, server in servers.items()
            for row in _channels(server)
        ]
        devices = [
            ((name, device["name"]), device)
            for name, server in servers.items()
            for device in server["devices"]
        ]
        for metric in CHANNEL_METRICS:
            yield _family(metric, _CHANNEL, channels)
        for metric in DEVICE_METRICS:
            yield _family(metric, ("server", "device"), devices)
        for metric in SERVER_METRICS:
            yield _family(metric, ("server",), [((name,), each) for name, each in servers.items()])


def _channels(server: Snapshot) -> Iterator[Snapshot]:
    yield from server["ended_channels"]
    for device in server["devices"]:
        yield from device["channels"]


def _channel_labels(server: str, row: Snapshot) -> tuple[str, ...]:
    return (
        server,
        row["device"],
        str(row["channel"]),
        row["guest_process"],
        str(row["guest_pid"]),
        str(row["worker_pid"]),
    )


def _family(
    metric: Described, labels: tuple[str, ...], things: Iterable[tuple[tuple[str, ...], Snapshot]]
) -> Metric:
    kind = CounterMetricFamily if metric.counter else GaugeMetricFamily
    family = kind(metric.name, metric.text, labels=(*labels, *metric.labels))
    for known, thing in things:
        for more, value in metric.read(thing):
            family.add_metric([*known, *more], value)
    made: Metric = family
    return made
