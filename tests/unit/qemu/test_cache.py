"""The cache: built once, whole or not at all, named by content."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from vgpu_qemu.cache import Cache, content_key, default_cache_root


def test_entry_is_built_once_and_then_found(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    built: list[str] = []

    def build(path: Path) -> None:
        built.append("x")
        path.write_text("made")

    first = cache.get("kind", "key", build)
    second = cache.get("kind", "key", build)
    assert first == second == tmp_path / "kind" / "key"
    assert first.read_text() == "made"
    assert built == ["x"]


def test_failed_build_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def build(path: Path) -> None:
        path.mkdir()
        (path / "half").write_text("half")
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        cache.get("kind", "key", build)
    assert not cache.path("kind", "key").exists()
    assert list((tmp_path / "scratch").iterdir()) == []
    assert cache.get("kind", "key", lambda path: path.touch()).exists()


def test_parallel_callers_build_once(tmp_path: Path) -> None:
    built: list[int] = []
    entered = threading.Event()
    release = threading.Event()

    def build(path: Path) -> None:
        built.append(1)
        entered.set()
        assert release.wait(10)
        path.touch()

    def get() -> None:
        Cache(tmp_path).get("kind", "key", build)

    threads = [threading.Thread(target=get) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert entered.wait(10)
    release.set()
    for thread in threads:
        thread.join(10)
    assert built == [1]


def test_key_follows_content_not_name(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("same")
    second.write_text("same")
    assert content_key(first) == content_key(second)
    second.write_text("other")
    assert content_key(first) != content_key(second)


def test_key_of_a_directory_sees_names_modes_and_contents(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    file = tmp_path / "d" / "f"
    file.write_text("1")
    file.chmod(0o644)
    keys = {content_key(tmp_path)}
    file.chmod(0o755)
    keys.add(content_key(tmp_path))
    file.write_text("2")
    keys.add(content_key(tmp_path))
    file.rename(tmp_path / "d" / "g")
    keys.add(content_key(tmp_path))
    assert len(keys) == 4


def test_answers_are_remembered_across_instances(tmp_path: Path) -> None:
    Cache(tmp_path).remember("kernel", {"release": "6.1"})
    assert Cache(tmp_path).recall("kernel") == {"release": "6.1"}
    assert Cache(tmp_path).recall("other") is None


def test_root_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VGPU_STUB_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert default_cache_root() == Path("/a")
    monkeypatch.delenv("VGPU_STUB_CACHE")
    assert default_cache_root() == Path("/b/vgpu-stub")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/x")
    assert default_cache_root() == Path("/home/x/.cache/vgpu-stub")
