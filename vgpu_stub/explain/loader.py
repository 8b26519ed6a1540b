"""What the dynamic linker says about each process: which libraries, from where, and what failed.

glibc's `LD_DEBUG=libs,files` writes it to one file for each process; a process that starts another
program keeps its file. Only the lines that say something about a library's fate are read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

#: Values of LD_DEBUG that make the linker write what is read here.
TOPICS: Final = "libs,files"

_LINE: Final = re.compile(r"^\s*\d+:\s(.*)$")
_WANTED: Final = re.compile(
    r"^\s*file=(.+?) \[\d+\];\s+(needed|dynamically loaded) by (.+?) \[\d+\]"
)
_MAPPED: Final = re.compile(r"^\s*file=(.+?) \[\d+\];\s+generating link map")
_READY: Final = re.compile(r"^\s*calling init: (.+)$")
_PROGRAM: Final = re.compile(r"^\s*initialize program: (.+)$")
_ERROR: Final = re.compile(r"^\s*(.+?): error: (.+?): (.+) \((?:fatal|continued)\)$")


@dataclass(frozen=True)
class Wanted:
    """A library that another object asked for; `dynamic` when by dlopen."""

    name: str
    by: str
    dynamic: bool


@dataclass(frozen=True)
class LoadError:
    """Why an object could not be used, as the linker put it."""

    path: str
    text: str


@dataclass
class LinkerLog:
    """One process.

    Attributes:
        pid: Process id.
        programs: What it ran, one after the other.
        loaded: Path of each object that was initialised.
        wanted: Who asked for what.
        missing: What was asked for and never found.
        errors: What was found and could not be used.
    """

    pid: int
    programs: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    wanted: list[Wanted] = field(default_factory=list)
    missing: list[Wanted] = field(default_factory=list)
    errors: list[LoadError] = field(default_factory=list)

    def path_of(self, stem: str) -> str | None:
        """Path of the loaded library whose file name is `stem` or starts with `stem` and a dot."""
        for path in self.loaded:
            name = Path(path).name
            if name == stem or name.startswith(stem + "."):
                return path
        return None


def parse_linker_log(pid: int, text: str) -> LinkerLog:
    """Read one file of the linker."""
    log = LinkerLog(pid)
    mapped: set[str] = set()
    for line in text.splitlines():
        match = _LINE.match(line)
        if not match:
            continue
        content = match.group(1)
        if found := _WANTED.match(content):
            name, how, by = found.groups()
            log.wanted.append(Wanted(name, by, how != "needed"))
        elif found := _MAPPED.match(content):
            mapped.add(found.group(1))
        elif found := _READY.match(content):
            log.loaded.append(found.group(1))
        elif found := _PROGRAM.match(content):
            log.programs.append(found.group(1))
        elif found := _ERROR.match(content):
            path, occasion, reason = found.groups()
            # Of an object that is loaded already, a program asked for a symbol that may be absent.
            if path not in log.loaded:
                log.errors.append(LoadError(path, f"{occasion}: {reason}"))
    names = {Path(path).name for path in (*mapped, *log.loaded)}
    log.missing = [
        wanted for wanted in dict.fromkeys(log.wanted) if Path(wanted.name).name not in names
    ]
    return log


def read_linker_logs(folder: Path, prefix: str) -> dict[int, LinkerLog]:
    """Read every file `<prefix>.<pid>` of a folder, by process id."""
    logs = {}
    for path in folder.glob(f"{prefix}.*"):
        pid = int(path.suffix[1:])
        logs[pid] = parse_linker_log(pid, path.read_text(errors="replace"))
    return logs
