"""Where device memory lies."""

from __future__ import annotations

from vgpu_host.executors.software.arena import Arena


def test_every_run_gets_the_same_pointers() -> None:
    first = Arena(1 << 20, 1 << 16)
    pointers = [first.allocate(1000), first.allocate(5)]
    first.close()
    second = Arena(1 << 20, 1 << 16)
    assert [second.allocate(1000), second.allocate(5)] == pointers
    second.close()


def test_a_second_arena_of_a_process_lies_elsewhere() -> None:
    first, second = Arena(1 << 20, 1 << 16), Arena(1 << 20, 1 << 16)
    assert not first.contains(second.base, 1)
    assert not second.contains(first.base, 1)
    first.close()
    second.close()
