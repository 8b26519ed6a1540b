"""The resident model's pool of memory and its verdict, without a device."""

from __future__ import annotations

import importlib
from collections import Counter
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "guest/workloads/llm_resident"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


class Memory:
    """A driver that hands out addresses and notes what it was asked."""

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}
        self.allocations = 0
        self._addresses = count(0x1000, 0x1000)

    def allocate(self, size: int) -> int:
        self.allocations += 1
        address = next(self._addresses)
        self.sizes[address] = size
        return address

    def free(self, address: int) -> None:
        del self.sizes[address]


@pytest.fixture
def memory() -> Memory:
    return Memory()


def make_pool(load: Any, memory: Memory, cap: int) -> Any:
    return load("pool").BufferPool(cap, memory.allocate, memory.free)


def test_pool_rounds_up_to_powers_of_two_and_counts_the_room(load: Any, memory: Memory) -> None:
    pool = make_pool(load, memory, 1 << 20)
    buffer = pool.take(1000)
    assert (buffer.size, buffer.room) == (1000, 1024)
    assert pool.take(1).room == 256
    assert (pool.used, pool.held, pool.high_water) == (1280, 1280, 1280)


def test_pool_uses_a_returned_buffer_again(load: Any, memory: Memory) -> None:
    pool = make_pool(load, memory, 1 << 20)
    first = pool.take(1000)
    pool.give_back(first)
    assert pool.take(513).address == first.address
    assert (pool.hits, pool.misses, memory.allocations) == (1, 1, 1)


def test_pool_frees_what_it_keeps_before_it_refuses(load: Any, memory: Memory) -> None:
    pool = make_pool(load, memory, 4096)
    pool.give_back(pool.take(2048))
    assert pool.take(4096).room == 4096
    assert list(memory.sizes.values()) == [4096]


def test_pool_refuses_what_its_cap_does_not_allow(load: Any, memory: Memory) -> None:
    pool = make_pool(load, memory, 4096)
    pool.take(4096)
    with pytest.raises(load("pool").PoolExhaustedError, match="4096 of 4096 are in use"):
        pool.take(1)
    assert (pool.used, pool.held, memory.allocations) == (4096, 4096, 1)


def judged(load: Any, **changes: Any) -> str:
    """The verdict on a hundred tokens that were decoded well but for `changes`."""
    fallbacks: Counter[tuple[str, str]] = changes.pop("fallbacks", Counter())
    busy_share = changes.pop("busy_share", 0.95)
    well = {"launches": 100, "kernels": 9500, "waits": 100, "to_host_bytes": 400}
    traffic = load("device").Traffic(**(well | changes))
    code: str = load("verdict").judge(traffic, 100, fallbacks, busy_share).code
    return code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, "RESIDENT"),
        ({"launches": 0}, "DETECTED_NOT_USED"),
        ({"fallbacks": Counter({("linear", "no kernel"): 1})}, "PARTLY_CPU"),
        ({"weight_bytes": 1, "to_device_bytes": 1 << 30}, "WEIGHTS_NOT_RESIDENT"),
        ({"to_device_bytes": 1300}, "TRAFFIC_BOUND"),
        ({"allocations": 1}, "ALLOCATING"),
        ({"waits": 201}, "SYNC_BOUND"),
        ({"launches": 9500, "busy_share": 0.4}, "LAUNCH_BOUND"),
        ({"launches": 9500}, "RESIDENT"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_verdict_names_the_first_thing_that_is_wrong(
    load: Any, changes: dict[str, Any], code: str
) -> None:
    assert judged(load, **changes) == code


def test_time_in_which_the_device_worked_is_shared_among_windows(load: Any) -> None:
    timeline: ModuleType = load("timeline")
    found = timeline.shares([(0.0, 0.25), (0.5, 1.0)], 1.0)
    assert sum(found) / len(found) == pytest.approx(0.75)
    assert (found[10], found[75], found[150]) == (pytest.approx(1), 0, pytest.approx(1))
