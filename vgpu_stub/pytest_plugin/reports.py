"""Attaches to a failed test what explains it: sections of the report, and files on request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

import pytest

from vgpu_stub.pytest_plugin.settings import option_of


class Witness(Protocol):
    """Something that a test used and that can say what it saw."""

    def explain(self) -> Mapping[str, str]:
        """Texts by title; must not fail because what it is about has."""
        ...


_WITNESSES: Final = pytest.StashKey[list[Witness]]()


def add_witness(item: pytest.Item, witness: Witness) -> None:
    """Have something asked when the test fails."""
    item.stash.setdefault(_WITNESSES, []).append(witness)


def attach_witnesses(item: pytest.Item, report: pytest.TestReport) -> None:
    """Add to a report what the witnesses of a test say, once.

    With `--vgpu-artifacts` each text is written to a file too, which is named in the report's
    properties: JUnit XML shows them.
    """
    for witness in item.stash.get(_WITNESSES, []):
        _attach(item, report, witness.explain())
    item.stash[_WITNESSES] = []


def _attach(item: pytest.Item, report: pytest.TestReport, sections: Mapping[str, str]) -> None:
    artifacts = option_of(item.config, "artifacts")
    folder = Path(str(artifacts)) / _file_name(item.nodeid) if artifacts else None
    for title, text in sections.items():
        if not text.strip():
            continue
        report.sections.append((f"VGPU-STUB: {title}", text))
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{_file_name(title)}.txt"
            path.write_text(text + "\n")
            item.user_properties.append((f"vgpu_{_file_name(title)}", str(path)))


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text).strip("_")[-150:]
