"""Values of options that several commands share."""

from __future__ import annotations

import pytest
import typer

from vgpu_host.executors.options import ExecutorOptions
from vgpu_host.executors.software.profiles import PROFILES
from vgpu_stub.cli import options
from vgpu_stub.cli.options import ExecutorChoice, ProfileChoice, executor_options, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", 0),
        ("0", 0),
        ("4096", 4096),
        ("1k", 1 << 10),
        ("512M", 512 << 20),
        ("4G", 4 << 30),
        ("2t", 2 << 40),
    ],
)
def test_size_is_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["M", "-1", "1.5G", "4GB", "4 G", "0x10", " 1", "1\n"])
def test_anything_else_is_no_size(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no size; write it like 512M or 4G"):
        parse_size(text)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "why_no_gpu", lambda: "there is no /dev/nvidiactl")


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "why_no_gpu", lambda: None)


@pytest.mark.usefixtures("no_gpu")
def test_cuda_without_a_gpu_is_refused_with_the_reason() -> None:
    with pytest.raises(
        typer.BadParameter, match="the physical GPU cannot be used: there is no /dev/nvidiactl"
    ):
        executor_options(ExecutorChoice.CUDA)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("choice", [ExecutorChoice.AUTO, ExecutorChoice.SOFTWARE])
def test_without_a_gpu_the_software_executor_is_used(choice: ExecutorChoice) -> None:
    chosen = executor_options(choice, "256M", 2.5, ProfileChoice.SM_80)
    assert chosen == ExecutorOptions(
        "software", memory_bytes=256 << 20, watchdog_s=2.5, profile="sm_80"
    )
    assert ExecutorOptions.from_json(chosen.to_json()) == chosen


def test_every_profile_can_be_chosen() -> None:
    assert [choice.value for choice in ProfileChoice] == list(PROFILES)


@pytest.mark.usefixtures("a_gpu")
@pytest.mark.parametrize(
    ("choice", "name"),
    [
        (ExecutorChoice.AUTO, "cuda"),
        (ExecutorChoice.CUDA, "cuda"),
        (ExecutorChoice.SOFTWARE, "software"),
    ],
)
def test_with_a_gpu_it_is_used_unless_software_is_asked_for(
    choice: ExecutorChoice, name: str
) -> None:
    assert executor_options(choice).name == name


def test_a_bad_memory_size_is_refused_with_the_executor() -> None:
    with pytest.raises(typer.BadParameter, match="'lots' is no size"):
        executor_options(ExecutorChoice.SOFTWARE, "lots")
