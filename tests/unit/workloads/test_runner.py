"""How programs' results are compared: what is a deviation, and what is too much of it."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

WORKLOADS = Path(__file__).resolve().parents[3] / "guest/workloads"


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(WORKLOADS))
    return importlib.import_module("runner")


def test_a_deviation_is_relative_to_the_largest_element(runner: ModuleType) -> None:
    got, expected = np.array([1.0, -3.5, 0.0]), np.array([1.0, -4.0, 0.1])
    assert runner.compare(got, expected) == runner.Outcome(False, 0.125)
    assert runner.compare(got, expected, 0.125) == runner.Outcome(True, 0.125)
    assert runner.compare(got, got) == runner.Outcome(True, 0.0)


def test_integers_have_no_wrap_around(runner: ModuleType) -> None:
    outcome = runner.compare(np.array([255], np.uint8), np.array([0], np.uint8))
    assert outcome == runner.Outcome(False, 255.0)


def test_what_cannot_be_compared_is_wrong(runner: ModuleType) -> None:
    assert not runner.compare(np.array([np.nan]), np.array([1.0]), 1.0).right
    assert not runner.compare(np.zeros(3), np.zeros(4), 1.0).right


def test_the_worst_of_several_results_counts(runner: ModuleType) -> None:
    good, bad, plain = runner.Outcome(True, 0.1), runner.Outcome(False, 0.3), runner.Outcome(True)
    assert runner.worst(good, plain) == good
    assert runner.worst(good, bad, plain) == bad
    assert runner.worst(plain) == plain
