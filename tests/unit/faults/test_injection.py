"""Every kind that a worker has to inject is injected somewhere."""

from __future__ import annotations

from vgpu_host.injection.commands import COMMAND_FAULTS
from vgpu_host.injection.completions import COMPLETION_FAULTS
from vgpu_host.injection.interrupts import INTERRUPT_FAULTS
from vgpu_host.injection.memory import INLINE_FAULTS, MEMORY_FAULTS
from vgpu_stub.faults import KINDS, Point


def test_every_kind_of_a_worker_is_injected_there() -> None:
    injected = {
        Point.EXECUTE: COMMAND_FAULTS,
        Point.COMPLETE: COMPLETION_FAULTS,
        Point.DATA: MEMORY_FAULTS,
        Point.INTERRUPT: INTERRUPT_FAULTS,
    }
    for point, functions in injected.items():
        assert set(functions) == {kind.name for kind in KINDS.values() if kind.point is point}
    assert set(INLINE_FAULTS) <= set(MEMORY_FAULTS)
