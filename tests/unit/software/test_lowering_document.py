"""docs/lowering.md shows what the translator does now.

Each excerpt follows a comment that names a stage, options, and the first and last line as regular
expressions. With VGPU_STUB_UPDATE_DOCUMENTS=1 the test writes the excerpts anew.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

import llvmlite.binding as llvm
import pytest
from typer.testing import CliRunner

from vgpu_stub.cli.main import typer_app

DOCUMENT = Path(__file__).parents[3] / "docs/lowering.md"
UPDATES = "VGPU_STUB_UPDATE_DOCUMENTS" in os.environ
_INDENT = " " * 4
_MARKER = re.compile(r"<!-- (?P<stage>\w+)(?P<options>[^:\n]*)(?:: (?P<range>.*))? -->\n\n")
_BLOCK = re.compile(r"(?:    .*\n|\n(?=    ))+")
_NUMBERED = re.compile(r"(%t|\brow|\bok|\bfault)\d+(?:\.i)?")
_WIDTH = 120


def excerpts() -> list[tuple[str, str, int, int]]:
    """Stage with its options, range, and where the block begins and ends in the document."""
    text = DOCUMENT.read_text()
    found = []
    for marker in _MARKER.finditer(text):
        block = _BLOCK.match(text, marker.end())
        assert block, marker.group()
        options = f"{marker['stage']}{marker['options']}"
        found.append((options, marker["range"] or "", block.start(), block.end()))
    return found


def block_of(start: int, end: int) -> str:
    lines = DOCUMENT.read_text()[start:end].splitlines()
    return "\n".join(line.removeprefix(_INDENT) for line in lines)


@cache
def stage(command: str, ptx: Path) -> tuple[str, ...]:
    """The output of `ptx dump` for a stage with options."""
    name, *options = command.split()
    result = CliRunner().invoke(typer_app, ["ptx", "dump", str(ptx), "--stage", name, *options])
    assert result.exit_code == 0, result.output
    lines = (line.expandtabs(1).partition("; preds")[0] for line in result.stdout.splitlines())
    return tuple(line.rstrip() for line in lines)


def chosen(lines: tuple[str, ...], first: str, last: str) -> str:
    """The shortest piece that begins with a line that matches `first` and ends with `last`."""
    starts = [index for index, line in enumerate(lines) if re.search(first, line)]
    end = next(index for index in range(starts[0], len(lines)) if re.search(last, lines[index]))
    start = max(index for index in starts if index <= end)
    return readable(lines[start : end + 1])


def readable(lines: tuple[str, ...]) -> str:
    """Lines of a page's width, temporaries numbered from 1 on."""
    names: dict[str, str] = {}

    def rename(match: re.Match[str]) -> str:
        known = sum(name.startswith(match[1]) for name in names.values())
        return names.setdefault(match.group(), f"{match[1]}{known + 1}")

    renamed = (_NUMBERED.sub(rename, line) for line in lines)
    return "\n".join(
        line if len(line) <= _WIDTH else f"{line[: _WIDTH - 3]}..." for line in renamed
    )


@pytest.fixture(scope="module")
def ptx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lowering") / "saxpy.ptx"
    ((_, _, start, end),) = [each for each in excerpts() if each[0] == "source"]
    path.write_text(block_of(start, end))
    return path


def is_for_this_machine(command: str) -> bool:
    """Whether a stage comes out here as on the machine that wrote the document."""
    if command not in ("optimized", "assembly"):
        return True
    release = re.search(r"LLVM (\d+)", DOCUMENT.read_text())
    assert release
    is_release = llvm.llvm_version_info[0] == int(release[1])
    return is_release and "avx512f" in Path("/proc/cpuinfo").read_text()


@pytest.mark.parametrize("number", range(1, len(excerpts())))
def test_excerpts_are_as_the_translator_makes_them(ptx: Path, number: int) -> None:
    command, lines, start, end = excerpts()[number]
    if not is_for_this_machine(command):
        pytest.skip("machine code for another processor, or of another release of LLVM")
    first, last = lines.split(" .. ")
    now = chosen(stage(command, ptx), first, last)
    if UPDATES:
        text = DOCUMENT.read_text()
        block = "".join(f"{_INDENT}{line}\n" if line else "\n" for line in now.splitlines())
        DOCUMENT.write_text(text[:start] + block + text[end:])
    shown = block_of(*excerpts()[number][2:])
    assert shown == now, "docs/lowering.md is stale: set VGPU_STUB_UPDATE_DOCUMENTS=1, and read it"
