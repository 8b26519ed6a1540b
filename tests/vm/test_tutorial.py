"""Every command of the tutorial, in its order and as it is written there, says what it says there.

In what the document shows of the output `...` stands for anything, whole lines too; every line that
it shows must come, in that order.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("vm"), pytest.mark.timeout(400)]

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs/tutorial/first-driver.md"


class Step(NamedTuple):
    """A command of the document, the status it shall end with, and what it is said to print."""

    command: str
    status: int
    output: list[str]


def steps() -> list[Step]:
    found = []
    text = DOCUMENT.read_text()
    for status, block in re.findall(
        r"^```console(?: status=(\d+))?\n(.*?)^```$", text, re.DOTALL | re.MULTILINE
    ):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(Step(line[2:], int(status or 0), []))
            else:
                found[-1].output.append(line)
    return found


def missing_line(shown: list[str], output: str) -> str | None:
    """The first line of the document that does not come where it should; None if all do."""
    lines = iter(output.splitlines())
    for line in shown:
        pattern = re.sub(r"([\[*?])", r"[\1]", line).replace("...", "*")
        if not any(fnmatchcase(candidate, pattern) for candidate in lines):
            return line
    return None


def environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def test_every_command_does_what_the_document_says(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    assert len(steps()) == 9
    for step in steps():
        done = subprocess.run(
            ["bash", "-c", step.command],
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        said = f"$ {step.command}\n{done.stdout}"
        assert done.returncode == step.status, said
        assert (missing := missing_line(step.output, done.stdout)) is None, f"{missing!r}: {said}"
