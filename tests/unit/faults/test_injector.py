"""When rules fire: counting, limits, chance, and what other processes have counted."""

from __future__ import annotations

from time import monotonic_ns

import pytest

from vgpu_stub.faults import FaultRuleError, Injector, Point, Rule


def fired(text: str, events: int = 12) -> list[int]:
    """Numbers of the events at which a rule fires."""
    injector = Injector()
    injector.add(Rule.parse(text))
    return [n for n in range(1, events + 1) if injector.fires(Point.COMPLETE, channel=1)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("completion-lost", [1]),
        ("completion-lost:times=3", [1, 2, 3]),
        ("completion-lost:times=0", list(range(1, 13))),
        ("completion-lost:nth=4", [4]),
        ("completion-lost:every=5", [5, 10]),
        ("completion-lost:every=3,times=2", [3, 6]),
        ("completion-lost:channel=2", []),
        ("completion-lost:after_s=60", []),
        ("completion-lost:probability=1", list(range(1, 13))),
    ],
)
def test_a_rule_fires_at_its_events(text: str, expected: list[int]) -> None:
    assert fired(text) == expected


def test_chance_is_the_same_with_the_same_seed() -> None:
    first = fired("completion-lost:probability=0.5,seed=1", 100)
    assert first == fired("completion-lost:probability=0.5,seed=1", 100)
    assert first != fired("completion-lost:probability=0.5,seed=2", 100)
    assert 30 < len(first) < 70


def test_after_s_counts_from_when_the_rule_was_added() -> None:
    injector = Injector()
    injector.add(Rule.parse("completion-lost:after_s=60"), monotonic_ns() - 61_000_000_000)
    assert injector.fires(Point.COMPLETE)


def test_the_rule_added_first_wins_and_both_count() -> None:
    injector = Injector()
    injector.add(Rule.parse("completion-lost:nth=1"))
    injector.add(Rule.parse("completion-late:times=1"))
    kinds = [getattr(injector.fires(Point.COMPLETE), "kind", None) for _ in range(3)]
    assert kinds == ["completion-lost", "completion-late", None]
    assert [(state.seen, state.fired) for state in injector.rules()] == [(3, 1), (3, 1)]


def test_a_place_can_ask_for_some_kinds_only() -> None:
    injector = Injector()
    injector.add(Rule.parse("completion-lost"))
    assert injector.fires(Point.COMPLETE, "completion-late") is None
    assert injector.rules()[0].seen == 0
    assert injector.fires(Point.COMPLETE, "completion-lost") is not None


def test_cleared_rules_are_gone_and_ids_are_not_given_again() -> None:
    changes: list[int] = []
    injector = Injector(lambda: changes.append(1))
    first = injector.add(Rule.parse("completion-lost"))
    injector.clear(first)
    assert not injector.has_rules(Point.COMPLETE)
    second = injector.add(Rule.parse("completion-lost"))
    assert second == first + 1
    with pytest.raises(FaultRuleError, match=f"no fault rule {first}; active are {second}"):
        injector.clear(first)
    injector.clear()
    assert injector.rules() == []
    assert len(changes) == 4


def test_rules_that_are_used_up_are_not_for_new_places() -> None:
    injector = Injector()
    number = injector.add(Rule.parse("completion-lost:times=2"))
    injector.add(Rule.parse("completion-lost:times=0"))
    injector.record(number, "worker 1", 1, 1, 1)
    assert len(injector.active_at(Point.COMPLETE, unspent=True)) == 2
    injector.record(number, "worker 2", 1, 1, 1)
    assert len(injector.active_at(Point.COMPLETE, unspent=True)) == 1
    assert len(injector.active_at(Point.COMPLETE)) == 2
    assert injector.active_at(Point.EXECUTE) == []


def test_counts_of_workers_are_added_up() -> None:
    injector = Injector()
    number = injector.add(Rule.parse("completion-lost"))
    injector.record(number, "worker 1", 5, 1, 100)
    injector.record(number, "worker 1", 7, 1, 100)
    injector.record(number, "worker 2", 2, 2, 90)
    injector.record(99, "worker 2", 2, 2, 90)
    (state,) = injector.rules()
    assert (state.seen, state.fired, state.last_fired_ns) == (9, 3, 100)
