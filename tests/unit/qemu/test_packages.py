"""Where Debian packages are fetched from, and what is said when they cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from vgpu_qemu import packages
from vgpu_qemu.cache import Cache
from vgpu_qemu.errors import PackageError
from vgpu_qemu.packages import TRIXIE_BACKPORTS, Archive, debian_mirror, proxy_settings


@pytest.fixture(autouse=True)
def no_mirror_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VGPU_STUB_DEBIAN_MIRROR", raising=False)
    monkeypatch.delenv("VGPU_STUB_ALLOW_EXPIRED_RELEASE", raising=False)


@pytest.fixture
def apt(tmp_path: Path) -> Path:
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


def test_mirror_of_a_one_line_source(apt: Path) -> None:
    (apt / "sources.list").write_text(
        "# deb http://old.example/debian sid main\n"
        "deb http://security.example/debian-security trixie-security main\n"
        "deb [arch=amd64 trusted=yes] http://mirror.example/debian/ trixie main\n"
    )
    assert debian_mirror(apt) == "http://mirror.example/debian"


def test_mirror_of_a_deb822_source(apt: Path) -> None:
    (apt / "sources.list.d" / "debian.sources").write_text(
        "Types: deb\n# URIs: http://old.example/debian\nURIs: https://m.example/debian\nSuites: x\n"
    )
    assert debian_mirror(apt) == "https://m.example/debian"


def test_other_distributions_use_debians_own_mirror(apt: Path) -> None:
    (apt / "sources.list").write_text("deb http://archive.example/ubuntu noble main\n")
    assert debian_mirror(apt) == packages.DEFAULT_MIRROR


def test_environment_overrides_the_machine(apt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VGPU_STUB_DEBIAN_MIRROR", "http://mine.example/debian/")
    assert debian_mirror(apt) == "http://mine.example/debian"


def test_only_network_settings_are_taken_from_apts_configuration() -> None:
    dump = (
        'APT::Update::Post-Invoke:: "rm -f /var/cache/apt/*";\n'
        'Acquire::Check-Valid-Until "false";\n'
        'Acquire::http::Proxy "http://proxy.example:3128/";\n'
        'Acquire::https::CaInfo "/etc/ca.pem";\n'
    )
    assert proxy_settings(dump) == {
        "Acquire::http::Proxy": "http://proxy.example:3128/",
        "Acquire::https::CaInfo": "/etc/ca.pem",
    }


def test_missing_keyring_names_the_package_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "KEYRING", tmp_path / "none.gpg")
    with pytest.raises(PackageError, match="apt-get install debian-archive-keyring"):
        Archive(TRIXIE_BACKPORTS, cache=Cache(tmp_path))


def test_expired_lists_are_accepted_only_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyring = tmp_path / "keyring.gpg"
    keyring.touch()
    monkeypatch.setattr(packages, "KEYRING", keyring)
    monkeypatch.setenv("VGPU_STUB_DEBIAN_MIRROR", "http://m.example/debian")
    cache = Cache(tmp_path)
    strict = Archive(TRIXIE_BACKPORTS, cache=cache)
    assert strict.sources() == [
        f"deb [arch=amd64 signed-by={keyring}] http://m.example/debian trixie main",
        f"deb [arch=amd64 signed-by={keyring}] http://m.example/debian trixie-backports main",
    ]
    lenient = Archive(TRIXIE_BACKPORTS, cache=cache, allow_expired=True)
    assert all("check-valid-until=no" in line for line in lenient.sources())


def test_unreachable_mirror_is_reported_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyring = tmp_path / "keyring.gpg"
    keyring.touch()
    monkeypatch.setattr(packages, "KEYRING", keyring)
    monkeypatch.setenv("VGPU_STUB_DEBIAN_MIRROR", f"file://{tmp_path}/nothing/debian")
    with pytest.raises(PackageError, match="Set VGPU_STUB_DEBIAN_MIRROR"):
        Archive(TRIXIE_BACKPORTS, cache=Cache(tmp_path)).names("x")
