"""`vgpu-stub smoke` as users call it: every test of the guest passes, on every supported kernel."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from vgpu_stub.harness.smoke import planned_tests

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("vm"), pytest.mark.timeout(300)]


def smoke(junit: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], dict[str, int]]:
    """Run the command; returns how it ended, and the counts of its JUnit file."""
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from vgpu_stub.cli.main import app; app()", "smoke"),
            *("--executor", "software", "--timeout", "240", "--junit", str(junit), *arguments),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert junit.exists(), f"no JUnit file; the output was\n{done.stdout}\n{done.stderr}"
    suite = ElementTree.parse(junit).getroot().find("testsuite")
    assert suite is not None
    names = ("tests", "failures", "errors", "skipped")
    return done, {name: int(suite.attrib[name]) for name in names}


def test_every_smoke_test_passes(tmp_path: Path) -> None:
    done, counts = smoke(tmp_path / "new folder" / "smoke.xml")
    assert done.returncode == 0, done.stdout + done.stderr
    total = len(planned_tests())
    assert counts == {"tests": total, "failures": 0, "errors": 0, "skipped": 0}
    assert "PASSED  test_ring.py::test_a_nop_comes_back" in done.stdout
    assert f"{total} passed" in done.stdout


@pytest.mark.parametrize("kernel", ["6.1", "7.2"])
def test_device_and_cuda_work_on_other_kernels(kernel: str, tmp_path: Path) -> None:
    expression = "test_pci or test_ring or vector_add or interrupts or test_binding or test_reset"
    done, counts = smoke(tmp_path / "smoke.xml", "--kernel", kernel, "-k", expression, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert {test["outcome"] for test in told["tests"]} == {"passed"}
    assert told["kernel"] == []
    assert counts.pop("tests") >= 35
    assert counts == {"failures": 0, "errors": 0, "skipped": 0}


def test_no_matching_test_gives_the_status_of_pytest_and_explains(tmp_path: Path) -> None:
    done, counts = smoke(tmp_path / "smoke.xml", "-k", "no_test_has_this_name")
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED
    assert counts["tests"] == 0
    assert "Last messages of the guest's kernel:" in done.stderr
    assert "Device server's log:" in done.stderr
