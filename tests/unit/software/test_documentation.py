"""docs/software-gpu.md says what the software GPU takes, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from vgpu_host.executors.software.codegen import kernel
from vgpu_host.executors.software.codegen.registry import TABLE
from vgpu_host.executors.software.errors import UnsupportedError
from vgpu_host.executors.software.index import index_module
from vgpu_host.executors.software.parser import parse_function

DOCUMENT = (Path(__file__).parents[3] / "docs/software-gpu.md").read_text()
#: What the flow of control takes itself, without the table.
CONTROL = {"bra", "brx", "call", "ret", "exit"}


def documented() -> set[str]:
    table = DOCUMENT.split("| family | instructions | how |\n")[1].split("\n\n")[0]
    names: set[str] = set()
    for row in table.splitlines():
        instructions = row.split("|")[2]
        names |= set(re.findall(r"`([a-z_]\w*)`", instructions))
    return names


def test_every_instruction_is_documented() -> None:
    assert kernel.FAMILIES
    assert documented() == set(TABLE) | CONTROL


def test_what_is_said_to_be_refused_is_refused() -> None:
    (sentence,) = re.findall(r"Refused by name, among others: (.*)\.", DOCUMENT)
    names = set(re.findall(r"`(\w+)`", sentence))
    assert len(names) > 5
    assert not names & (set(TABLE) | CONTROL)


def test_control_instructions_are_parsed() -> None:
    body = b"bra END; L: .branchtargets END; brx.idx 0, L; @%p ret; END: exit;"
    source = index_module(
        b".version 7.0\n.target sm_61\n.address_size 64\n.entry f() { .reg .pred %p; "
        + body
        + b" }"
    )
    try:
        parse_function(source, "f")
    except UnsupportedError as error:
        raise AssertionError(error.reason) from error
