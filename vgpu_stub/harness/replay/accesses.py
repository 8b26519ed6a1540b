"""Plays what clients read and wrote of config space and registers, and compares what was read.

Every client of a recording gets a connection and a device of its own. Doorbells are left out, as
rings are played elsewhere, and so is what depends on them or on the executor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final

from vgpu_stub.abi import generated as abi
from vgpu_stub.harness.replay.report import ChannelReport, Difference, DifferenceKind
from vgpu_stub.recording.reader import Recording
from vgpu_stub.recording.records import Kind, unpack_message
from vgpu_stub.vfio_user import Client, Command, RegionIndex, RemoteError
from vgpu_stub.vfio_user.constants import HEADER_BYTES
from vgpu_stub.vfio_user.messages import REGION_ACCESS_BYTES, Header, RegionAccess

_PLAYED: Final = (RegionIndex.CONFIG, RegionIndex.BAR0)
#: Registers of BAR0 that tell of rings, of time or of the executor, with their names.
_VOLATILE: Final = {
    abi.REG_FEATURES_LOW: "the executor",
    abi.REG_ERROR: "rings",
    abi.REG_ERROR_CHANNEL: "rings",
    abi.REG_STATUS: "rings",
    abi.REG_RESET_COUNT: "resets",
    abi.REG_ACCESS_COUNT: "doorbells",
}


@dataclass(frozen=True)
class Access:
    """A request of a client, and what it got: data, or an errno."""

    command: int
    region: int
    offset: int
    count: int
    data: bytes
    answer: bytes
    error: int

    def __str__(self) -> str:
        where = f"{RegionIndex(self.region).name} 0x{self.offset:x}, {self.count} bytes"
        return f"{Command(self.command).name}({where})"


def play_accesses(recording: Recording, socket: Path) -> list[ChannelReport]:
    """Play every client whose connection was recorded from its beginning; a report for each."""
    reports = []
    for client, accesses in _clients(recording).items():
        report = ChannelReport(f"client {client}: config space and registers")
        started = monotonic()
        with Client.connect(socket) as connected:
            for index, access in enumerate(accesses, 1):
                _play(connected, index, access, report)
        report.seconds = monotonic() - started
        reports.append(report)
    return reports


def _clients(recording: Recording) -> dict[int, list[Access]]:
    requests: dict[tuple[int, int], tuple[Header, bytes]] = {}
    found: dict[int, list[Access]] = {}
    for record in recording.server:
        if record.kind != Kind.MESSAGE:
            continue
        message = unpack_message(record)
        header = Header.unpack(message.message[:HEADER_BYTES])
        body = message.message[HEADER_BYTES:]
        key = message.client, header.msg_id
        if header.command == Command.VERSION:
            found[message.client] = []
        elif message.client not in found:
            continue  # the recording began later
        elif not message.sent and not header.is_reply:
            requests[key] = header, body
        elif message.sent and key in requests:
            found[message.client] += _access(*requests.pop(key), header, body)
    return found


def _access(asked: Header, request: bytes, header: Header, reply: bytes) -> Iterator[Access]:
    if asked.command == Command.DEVICE_RESET:
        yield Access(asked.command, RegionIndex.CONFIG, 0, 0, b"", b"", header.error)
    if asked.command not in (Command.REGION_READ, Command.REGION_WRITE):
        return
    if len(request) < REGION_ACCESS_BYTES:
        return
    place = RegionAccess.unpack(request)
    if place.region not in _PLAYED:
        return
    data, answer = request[REGION_ACCESS_BYTES:], reply[REGION_ACCESS_BYTES:]
    yield Access(asked.command, place.region, place.offset, place.count, data, answer, header.error)


def _play(client: Client, index: int, access: Access, report: ChannelReport) -> None:
    registers = access.region == RegionIndex.BAR0
    if registers and access.offset >= abi.REG_DOORBELL and access.command == Command.REGION_WRITE:
        report.not_compared["doorbells"] += 1
        return
    report.commands += 1
    answer, error = b"", 0
    try:
        if access.command == Command.DEVICE_RESET:
            client.reset()
        elif access.command == Command.REGION_WRITE:
            client.region_write(access.region, access.offset, access.data)
        else:
            answer = client.region_read(access.region, access.offset, access.count)
    except RemoteError as refusal:
        error = refusal.errno
    if registers and access.offset in _VOLATILE:
        report.not_compared[f"registers that depend on {_VOLATILE[access.offset]}"] += 1
        return
    report.completions += 1
    if (error, answer) == (access.error, access.answer):
        return
    kind = DifferenceKind.DATA if error == access.error else DifferenceKind.STATUS
    expected, actual = _told(access.error, access.answer), _told(error, answer)
    report.add(Difference(kind, report.title, index, index, str(access), expected, actual))


def _told(error: int, answer: bytes) -> str:
    return f"errno {error}" if error else answer.hex() or "success"
