"""Recordings are played without their guest: what stayed the same, and what did not, is found."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from vgpu_host.executors.options import ExecutorOptions
from vgpu_stub.abi import generated as abi
from vgpu_stub.abi.generated import Opcode
from vgpu_stub.driver import GuestDriver
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.harness.replay.player import play
from vgpu_stub.harness.replay.report import DifferenceKind, ReplayReport
from vgpu_stub.harness.replay.runs import ReplaySettings, compare, replay, replays
from vgpu_stub.harness.replay.targets import ExecutorTarget
from vgpu_stub.recording import records
from vgpu_stub.recording.container import BlockReader, BlockWriter
from vgpu_stub.recording.reader import Recording
from vgpu_stub.recording.records import HEAD, Kind, Record
from vgpu_stub.vfio_user import RegionIndex, RemoteError

from .conftest import OPTIONS
from .guest import SCENARIOS

pytestmark = pytest.mark.device

DIRECT = ReplaySettings(direct=True)


def rewrite(source: Path, target: Path, change: Callable[[int, Record], bytes | None]) -> Path:
    """Copy a recording; `change` gets stream and record, and returns a payload or None."""
    with BlockReader(source) as blocks, BlockWriter(target) as writer:
        for block in blocks:
            data = b""
            for record, _ in records.unpack_records(block.data):
                payload = change(block.stream, record)
                payload = record.payload if payload is None else payload
                data += HEAD.pack(len(payload), record.kind, record.time_ns) + payload
            writer.write(block.stream, data)
    return target


def no_differences(report: ReplayReport) -> None:
    assert [str(each) for channel in report.channels for each in channel.differences] == []
    assert report.difference_count == 0
    assert report.damage == ""


def test_an_executor_answers_as_it_did(recorded: Path) -> None:
    report = replays(recorded)
    no_differences(report)
    assert len(report.channels) == len(SCENARIOS) + 1
    assert all(channel.data and channel.completions for channel in report.channels)


def test_a_device_answers_as_it_did_over_its_socket(recorded: Path) -> None:
    report = replay(recorded)
    no_differences(report)
    with Recording(recorded) as recording:
        played = sum(
            record.kind == Kind.COMMAND
            for channel in recording.channels.values()
            for record in channel.records
        )
    assert sum(each.commands for each in report.channels[: len(SCENARIOS) + 1]) == played > 80


def test_two_settings_are_compared_with_each_other(recorded: Path) -> None:
    general = ExecutorOptions("software", memory_bytes=64 << 20, threads=1, general=True)
    report = compare(recorded, OPTIONS, general, DIRECT)
    no_differences(report)
    assert "general" in report.target


def test_another_profile_differs_where_functions_are_described(recorded: Path) -> None:
    other = ExecutorOptions("software", memory_bytes=64 << 20, threads=1, profile="sm_80")
    report = compare(recorded, OPTIONS, other, DIRECT)
    assert report.first
    assert report.first.kind is DifferenceKind.DATA
    assert report.first.command.startswith("MODULE_GET_FUNCTION(")
    assert report.first.command.endswith("'add_one')")


def test_data_that_came_out_differently_is_named(recorded: Path, tmp_path: Path) -> None:
    """The kernel's input is changed: its output differs, and nothing before it."""

    def change(stream: int, record: Record) -> bytes | None:
        if stream != 1 or record.kind != Kind.COMMAND:
            return None
        opcode = abi.COMMAND_HEADER.unpack_from(record.payload)[0]
        if opcode != Opcode.LAUNCH_KERNEL:
            return None
        # The kernel counts up the word behind the one that it should.
        place = abi.COMMAND_HEADER.size + abi.COMMANDS[opcode].fields.size
        (pointer,) = struct.unpack_from("<Q", record.payload, place)
        return record.payload[:place] + struct.pack("<Q", pointer + 4) + record.payload[place + 8 :]

    report = replay(rewrite(recorded, tmp_path / "a", change), OPTIONS, DIRECT)
    changed, *rest = report.channels
    assert changed.difference_count == 3
    first = changed.differences[0]
    assert first.kind is DifferenceKind.DATA
    assert first.command.startswith("COPY_DEVICE_TO_HOST(device_ptr=0x2000")
    assert first.channel == changed.title
    assert f"(sequence {first.sequence})" in str(first)
    assert [channel.difference_count for channel in rest] == [0] * len(rest)


def test_a_status_that_differs_is_named(recorded: Path, tmp_path: Path) -> None:
    def change(_: int, record: Record) -> bytes | None:
        if record.kind != Kind.COMPLETION:
            return None
        completion = records.unpack_completion(record)
        if completion.status != 400:
            return None
        return records.pack_completion(0, *completion._replace(status=0))[HEAD.size :]

    report = replay(rewrite(recorded, tmp_path / "a", change), OPTIONS, DIRECT)
    assert report.difference_count == 1
    assert report.first
    assert report.first.kind is DifferenceKind.STATUS
    assert report.first.command == "STREAM_SYNCHRONIZE(stream=99)"
    assert (report.first.expected, report.first.actual) == ("CUresult 0", "CUresult 400")
    with pytest.raises(AssertionError, match=r"STREAM_SYNCHRONIZE.*expected CUresult 0"):
        replays(tmp_path / "a")


def test_a_command_that_does_not_complete_ends_its_channel(recorded: Path, tmp_path: Path) -> None:
    def change(stream: int, record: Record) -> bytes | None:
        if stream != 1 or record.kind != Kind.COMMAND:
            return None
        opcode, slots, _, context, sequence = abi.COMMAND_HEADER.unpack_from(record.payload)
        if opcode != Opcode.MEMORY_ALLOCATE:
            return None
        silent = abi.COMMAND_HEADER.pack(opcode, slots, 0, context, sequence)
        return silent + record.payload[abi.COMMAND_HEADER.size :]

    with Recording(rewrite(recorded, tmp_path / "a", change)) as recording:
        report, _ = play(recording, ExecutorTarget(OPTIONS), timeout_s=0.2)
    assert report.first
    assert report.first.kind is DifferenceKind.COMPLETION
    assert report.first.command == "MEMORY_ALLOCATE(size=4096)"
    assert report.channels[0].difference_count == 1
    assert report.channels[1].difference_count == 0


def test_config_space_and_registers_are_compared(tmp_path: Path) -> None:
    path = tmp_path / "config.vgpurec"
    options = ExecutorOptions("software", memory_bytes=64 << 20, threads=1)
    with (
        DeviceServer(options, shared=False, record=path, identity="10de:2331") as server,
        GuestDriver.connect(server.device_socket) as driver,
    ):
        assert driver.client.region_read(RegionIndex.CONFIG, 0, 4) == bytes.fromhex("de103123")
        driver.client.region_write(RegionIndex.CONFIG, 0x10, b"\xff" * 4)
        assert driver.client.region_read(RegionIndex.CONFIG, 0x10, 4) == bytes.fromhex("0000ffff")
        driver.write(abi.REG_SCRATCH, 77)
        assert driver.read(abi.REG_SCRATCH) == 77
        with pytest.raises(RemoteError):
            driver.client.region_read(RegionIndex.CONFIG, 4096, 4)
    report = replay(path)
    no_differences(report)
    (accesses,) = report.channels
    assert accesses.title == "client 1: config space and registers"
    assert accesses.commands >= 10

    def change(_: int, record: Record) -> bytes | None:
        return record.payload.replace(bytes.fromhex("de103123"), bytes.fromhex("de100000"))

    changed = replay(rewrite(path, tmp_path / "changed", change))
    assert changed.difference_count == 1
    assert changed.first
    assert changed.first.command == "REGION_READ(CONFIG 0x0, 4 bytes)"
    assert (changed.first.expected, changed.first.actual) == ("de100000", "de103123")


def test_copies_of_memory_that_nothing_has_written_are_flagged(recorded: Path) -> None:
    last = replays(recorded).channels[-1]
    assert last.not_compared == {"copies of device memory that nothing had written": 1}


def test_pointers_that_moved_are_found_in_parameters_and_graphs(recorded: Path) -> None:
    """While another executor has the usual place, the software GPU's memory lies elsewhere."""
    blocking = ExecutorTarget(OPTIONS).open_channel("", 0, "")
    try:
        report = replay(recorded, OPTIONS, DIRECT)
    finally:
        blocking.close()
    no_differences(report)
    moved = "words of parameters, graphs and data that were taken for device pointers"
    assert [channel.not_compared[moved] for channel in report.channels[:2]] == [3, 1]


def test_junit_has_a_case_for_each_channel(recorded: Path, tmp_path: Path) -> None:
    report = replay(recorded, OPTIONS, DIRECT)
    report.channels[1].differences = report.channels[0].differences
    report.write_junit(tmp_path / "replay.xml")
    suite = ElementTree.parse(tmp_path / "replay.xml").getroot()
    assert suite.attrib["tests"] == str(len(report.channels))
    assert suite.attrib["failures"] == "0"
    assert [case.attrib["name"] for case in suite] == [each.title for each in report.channels]
