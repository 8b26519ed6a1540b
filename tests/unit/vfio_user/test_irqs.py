"""Interrupt table: binding, masking, and eventfds that cannot take another count."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vgpu_stub.vfio_user import Irq, IrqInfoFlag, IrqSetFlag, IrqTable
from vgpu_stub.vfio_user.messages import IrqSet

MASKABLE = 0
PLAIN = 2
EVENTFD, NONE, BOOL = IrqSetFlag.DATA_EVENTFD, IrqSetFlag.DATA_NONE, IrqSetFlag.DATA_BOOL
TRIGGER, MASK, UNMASK = (
    IrqSetFlag.ACTION_TRIGGER,
    IrqSetFlag.ACTION_MASK,
    IrqSetFlag.ACTION_UNMASK,
)


@pytest.fixture
def irqs() -> Iterator[IrqTable]:
    table = IrqTable([Irq(MASKABLE, 2, IrqInfoFlag.EVENTFD | IrqInfoFlag.MASKABLE), Irq(PLAIN, 4)])
    yield table
    table.clear()


@pytest.fixture
def eventfd() -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    yield fd
    os.close(fd)


def count(eventfd: int) -> int:
    """Return how often an eventfd was rung since the last look."""
    try:
        return os.eventfd_read(eventfd)
    except BlockingIOError:
        return 0


def bind(irqs: IrqTable, index: int, vector: int, eventfd: int, action: IrqSetFlag) -> None:
    irqs.apply(IrqSet(int(EVENTFD | action), index, vector, 1), [os.dup(eventfd)])


def test_unbound_vector_rings_nothing(irqs: IrqTable) -> None:
    assert not irqs.trigger(PLAIN, 3)
    assert irqs.dup_eventfd(PLAIN, 3) is None


def test_masked_interrupt_is_delivered_once_on_unmask(irqs: IrqTable, eventfd: int) -> None:
    bind(irqs, MASKABLE, 0, eventfd, TRIGGER)
    irqs.apply(IrqSet(int(NONE | MASK), MASKABLE, 0, 1), [])
    assert not irqs.trigger(MASKABLE, 0)
    assert not irqs.trigger(MASKABLE, 0)
    assert count(eventfd) == 0
    irqs.apply(IrqSet(int(NONE | UNMASK), MASKABLE, 0, 1), [])
    assert count(eventfd) == 1
    irqs.apply(IrqSet(int(NONE | UNMASK), MASKABLE, 0, 1), [])
    assert count(eventfd) == 0


def test_mask_applies_where_the_boolean_is_true(irqs: IrqTable, eventfd: int) -> None:
    bind(irqs, MASKABLE, 0, eventfd, TRIGGER)
    bind(irqs, MASKABLE, 1, eventfd, TRIGGER)
    irqs.apply(IrqSet(int(BOOL | MASK), MASKABLE, 0, 2, b"\0\1"), [])
    assert irqs.trigger(MASKABLE, 0)
    assert not irqs.trigger(MASKABLE, 1)


def test_eventfds_bound_to_masking_ring_with_it(irqs: IrqTable, eventfd: int) -> None:
    bind(irqs, MASKABLE, 0, eventfd, MASK)
    irqs.apply(IrqSet(int(NONE | UNMASK), MASKABLE, 0, 1), [])
    assert count(eventfd) == 0
    irqs.apply(IrqSet(int(NONE | MASK), MASKABLE, 0, 1), [])
    assert count(eventfd) == 1


def test_disabling_forgets_mask_and_pending(irqs: IrqTable, eventfd: int) -> None:
    bind(irqs, MASKABLE, 0, eventfd, TRIGGER)
    irqs.apply(IrqSet(int(NONE | MASK), MASKABLE, 0, 1), [])
    irqs.trigger(MASKABLE, 0)
    assert irqs.apply(IrqSet(int(NONE | TRIGGER), MASKABLE, 0, 0), []) == range(2)
    bind(irqs, MASKABLE, 0, eventfd, TRIGGER)
    assert count(eventfd) == 0
    assert irqs.trigger(MASKABLE, 0)


def test_binding_without_descriptors_unbinds_that_range(irqs: IrqTable, eventfd: int) -> None:
    for vector in range(4):
        bind(irqs, PLAIN, vector, eventfd, TRIGGER)
    irqs.apply(IrqSet(int(EVENTFD | TRIGGER), PLAIN, 1, 2), [])
    assert [irqs.is_enabled(PLAIN, vector) for vector in range(4)] == [True, False, False, True]


@pytest.mark.parametrize("flags", [os.EFD_NONBLOCK, 0])
def test_full_eventfd_does_not_block_the_device(irqs: IrqTable, flags: int) -> None:
    full = os.eventfd(0, flags)
    os.eventfd_write(full, (1 << 64) - 2)
    bind(irqs, PLAIN, 0, full, TRIGGER)
    assert irqs.trigger(PLAIN, 0)
    assert os.eventfd_read(full) == (1 << 64) - 2
    os.close(full)


def test_duplicate_rings_the_same_interrupt(irqs: IrqTable, eventfd: int) -> None:
    bind(irqs, PLAIN, 2, eventfd, TRIGGER)
    duplicate = irqs.dup_eventfd(PLAIN, 2)
    assert duplicate is not None
    os.eventfd_write(duplicate, 1)
    os.close(duplicate)
    assert count(eventfd) == 1


def test_clear_closes_every_eventfd(eventfd: int) -> None:
    irqs = IrqTable([Irq(PLAIN, 4)])
    before = len(list(Path("/proc/self/fd").iterdir()))
    for vector in (0, 1, 1, 3):
        bind(irqs, PLAIN, vector, eventfd, TRIGGER)
    irqs.clear()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
