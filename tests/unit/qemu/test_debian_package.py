"""The package of our CUDA libraries is what Debian's CUDA programs depend on."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from vgpu_qemu.debian_package import build_package
from vgpu_qemu.errors import PackageError

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is missing")

LIBRARIES = (
    *("libcuda.so.1", "libcudart.so.12", "libcudart.so.13", "libcublas.so.12"),
    *("libcublas.so.13", "libnvidia-ml.so.1"),
)
#: Of Debian's libggml0-backend-cuda 0.27.0, as far as CUDA goes.
WANTED = "libcublas12, libcuda1 (>= 440) | libcuda.so.1 (>= 440), libcudart12"


@pytest.fixture
def libraries(tmp_path: Path) -> Path:
    folder = tmp_path / "build"
    folder.mkdir()
    for name in LIBRARIES:
        (folder / name).write_bytes(name.encode() * 1000)
    (tmp_path / "LICENSE").write_text("MIT")
    return folder


def build(libraries: Path, folder: str = "dist", version: str = "1.2.3") -> Path:
    parent = libraries.parent
    return build_package(libraries, parent / "LICENSE", version, parent / folder)


def output(*command: str | Path) -> str:
    return subprocess.run(
        [str(part) for part in command], check=True, capture_output=True, text=True
    ).stdout


def test_provides_what_debians_cuda_backend_depends_on(libraries: Path) -> None:
    package = build(libraries)
    assert package.name == "vgpu-stub-cuda_1.2.3_amd64.deb"
    provides = dict(
        re.findall(r"(\S+) \(= ([\d.]+)\)", output("dpkg-deb", "--field", package, "Provides"))
    )
    for clause in WANTED.split(", "):
        names = [re.match(r"\S+", choice)[0] for choice in clause.split(" | ")]  # type: ignore[index]
        assert set(names) & provides.keys(), clause
    assert int(provides["libcuda1"]) >= 440
    conflicts = output("dpkg-deb", "--field", package, "Conflicts")
    assert set(conflicts.strip().split(", ")) == set(provides)


def test_holds_the_libraries_owned_by_root(libraries: Path) -> None:
    listing = output("dpkg-deb", "--contents", build(libraries))
    files = {line.split()[5]: line.split()[:2] for line in listing.splitlines()}
    for name in LIBRARIES:
        mode, owner = files[f"./usr/lib/x86_64-linux-gnu/{name}"]
        assert (mode, owner) == ("-rw-r--r--", "root/root")
    assert "./usr/share/doc/vgpu-stub-cuda/copyright" in files


def test_equal_libraries_give_an_equal_package(libraries: Path) -> None:
    assert build(libraries, "first").read_bytes() == build(libraries, "second").read_bytes()


def test_library_that_was_not_built_is_not_provided(libraries: Path) -> None:
    (libraries / "libcudart.so.12").unlink()
    assert "libcudart12" not in output("dpkg-deb", "--field", build(libraries), "Provides")


def test_nothing_is_written_without_libcuda_or_a_version(libraries: Path) -> None:
    with pytest.raises(PackageError, match="is no version"):
        build(libraries, version="main")
    (libraries / "libcuda.so.1").unlink()
    with pytest.raises(PackageError, match=r"has no libcuda\.so\.1"):
        build(libraries)
    assert not (libraries.parent / "dist").exists()
