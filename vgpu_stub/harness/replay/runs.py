"""Whole replays: of a file on a device, between two settings, and as a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from vgpu_host.executors.options import ExecutorOptions
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.harness.replay.accesses import play_accesses
from vgpu_stub.harness.replay.player import play
from vgpu_stub.harness.replay.report import ReplayReport
from vgpu_stub.harness.replay.targets import DeviceTarget, ExecutorTarget, Target
from vgpu_stub.recording.errors import RecordingError
from vgpu_stub.recording.reader import Recording


@dataclass(frozen=True)
class ReplaySettings:
    """How to play.

    Attributes:
        direct: On an executor in this process, instead of a device server's device.
        pace: Keep the recorded distances in time.
        timeout_s: How long to wait for each completion.
    """

    direct: bool = False
    pace: bool = False
    timeout_s: float = 60.0


def recorded_options(recording: Recording) -> ExecutorOptions:
    """The executor that a recording was made with, so far as it can be had on any machine."""
    known = {each.name for each in fields(ExecutorOptions)} - {"reports", "ordinal", "processor"}
    said = recording.start.get("options", {})
    values = {name: value for name, value in said.items() if name in known}
    return ExecutorOptions(**{**values, "checks": (), "count": False})


def replay(
    path: Path, options: ExecutorOptions | None = None, settings: ReplaySettings | None = None
) -> ReplayReport:
    """Play a recording and compare with it; `options` are those of the recording without any.

    Raises:
        RecordingError: It cannot be played.
        DeviceServerError: The device server did not start.
    """
    settings = settings or ReplaySettings()
    with Recording(path) as recording:
        identity = recording.start.get("identity")
        with _target(options or recorded_options(recording), settings, identity) as target:
            report, _ = play(recording, target, pace=settings.pace, timeout_s=settings.timeout_s)
            if isinstance(target, DeviceTarget):
                report.channels += play_accesses(recording, target.socket)
        return report


def compare(
    path: Path,
    first: ExecutorOptions,
    second: ExecutorOptions,
    settings: ReplaySettings | None = None,
) -> ReplayReport:
    """Play a recording on two executors and compare their answers with each other.

    Raises:
        RecordingError: It cannot be played.
        DeviceServerError: The device server did not start.
    """
    settings = settings or ReplaySettings()
    with Recording(path) as recording:
        with _target(first, settings) as target:
            _, expected = play(recording, target, timeout_s=settings.timeout_s)
        with _target(second, settings) as target:
            report, _ = play(
                recording,
                target,
                expected,
                against=describe(first),
                pace=settings.pace,
                timeout_s=settings.timeout_s,
            )
        return report


def replays(path: Path) -> ReplayReport:
    """Assert that the device still answers as it did when a recording was made.

    Raises:
        AssertionError: It does not; the text has the first differences.
        RecordingError: The recording cannot be played, or is not whole.
    """
    report = replay(path, settings=ReplaySettings(direct=True))
    if report.damage:
        raise RecordingError(f"{path}: {report.damage}")
    found = [str(each) for channel in report.channels for each in channel.differences]
    assert not found, f"{report.difference_count} differences from {path}:\n" + "\n".join(found)
    return report


def describe(options: ExecutorOptions) -> str:
    """Settings in the form in which `parse_options` takes them."""
    usual = ExecutorOptions(options.name)
    parts = [options.name]
    for each in fields(ExecutorOptions):
        value = getattr(options, each.name)
        if each.name != "name" and value != getattr(usual, each.name):
            parts.append(each.name if value is True else f"{each.name}={value}")
    return ",".join(parts)


@contextmanager
def _target(
    options: ExecutorOptions, settings: ReplaySettings, identity: str | None = None
) -> Iterator[Target]:
    name = describe(options)
    if settings.direct:
        yield ExecutorTarget(options, name)
        return
    with DeviceServer(options, shared=False, identity=identity) as server:
        target = DeviceTarget(server.device_socket, name, synchronous=options.name == "software")
        try:
            yield target
        finally:
            target.close()
