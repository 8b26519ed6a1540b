"""What the tutorial shows of its example is what the example has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs/tutorial/first-driver.md"
EXAMPLE = ROOT / "examples/first-driver"
SOURCES = {"c": "first_driver.c", "python": "test_first_driver.py", "diff": "survive.patch"}


def excerpts(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT.read_text(), re.DOTALL | re.M)
    return [str(text) for text in found]


@pytest.mark.parametrize("language", SOURCES)
def test_excerpts_are_of_the_example(language: str) -> None:
    source = (EXAMPLE / SOURCES[language]).read_text()
    assert excerpts(language)
    assert [text for text in excerpts(language) if text not in source] == []


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", DOCUMENT.read_text())
    assert [link for link in links if not (DOCUMENT.parent / link).exists()] == []
