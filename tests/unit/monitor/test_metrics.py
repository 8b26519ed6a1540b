"""Metrics: names and labels that dashboards rely on, values of a snapshot, and their document."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from vgpu_stub.monitor.metrics import (
    CHANNEL_METRICS,
    DEVICE_METRICS,
    SERVER_METRICS,
    DeviceServers,
)

Make = Callable[..., dict[str, Any]]
DOCS = Path(__file__).resolve().parents[3] / "docs"
METRICS = (*CHANNEL_METRICS, *DEVICE_METRICS, *SERVER_METRICS)


@pytest.fixture
def samples(channel: Make, server: Make) -> dict[str, list[tuple[dict[str, str], float]]]:
    """What a scraper reads, by name of the sample."""
    refusing = channel(
        1, commands={"NOP": 4, "MEMSET": 2}, to_device=10, refused_functions={"cuArrayCreate_v2": 3}
    )
    ended = channel(2, commands={"NOP": 5}) | {"state": "ended"}
    snapshot = server(refusing, ended=[ended])
    snapshot["faults"] = [{"text": "completion-lost:nth=3", "fired": 1}]
    snapshot["measured"] = {"gpu_percent": 25}
    registry = CollectorRegistry()
    registry.register(DeviceServers(lambda: {Path("/run/vm"): snapshot}))
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def test_commands_are_counted_by_channel_and_kind(samples: Any) -> None:
    counts = {
        (labels["channel"], labels["command"]): value
        for labels, value in samples["vgpu_commands_total"]
    }
    assert counts == {("1", "NOP"): 4, ("1", "MEMSET"): 2, ("2", "NOP"): 5}


def test_labels_say_whose_channel_it_is(samples: Any) -> None:
    labels = next(labels for labels, _ in samples["vgpu_memory_bytes"] if labels["channel"] == "1")
    assert labels == {
        "server": "vm",
        "device": "gpu0",
        "channel": "1",
        "process": "python3",
        "guest_pid": "101",
        "worker_pid": "5001",
    }


def test_refused_calls_faults_and_use_are_named(samples: Any) -> None:
    assert samples["vgpu_refused_calls_total"][0][0]["function"] == "cuArrayCreate_v2"
    assert samples["vgpu_refused_calls_total"][0][1] == 3
    assert samples["vgpu_fault_fired_total"] == [
        ({"server": "vm", "rule": "completion-lost:nth=3"}, 1)
    ]
    assert samples["vgpu_gpu_utilization_ratio"] == [({"server": "vm"}, 0.25)]


def test_the_document_names_every_metric() -> None:
    text = (DOCS / "metrics.md").read_text()
    for metric in METRICS:
        name = metric.name + ("_total" if metric.counter else "")
        assert f"`{name}`" in text, name


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    dashboard = json.loads((DOCS / "grafana/vgpu-stub.json").read_text())
    known = {metric.name + ("_total" if metric.counter else "") for metric in METRICS}
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"vgpu_\w+", target["expr"])
    }
    assert asked
    assert asked <= known
