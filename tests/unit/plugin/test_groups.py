"""Groups that keep the machines of xdist's processes within memory."""

from __future__ import annotations

import pytest

from vgpu_qemu.errors import LauncherError
from vgpu_stub.pytest_plugin import groups

SOURCE = """
import pytest

@pytest.mark.parametrize("number", range(2))
def test_one(vgpu_vm, number): ...

@pytest.mark.xdist_group("mine")
def test_own_group(vgpu_vm): ...
"""


@pytest.fixture
def items(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> list[pytest.Item]:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    # Or the plugin would have put them into groups already, when these tests run under xdist.
    monkeypatch.delenv("PYTEST_XDIST_WORKER_COUNT", raising=False)
    for name in ("test_a", "test_b", "test_c"):
        pytester.makepyfile(**{name: SOURCE})
    found, _ = pytester.inline_genitems("-p", "vgpu_stub.pytest_plugin.plugin")
    return list(found)


def groups_of(items: list[pytest.Item]) -> list[str]:
    return [str(mark.args[0]) for item in items for mark in item.iter_markers("xdist_group")]


@pytest.mark.parametrize(
    ("installed_mib", "expected"),
    [(1024, {"vgpu-vm-0", "mine"}), (5000, {"vgpu-vm-0", "vgpu-vm-1", "mine"})],
)
def test_no_more_groups_than_machines_fit(
    items: list[pytest.Item],
    monkeypatch: pytest.MonkeyPatch,
    installed_mib: int,
    expected: set[str],
) -> None:
    monkeypatch.setattr(groups, "_installed_mib", lambda: installed_mib)
    groups.group_machines(items[0].config, items, processes=4)
    assert set(groups_of(items)) == expected


def test_tests_of_a_module_are_in_one_group(
    items: list[pytest.Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "_installed_mib", lambda: 1 << 20)
    groups.group_machines(items[0].config, items, processes=8)
    assert groups_of(items) == [
        *("vgpu-vm-0", "vgpu-vm-0", "mine"),
        *("vgpu-vm-1", "vgpu-vm-1", "mine"),
        *("vgpu-vm-2", "vgpu-vm-2", "mine"),
    ]


def test_a_machine_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "_available_mib", lambda: 1500)
    groups.check_memory(900)
    with pytest.raises(LauncherError, match="needs 1536 MiB and this one has 1500 MiB left"):
        groups.check_memory(1024)


def test_memory_of_this_machine_is_known() -> None:
    installed = groups._installed_mib()
    assert 0 < groups._available_mib() <= installed
