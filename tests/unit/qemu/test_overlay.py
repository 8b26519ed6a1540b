"""What goes into the overlay, before it becomes an image."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from vgpu_qemu import overlay
from vgpu_qemu.cache import Cache
from vgpu_qemu.errors import ImageError
from vgpu_qemu.overlay import OverlayFile, build_overlay


@pytest.fixture
def listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, bytes]]:
    """Replace the image writer by one that notes type, mode and content of each member."""
    noted: dict[str, tuple[str, bytes]] = {}

    def note(archive: Path, _image: Path, _cache: Cache) -> None:
        with tarfile.open(archive) as tar:
            for member in tar:
                kind = "d" if member.isdir() else "f"
                file = tar.extractfile(member)
                noted[member.name] = (f"{kind}{member.mode:o}", file.read() if file else b"")

    monkeypatch.setattr(overlay, "make_erofs", note)
    return noted


def build(tmp_path: Path, files: list[OverlayFile], drivers: list[Path] | None = None) -> None:
    build_overlay(tmp_path / "o.erofs", files, drivers or [], Cache(tmp_path / "cache"))


def test_agent_and_drivers_are_always_there(
    tmp_path: Path, listing: dict[str, tuple[str, bytes]]
) -> None:
    driver = tmp_path / "vgpu_stub.ko"
    driver.write_bytes(b"ELF")
    build(tmp_path, [], [driver])
    assert listing["usr/lib/vgpu-stub/modules/00-vgpu_stub.ko"] == ("f644", b"ELF")
    assert listing["usr/lib/vgpu-stub"] == ("d755", b"")
    assert {"usr/lib/vgpu-stub/agent.py", "usr/lib/vgpu-stub/agent_protocol.py"} <= set(listing)


def test_directories_are_taken_whole_with_executable_bits(
    tmp_path: Path, listing: dict[str, tuple[str, bytes]]
) -> None:
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "data").write_text("d")
    (tmp_path / "tree" / "sub" / "tool").write_text("t")
    (tmp_path / "tree" / "sub" / "tool").chmod(0o700)
    build(tmp_path, [OverlayFile(tmp_path / "tree", "/opt/tree")])
    assert listing["opt/tree/data"] == ("f644", b"d")
    assert listing["opt/tree/sub/tool"] == ("f755", b"t")


def test_links_of_the_image_are_not_hidden(
    tmp_path: Path, listing: dict[str, tuple[str, bytes]]
) -> None:
    source = tmp_path / "libcuda.so.1"
    source.write_text("x")
    build(tmp_path, [OverlayFile(source, "/lib/x86_64-linux-gnu/libcuda.so.1")])
    assert "usr/lib/x86_64-linux-gnu/libcuda.so.1" in listing
    assert "lib" not in listing


@pytest.mark.parametrize("target", ["relative/path", "/a/../../etc/passwd"])
def test_targets_outside_the_root_are_refused(tmp_path: Path, target: str) -> None:
    source = tmp_path / "f"
    source.touch()
    with pytest.raises(ImageError, match="an absolute path"):
        build(tmp_path, [OverlayFile(source, target)])


def test_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"none for guest path /x does not exist"):
        build(tmp_path, [OverlayFile(tmp_path / "none", "/x")])
