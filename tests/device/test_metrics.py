"""`vgpu-stub metrics` over HTTP, beside a device server that a client uses."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from vgpu_host.executors.options import ExecutorOptions
from vgpu_stub.abi import generated as abi
from vgpu_stub.driver import GuestDriver
from vgpu_stub.harness.device_server import DeviceServer

pytestmark = pytest.mark.device

COMMAND = "from vgpu_stub.cli.main import app; app()"


@pytest.fixture
def url() -> Iterator[str]:
    arguments = [sys.executable, "-c", COMMAND, "metrics", "--port", "0"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process.stdout.readline().strip()
        process.terminate()


def test_a_scraper_reads_what_the_channel_did(url: str) -> None:
    options = ExecutorOptions("software", memory_bytes=64 << 20)
    with (
        DeviceServer(options, shared=True) as server,
        GuestDriver.connect(server.device_socket) as driver,
    ):
        channel = driver.open_channel(3, name="scraped")
        for _ in range(5):
            channel.call(abi.Opcode.NOP)
        request = urllib.request.Request(url, headers={"Accept": "application/openmetrics-text"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
            text = answer.read().decode()
        counts = {
            sample.labels["command"]: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "vgpu_commands_total"
            and sample.labels["server"] == server.folder.name
            and sample.labels["process"] == "scraped"
        }
    assert counts == {"NOP": 5}
