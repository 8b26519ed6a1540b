"""docs/faults.md says what the registry says."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from vgpu_stub.faults import KINDS, Kind, Rule, Selectors

DOCUMENT = (Path(__file__).parents[3] / "docs/faults.md").read_text()


def row(kind: Kind) -> str:
    parameters = ", ".join(f"`{p.name}={p.default}`" for p in kind.parameters) or "-"
    cells = (f"`{kind.name}`", kind.point.value, kind.summary, kind.guest_sees, parameters)
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_document_has_the_row_of_every_kind(kind: Kind) -> None:
    assert row(kind) in DOCUMENT.splitlines()


def test_document_has_no_other_kinds() -> None:
    table = DOCUMENT.partition("\n## Kinds\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([a-z0-9-]+)` \|", table, re.MULTILINE) == list(KINDS)


def test_document_explains_every_selector() -> None:
    for selector in fields(Selectors):
        assert f"`{selector.name}`" in DOCUMENT


def test_examples_are_rules() -> None:
    for text in re.findall(r"(?:--fault|faults add) (\S+)", DOCUMENT):
        Rule.parse(text)
    (file,) = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)
    assert len([Rule.from_json(table) for table in tomllib.loads(file)["fault"]]) == 2
