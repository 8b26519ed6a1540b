"""pytest's own test helper, and the plugin where the project was installed before it had one."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points

import pytest

PLUGIN = "vgpu_stub.pytest_plugin.plugin"

pytest_plugins = ["pytester"]
if not entry_points(group="pytest11", name="vgpu"):
    pytest_plugins.append(PLUGIN)

RunPytest = Callable[..., pytest.RunResult]


@pytest.fixture
def run_pytest(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> RunPytest:
    """Runs tests with our plugin alone, in a process of their own."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(source: str, *arguments: str, ini: str = "") -> pytest.RunResult:
        pytester.makepyfile(source)
        pytester.makeini(f"[pytest]\nvgpu_executor = software\n{ini}")
        return pytester.runpytest_subprocess("-p", PLUGIN, *arguments)

    return run
