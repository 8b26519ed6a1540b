"""The device server process: vfio-user socket, worker pool, monitor and control socket.

`python -m vgpu_host.server --folder DIR ...` serves until it is told to stop (SIGTERM, SIGINT), or
until the process that started it is gone. With `--shared` one device serves one client at a time,
as a VM wants it; otherwise every client gets a device of its own, as processes want it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Final

from vgpu_host import runtime
from vgpu_host.control import ControlServer
from vgpu_host.executors.options import ExecutorOptions
from vgpu_host.fault_table import FaultTable
from vgpu_host.logs import configure_logging
from vgpu_host.pool import WorkerPool
from vgpu_host.process import die_with_parent
from vgpu_host.recording_control import RecordingControl
from vgpu_host.ring_trace import RingTraces
from vgpu_host.sensors import open_sensors
from vgpu_host.snapshot import Snapshot, channel_snapshot, server_snapshot
from vgpu_host.telemetry import PhysicalGpu, Telemetry
from vgpu_stub.abi import generated as abi
from vgpu_stub.device.channels import Channel
from vgpu_stub.device.gpu import VirtualGpu
from vgpu_stub.device.status import StatusUnavailableError
from vgpu_stub.device.worker_link import WorkerUnavailableError
from vgpu_stub.faults import Rule
from vgpu_stub.vfio_user import Server

_log = logging.getLogger(__name__)
_REMEMBERED_CHANNELS: Final = 64


class DeviceServer:
    """Devices behind one vfio-user socket."""

    def __init__(
        self,
        folder: Path,
        pool: WorkerPool,
        executor: str,
        identity: tuple[int, int],
        gpu: PhysicalGpu | None = None,
        faults: Sequence[Rule] = (),
        *,
        shared: bool,
        record: Path | None = None,
    ) -> None:
        """Prepare; `serve` starts it.

        Args:
            folder: Where the sockets go.
            pool: Source of workers.
            executor: Its executor's name, for monitors.
            identity: PCI vendor and device id.
            gpu: Sensors of the physical GPU behind the workers, if there is one.
            faults: What goes wrong on purpose from the start.
            shared: One device for one client at a time, else a device for each client.
            record: File to record to from the start.
        """
        self._folder = folder
        self._pool = pool
        self._executor = executor
        self._identity = identity
        self._shared = shared
        self._lock = threading.Lock()
        self._devices: list[VirtualGpu] = []
        self._ended: deque[Snapshot] = deque(maxlen=_REMEMBERED_CHANNELS)
        self._made = 0
        self._faults = FaultTable(self._devices_now, faults)
        vendor, model = identity
        described = {"options": asdict(pool.options), "identity": f"{vendor:04x}:{model:04x}"}
        self.recording = RecordingControl(self._devices_now, described)
        self._record = record
        self._traces = RingTraces(self._devices_now)
        self._telemetry = Telemetry(pool.device_info(), self._devices_now, gpu)

    def serve(self, stop: threading.Event, ready: Callable[[], None]) -> None:
        """Serve until `stop` is set, then end every worker and remove the sockets.

        `ready` is called once the sockets are there.
        """
        server = Server(
            self._folder / runtime.DEVICE_SOCKET,
            self._device_for_client,
            max_clients=1 if self._shared else None,
        )
        self.recording.server = server
        if self._record:
            self.recording.start(self._record)
        monitor_path = self._folder / runtime.MONITOR_SOCKET
        control = ControlServer(
            self._folder / runtime.CONTROL_SOCKET,
            {
                **self._faults.handlers(),
                **self.recording.handlers(),
                **self._traces.handlers(),
            },
        )
        with self._telemetry, server, control, socket.socket(socket.AF_UNIX) as monitor:
            monitor.bind(str(monitor_path))
            monitor.listen()
            answering = threading.Thread(target=self._answer_monitors, args=(monitor,), daemon=True)
            answering.start()
            ready()
            stop.wait()
            monitor_path.unlink(missing_ok=True)
            monitor.shutdown(socket.SHUT_RDWR)
            answering.join()
        for device in list(self._devices):
            self._discard(device)
        if self.recording.status():
            self.recording.stop()

    def _device_for_client(self) -> VirtualGpu:
        with self._lock:
            if self._shared and self._devices:
                return self._devices[0]
            name = f"gpu{self._made}"
            self._made += 1
        device = VirtualGpu(
            self._pool,
            name,
            self._identity,
            on_disconnect=None if self._shared else self._discard,
            on_channel_end=self._remember,
            status_source=self._telemetry,
            faults=self._faults.injector,
        )
        with self._lock:
            self._devices.append(device)
        self.recording.device_made(device)
        return device

    def _devices_now(self) -> list[VirtualGpu]:
        with self._lock:
            return list(self._devices)

    def _measured(self) -> dict[str, int]:
        """Values by member of `struct vgpu_device_status`; none while the sensors do not answer."""
        try:
            return dict(self._telemetry.device_status().measured)
        except StatusUnavailableError:
            return {}

    def _remember(self, device: VirtualGpu, channel: Channel) -> None:
        self._telemetry.channel_ended(device, channel)
        self.recording.channel_ended(device, channel)
        self._traces.channel_ended(device, channel)
        self._ended.append({**channel_snapshot(device, channel), "state": "ended"})

    def _discard(self, device: VirtualGpu) -> None:
        with self._lock:
            if device not in self._devices:
                return
            self._devices.remove(device)
        device.close()

    def _answer_monitors(self, monitor: socket.socket) -> None:
        while True:
            try:
                client, _ = monitor.accept()
            except OSError:
                return
            # ValueError: a device was closed while it was looked at. The monitor asks again.
            with client, contextlib.suppress(OSError, ValueError):
                devices = self._devices_now()
                snapshot = server_snapshot(devices, self._ended, self._executor, os.getpid())
                snapshot["measured"] = self._measured()
                snapshot["faults"] = self._faults.snapshot()
                snapshot["recording"] = self.recording.status()
                client.sendall(json.dumps(snapshot).encode() + b"\n")


def _parse_identity(text: str) -> tuple[int, int]:
    try:
        vendor, device = (int(part, 16) for part in text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected VENDOR:DEVICE in hex, got {text!r}") from None
    if not (0 < vendor < 0xFFFF and 0 <= device <= 0xFFFF):
        raise argparse.ArgumentTypeError(f"ids have 16 bits, got {text!r}")
    return vendor, device


def main() -> int:
    """Entry point of the device server process."""
    parser = argparse.ArgumentParser(prog="vgpu-server", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="folder for the sockets")
    parser.add_argument("--executor", required=True, help="executor options, as JSON")
    parser.add_argument("--spares", type=int, default=1, help="workers to keep ready")
    parser.add_argument("--shared", action="store_true", help="one device for one client")
    parser.add_argument("--ready-fd", type=int, help="written to when the sockets are there")
    parser.add_argument(
        "--identity",
        type=_parse_identity,
        default=(abi.PCI_VENDOR_ID, abi.PCI_DEVICE_ID),
        help="PCI vendor and device id",
    )
    parser.add_argument("--faults", default="[]", help="fault rules from the start, as JSON")
    parser.add_argument("--record", type=Path, help="file to record to from the start")
    arguments = parser.parse_args()
    configure_logging("server")
    die_with_parent(signal.SIGTERM)
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    options = ExecutorOptions.from_json(arguments.executor)
    with WorkerPool(options, arguments.spares) as pool:
        try:
            info = pool.device_info()
        except WorkerUnavailableError as error:
            print(f"vgpu-stub: {error}", file=sys.stderr)
            return 1
        server = DeviceServer(
            arguments.folder,
            pool,
            options.name,
            arguments.identity,
            open_sensors(info) if options.name == "cuda" else None,
            [Rule.from_json(rule) for rule in json.loads(arguments.faults)],
            shared=arguments.shared,
            record=arguments.record,
        )

        def announce() -> None:
            if arguments.ready_fd is not None:
                os.write(arguments.ready_fd, b"1")
                os.close(arguments.ready_fd)

        server.serve(stop, announce)
    return 0


if __name__ == "__main__":
    sys.exit(main())
