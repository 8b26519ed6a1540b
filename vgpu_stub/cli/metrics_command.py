"""`vgpu-stub metrics`: metrics of running device servers, for Prometheus or printed once."""

from __future__ import annotations

import sys
import threading
from typing import Annotated

import typer
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.openmetrics.exposition import generate_latest

from vgpu_stub.monitor.metrics import DeviceServers
from vgpu_stub.monitor.source import take_snapshots

DEFAULT_PORT = 9464


def metrics_command(
    server: Annotated[
        str | None,
        typer.Argument(metavar="[SERVER]", help="Name or folder of one server; all without it."),
    ] = None,
    address: Annotated[
        str, typer.Option(help="Where to listen; other machines see only what is not loopback.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = DEFAULT_PORT,
    once: Annotated[bool, typer.Option("--once", help="Print the metrics and end.")] = False,
) -> None:
    """Serve metrics of running devices over HTTP, in OpenMetrics where the scraper takes it.

    Servers that start later are found at the next scrape; between scrapes nothing is done. What
    there is, with a dashboard for Grafana: docs/metrics.md.

    Examples:

        vgpu-stub metrics

        vgpu-stub metrics --once | grep vgpu_commands_total

        vgpu-stub metrics --address 0.0.0.0 --port 9464
    """
    registry = CollectorRegistry()
    registry.register(DeviceServers(lambda: take_snapshots(server)))
    if once:
        text = generate_latest(registry)  # type: ignore[no-untyped-call]
        print(text.decode(), end="")
        return
    try:
        httpd, thread = start_http_server(port, addr=address, registry=registry)
    except OSError as error:
        print(f"vgpu-stub: cannot listen at {address}:{port}: {error.strerror}", file=sys.stderr)
        raise typer.Exit(1) from None
    print(f"http://{address}:{httpd.server_port}/metrics", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        httpd.shutdown()
        thread.join()
