"""The folders of the tree must not hide other packages of the same names, such as qemu.qmp."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

import pytest
import qemu.qmp

import qemu
import vgpu_host
import vgpu_qemu
import vgpu_stub

ROOT = Path(__file__).resolve().parents[2]


def test_qemu_stays_a_namespace_that_others_add_to() -> None:
    assert qemu.__file__ is None
    assert qemu.qmp.QMPClient.__module__ == "qemu.qmp.qmp_client"


@pytest.mark.parametrize("folder", ["host", "qemu", "guest"])
def test_folders_that_hold_packages_are_none_themselves(folder: str) -> None:
    assert (ROOT / folder).is_dir()
    assert not (ROOT / folder / "__init__.py").exists()


def test_packages_are_imported_from_this_tree() -> None:
    found = [Path(str(package.__file__)).parent for package in (vgpu_stub, vgpu_host, vgpu_qemu)]
    assert found == [ROOT / "vgpu_stub", ROOT / "host/vgpu_host", ROOT / "qemu/vgpu_qemu"]


def test_every_package_says_that_it_is_typed() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = packages["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert [folder for folder in folders if not (ROOT / folder / "py.typed").exists()] == []


def test_the_command_is_installed() -> None:
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="vgpu-stub")
    assert callable(entry.load())
