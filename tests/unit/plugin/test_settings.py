"""Options, ini values and markers of the plugin: which one counts, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

RunPytest = Callable[..., pytest.RunResult]

SHOW = """
    def test_settings(vgpu_settings, vgpu_kernel):
        print("SETTINGS", vgpu_settings.kernel, vgpu_settings.image, vgpu_settings.cpus)
"""


def test_defaults(run_pytest: RunPytest) -> None:
    run_pytest(SHOW, "-s").stdout.fnmatch_lines(["*SETTINGS 6.12 cuda 2"])


def test_command_line_goes_before_the_ini_file(run_pytest: RunPytest) -> None:
    found = run_pytest(SHOW, "-s", "--vgpu-image", "base", ini="vgpu_image = llm\nvgpu_cpus = 1\n")
    found.stdout.fnmatch_lines(["*SETTINGS 6.12 base 1"])


def test_closest_marker_goes_before_the_command_line(run_pytest: RunPytest) -> None:
    source = f"""
    import pytest
    pytestmark = pytest.mark.vgpu(kernel="6.1", cpus=4)
    @pytest.mark.vgpu(kernel="7.2")
    {SHOW.strip()}
    """
    found = run_pytest(source, "-s", "--vgpu-cpus", "1")
    found.stdout.fnmatch_lines(["*SETTINGS 7.2 cuda 4"])


def test_several_kernels_run_a_test_on_each(run_pytest: RunPytest) -> None:
    found = run_pytest(SHOW, "-s", "-v", "--vgpu-kernel", "6.1", "--vgpu-kernel", "7.2")
    found.assert_outcomes(passed=2)
    found.stdout.fnmatch_lines(["*test_settings?6.1?*", "*test_settings?7.2?*"])


def test_a_marker_may_name_several_kernels(run_pytest: RunPytest) -> None:
    source = f"""
    import pytest
    @pytest.mark.vgpu(kernel=["6.1", "6.12", "7.2"])
    {SHOW.strip()}
    """
    run_pytest(source, "-s", "--vgpu-kernel", "6.1").assert_outcomes(passed=3)


@pytest.mark.parametrize(
    ("marker", "text"),
    [
        ("kernels='6.1'", "*the vgpu marker has no kernels; it has accel*"),
        ("cpus='many'", "*the vgpu marker: invalid literal*"),
        ("'6.1'", "*the vgpu marker takes keyword arguments*"),
    ],
)
def test_a_marker_that_makes_no_sense_is_refused(
    run_pytest: RunPytest, marker: str, text: str
) -> None:
    source = f"""
    import pytest
    @pytest.mark.vgpu({marker})
    {SHOW.strip()}
    """
    found = run_pytest(source, "-s")
    found.assert_outcomes(errors=1)
    found.stdout.fnmatch_lines([text])


def test_markers_and_options_are_documented(
    run_pytest: RunPytest, pytester: pytest.Pytester
) -> None:
    run_pytest("", "--markers").stdout.fnmatch_lines(
        ["@pytest.mark.vgpu(kernel=*", "*vgpu_expects*"]
    )
    run_pytest("", "--help").stdout.fnmatch_lines(["*--vgpu-kernel*NAME*", "*vgpu_kernel*"])


def test_a_start_of_pytest_does_not_pay_for_what_devices_need() -> None:
    script = (
        "import sys, vgpu_stub.pytest_plugin.plugin;"
        "print([name for name in ('numpy', 'llvmlite', 'typer', 'vgpu_host', 'vgpu_qemu')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
