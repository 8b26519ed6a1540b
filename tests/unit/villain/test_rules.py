"""Every rule of the data sheet is tried or says why not, and the data sheet's table is fresh."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vgpu_stub.villain.guest.catalogue import attacks, batches
from vgpu_stub.villain.guest.sheet import RULES, tried_by, with_table

DATA_SHEET = Path(__file__).resolve().parents[3] / "docs/device.md"


def test_every_rule_is_tried_or_says_why_not() -> None:
    tried = tried_by()
    assert [rule.number for rule in RULES if bool(tried[rule.number]) == bool(rule.not_tried)] == []


def test_attacks_try_rules_that_exist() -> None:
    assert set(tried_by()) == {rule.number for rule in RULES}
    assert [attack.id for attack in attacks() if not attack.covers] == []


def test_rules_have_numbers_of_their_own() -> None:
    numbers = [rule.number for rule in RULES]
    assert len(set(numbers)) == len(numbers)


def test_table_in_the_data_sheet_is_fresh() -> None:
    document = DATA_SHEET.read_text()
    assert with_table(document) == document, (
        "run python -m vgpu_stub.villain.guest.sheet docs/device.md"
    )


def test_there_are_more_than_150_attacks() -> None:
    assert len(attacks()) > 150


def test_names_are_words_and_areas() -> None:
    pattern = re.compile(r"[a-z]+(\.[a-z0-9]+(-[a-z0-9]+)*)+")
    assert [attack.id for attack in attacks() if not pattern.fullmatch(attack.id)] == []


@pytest.mark.parametrize(
    ("patterns", "areas"),
    [(["rings.*"], {"rings"}), (["config.flr.*", "races.*"], {"config", "races"})],
)
def test_attacks_are_chosen_by_name(patterns: list[str], areas: set[str]) -> None:
    assert {attack.area for attack in attacks(patterns)} == areas


def test_batches_hold_every_attack_once_and_one_stage_each() -> None:
    rows = list(batches(attacks()))
    assert sorted(attack.id for row in rows for attack in row) == sorted(a.id for a in attacks())
    assert all(len({(attack.area, attack.stage) for attack in row}) == 1 for row in rows)
