"""The ring between a worker and the recording: everything arrives, whole and in order."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

import pytest

from vgpu_stub.recording.spool import SPOOL_BYTES, SpoolReader, SpoolWriter, make_spool


@pytest.fixture
def ends() -> Iterator[tuple[SpoolWriter, SpoolReader, int]]:
    fd = make_spool()
    wake_fd = os.eventfd(0, os.EFD_NONBLOCK)
    writer, reader = SpoolWriter(fd, os.dup(wake_fd)), SpoolReader(fd)
    os.close(fd)
    yield writer, reader, wake_fd
    writer.close()
    with contextlib.suppress(ValueError):  # a test may have closed it
        reader.close()
    os.close(wake_fd)


def test_what_is_put_is_taken_once(ends: tuple[SpoolWriter, SpoolReader, int]) -> None:
    writer, reader, _ = ends
    writer.put(b"head", memoryview(b"body"))
    writer.put(b"next")
    assert reader.take() == b"headbodynext"
    assert reader.take() == b""


def test_records_pass_the_end_of_the_ring(ends: tuple[SpoolWriter, SpoolReader, int]) -> None:
    writer, reader, _ = ends
    piece = os.urandom(1_000_003)
    for number in range(40):
        writer.put(bytes([number]), piece)
        assert reader.take() == bytes([number]) + piece
    assert writer.waits == 0


def test_a_full_ring_wakes_the_server_and_waits(
    ends: tuple[SpoolWriter, SpoolReader, int],
) -> None:
    writer, reader, wake_fd = ends
    count, piece = 64, bytes(1 << 20)

    def fill() -> None:
        for number in range(count):
            writer.put(bytes([number]) + piece)

    filling = threading.Thread(target=fill)
    filling.start()
    taken = 0
    while taken < count * (len(piece) + 1):
        data = reader.take()
        assert len(data) <= SPOOL_BYTES
        taken += len(data)
    filling.join()
    assert writer.waits > 0
    assert os.eventfd_read(wake_fd) > 0


def test_a_writer_goes_on_when_nobody_reads_any_more(
    ends: tuple[SpoolWriter, SpoolReader, int],
) -> None:
    writer, reader, _ = ends
    filling = threading.Thread(target=lambda: [writer.put(bytes(1 << 20)) for _ in range(40)])
    filling.start()
    while not writer.waits:
        pass
    reader.close()
    filling.join(10)
    assert not filling.is_alive()


def test_a_record_larger_than_the_ring_is_refused(
    ends: tuple[SpoolWriter, SpoolReader, int],
) -> None:
    writer, reader, _ = ends
    with pytest.raises(ValueError, match="does not fit"):
        writer.put(bytes(SPOOL_BYTES + 1))
    assert reader.take() == b""
