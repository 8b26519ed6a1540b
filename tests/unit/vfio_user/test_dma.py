"""DMA windows: finding, spanning, copying, and what happens to their descriptors."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vgpu_stub.vfio_user import DmaFaultError, DmaFlag, DmaMap, ProtocolError

PAGE = 4096
READ_WRITE = DmaFlag.READ | DmaFlag.WRITE


def open_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def dma() -> Iterator[DmaMap]:
    """Two shared windows that touch, at pages 16 and 17, and an unshared one behind them."""
    dma = DmaMap()
    fd = os.memfd_create("ram")
    os.write(fd, b"A" * PAGE + b"B" * PAGE)
    dma.map(16 * PAGE, PAGE, READ_WRITE, os.dup(fd), 0)
    dma.map(17 * PAGE, PAGE, READ_WRITE, os.dup(fd), PAGE)
    dma.map(18 * PAGE, PAGE, READ_WRITE)
    os.close(fd)
    yield dma
    dma.clear()


def test_read_spans_windows_that_touch(dma: DmaMap) -> None:
    assert dma.read(17 * PAGE - 2, 4) == b"AABB"


def test_write_spans_windows_that_touch(dma: DmaMap) -> None:
    dma.write(17 * PAGE - 2, b"wxyz")
    assert dma.read(17 * PAGE - 3, 6) == b"AwxyzB"


def test_view_aliases_client_memory(dma: DmaMap) -> None:
    with dma.view(16 * PAGE + 8, 4) as view:
        view[:] = b"view"
    assert dma.read(16 * PAGE + 8, 5) == b"viewA"


def test_view_does_not_span_windows(dma: DmaMap) -> None:
    with pytest.raises(DmaFaultError, match="no window holds it"):
        dma.view(17 * PAGE - 1, 2)


@pytest.mark.parametrize("iova", [0, 16 * PAGE - 1, 19 * PAGE, (1 << 64) - 1])
def test_address_outside_every_window_is_a_fault(dma: DmaMap, iova: int) -> None:
    with pytest.raises(DmaFaultError) as caught:
        dma.read(iova, 1)
    assert (caught.value.iova, caught.value.length) == (iova, 1)
    assert caught.value.errno == errno.EFAULT


def test_unshared_window_is_a_fault_for_direct_access(dma: DmaMap) -> None:
    with pytest.raises(DmaFaultError, match="shares no descriptor"):
        dma.read(18 * PAGE, 1)


def test_write_that_cannot_be_completed_writes_nothing(dma: DmaMap) -> None:
    with pytest.raises(DmaFaultError, match="not writeable"):
        dma.write(18 * PAGE - 4, bytes(8))
    assert dma.read(18 * PAGE - 4, 4) == b"BBBB"


def test_window_flags_are_enforced() -> None:
    dma = DmaMap()
    fd = os.memfd_create("rom")
    os.ftruncate(fd, PAGE)
    dma.map(0, PAGE, DmaFlag.READ, fd)
    with pytest.raises(DmaFaultError, match="not writeable"):
        dma.write(0, b"x")
    assert dma.read(0, 1) == b"\0"
    dma.clear()


def test_unmap_closes_descriptor_and_mapping() -> None:
    before = open_fds()
    dma = DmaMap()
    fd = os.memfd_create("ram")
    os.ftruncate(fd, PAGE)
    dma.unmap(dma.map(0, PAGE, READ_WRITE, fd))
    assert open_fds() == before
    assert len(dma) == 0


def test_failed_map_leaves_the_descriptor_to_the_caller() -> None:
    fd = os.memfd_create("ram")
    dma = DmaMap()
    with pytest.raises(ProtocolError, match="exceeds the file"):
        dma.map(0, PAGE, READ_WRITE, fd)
    os.close(fd)
    assert len(dma) == 0


def test_view_held_past_unmap_stays_readable_and_is_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dma = DmaMap()
    fd = os.memfd_create("ram")
    os.write(fd, b"x" * PAGE)
    window = dma.map(0, PAGE, READ_WRITE, fd)
    view = window.view()
    dma.unmap(window)
    assert bytes(view[:2]) == b"xx"
    assert "views of it are still held" in caplog.text
    view.release()


def test_too_many_windows_are_refused() -> None:
    dma = DmaMap(max_windows=2)
    dma.map(0, PAGE, READ_WRITE)
    dma.map(PAGE, PAGE, READ_WRITE)
    with pytest.raises(ProtocolError) as caught:
        dma.map(2 * PAGE, PAGE, READ_WRITE)
    assert caught.value.errno == errno.ENOSPC


@given(st.lists(st.tuples(st.integers(0, 63), st.integers(1, 16)), max_size=30))
def test_windows_never_overlap_and_are_found_by_every_address(
    ranges: list[tuple[int, int]],
) -> None:
    dma = DmaMap()
    owner: dict[int, tuple[int, int]] = {}
    for iova, size in ranges:
        free = not any(address in owner for address in range(iova, iova + size))
        try:
            dma.map(iova, size, READ_WRITE)
        except ProtocolError as error:
            assert error.errno == errno.EEXIST
            assert not free
        else:
            assert free
            owner.update(dict.fromkeys(range(iova, iova + size), (iova, size)))
    for address in range(80):
        if address in owner:
            window = dma.find(address)
            assert (window.iova, window.size) == owner[address]
        else:
            with pytest.raises(DmaFaultError):
                dma.find(address)
