"""Programs of one Debian release run on another, without installing anything.

A program and its library closure are unpacked in the cache and started through their own dynamic
loader, which makes the machine's C library irrelevant. QEMU and the kernel build tools come so.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vgpu_qemu.cache import Cache, content_key
from vgpu_qemu.packages import Archive


@dataclass(frozen=True)
class Runtime:
    """An unpacked set of packages with a dynamic loader in it.

    Attributes:
        root: Where the packages were unpacked.
    """

    root: Path

    @property
    def loader(self) -> Path:
        """The dynamic loader of these packages."""
        return self._libraries / "ld-linux-x86-64.so.2"

    @property
    def _libraries(self) -> Path:
        return self.root / "usr/lib/x86_64-linux-gnu"

    def command(self, program: Path) -> list[str]:
        """Return the start of a command line that runs a program with these libraries."""
        libraries = ["--library-path", str(self._libraries)]
        return [str(self.loader), *libraries, "--argv0", str(program), str(program)]


def fetch_runtime(name: str, packages: Sequence[str], archive: Archive, cache: Cache) -> Runtime:
    """Return packages with all that they depend on, fetching them when the cache lacks them.

    The versions of the first call are kept: a later call with the same names needs no network.

    Args:
        name: Names the answer in the cache and the progress report.
        packages: The packages that are wanted for themselves.
        archive: Where they come from.
        cache: Where they are kept.
    """
    answer = f"runtime-{name}"
    known = cache.recall(answer)
    if known and cache.path("runtime", known).exists():
        return Runtime(cache.path("runtime", known))
    closure = archive.closure(packages)
    key = f"{name}-{content_key(closure)}"
    entry = cache.get("runtime", key, lambda path: archive.unpack(closure, path, what=name))
    cache.remember(answer, key)
    return Runtime(entry)


def runs_here(program: Path) -> bool:
    """Tell whether this machine's own libraries suffice for a dynamically linked program."""
    done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    return done.returncode == 0 and "not found" not in done.stdout + done.stderr


def wrap_program(program: Path, runtime: Runtime, final: Path) -> None:
    """Replace a program by a script that runs it with a runtime's libraries.

    Args:
        program: The file now; the real program stays beside it as `NAME.elf`.
        runtime: The libraries to use.
        final: Where `program` is going to be when it is run.
    """
    real = program.with_name(program.name + ".elf")
    program.rename(real)
    command = " ".join(f"'{word}'" for word in runtime.command(final.with_name(real.name)))
    program.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
