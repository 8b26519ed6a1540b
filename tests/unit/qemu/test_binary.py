"""Which QEMU is accepted, tried on scripts that answer as QEMU does."""

from __future__ import annotations

from pathlib import Path

import pytest

from vgpu_qemu import binary
from vgpu_qemu.binary import find_qemu, parse_version
from vgpu_qemu.cache import Cache
from vgpu_qemu.errors import PackageError, QemuNotFoundError


def fake_qemu(path: Path, version: str, *, vfio_user: bool = True) -> Path:
    """Write a program that answers `--version` and `-device help`, and counts its calls."""
    device = "echo 'name \"vfio-user-pci\", bus PCI'" if vfio_user else "true"
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        f"#!/bin/sh\necho x >>{path}.calls\n"
        f'if [ "$1" = --version ]; then echo "QEMU emulator version {version} (Debian)"; '
        f"else {device}; fi\n"
    )
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise PackageError("no network in this test")

    monkeypatch.setattr(binary, "Archive", refuse)
    monkeypatch.delenv("VGPU_STUB_QEMU", raising=False)


def test_program_on_the_path_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = fake_qemu(tmp_path / "bin" / "qemu-system-x86_64", "10.1.0")
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    found = find_qemu(cache=Cache(tmp_path / "cache"))
    assert (found.command, found.version) == ((str(program),), (10, 1, 0))


def test_program_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = fake_qemu(tmp_path / "bin" / "q", "11.0.1")
    monkeypatch.setenv("VGPU_STUB_QEMU", str(program))
    for _ in range(3):
        find_qemu(cache=Cache(tmp_path / "cache"))
    assert Path(f"{program}.calls").read_text() == "x\nx\n"


@pytest.mark.parametrize(
    ("version", "vfio_user", "words"),
    [("10.0.13", True, "QEMU 10.0.13 with"), ("11.1.3", False, "QEMU 11.1.3 without")],
)
def test_chosen_program_that_will_not_do_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, vfio_user: bool, words: str
) -> None:
    program = fake_qemu(tmp_path / "bin" / "q", version, vfio_user=vfio_user)
    monkeypatch.setenv("VGPU_STUB_QEMU", str(program))
    with pytest.raises(QemuNotFoundError, match=f"{words} vfio-user-pci; needed: >= 10.1"):
        find_qemu(cache=Cache(tmp_path / "cache"))


def test_no_program_and_no_download_says_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = fake_qemu(tmp_path / "bin" / "qemu-system-x86_64", "8.2.2", vfio_user=False)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    with pytest.raises(QemuNotFoundError) as caught:
        find_qemu(cache=Cache(tmp_path / "cache"))
    text = str(caught.value)
    assert "QEMU 8.2.2 without" in text
    assert "no network in this test" in text
    assert "set VGPU_STUB_QEMU" in text


def test_version_of_a_distribution_build() -> None:
    assert parse_version("QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds-1)") == (11, 1, 3)
    assert parse_version("not qemu") == ()
