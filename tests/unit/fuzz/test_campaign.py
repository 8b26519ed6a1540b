"""Campaigns against planted bugs: found, made small, and written as a test that fails."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.unit.fuzz.planted import Add, Double, Planted, Raising
from vgpu_stub.fuzz.campaign import Found, Settings, Tally, run_campaign
from vgpu_stub.fuzz.corpus import Corpus
from vgpu_stub.fuzz.operations import Finding, Operation, as_python, from_json, read_case, to_json
from vgpu_stub.fuzz.reducer import reduce_sequence

_PLANTED = "tests.unit.fuzz.planted"


def campaign(name: str, folder: Path, limit_s: float = 30.0) -> Tally:
    settings = Settings(
        f"{_PLANTED}:{name}", seed=1, sequences=20, output=folder, reduce_s=20.0, limit_s=limit_s
    )
    return run_campaign(settings)


def only(tally: Tally) -> Found:
    (found,) = tally.found.values()
    return found


def smallest(found: Found) -> list[Operation]:
    assert found.path is not None
    return read_case(found.path.with_suffix(".json"), Planted.kinds)


def test_target_without_bugs_has_no_findings(tmp_path: Path) -> None:
    tally = campaign("Planted", tmp_path)
    assert (tally.found, tally.sequences) == ({}, 20)
    assert tally.operations > 100


def test_same_seed_finds_the_same(tmp_path: Path) -> None:
    first, second = (only(campaign("Raising", tmp_path / name)) for name in ("first", "second"))
    assert (first.count, first.failure) == (second.count, second.failure)
    assert smallest(first) == smallest(second)


def test_finding_becomes_the_smallest_test_that_fails(tmp_path: Path) -> None:
    found = only(campaign("Raising", tmp_path))
    assert found.failure.signature == "the counter overflowed"
    operations = smallest(found)
    assert len(operations) <= 3
    assert operations[-1] == Double()
    with pytest.raises(Finding):
        Raising().run(operations)
    for place in range(len(operations)):
        Raising().run(operations[:place] + operations[place + 1 :])
    assert found.path is not None
    spec = importlib.util.spec_from_file_location("written", found.path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.raises(AssertionError, match="the counter overflowed\nat "):
        module.test_the_counter_overflowed()


def test_death_of_the_process_is_a_finding_and_the_campaign_goes_on(tmp_path: Path) -> None:
    tally = campaign("Dying", tmp_path)
    found = only(tally)
    assert found.failure.signature == "the process died: SIGSEGV"
    assert "Fatal Python error: Segmentation fault" in found.failure.detail
    assert tally.sequences + found.count == 20
    assert smallest(found)[-1] == Double()


def test_sequence_without_end_is_a_finding(tmp_path: Path) -> None:
    settings = Settings(
        f"{_PLANTED}:Hanging", seed=1, sequences=4, output=tmp_path, reduce_s=0.0, limit_s=0.5
    )
    found = only(run_campaign(settings))
    assert found.failure.signature == "no end within 0.5 s"
    assert "in double" in found.failure.detail


def test_sequence_survives_json_and_python() -> None:
    sequence: list[Operation] = [Add(1 << 40, b"\0\xff"), Double(), Add(3)]
    assert from_json(to_json(sequence), Planted.kinds) == sequence
    assert eval(as_python(sequence)) == sequence


def test_json_of_another_target_is_refused() -> None:
    with pytest.raises(ValueError, match="none of Add, Double"):
        from_json('[{"kind": "Send"}]', Planted.kinds)


def test_reducer_keeps_what_the_failure_needs() -> None:
    def fails(candidate: list[Operation]) -> bool:
        return Double() in candidate and any(
            isinstance(one, Add) and one.amount >= 100 and b"x" in one.label for one in candidate
        )

    sequence = [Add(5, b"a"), Double(), Add(999, b"abcxyz"), Add(7), Double()]
    smaller = reduce_sequence(sequence, fails)
    assert len(smaller) == 2
    assert Double() in smaller
    (added,) = [one for one in smaller if isinstance(one, Add)]
    assert added.label == b"x"
    assert added.amount < 999


def test_corpus_keeps_only_what_ends_in_a_new_way(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, Planted.kinds)
    assert corpus.consider([Add(1), Double()], ["ok", "refused"])
    assert not corpus.consider([Add(2), Double()], ["ok", "refused"])
    assert corpus.consider([Double(), Add(2)], ["refused", "ok"])
    assert len(Corpus(tmp_path, Planted.kinds)) == 2
