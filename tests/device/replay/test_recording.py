"""What a recording keeps: of a channel, of the device around it, and when things go wrong."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vgpu_host.control import ControlError
from vgpu_stub.abi.decode import decode
from vgpu_stub.abi.generated import Opcode
from vgpu_stub.cli.main import typer_app
from vgpu_stub.driver import GuestDriver
from vgpu_stub.harness.build import GUEST, cuda_libraries, workloads
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.harness.replay.runs import ReplaySettings, replay, replays
from vgpu_stub.recording import records
from vgpu_stub.recording.errors import RecordingError
from vgpu_stub.recording.reader import Recording
from vgpu_stub.recording.records import Kind
from vgpu_stub.vfio_user import Command

from .conftest import OPTIONS
from .guest import SIZE, Guest, copies_and_kernels

pytestmark = pytest.mark.device

PROGRAM = GUEST / "workloads/programs.py"


def kinds(recording: Recording) -> set[int]:
    found = {record.kind for record in recording.server}
    for channel in recording.channels.values():
        found |= {record.kind for record in channel.records}
    return found


def test_the_device_around_the_channels_is_kept(recorded: Path) -> None:
    with Recording(recorded) as recording:
        assert recording.damage == ""
        assert recording.start["options"]["memory_bytes"] == OPTIONS.memory_bytes
        assert kinds(recording) >= {Kind.MESSAGE, Kind.ADMIN, Kind.ADMIN_DONE, Kind.REGISTER}
        messages = [
            records.unpack_message(record)
            for record in recording.server
            if record.kind == Kind.MESSAGE
        ]
        admin = [
            decode(bytes.fromhex(records.unpack_json(record)["command"]))
            for record in recording.server
            if record.kind == Kind.ADMIN
        ]
    commands = {struct.unpack_from("<HH", message.message)[1] for message in messages}
    assert commands >= {Command.VERSION, Command.DMA_MAP, Command.REGION_WRITE}
    clients = {message.client for message in messages}
    assert len(clients) == len(recording.channels)
    # Every message of a client is answered.
    assert sum(message.sent for message in messages) * 2 == len(messages)
    assert [str(each) for each in admin[:1]] == [
        f"CHANNEL_CREATE(channel=1, vector=1, pid={os.getpid()}, name='guest')"
    ]


def test_data_is_kept_once(server: DeviceServer, tmp_path: Path) -> None:
    path = tmp_path / "same.vgpurec"
    data = os.urandom(SIZE)
    server.control.call("recording.start", path=str(path))
    with GuestDriver.connect(server.device_socket) as driver:
        guest = Guest(driver)
        for _ in range(50):
            guest.upload(data)
    server.control.call("recording.stop")
    assert path.stat().st_size < 8 * SIZE
    with Recording(path) as recording:
        assert recording.contents()[records.content_digest(data)] == SIZE
    replays(path)


def test_a_running_server_starts_and_stops(server: DeviceServer, tmp_path: Path) -> None:
    control = server.control
    first, second = tmp_path / "first.vgpurec", tmp_path / "second.vgpurec"
    with pytest.raises(ControlError, match="nothing is being recorded"):
        control.call("recording.stop")
    control.call("recording.start", path=str(first))
    with GuestDriver.connect(server.device_socket) as driver:
        guest = Guest(driver)
        copies_and_kernels(guest)
        with pytest.raises(ControlError, match=r"first\.vgpurec is being recorded already"):
            control.call("recording.start", path=str(second))
        stopped = control.call("recording.stop")
        assert stopped["channels"] == 1
        assert server.snapshot()["recording"] is None
        # The channel goes on without a recording, and with another one.
        copies_and_kernels(guest)
        control.call("recording.start", path=str(second))
        copies_and_kernels(guest)
        assert server.snapshot()["recording"]["path"] == str(second)
    control.call("recording.stop")
    replays(first)
    with pytest.raises(RecordingError, match="was in use before the recording began"):
        replays(second)
    with Recording(second) as recording:
        names = [
            decode(record.payload).name
            for record in recording.channels[1].records
            if record.kind == Kind.COMMAND
        ]
    assert names.count("LAUNCH_KERNEL") == 3
    assert "CONTEXT_CREATE" not in names


def test_the_command_records_a_running_server(server: DeviceServer, tmp_path: Path) -> None:
    path = tmp_path / "live.vgpurec"
    arguments = ["record", str(path), "--server", server.folder.name, "--seconds", "0.1", "--json"]
    with GuestDriver.connect(server.device_socket) as driver:
        guest = Guest(driver)
        result = CliRunner().invoke(typer_app, arguments)
        copies_and_kernels(guest)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["channels"] == 1
    with Recording(path) as recording:
        assert recording.damage == ""
    missing = CliRunner().invoke(typer_app, ["record", str(path), "--server", "nobody"])
    assert missing.exit_code == 2
    assert "no device server 'nobody' runs" in missing.output


def test_faults_that_happened_are_kept(server: DeviceServer, tmp_path: Path) -> None:
    path = tmp_path / "faults.vgpurec"
    server.control.call("recording.start", path=str(path))
    with GuestDriver.connect(server.device_socket) as driver:
        guest = Guest(driver)
        fault = server.control.faults.inject("command-error", opcode="MEMORY_GET_INFO", times=1)
        sequence = guest.channel.submit(Opcode.MEMORY_GET_INFO, context=guest.context)
        assert guest.channel.wait(sequence).status == 999
        fault.wait_fired()
        fault.clear()
    server.control.call("recording.stop")
    with Recording(path) as recording:
        (told,) = [records.unpack_json(r) for r in recording.server if r.kind == Kind.FAULT]
    assert told["device"].startswith("gpu")
    assert "command-error" in told["text"]
    assert "MEMORY_GET_INFO" in told["text"]


def test_a_file_that_cannot_be_written_is_refused(server: DeviceServer, tmp_path: Path) -> None:
    with pytest.raises(ControlError, match=r"cannot record to .*: No such file or directory"):
        server.control.call("recording.start", path=str(tmp_path / "none" / "a.vgpurec"))


def test_a_killed_server_leaves_what_it_had_written(tmp_path: Path) -> None:
    path = tmp_path / "killed.vgpurec"
    with DeviceServer(OPTIONS, shared=False, record=path) as server:
        driver = GuestDriver.connect(server.device_socket)
        guest = Guest(driver)
        written = 0
        while not written:  # until records of the channel are in the file
            copies_and_kernels(guest)
            with Recording(path) as recording:
                channel = recording.channels.get(1)
                written = sum(r.kind == Kind.COMMAND for r in channel.records) if channel else 0
        os.kill(server.pid, signal.SIGKILL)
        assert server.ends_within(5.0)
        with Recording(path) as recording:
            assert recording.damage
            assert not recording.channels[1].ended
        report = replay(path, OPTIONS, ReplaySettings(direct=True))
        assert report.difference_count == 0
        assert report.commands >= written
        driver.client.close()


def test_what_a_worker_said_before_it_was_killed_is_kept(
    server: DeviceServer, tmp_path: Path
) -> None:
    """The channel is destroyed right after its last answer: the answer is in the recording."""
    path = tmp_path / "last.vgpurec"
    server.control.call("recording.start", path=str(path))
    last = []
    with GuestDriver.connect(server.device_socket) as driver:
        for _ in range(10):
            channel = driver.open_channel()
            last.append(channel.submit(Opcode.NOP))
            channel.wait(last[-1])
            driver.close_channel(channel)
    server.control.call("recording.stop")
    with Recording(path) as recording:
        for sequence, channel in zip(last, recording.channels.values(), strict=True):
            assert channel.ended
            (completion,) = (r for r in channel.records if r.kind == Kind.COMPLETION)
            assert records.unpack_completion(completion).sequence == sequence


def test_a_full_spool_loses_nothing(server: DeviceServer, tmp_path: Path) -> None:
    """More than a spool holds is copied at once, faster than it can be written."""
    path = tmp_path / "large.vgpurec"
    size, count = 4 << 20, 12
    server.control.call("recording.start", path=str(path))
    with GuestDriver.connect(server.device_socket) as driver:
        channel = driver.open_channel()
        memory = driver.allocate(size * count)
        for number in range(count):
            memory.memory[number * size : (number + 1) * size] = os.urandom(size)
        driver.register(channel, 1, memory)
        (context, *_) = channel.call(Opcode.CONTEXT_CREATE, 0, 0)
        (pointer, *_) = channel.call(Opcode.MEMORY_ALLOCATE, size, context=context)
        for number in range(count):
            channel.submit(
                Opcode.COPY_HOST_TO_DEVICE,
                pointer,
                number * size,
                size,
                1,
                0,
                context=context,
                flags=0,
            )
        channel.call(Opcode.CONTEXT_SYNCHRONIZE, context=context)
    server.control.call("recording.stop")
    with Recording(path) as recording:
        contents = recording.contents()
        assert sum(contents.values()) == size * count
        for digest in contents:
            assert len(recording.content(digest)) == size


def test_programs_that_were_run_by_exec_are_played_by_the_command(tmp_path: Path) -> None:
    workloads()
    cuda_libraries()
    path = tmp_path / "programs.vgpurec"
    run = [sys.executable, "-c", "from vgpu_stub.cli.main import app; app()"]
    record = ["exec", "--executor", "software", "--gpu-memory", "256M", "--record", str(path)]
    programs = ["vector_add", "tree_reduction", "histogram"]
    subprocess.run(
        [*run, *record, "--", sys.executable, str(PROGRAM), *programs], check=True, timeout=100
    )
    played = subprocess.run(
        [*run, "replay", str(path)], capture_output=True, text=True, timeout=100, check=False
    )
    assert played.returncode == 0, played.stdout + played.stderr
    assert "the same" in played.stdout
    listed = subprocess.run(
        [*run, "replay", str(path), "--list"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert listed.stdout.count("LAUNCH_KERNEL(") == len(programs)
    assert "MODULE_GET_FUNCTION(" in listed.stdout
