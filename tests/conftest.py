"""pytest's own test helper, and our plugin run by it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

HOME = Path.home()
PLUGIN = "vgpu_stub.pytest_plugin.plugin"

pytest_plugins = ["pytester"]

RunPytest = Callable[..., pytest.RunResult]


@pytest.fixture
def run_pytest(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> RunPytest:
    """Runs tests with our plugin alone, in a process of their own."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    # pytester's processes have another home, without the kernels and images that are here.
    monkeypatch.setenv("XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME", str(HOME / ".cache")))

    def run(source: str, *arguments: str, ini: str = "") -> pytest.RunResult:
        pytester.makepyfile(source)
        pytester.makeini(f"[pytest]\nvgpu_executor = software\n{ini}")
        return pytester.runpytest_subprocess("-p", PLUGIN, *arguments)

    return run
