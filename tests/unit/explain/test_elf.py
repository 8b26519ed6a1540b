"""Exported symbols of shared objects."""

from __future__ import annotations

import subprocess
from pathlib import Path

from vgpu_stub.explain.elf import exported_symbols


def test_only_what_an_object_defines_is_exported(tmp_path: Path) -> None:
    source, target = tmp_path / "a.c", tmp_path / "a.so"
    source.write_text(
        "int used(void); static int own(void) { return used(); } int f(void) { return own(); }"
    )
    subprocess.run(["cc", "-shared", "-fPIC", str(source), "-o", str(target)], check=True)
    found = exported_symbols(target)
    assert "f" in found
    assert not found & {"used", "own"}


def test_other_files_export_nothing(tmp_path: Path) -> None:
    text, cut = tmp_path / "text", tmp_path / "cut"
    text.write_text("#!/bin/sh\n")
    cut.write_bytes(b"\x7fELF\x02\x01" + bytes(10))
    assert exported_symbols(text) == exported_symbols(cut) == frozenset()
    assert exported_symbols(tmp_path / "none") == frozenset()
