"""What copies may touch on a physical GPU: the ranges of allocations and variables."""

from __future__ import annotations

import pytest

from vgpu_host.executors.base import CudaError
from vgpu_host.executors.cuda_ranges import Ranges


@pytest.fixture
def ranges() -> Ranges:
    made = Ranges()
    made.add(0x1000, 0x100)
    made.add(0x2000, 0x100)
    return made


@pytest.mark.parametrize(("start", "size"), [(0x1000, 0x100), (0x10FF, 1), (0x2010, 0x10)])
def test_ranges_within_one_allocation_are_allowed(ranges: Ranges, start: int, size: int) -> None:
    ranges.check(start, size)


@pytest.mark.parametrize(
    ("start", "size"), [(0xFFF, 1), (0x1000, 0x101), (0x1100, 1), (0x10FF, 2), (0x1000, 1 << 63)]
)
def test_ranges_beyond_an_allocation_are_refused(ranges: Ranges, start: int, size: int) -> None:
    with pytest.raises(CudaError) as refused:
        ranges.check(start, size)
    assert refused.value.result == 1


def test_removed_range_does_not_hide_one_around_it(ranges: Ranges) -> None:
    ranges.remove(0x2000)
    ranges.add(0x1800, 0x1000)
    ranges.check(0x2080, 0x100)
    with pytest.raises(CudaError):
        ranges.check(0x2000, 0x1000)
