"""Compiled kernels on disk: found again, checked, bounded, and safe to share."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from vgpu_host.executors.software.object_cache import ObjectCache, default_cache_dir

IMAGE = bytes(range(256)) * 4


def set_age(directory: Path, key: str, seconds: int) -> None:
    """Make an entry look unused for so long."""
    path = directory / f"{key}.o"
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def test_another_cache_finds_what_was_saved(tmp_path: Path) -> None:
    ObjectCache(tmp_path).save("a", IMAGE)
    cache = ObjectCache(tmp_path)
    assert cache.load("a") == IMAGE
    assert cache.load("b") is None


@pytest.mark.parametrize("length", [0, 10, 32, 33, 500, -1])
def test_truncated_file_is_not_loaded(tmp_path: Path, length: int) -> None:
    cache = ObjectCache(tmp_path)
    cache.save("a", IMAGE)
    path = tmp_path / "a.o"
    path.write_bytes(path.read_bytes()[:length])
    assert cache.load("a") is None
    cache.save("a", IMAGE)
    assert cache.load("a") == IMAGE


def test_changed_byte_is_noticed(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    cache.save("a", IMAGE)
    data = bytearray((tmp_path / "a.o").read_bytes())
    data[100] ^= 1
    (tmp_path / "a.o").write_bytes(data)
    assert cache.load("a") is None


def test_object_of_another_key_is_not_loaded(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    cache.save("a", IMAGE)
    (tmp_path / "a.o").rename(tmp_path / "b.o")
    assert cache.load("b") is None


def test_longest_unused_objects_go_first(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path, limit=8 * len(IMAGE))
    for age, key in enumerate("abcdefg"):
        cache.save(key, IMAGE)
        set_age(tmp_path, key, 1000 - age)
    assert cache.load("a") == IMAGE  # used now: "b" is the oldest from here on
    cache.save("h", IMAGE)
    kept = {path.stem for path in tmp_path.iterdir()}
    assert "b" not in kept
    assert {"a", "h"} < kept
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 8 * len(IMAGE)


def test_first_save_trims_what_other_processes_left(tmp_path: Path) -> None:
    unbounded = ObjectCache(tmp_path)
    for index in range(20):
        unbounded.save(f"old{index}", IMAGE)
        set_age(tmp_path, f"old{index}", 1000)
    limit = 64 * len(IMAGE)
    ObjectCache(tmp_path, limit).save("fits", IMAGE)
    assert len(list(tmp_path.iterdir())) == 21
    ObjectCache(tmp_path, 4 * len(IMAGE)).save("new", IMAGE)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 4 * len(IMAGE)
    assert (tmp_path / "new.o").exists()


def test_leftovers_of_dead_writers_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    (tmp_path / "dead").write_bytes(b"half")
    os.utime(tmp_path / "dead", (0, 0))
    (tmp_path / "alive").write_bytes(b"half")
    ObjectCache(tmp_path).save("a", IMAGE)
    assert {path.name for path in tmp_path.iterdir()} == {"alive", "a.o"}


def test_many_writers_at_once_lose_nothing_but_entries(tmp_path: Path) -> None:
    wrong: list[str] = []

    def work(seed: int) -> None:
        cache = ObjectCache(tmp_path, limit=16 * len(IMAGE))
        for index in range(100):
            key = str((seed * 7 + index) % 40)
            image = key.encode() + IMAGE
            cache.save(key, image)
            if cache.load(key) not in (None, image):
                wrong.append(key)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert all(path.suffix == ".o" for path in tmp_path.iterdir())


def test_directory_that_went_away_costs_only_the_entry(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    cache.save("a", IMAGE)
    assert cache.load("a") is None


def test_new_directory_and_its_files_are_private(tmp_path: Path) -> None:
    ObjectCache(tmp_path / "new").save("a", IMAGE)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "new" / "a.o").stat().st_mode & 0o777 == 0o600


def test_environment_names_the_directory_or_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VGPU_STUB_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert default_cache_dir() == Path("/a/kernels")
    monkeypatch.delenv("VGPU_STUB_CACHE")
    assert default_cache_dir() == Path("/b/vgpu-stub/kernels")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_dir() == Path.home() / ".cache" / "vgpu-stub" / "kernels"
